//! A schema file as it was read: its value, and which line says what.

use super::json::{self, Bounds};
use super::yaml::{self, Lines};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Largest schema file. The largest OpenAPI document that is published has 12 MB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Something wrong in a schema file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: PathBuf,
    /// From 1; none where the whole file is meant.
    pub line: Option<usize>,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file.display(), self.what),
            None => write!(f, "{}: {}", self.file.display(), self.what),
        }
    }
}

/// Alive while a file is compiled, no longer.
#[derive(Debug)]
pub struct Document<'a> {
    pub file: &'a Path,
    pub value: Value,
    text: &'a str,
    /// Of a YAML file; those of a JSON file are looked up when asked for.
    lines: Option<Lines>,
}

/// The text of a schema file.
pub fn text(file: &Path) -> Result<String, Fault> {
    let fault = |what: String| Fault { file: file.to_owned(), line: None, what };
    let size = match std::fs::metadata(file) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Err(fault("is no file".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(fault("there is no such file".into()));
        }
        Err(error) => return Err(fault(error.to_string())),
    };
    if size > FILE_BYTES_MAX {
        return Err(fault(format!("is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    let bytes = std::fs::read(file).map_err(|error| fault(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| fault("is not UTF-8".to_owned()))
}

impl<'a> Document<'a> {
    /// By its ending `.yaml` or `.yml` as YAML, else as JSON.
    pub fn parse(file: &'a Path, text: &'a str) -> Result<Document<'a>, Fault> {
        let fault = |line, what| Fault { file: file.to_owned(), line, what };
        let is_yaml = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"));
        if is_yaml {
            let (value, lines) = yaml::parse(text).map_err(|(line, what)| fault(Some(line), what))?;
            return Ok(Document { file, value, text, lines: Some(lines) });
        }
        let (value, _) = json::read_within(text.as_bytes(), Bounds::OWN).map_err(|broken| {
            // The parser's words end in " at line 3 column 7".
            let (what, at) = broken.what.rsplit_once(" at line ").unwrap_or((&broken.what, ""));
            let line = at.split(' ').next().and_then(|n| n.parse().ok());
            fault(line.or(Some(1)), format!("not JSON: {what}"))
        })?;
        Ok(Document { file, value, text, lines: None })
    }

    /// A fault about what stands at `pointer`, or at the nearest thing around it that the file holds.
    pub fn fault(&self, pointer: &str, what: impl Into<String>) -> Fault {
        Fault { file: self.file.to_owned(), line: Some(self.line(pointer)), what: what.into() }
    }

    pub fn line(&self, pointer: &str) -> usize {
        let Some(lines) = &self.lines else { return line_in_json(self.text, pointer) };
        let mut at = pointer;
        loop {
            match (lines.get(at), at.rfind('/')) {
                (Some(line), _) => return *line,
                (None, Some(slash)) => at = &at[..slash],
                (None, None) => return 1,
            }
        }
    }
}

/// What a segment of a JSON pointer names.
pub fn name_of(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

fn line_in_json(text: &str, pointer: &str) -> usize {
    let Ok(mut at) = serde_json::from_str::<&RawValue>(text) else { return 1 };
    for segment in pointer.split('/').skip(1) {
        let name = name_of(segment);
        let member = serde_json::from_str::<HashMap<String, &RawValue>>(at.get()).ok();
        let item = || serde_json::from_str::<Vec<&RawValue>>(at.get()).ok()?.get(name.parse::<usize>().ok()?).copied();
        match member.and_then(|mut members| members.remove(&name)).or_else(item) {
            Some(next) => at = next,
            None => break,
        }
    }
    let offset = (at.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    text.as_bytes().iter().take(offset).filter(|&&b| b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_line() {
        let json = "{\n  \"a\": {\n    \"b~/c\": [\n      1,\n      {\"d\": 2}\n    ]\n  }\n}\n";
        let yaml = "\na:\n  b~/c:\n    - 1\n    - d: 2\n";
        let [json, yaml] = [("x.json", json), ("x.yaml", yaml)].map(|(file, text)| {
            let document = Document::parse(Path::new(file), text).expect(file);
            ["", "/a", "/a/b~0~1c/1/d", "/a/nothing", "/nothing"].map(|pointer| document.line(pointer))
        });
        assert_eq!(json, [1, 2, 5, 2, 1]);
        assert_eq!(yaml, [2, 2, 5, 2, 2]);
    }

    #[test]
    fn a_broken_file_says_where() {
        for (file, text, said) in [
            ("x.json", "{\n  \"a\": 1,\n  \"a\": 2\n}", "x.json:3: not JSON: a key stands twice"),
            ("x.json", "{\n\n", "x.json:3: not JSON: EOF while parsing an object"),
            ("x.yml", "a: 1\na: 2\n", "x.yml:2: the key `a` stands twice"),
        ] {
            assert_eq!(Document::parse(Path::new(file), text).expect_err(said).to_string(), said);
        }
        assert!(text(Path::new("/no/such/file.json")).expect_err("none").to_string().contains("no such file"));
        assert!(text(Path::new("/")).expect_err("a folder").to_string().contains("is no file"));
    }
}
