//! JSON of a stranger, read so that nobody behind us can read it otherwise: RFC 8259 to the letter, no key twice, no
//! number that is none, bounded in depth and in values. Pure; says where it is broken and never what stood there.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::fmt;

/// Arrays and objects within each other. Rich texts nest two dozen deep; validation recurses as deep as this.
pub const DEPTH_MAX: usize = 64;
/// Values of one body. Each costs up to some hundred bytes of memory and a microsecond once it is read.
pub const VALUES_MAX: usize = 100_000;

/// Why bytes are not taken for JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotJson {
    /// Where it was read up to, as a JSON pointer; nothing of a value.
    pub path: String,
    pub what: String,
}

/// How much is read at all.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    depth: usize,
    values: usize,
}

impl Bounds {
    const STRANGERS: Bounds = Bounds { depth: DEPTH_MAX, values: VALUES_MAX };
    /// Of the operator's own files; the parser itself stops at a depth of 128.
    pub const OWN: Bounds = Bounds { depth: 120, values: 4_000_000 };
}

/// Reads a stranger's document whole.
pub fn read(bytes: &[u8]) -> Result<Value, NotJson> {
    read_within(bytes, Bounds::STRANGERS).map(|(value, _)| value)
}

/// The same, with the number of its values.
pub fn read_counted(bytes: &[u8]) -> Result<(Value, usize), NotJson> {
    read_within(bytes, Bounds::STRANGERS)
}

pub fn read_within(bytes: &[u8], bounds: Bounds) -> Result<(Value, usize), NotJson> {
    let state = RefCell::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = One { state: &state, bounds, depth: 0 }.deserialize(&mut deserializer);
    let read = read.and_then(|value| deserializer.end().map(|()| value));
    let State { path, values } = state.into_inner();
    read.map(|value| (value, values)).map_err(|error| {
        // The parser's own words are fixed: what is wrong, line and column.
        NotJson { path: path.into_iter().rev().collect(), what: error.to_string() }
    })
}

/// One segment of a JSON pointer, with its slash.
pub fn segment(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[derive(Default)]
struct State {
    values: usize,
    /// From the innermost out, written on the way back from a fault.
    path: Vec<String>,
}

#[derive(Clone, Copy)]
struct One<'a> {
    state: &'a RefCell<State>,
    bounds: Bounds,
    depth: usize,
}

impl One<'_> {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= self.bounds.depth {
            return Err(E::custom(format_args!("nested more than {} deep", self.bounds.depth)));
        }
        Ok(One { depth: self.depth + 1, ..self })
    }

    fn within<T, E>(&self, name: impl FnOnce() -> String, read: Result<T, E>) -> Result<T, E> {
        if read.is_err() {
            self.state.borrow_mut().path.push(name());
        }
        read
    }
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        {
            let mut state = self.state.borrow_mut();
            state.values += 1;
            if state.values > self.bounds.values {
                return Err(D::Error::custom(format_args!("more than {} values", self.bounds.values)));
            }
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut all = Vec::new();
        loop {
            let at = all.len();
            match self.within(|| format!("/{at}"), items.next_element_seed(below))? {
                Some(item) => all.push(item),
                None => return Ok(Value::Array(all)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut all = Map::new();
        while let Some(key) = pairs.next_key::<String>()? {
            if all.contains_key(&key) {
                let twice = A::Error::custom("a key stands twice");
                return self.within(|| segment(&key), Err(twice));
            }
            let value = self.within(|| segment(&key), pairs.next_value_seed(below))?;
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_read_as_they_are() {
        for (text, value) in [
            ("null", json!(null)),
            (" [1, -2, 0.5, 1e3, true, \"\\u00e4\\ud83d\\ude00\"] ", json!([1, -2, 0.5, 1000.0, true, "ä😀"])),
            ("{\"b\":{\"a\":[]},\"a\":{}}", json!({"b": {"a": []}, "a": {}})),
            ("18446744073709551615", json!(u64::MAX)),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_in_two_ways_is_not_taken() {
        for (text, path, what) in [
            (&b""[..], "", "EOF while parsing"),
            (b"{\"a\":1,\"a\":2}", "/a", "a key stands twice"),
            (b"{\"a\":1,\"\\u0061\":2}", "/a", "a key stands twice"),
            (b"[{\"x/y\":{\"k\":1,\"k\":1}}]", "/0/x~1y/k", "a key stands twice"),
            (b"{\"a\":1}{\"a\":2}", "", "trailing characters"),
            (b"{\"a\":1,}", "", "trailing comma"),
            (b"[1,]", "/1", "trailing comma"),
            (b"// x\n1", "", "expected value"),
            (b"{'a':1}", "", "key must be a string"),
            (b"NaN", "", "expected value"),
            (b"[Infinity]", "/0", "expected value"),
            (b"[1e999]", "/0", "number out of range"),
            (b"[01]", "/0", "invalid number"),
            (b"[+1]", "/0", "expected value"),
            (b"[.5]", "/0", "expected value"),
            (b"\xef\xbb\xbf{}", "", "expected value"),
            (b"\"\xff\"", "", "invalid unicode"),
            (b"\"\\ud800\"", "", "surrogate"),
            (b"\"a\nb\"", "", "control character"),
            (b"\x00", "", "expected value"),
            (b"{}\x00", "", "trailing characters"),
        ] {
            let broken = read(text).expect_err(&String::from_utf8_lossy(text));
            assert_eq!(broken.path, path, "{text:?}: {broken:?}");
            let ending = |what: &str| broken.what.to_lowercase().contains(&what.to_lowercase());
            assert!(ending(what) || ending("hex escape"), "{text:?}: {broken:?}");
        }
    }

    #[test]
    fn depth_and_values_are_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(read(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(read(nested(DEPTH_MAX + 1).as_bytes()).expect_err("deep").what.contains("nested more than 64"));
        assert!(read("[".repeat(1 << 20).as_bytes()).is_err());
        let wide = |n: usize| format!("[{}]", vec!["0"; n].join(","));
        assert!(read(wide(VALUES_MAX - 1).as_bytes()).is_ok());
        assert!(read(wide(VALUES_MAX).as_bytes()).expect_err("wide").what.contains("more than 100000 values"));
    }
}
