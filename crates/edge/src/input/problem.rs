//! What is wrong with an input: every broken field by its name, never a value. Pure.

use serde_json::{Value, json};

/// Fields named in one answer; the rest is counted.
pub const FIELDS_MAX: usize = 100;
/// A name that a client made up may be as long as its body; so much of it is said.
const PATH_BYTES_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Body,
    Query,
    Path,
}

impl Place {
    fn word(self) -> &'static str {
        match self {
            Place::Body => "body",
            Place::Query => "query",
            Place::Path => "path",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub place: Place,
    /// A JSON pointer; empty for the whole.
    pub path: String,
    pub message: String,
}

/// The broken fields of one request, in the order they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    fields: Vec<Field>,
    /// Found once the list was full.
    more: usize,
}

impl Problem {
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub fn add(&mut self, place: Place, path: &str, message: impl Into<String>) {
        if self.fields.len() >= FIELDS_MAX {
            self.more += 1;
            return;
        }
        let field = Field { place, path: cut(path), message: message.into() };
        // Two schemas that say the same of a field are one reason.
        if !self.fields.contains(&field) {
            self.fields.push(field);
        }
    }

    /// No more is named, only counted.
    pub fn is_full(&self) -> bool {
        self.fields.len() >= FIELDS_MAX
    }

    pub fn count(&mut self, more: usize) {
        self.more += more;
    }

    pub fn append(&mut self, other: Problem) {
        for field in other.fields {
            self.add(field.place, &field.path, field.message);
        }
        self.more += other.more;
    }

    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The members of the answer, beside those of every refusal.
    pub fn tell(&self, answer: &mut Value) {
        let field = |f: &Field| json!({ "path": f.path, "in": f.place.word(), "message": f.message });
        answer["fields"] = self.fields.iter().map(field).collect();
        if self.more > 0 {
            answer["moreFields"] = self.more.into();
        }
    }

    /// The same for a person, as a list in HTML. Names come from the request: they are escaped.
    pub fn html(&self) -> String {
        let item = |f: &Field| {
            let path = if f.path.is_empty() { String::new() } else { format!("{} ", escaped(&f.path)) };
            format!("<li><code>{} {path}</code>{}</li>", f.place.word(), escaped(&f.message))
        };
        let more = if self.more > 0 { format!("<li>and {} more</li>", self.more) } else { String::new() };
        format!("<ul>{}{more}</ul>", self.fields.iter().map(item).collect::<String>())
    }
}

fn cut(path: &str) -> String {
    if path.len() <= PATH_BYTES_MAX {
        return path.to_owned();
    }
    let end = (0..=PATH_BYTES_MAX).rev().find(|&i| path.is_char_boundary(i)).unwrap_or(0);
    format!("{}…", &path[..end])
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_counted_and_holds_nothing_twice() {
        let mut problem = Problem::default();
        problem.add(Place::Body, "/a", "is required");
        problem.add(Place::Body, "/a", "is required");
        assert_eq!(problem.fields().len(), 1);
        for i in 0..250 {
            problem.add(Place::Query, &format!("/{i}"), "must be a number");
        }
        problem.add(Place::Body, &"ä".repeat(1000), "is not allowed");
        let mut answer = json!({});
        problem.tell(&mut answer);
        assert_eq!(answer["fields"].as_array().map(Vec::len), Some(FIELDS_MAX));
        assert_eq!(answer["moreFields"], 152);
        assert_eq!(answer["fields"][0], json!({"path": "/a", "in": "body", "message": "is required"}));
        let mut long = Problem::default();
        long.add(Place::Body, &format!("/{}", "ä".repeat(1000)), "is not allowed");
        assert!(long.fields()[0].path.len() <= PATH_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn a_page_holds_no_markup_of_the_client() {
        let mut problem = Problem::default();
        problem.add(Place::Body, "/<script>alert('&\")</script>", "is not allowed");
        let html = problem.html();
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(&#39;&amp;&quot;)"), "{html}");
    }
}
