//! Everything the configuration is made from, as text, so that it can be handed to another process or to a test.
//! Holding it is holding secrets: it is never logged.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::Error;

/// A text and the path it is shown under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    pub path: PathBuf,
    pub text: String,
}

impl Text {
    pub fn new(path: impl AsRef<Path>, text: impl Into<String>) -> Text {
        Text { path: path.as_ref().to_path_buf(), text: text.into() }
    }
}

#[derive(Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// `mainstay.toml`
    pub file: Option<Text>,
    /// `--env-file`
    pub env_file: Option<Text>,
    /// `./.env`, read unasked for our own settings only.
    pub dot_env: Option<Text>,
    pub environment: Vec<(String, String)>,
    /// Dotted key and value; a later one overrides.
    pub flags: Vec<(String, String)>,
    /// `run -- command`
    pub command: Option<Vec<String>>,
    /// Contents of the files that a `NAME_FILE` names, under the path as written there.
    pub secret_files: Vec<Text>,
    /// Files of development, for what production must not have in common with them.
    pub development: Vec<Text>,
    /// systemd credentials, by name.
    pub credentials: Vec<(String, String)>,
    /// Of the process that gathered: pid 1 and `SYSTEMD_EXEC_PID` tell production.
    pub pid: u32,
}

impl Inputs {
    /// For tests and previews: a file alone.
    pub fn of_file(text: impl Into<String>) -> Inputs {
        Inputs { file: Some(Text::new("mainstay.toml", text)), ..Inputs::default() }
    }

    pub fn to_json(&self) -> String {
        let text = |text: &Text| json!({ "path": text.path.to_string_lossy(), "text": text.text });
        json!({
            "file": self.file.as_ref().map(text),
            "env_file": self.env_file.as_ref().map(text),
            "dot_env": self.dot_env.as_ref().map(text),
            "environment": self.environment,
            "flags": self.flags,
            "command": self.command,
            "secret_files": self.secret_files.iter().map(text).collect::<Vec<_>>(),
            "development": self.development.iter().map(text).collect::<Vec<_>>(),
            "credentials": self.credentials,
            "pid": self.pid,
        })
        .to_string()
    }

    /// # Errors
    /// Not JSON, or not what `to_json` wrote. What an older binary left out is taken as absent.
    pub fn from_json(json: &str) -> Result<Inputs, Error> {
        let value: Value = serde_json::from_str(json).map_err(Error::Json)?;
        let map = value.as_object().ok_or(Error::Field("object"))?;
        Ok(Inputs {
            file: text(map, "file")?,
            env_file: text(map, "env_file")?,
            dot_env: text(map, "dot_env")?,
            environment: pairs(map, "environment")?,
            flags: pairs(map, "flags")?,
            command: command(map)?,
            secret_files: texts(map, "secret_files")?,
            development: texts(map, "development")?,
            credentials: pairs(map, "credentials")?,
            pid: pid(map)?,
        })
    }
}

/// Its values are secrets; only the names of what is there are shown.
impl std::fmt::Debug for Inputs {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = |text: &Option<Text>| text.as_ref().map(|text| text.path.clone());
        out.debug_struct("Inputs")
            .field("file", &path(&self.file))
            .field("env_file", &path(&self.env_file))
            .field("dot_env", &path(&self.dot_env))
            .field("variables", &self.environment.len())
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

fn present<'a>(map: &'a Map<String, Value>, field: &str) -> Option<&'a Value> {
    map.get(field).filter(|value| !value.is_null())
}

fn text(map: &Map<String, Value>, field: &'static str) -> Result<Option<Text>, Error> {
    present(map, field).map(|value| one_text(value, field)).transpose()
}

fn one_text(value: &Value, field: &'static str) -> Result<Text, Error> {
    let part = |name: &str| value.get(name).and_then(Value::as_str).ok_or(Error::Field(field));
    Ok(Text { path: PathBuf::from(part("path")?), text: part("text")?.to_owned() })
}

fn pairs(map: &Map<String, Value>, field: &'static str) -> Result<Vec<(String, String)>, Error> {
    let Some(value) = present(map, field) else { return Ok(Vec::new()) };
    let pair = |pair: &Value| {
        let part = |index: usize| pair.get(index).and_then(Value::as_str).map(str::to_owned);
        part(0).zip(part(1)).ok_or(Error::Field(field))
    };
    value.as_array().ok_or(Error::Field(field))?.iter().map(pair).collect()
}

fn command(map: &Map<String, Value>) -> Result<Option<Vec<String>>, Error> {
    let Some(value) = present(map, "command") else { return Ok(None) };
    let word = |word: &Value| word.as_str().map(str::to_owned).ok_or(Error::Field("command"));
    value.as_array().ok_or(Error::Field("command"))?.iter().map(word).collect::<Result<_, _>>().map(Some)
}

fn texts(map: &Map<String, Value>, field: &'static str) -> Result<Vec<Text>, Error> {
    let Some(value) = present(map, field) else { return Ok(Vec::new()) };
    let all = value.as_array().ok_or(Error::Field(field))?;
    all.iter().map(|value| one_text(value, field)).collect()
}

fn pid(map: &Map<String, Value>) -> Result<u32, Error> {
    let Some(value) = present(map, "pid") else { return Ok(0) };
    value.as_u64().and_then(|pid| u32::try_from(pid).ok()).ok_or(Error::Field("pid"))
}
