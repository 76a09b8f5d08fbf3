//! What a setting accepts, for faults, the reference and the schema alike.

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Duration,
    Size,
    Integer {
        least: i64,
        most: i64,
    },
    Boolean,
    Text,
    Texts,
    Choice(Vec<String>),
    /// In the words of the block.
    Parsed(String),
    Any,
}

impl Kind {
    /// Follows "expected".
    pub(crate) fn expected(&self) -> String {
        match self {
            Kind::Duration => "a duration such as \"10s\" (ms s m h d w)".to_owned(),
            Kind::Size => "a size such as \"10MB\" or \"16KiB\", or a number of bytes".to_owned(),
            Kind::Integer { least, most: i64::MAX } => format!("a whole number from {least}"),
            Kind::Integer { least, most } => format!("a whole number from {least} to {most}"),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Text => "a text in quotes".to_owned(),
            Kind::Texts => "a text in quotes, or a list of them".to_owned(),
            Kind::Choice(choices) => list(choices),
            Kind::Parsed(expected) => expected.clone(),
            Kind::Any => "a value".to_owned(),
        }
    }

    /// Something that could be typed there, as TOML.
    pub(crate) fn sample(&self) -> String {
        match self {
            Kind::Duration => "\"10s\"".to_owned(),
            Kind::Size => "\"10MB\"".to_owned(),
            Kind::Integer { least, most } => 1.clamp(*least, *most).to_string(),
            Kind::Boolean => "true".to_owned(),
            Kind::Text | Kind::Parsed(_) | Kind::Any => "\"\"".to_owned(),
            Kind::Texts => "[]".to_owned(),
            Kind::Choice(choices) => quote(choices.first().map_or("", String::as_str)),
        }
    }
}

/// A TOML basic string.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn list(choices: &[String]) -> String {
    let quoted: Vec<String> = choices.iter().map(|choice| quote(choice)).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}
