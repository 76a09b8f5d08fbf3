//! Reads the files and the environment into `Inputs`. The only place here that touches the disk, and only to read.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use crate::dotenv;
use crate::fault::{Fault, Faults};
use crate::inputs::{Inputs, Text};
use crate::known;
use crate::mask;
use crate::position::Position;
use crate::secret;

/// A configuration of a megabyte is another file given by mistake.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A secret of 64 KiB is another file given by mistake.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Names systemd may hand over; there are about 130 that count.
const MAX_CREDENTIALS: usize = 256;

/// Where a value stands that everybody with the sources may know.
const DEVELOPMENT_FILES: [&str; 6] =
    [".env.development", ".env.development.local", ".env.dev", ".env.test", ".env.example", ".env.sample"];

const DEFAULT_FILE: &str = "mainstay.toml";

impl Inputs {
    /// Reads the file (`file`, else `MAINSTAY_FILE`, else `mainstay.toml` if it exists), the env file if one is named,
    /// `./.env` if it exists, the environment, and the files that variables name.
    ///
    /// # Errors
    /// Every file that is missing though named, unreadable, not UTF-8 or over 1 MiB.
    pub fn gather(
        dir: &Path,
        file: Option<&Path>,
        env_file: Option<&Path>,
        flags: Vec<(String, String)>,
        command: Option<Vec<String>>,
    ) -> Result<Inputs, Faults> {
        let environment = std::env::vars_os().collect();
        let pid = std::process::id();
        gather(dir, file, env_file, environment, Inputs { flags, command, pid, ..Inputs::default() })
    }
}

/// `gather` with the environment as an argument.
pub(crate) fn gather(
    dir: &Path,
    file: Option<&Path>,
    env_file: Option<&Path>,
    environment: Vec<(OsString, OsString)>,
    mut inputs: Inputs,
) -> Result<Inputs, Faults> {
    let mut faults = Vec::new();
    inputs.environment = utf8(environment, &mut faults);
    inputs.env_file = env_file.and_then(|path| named(dir, path, "--env-file", &mut faults));
    inputs.file = main_file(dir, file, &inputs, &mut faults);
    let same = env_file.is_some_and(|path| dir.join(path) == dir.join(".env"));
    if !same {
        inputs.dot_env = optional(dir, Path::new(".env"), &mut faults);
    }
    inputs.development = development(dir);
    inputs.secret_files = secret_files(dir, &inputs, &mut faults);
    inputs.credentials = credentials(&inputs);
    if faults.is_empty() { Ok(inputs) } else { Err(Faults(faults)) }
}

fn utf8(environment: Vec<(OsString, OsString)>, faults: &mut Vec<Fault>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (name, value) in environment {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => all.push((name, value)),
            Err(_) if known::is_known(&name) => {
                let fault = Fault::new(&Position::variable(&name), format!("{name} cannot be read"));
                faults.push(fault.found("bytes that are not UTF-8").expected("text"));
            }
            Err(_) => {}
        }
    }
    all.sort();
    all
}

fn main_file(dir: &Path, file: Option<&Path>, inputs: &Inputs, faults: &mut Vec<Fault>) -> Option<Text> {
    if let Some(path) = file {
        return named(dir, path, "--file", faults);
    }
    let own = inputs.environment.iter().find(|(name, value)| name == "MAINSTAY_FILE" && !value.is_empty());
    let own = own.map(|(_, value)| value.clone()).or_else(|| {
        let text = inputs.env_file.as_ref()?;
        let (assignments, _) = dotenv::parse("", &text.text);
        let own = assignments.into_iter().rfind(|assignment| assignment.name == "MAINSTAY_FILE");
        own.map(|assignment| assignment.value).filter(|value| !value.is_empty())
    });
    match own {
        Some(path) => named(dir, Path::new(&path), "MAINSTAY_FILE", faults),
        None => optional(dir, Path::new(DEFAULT_FILE), faults),
    }
}

/// A file somebody named must be there.
fn named(dir: &Path, path: &Path, by: &str, faults: &mut Vec<Fault>) -> Option<Text> {
    match read(&dir.join(path), MAX_FILE_BYTES) {
        Ok(text) => Some(Text { path: path.to_path_buf(), text }),
        Err(problem) => {
            let shown = path.to_string_lossy();
            let at = Position::path(&shown);
            let fault = Fault::new(&at, format!("the file that {by} names cannot be read")).found(problem.found());
            let fix = match (&problem, by) {
                (Problem::Missing, _) => format!("check the path, or leave {by} out"),
                (Problem::Denied, _) => format!("chmod +r {shown}"),
                (Problem::Folder, "--file") => format!("--file {}", path.join(DEFAULT_FILE).to_string_lossy()),
                (Problem::Folder, _) => format!("name a file within {shown}"),
                _ => format!("give {by} another file"),
            };
            faults.push(fault.expected(problem.expected()).fix(fix));
            None
        }
    }
}

/// A file nobody named may be absent, but not broken.
fn optional(dir: &Path, path: &Path, faults: &mut Vec<Fault>) -> Option<Text> {
    match read(&dir.join(path), MAX_FILE_BYTES) {
        Ok(text) => Some(Text { path: path.to_path_buf(), text }),
        // A folder called .env is a Python environment.
        Err(Problem::Missing | Problem::Folder) => None,
        Err(problem) => {
            let shown = path.to_string_lossy();
            let fault = Fault::new(&Position::path(&shown), format!("{shown} cannot be read")).found(problem.found());
            let fix = match problem {
                Problem::Denied => format!("chmod +r {shown}"),
                _ => format!("mv {shown} {shown}.old"),
            };
            faults.push(fault.expected(problem.expected()).fix(fix));
            None
        }
    }
}

/// The files that frameworks keep for development. One that cannot be read is no business of ours.
fn development(dir: &Path) -> Vec<Text> {
    let text = |name: &&str| Some(Text::new(name, read(&dir.join(name), MAX_FILE_BYTES).ok()?));
    DEVELOPMENT_FILES.iter().filter_map(text).collect()
}

/// What every `NAME_FILE` names, where NAME counts or is a secret by its name.
fn secret_files(dir: &Path, inputs: &Inputs, faults: &mut Vec<Fault>) -> Vec<Text> {
    let mut named: Vec<(String, String, Position)> = Vec::new();
    for (name, value) in &inputs.environment {
        named.push((name.clone(), value.clone(), Position::variable(name)));
    }
    for text in [&inputs.env_file, &inputs.dot_env].into_iter().flatten() {
        let (assignments, _) = dotenv::parse(&text.path.to_string_lossy(), &text.text);
        named.extend(assignments.into_iter().map(|a| (a.name, a.value, a.at)));
    }
    let mut files: Vec<Text> = Vec::new();
    for (name, value, at) in named {
        let Some(base) = name.strip_suffix("_FILE") else { continue };
        let counts = base != "MAINSTAY" && (known::is_known(base) || secret::is_secret_name(base));
        if !counts || value.is_empty() || files.iter().any(|file| file.path == Path::new(&value)) {
            continue;
        }
        match read(&dir.join(&value), MAX_SECRET_BYTES) {
            Ok(text) => files.push(Text { path: value.into(), text }),
            Err(problem) => {
                let fault = Fault::new(&at, format!("the file that {name} names cannot be read"));
                let found = format!("{} at {}", problem.found(), mask::quoted(&value));
                faults.push(fault.found(found).expected(problem.expected()).fix(format!("check {name}")));
            }
        }
    }
    files
}

/// systemd's `LoadCredential=NAME:…`. A folder that cannot be listed holds none for us.
fn credentials(inputs: &Inputs) -> Vec<(String, String)> {
    let Some((_, dir)) = inputs.environment.iter().find(|(name, _)| name == "CREDENTIALS_DIRECTORY") else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in entries.flatten().take(MAX_CREDENTIALS) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if known::is_known(&name) || secret::is_secret_name(&name) {
            all.extend(read(&entry.path(), MAX_SECRET_BYTES).ok().map(|value| (name, value)));
        }
    }
    all.sort();
    all
}

enum Problem {
    Missing,
    Denied,
    Folder,
    Large(u64),
    NotText,
    Other(std::io::ErrorKind),
}

impl Problem {
    fn found(&self) -> String {
        match self {
            Problem::Missing => "no such file".to_owned(),
            Problem::Denied => "permission denied".to_owned(),
            Problem::Folder => "a folder".to_owned(),
            Problem::Large(limit) => format!("more than {}", crate::units::show_size(*limit)),
            Problem::NotText => "bytes that are not UTF-8".to_owned(),
            Problem::Other(kind) => kind.to_string(),
        }
    }

    fn expected(&self) -> String {
        match self {
            Problem::Large(limit) => format!("at most {}", crate::units::show_size(*limit)),
            Problem::NotText => "UTF-8 text".to_owned(),
            _ => "a file that can be read".to_owned(),
        }
    }
}

fn read(path: &Path, limit: u64) -> Result<String, Problem> {
    let problem = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Problem::Missing,
        std::io::ErrorKind::PermissionDenied => Problem::Denied,
        std::io::ErrorKind::IsADirectory => Problem::Folder,
        kind => Problem::Other(kind),
    };
    let metadata = std::fs::metadata(path).map_err(problem)?;
    if metadata.is_dir() {
        return Err(Problem::Folder);
    }
    // A pipe (`--env-file <(…)`) is welcome, so its length is not asked for beforehand.
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(problem)?.take(limit + 1).read_to_end(&mut bytes).map_err(problem)?;
    if bytes.len() as u64 > limit {
        return Err(Problem::Large(limit));
    }
    String::from_utf8(bytes).map_err(|_| Problem::NotText)
}
