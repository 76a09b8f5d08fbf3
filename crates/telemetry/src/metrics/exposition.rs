//! Prometheus' text format, 0.0.4. Every block adds its families to one `Exposition` at scrape time.

use std::collections::HashMap;
use std::fmt::{Display, Write};

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Untyped,
}

/// Text under construction. A family named twice is one family: its samples stay together, as parsers demand.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    kind: Kind,
    help: String,
    samples: String,
}

/// One family, taking samples.
#[derive(Debug)]
pub struct Family<'a>(&'a mut Entry);

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Untyped => "untyped",
        }
    }
}

impl Exposition {
    /// The kind and the help of the first call stand.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let index = *self.by_name.entry(name.to_owned()).or_insert_with(|| {
            let entry = Entry { name: name.to_owned(), kind, help: help.to_owned(), samples: String::new() };
            self.families.push(entry);
            self.families.len() - 1
        });
        Family(&mut self.families[index])
    }

    /// Families without a sample are left out: what is not measured is not claimed.
    pub fn finish(self) -> String {
        let mut out = String::new();
        for family in self.families.into_iter().filter(|f| !f.samples.is_empty()) {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            let _ = writeln!(out, "# HELP {} {help}", family.name);
            let _ = writeln!(out, "# TYPE {} {}", family.name, family.kind.as_str());
            out.push_str(&family.samples);
        }
        out
    }
}

impl Family<'_> {
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.line("", labels, None, value);
    }

    /// A gauge or sum in seconds, bytes or any other real number.
    pub fn real(&mut self, labels: &[(&str, &str)], value: f64) {
        match value {
            v if v.is_nan() => self.line("", labels, None, "NaN"),
            v if v.is_infinite() => self.line("", labels, None, if v > 0.0 { "+Inf" } else { "-Inf" }),
            v => self.line("", labels, None, v),
        }
    }

    /// `counts` are per bucket, not cumulative, and hold one more than `bounds`: everything above the last.
    pub fn histogram(&mut self, labels: &[(&str, &str)], bounds: &[&str], counts: &[u64], sum: f64) {
        let mut below = 0;
        for (i, count) in counts.iter().enumerate() {
            below += count;
            self.line("_bucket", labels, Some(bounds.get(i).unwrap_or(&"+Inf")), below);
        }
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, below);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], le: Option<&str>, value: impl Display) {
        let out = &mut self.0.samples;
        out.push_str(&self.0.name);
        out.push_str(suffix);
        let mut open = '{';
        for (name, text) in labels.iter().copied().chain(le.map(|le| ("le", le))) {
            out.push(open);
            open = ',';
            out.push_str(name);
            out.push_str("=\"");
            escape(text, out);
            out.push('"');
        }
        if open == ',' {
            out.push('}');
        }
        let _ = writeln!(out, " {value}");
    }
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stay_together_and_labels_are_escaped() {
        let mut out = Exposition::default();
        out.family("up", Kind::Gauge, "Is it\nup?").sample(&[("app", "a\"b\\c\nd")], 1);
        out.family("empty", Kind::Gauge, "Nothing.");
        out.family("seconds", Kind::Gauge, "Real.").real(&[], 0.25);
        out.family("up", Kind::Counter, "again").sample(&[("app", "b")], 0);
        let expected = "# HELP up Is it\\nup?\n# TYPE up gauge\nup{app=\"a\\\"b\\\\c\\nd\"} 1\nup{app=\"b\"} 0\n\
                        # HELP seconds Real.\n# TYPE seconds gauge\nseconds 0.25\n";
        assert_eq!(out.finish(), expected);
    }

    #[test]
    fn histograms_are_cumulative() {
        let mut out = Exposition::default();
        out.family("t", Kind::Histogram, "T.").histogram(&[("q", "x")], &["0.1", "1"], &[2, 0, 3], 4.5);
        let text = out.finish();
        assert!(text.ends_with(
            "t_bucket{q=\"x\",le=\"0.1\"} 2\nt_bucket{q=\"x\",le=\"1\"} 2\nt_bucket{q=\"x\",le=\"+Inf\"} 5\n\
             t_sum{q=\"x\"} 4.5\nt_count{q=\"x\"} 5\n"
        ));
    }
}
