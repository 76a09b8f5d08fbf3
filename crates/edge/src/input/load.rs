//! Schema files, read and compiled; a file that has not changed is not compiled again.

use super::document::{self, Document, Fault};
use super::openapi::Api;
use super::schema::Schema;
use super::{Kind, Options};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Every schema file of a configuration, compiled. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Schemas(Arc<HashMap<(Kind, PathBuf), Loaded>>);

#[derive(Debug, Clone)]
struct Loaded {
    text: Arc<str>,
    what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    Schema(Arc<Schema>),
    OpenApi(Arc<Api>),
}

impl Schemas {
    /// `None`: it could not be read.
    pub fn get(&self, options: &Options) -> Option<&What> {
        Some(&self.0.get(&(options.kind, options.file.clone()))?.what)
    }

    /// Both hold the same files with the same text.
    pub fn is_same(&self, other: &Schemas) -> bool {
        let has = |(key, loaded): (_, &Loaded)| other.0.get(key).is_some_and(|o| o.text == loaded.text);
        self.0.len() == other.0.len() && self.0.iter().all(has)
    }
}

/// Reads all that is named; `before` is kept where its text is the same. The faults name the file, the line, and who
/// names the file.
pub fn load<'o>(all: impl Iterator<Item = &'o Options>, before: &Schemas) -> (Schemas, Vec<String>) {
    let mut loaded: HashMap<(Kind, PathBuf), Loaded> = HashMap::new();
    let mut seen = Vec::new();
    let mut faults = Vec::new();
    for options in all {
        let key = (options.kind, options.file.clone());
        if seen.contains(&key) {
            continue;
        }
        match one(options, before.0.get(&key)) {
            Ok(one) => drop(loaded.insert(key.clone(), one)),
            Err(all) => {
                let word = if options.kind == Kind::Schema { "schema" } else { "openapi" };
                faults.extend(all.iter().map(|fault| format!("{fault}   ({word} at {})", options.at)));
            }
        }
        seen.push(key);
    }
    (Schemas(Arc::new(loaded)), faults)
}

fn one(options: &Options, before: Option<&Loaded>) -> Result<Loaded, Vec<Fault>> {
    let text = document::text(&options.file).map_err(|fault| vec![fault])?;
    if let Some(before) = before.filter(|before| *before.text == *text) {
        return Ok(before.clone());
    }
    let document = Document::parse(&options.file, &text).map_err(|fault| vec![fault])?;
    let what = match options.kind {
        Kind::Schema => What::Schema(Arc::new(Schema::of_file(&document)?)),
        Kind::OpenApi => What::OpenApi(Arc::new(Api::build(document)?)),
    };
    Ok(Loaded { text: text.into(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchanged_file_is_compiled_once_and_a_broken_one_says_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("s.json");
        let options = |kind| Options { kind, file: file.clone(), text: "s.json".into(), at: "mainstay.toml:7".into() };
        let (schema, openapi) = (options(Kind::Schema), options(Kind::OpenApi));
        std::fs::write(&file, "{\"type\": \"object\"}").expect("written");
        let (first, faults) = load([&schema, &schema].into_iter(), &Schemas::default());
        assert!(faults.is_empty(), "{faults:?}");
        let (second, _) = load([&schema].into_iter(), &first);
        let is_same = |a: &Schemas, b: &Schemas| match (a.get(&schema), b.get(&schema)) {
            (Some(What::Schema(a)), Some(What::Schema(b))) => Arc::ptr_eq(a, b),
            _ => false,
        };
        assert!(is_same(&first, &second) && first.is_same(&second));
        std::fs::write(&file, "{\n\"type\": \"objekt\",\n\"minimum\": true}").expect("written");
        let (third, faults) = load([&schema, &openapi].into_iter(), &first);
        assert!(third.get(&schema).is_none() && !third.is_same(&first));
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].contains("s.json:2: ") && faults[0].ends_with("(schema at mainstay.toml:7)"), "{faults:?}");
        assert!(faults[2].contains("no OpenAPI document"), "{faults:?}");
    }
}
