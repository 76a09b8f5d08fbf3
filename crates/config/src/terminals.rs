//! How a key ends: each terminal reads one kind of value and never fails; a fault leaves the default.

use ipnet::IpNet;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::candidate::Candidate;
use crate::key::{Key, Read, Refused, assign};
use crate::kind::{Kind, quote};
use crate::nearest::nearest;
use crate::position::Position;
use crate::shape::Unit;
use crate::units;
use crate::value::{Item, Value};

impl Key {
    pub fn duration(self, default: &str) -> Item<Duration> {
        let assumed = must(units::duration(default), default);
        let found = self.read_duration(Some(quote(default)));
        found.unwrap_or_else(|| Item::new(assumed, Position::unset()))
    }

    pub fn opt_duration(self) -> Option<Item<Duration>> {
        self.read_duration(None)
    }

    pub fn size(self, default: &str) -> Item<u64> {
        let assumed = must(units::size(default), default);
        let found = self.read_size(Some(quote(default)));
        found.unwrap_or_else(|| Item::new(assumed, Position::unset()))
    }

    pub fn opt_size(self) -> Option<Item<u64>> {
        self.read_size(None)
    }

    pub fn integer(self, default: i64, range: RangeInclusive<i64>) -> Item<i64> {
        let found = self.read_integer(Some(default.to_string()), range);
        found.unwrap_or_else(|| Item::new(default, Position::unset()))
    }

    pub fn opt_integer(self, range: RangeInclusive<i64>) -> Option<Item<i64>> {
        self.read_integer(None, range)
    }

    pub fn boolean(self, default: bool) -> Item<bool> {
        let found = self.read_boolean(Some(default.to_string()));
        found.unwrap_or_else(|| Item::new(default, Position::unset()))
    }

    pub fn opt_boolean(self) -> Option<Item<bool>> {
        self.read_boolean(None)
    }

    pub fn text(self, default: &str) -> Item<String> {
        let found = self.read_text(Some(quote(default)));
        found.unwrap_or_else(|| Item::new(default.to_owned(), Position::unset()))
    }

    pub fn opt_text(self) -> Option<Item<String>> {
        self.read_text(None)
    }

    /// One of `choices`; case does not matter, the spelling here counts.
    pub fn choice(self, choices: &[&str], default: &str) -> Item<String> {
        let found = self.read_choice(choices, Some(quote(default)));
        found.unwrap_or_else(|| Item::new(default.to_owned(), Position::unset()))
    }

    pub fn opt_choice(self, choices: &[&str]) -> Option<Item<String>> {
        self.read_choice(choices, None)
    }

    /// A text or a list of them; a variable or flag separates with commas.
    pub fn texts(self, default: &[&str]) -> Item<Vec<Item<String>>> {
        let shown: Vec<String> = default.iter().map(|text| quote(text)).collect();
        let found = self.read_texts(Some(format!("[{}]", shown.join(", "))));
        found.unwrap_or_else(|| {
            let items = default.iter().map(|text| Item::new((*text).to_owned(), Position::unset()));
            Item::new(items.collect(), Position::unset())
        })
    }

    pub fn opt_texts(self) -> Option<Item<Vec<Item<String>>>> {
        self.read_texts(None)
    }

    /// Addresses and ranges of them; none where the key is not set.
    pub fn ranges(self) -> Vec<IpNet> {
        let table = self.table.clone();
        let found = self.texts(&[]);
        let read = found.value.iter().filter_map(|item| match units::range(&item.value) {
            Ok(net) => Some(net),
            Err(wrong) => {
                let what = format!("`{}` {wrong}", item.value);
                table.fault(&item.at, what, "an address or a range, as \"10.0.0.0/8\"", None);
                None
            }
        });
        read.collect()
    }

    /// A text the block reads itself. `expected` is in words; the error of `parse` says what is wrong with the text.
    ///
    /// # Panics
    /// When `default` itself cannot be parsed: a mistake in the program, never in its input.
    pub fn parsed<T>(self, expected: &str, default: &str, parse: impl Fn(&str) -> Result<T, String>) -> Item<T> {
        let found = self.read_parsed(expected, Some(quote(default)), &parse);
        found.unwrap_or_else(|| Item::new(must(parse(default), default), Position::unset()))
    }

    pub fn opt_parsed<T>(self, expected: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Item<T>> {
        self.read_parsed(expected, None, &parse)
    }

    /// A value whose shape the block decides. A table within is read like any other.
    pub fn value(self) -> Option<Item<Value>> {
        self.resolve(Kind::Any, None, &|candidate| {
            let shown = if candidate.secret { String::new() } else { show(&candidate.value) };
            Ok((candidate.value.clone(), shown))
        })
    }

    fn read_duration(&self, default: Option<String>) -> Option<Item<Duration>> {
        self.resolve(Kind::Duration, default, &|candidate| {
            let duration = match candidate.unit {
                Unit::Written => self.written_duration(candidate)?,
                Unit::Millis => whole(candidate, "milliseconds", "30000").map(Duration::from_millis)?,
                Unit::Seconds => whole(candidate, "seconds", "30").map(Duration::from_secs)?,
            };
            if duration > units::MAX_DURATION {
                return Err(Refused::new(&Kind::Duration).expected("at most 100 years"));
            }
            Ok((duration, quote(&units::show_duration(duration))))
        })
    }

    fn written_duration(&self, candidate: &Candidate) -> Result<Duration, Refused> {
        let refused = Refused::new(&Kind::Duration);
        match &candidate.value {
            Value::Text(text) => {
                units::duration(text).map_err(|wrong| refused.found(format!("{}, which {wrong}", candidate.found())))
            }
            Value::Integer(number) if *number >= 0 => {
                Err(refused.fix(assign(candidate, &self.name, &format!("\"{number}s\""))))
            }
            _ => Err(refused),
        }
    }

    fn read_size(&self, default: Option<String>) -> Option<Item<u64>> {
        self.resolve(Kind::Size, default, &|candidate| {
            let refused = Refused::new(&Kind::Size);
            let bytes = match &candidate.value {
                Value::Text(text) => {
                    let found = |wrong| format!("{}, which {wrong}", candidate.found());
                    units::size(text).map_err(|wrong| refused.found(found(wrong)))?
                }
                Value::Integer(number) => u64::try_from(*number).map_err(|_| refused)?,
                _ => return Err(refused),
            };
            Ok((bytes, quote(&units::show_size(bytes))))
        })
    }

    fn read_integer(&self, default: Option<String>, range: RangeInclusive<i64>) -> Option<Item<i64>> {
        let kind = Kind::Integer { least: *range.start(), most: *range.end() };
        self.resolve(kind.clone(), default, &|candidate| {
            let refused = Refused::new(&kind);
            let number = match &candidate.value {
                Value::Integer(number) => *number,
                Value::Text(text) if candidate.spelled => text.trim().parse().map_err(|_| refused)?,
                Value::Text(text) => {
                    let number: Option<i64> = text.trim().parse().ok();
                    let fix = number.map(|number| assign(candidate, &self.name, &number.to_string()));
                    return Err(Refused { fix, ..refused });
                }
                _ => return Err(refused),
            };
            if !range.contains(&number) {
                return Err(Refused::new(&kind));
            }
            Ok((number, number.to_string()))
        })
    }

    fn read_boolean(&self, default: Option<String>) -> Option<Item<bool>> {
        self.resolve(Kind::Boolean, default, &|candidate| {
            let refused = Refused::new(&Kind::Boolean);
            let boolean = match &candidate.value {
                Value::Boolean(boolean) => *boolean,
                Value::Text(text) => match (spelled_boolean(text), candidate.spelled) {
                    (Some(boolean), true) => boolean,
                    (Some(boolean), false) => {
                        return Err(refused.fix(assign(candidate, &self.name, &boolean.to_string())));
                    }
                    (None, _) => return Err(refused),
                },
                _ => return Err(refused),
            };
            Ok((boolean, boolean.to_string()))
        })
    }

    fn read_text(&self, default: Option<String>) -> Option<Item<String>> {
        self.resolve(Kind::Text, default, &|candidate| match &candidate.value {
            Value::Text(text) => Ok((text.clone(), quote(text))),
            Value::Integer(number) => {
                let fix = assign(candidate, &self.name, &quote(&number.to_string()));
                Err(Refused::new(&Kind::Text).fix(fix))
            }
            _ => Err(Refused::new(&Kind::Text)),
        })
    }

    fn read_choice(&self, choices: &[&str], default: Option<String>) -> Option<Item<String>> {
        let kind = Kind::Choice(choices.iter().map(|choice| (*choice).to_owned()).collect());
        self.resolve(kind.clone(), default, &|candidate| {
            let Value::Text(text) = &candidate.value else { return Err(Refused::new(&kind)) };
            let text = text.trim();
            match choices.iter().find(|choice| choice.eq_ignore_ascii_case(text)) {
                Some(choice) => Ok(((*choice).to_owned(), quote(choice))),
                None => {
                    let near = nearest(text, choices.iter().copied());
                    let fix = near.map(|near| assign(candidate, &self.name, &quote(near)));
                    Err(Refused { fix, ..Refused::new(&kind) })
                }
            }
        })
    }

    fn read_texts(&self, default: Option<String>) -> Option<Item<Vec<Item<String>>>> {
        self.resolve(Kind::Texts, default, &|candidate| {
            let texts = texts(candidate)?;
            let shown: Vec<String> = texts.iter().map(|text| quote(text)).collect();
            Ok((texts, format!("[{}]", shown.join(", "))))
        })
    }

    fn read_parsed<T>(
        &self,
        expected: &str,
        default: Option<String>,
        parse: &dyn Fn(&str) -> Result<T, String>,
    ) -> Option<Item<T>> {
        let kind = Kind::Parsed(expected.to_owned());
        self.resolve(kind.clone(), default, &|candidate| -> Read<T> {
            let (text, shown) = match &candidate.value {
                Value::Text(text) => (text.clone(), quote(text)),
                Value::Integer(number) => (number.to_string(), number.to_string()),
                Value::Float(number) => (number.to_string(), number.to_string()),
                Value::Boolean(boolean) => (boolean.to_string(), boolean.to_string()),
                _ => return Err(Refused::new(&kind)),
            };
            let value = parse(&text).map_err(|wrong| {
                let found = candidate.found();
                let found = if wrong.is_empty() { found } else { format!("{found}: {wrong}") };
                Refused::new(&kind).found(found)
            })?;
            Ok((value, shown))
        })
    }
}

/// A whole number of a unit, as the guides write their variables.
fn whole(candidate: &Candidate, unit: &str, sample: &str) -> Result<u64, Refused> {
    let Value::Text(text) = &candidate.value else { return Err(Refused::new(&Kind::Duration)) };
    text.trim().parse().map_err(|_| {
        let name = candidate.variable.as_deref().unwrap_or_default();
        let fix = match units::duration(text) {
            Ok(duration) if unit == "seconds" => duration.as_secs().to_string(),
            Ok(duration) => duration.as_millis().to_string(),
            Err(_) => sample.to_owned(),
        };
        Refused::new(&Kind::Duration).expected(format!("a whole number of {unit}")).fix(format!("{name}={fix}"))
    })
}

fn spelled_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn texts(candidate: &Candidate) -> Result<Vec<Item<String>>, Refused> {
    match &candidate.value {
        Value::Text(text) if candidate.spelled => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(parts.map(|part| Item::new(part.to_owned(), candidate.at.clone())).collect())
        }
        Value::Text(text) => Ok(vec![Item::new(text.clone(), candidate.at.clone())]),
        Value::List(items) => {
            let text = |item: &Item<Value>| match &item.value {
                Value::Text(text) => Ok(Item::new(text.clone(), item.at.clone())),
                other => Err(Refused::new(&Kind::Texts).found(format!("{} in the list", other.found()))),
            };
            items.iter().map(text).collect()
        }
        _ => Err(Refused::new(&Kind::Texts)),
    }
}

/// As TOML, for `mainstay config`.
fn show(value: &Value) -> String {
    match value {
        Value::Text(text) => quote(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| show(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Table(_) => "{ … }".to_owned(),
    }
}

/// A default is part of the program: one that cannot be read is found by its first test.
fn must<T>(read: Result<T, String>, default: &str) -> T {
    match read {
        Ok(value) => value,
        Err(wrong) => panic!("the default {default:?} {wrong}"),
    }
}
