//! What callgrind writes at the end of a program: instructions by object, source file and function, and who called
//! whom how often. Reads only what its own options in `work.rs` make it write.

use std::collections::HashMap;

/// Where an instruction stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub object: String,
    /// Of the instruction: another than the function's where code was inlined.
    pub file: String,
    pub function: Function,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function {
    pub name: String,
    pub object: String,
    pub file: String,
}

#[derive(Debug, Default)]
pub struct Counts {
    pub instructions: HashMap<Place, i64>,
    /// By caller and callee.
    pub calls: HashMap<(Function, Function), i64>,
}

impl Counts {
    /// Adds another process's.
    pub fn add(&mut self, text: &str) {
        Reader::default().read(text, self);
    }

    /// What this has more than a shorter run.
    pub fn less(mut self, short: &Counts) -> Counts {
        for (place, count) in &short.instructions {
            *self.instructions.entry(place.clone()).or_default() -= count;
        }
        for (pair, count) in &short.calls {
            *self.calls.entry(pair.clone()).or_default() -= count;
        }
        self
    }
}

/// Names are written once, as `(7) name`, and then only as `(7)`; objects, files and functions have numbers of their
/// own.
#[derive(Debug, Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn take(&mut self, text: &str) -> String {
        let Some((number, name)) = text.strip_prefix('(').and_then(|rest| rest.split_once(')')) else {
            return text.to_owned();
        };
        match name.trim() {
            "" => self.0.get(number).cloned().unwrap_or_default(),
            name => {
                self.0.insert(number.to_owned(), name.to_owned());
                name.to_owned()
            }
        }
    }
}

#[derive(Debug, Default)]
struct Reader {
    objects: Names,
    files: Names,
    functions: Names,
    at: Place,
    callee: Function,
    /// The next line says what the callee and everything below it cost: not this function's own.
    is_inclusive: bool,
}

impl Reader {
    fn read(mut self, text: &str, counts: &mut Counts) {
        for line in text.lines() {
            if line.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '*')) {
                self.cost(line, counts);
            } else if let Some((key, value)) = line.split_once('=') {
                self.header(key, value, counts);
            }
        }
    }

    /// `LINE INSTRUCTIONS`
    fn cost(&mut self, line: &str, counts: &mut Counts) {
        if std::mem::take(&mut self.is_inclusive) {
            return;
        }
        let Some(count) = line.split(' ').nth(1).and_then(|count| count.parse::<i64>().ok()) else { return };
        // Most lines are at the place of the line before: no clone for those that are there.
        match counts.instructions.get_mut(&self.at) {
            Some(sum) => *sum += count,
            None => drop(counts.instructions.insert(self.at.clone(), count)),
        }
    }

    fn header(&mut self, key: &str, value: &str, counts: &mut Counts) {
        match key {
            "ob" => self.at.object = self.objects.take(value),
            "fl" => self.at.file = self.files.take(value),
            "fi" | "fe" => self.at.file = self.files.take(value),
            "fn" => {
                let name = self.functions.take(value);
                self.at.function = Function { name, object: self.at.object.clone(), file: self.at.file.clone() };
                self.callee = Function { name: String::new(), ..self.at.function.clone() };
            }
            "cob" => self.callee.object = self.objects.take(value),
            "cfi" | "cfl" => self.callee.file = self.files.take(value),
            "cfn" => self.callee.name = self.functions.take(value),
            "calls" => {
                let count = value.split(' ').next().and_then(|count| count.parse::<i64>().ok()).unwrap_or(0);
                *counts.calls.entry((self.at.function.clone(), self.callee.clone())).or_default() += count;
                // What is not said of the next call is as in the caller.
                self.callee =
                    Function { name: String::new(), object: self.at.object.clone(), file: self.at.file.clone() };
                self.is_inclusive = true;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
version: 1
cmd: x server
events: Ir

ob=(1) /bin/x
fl=(1) a.rs
fn=(1) a
10 5
fi=(2) inlined.rs
+1 7
fe=(1)
* 1
cob=(2) libc.so.6
cfi=(3) ???
cfn=(2) malloc
calls=4 0
12 400
+2 2

ob=(2)
fl=(3)
fn=(2)
0 400
totals: 415
";

    #[test]
    fn own_cost_is_told_from_what_was_called() {
        let mut counts = Counts::default();
        counts.add(TEXT);
        let of = |file: &str, name: &str| -> i64 {
            let is_it = |place: &&Place| place.file == file && place.function.name == name;
            counts.instructions.keys().filter(is_it).map(|place| counts.instructions[place]).sum()
        };
        assert_eq!((of("a.rs", "a"), of("inlined.rs", "a"), of("???", "malloc")), (8, 7, 400));
        let (pair, count) = counts.calls.iter().next().unwrap();
        assert_eq!((pair.0.name.as_str(), pair.1.name.as_str(), *count), ("a", "malloc", 4));
        assert_eq!((pair.1.object.as_str(), pair.1.file.as_str()), ("libc.so.6", "???"));
        let mut twice = Counts::default();
        twice.add(TEXT);
        twice.add(TEXT);
        assert_eq!(twice.less(&counts).instructions.values().sum::<i64>(), 415);
    }
}
