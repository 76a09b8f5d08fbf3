//! What `mainstay init` reads: the files a project has already, each by a reader of its own.
//!
//! Only reads, and follows nothing out of the folder but what `--from` names.

mod compose;
mod environment;
pub mod found;
#[cfg(test)]
mod fuzz;
mod nginx;
mod package;
mod procfile;
pub mod unit;
pub mod write;
mod yaml;

use found::Found;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Files of these kinds are a few kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where each kind lies, by custom; the first that is there counts.
const COMPOSE: [&str; 4] = ["docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml"];
const NGINX: [&str; 8] = [
    "nginx.conf",
    "nginx/nginx.conf",
    "nginx/default.conf",
    "nginx/conf.d/default.conf",
    "deploy/nginx.conf",
    "docker/nginx.conf",
    "config/nginx.conf",
    "nginx/sites-available/default",
];
const ENV: [&str; 4] = [".env", ".env.production", ".env.example", ".env.sample"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Procfile,
    Package,
    Compose,
    Nginx,
    Env,
}

/// The folder's own files, then those that were named.
pub fn look(dir: &Path, from: &[PathBuf]) -> Result<Found, String> {
    let mut found = Found::default();
    if dir.join(ENV[0]).is_file() {
        found.env_file = Some(ENV[0].to_owned());
    }
    let there = |names: &[&'static str]| names.iter().copied().find(|name| dir.join(name).is_file());
    let mut sources: Vec<(Kind, PathBuf)> = Vec::new();
    let mut add = |kind, name: Option<&str>| sources.extend(name.map(|name| (kind, PathBuf::from(name))));
    // A Procfile says best how things are started; the rest adds to it.
    add(Kind::Procfile, there(&["Procfile"]));
    add(Kind::Package, there(&["package.json"]));
    add(Kind::Compose, there(&COMPOSE));
    add(Kind::Nginx, there(&NGINX));
    add(Kind::Env, there(&ENV));
    for path in from {
        sources.push((kind_of(path), path.clone()));
    }
    sources.sort_by_key(|(kind, _)| *kind as u8);
    for (kind, path) in sources {
        let shown = path.display().to_string();
        match text_of(&dir.join(&path)) {
            Ok(text) => read(kind, dir, &shown, &text, &mut found),
            Err(why) if from.contains(&path) => return Err(format!("{shown} cannot be read: {why}")),
            Err(why) => found.note(shown, format!("cannot be read: {why}")),
        }
    }
    Ok(found)
}

fn read(kind: Kind, dir: &Path, shown: &str, text: &str, found: &mut Found) {
    found.files.push(found::plain(shown));
    match kind {
        Kind::Procfile => procfile::read(shown, text, found),
        Kind::Package => package::read(dir, shown, text, found),
        Kind::Compose => compose::read(dir, shown, text, found),
        Kind::Nginx => nginx::read(dir, shown, text, found),
        Kind::Env => environment::read(shown, text, found),
    }
}

/// By its name; whatever has no name of its own is nginx's.
fn kind_of(path: &Path) -> Kind {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    match name.as_str() {
        "package.json" => Kind::Package,
        name if name.starts_with("procfile") => Kind::Procfile,
        name if name.ends_with(".yml") || name.ends_with(".yaml") => Kind::Compose,
        name if name.starts_with(".env") || name.ends_with(".env") => Kind::Env,
        _ => Kind::Nginx,
    }
}

fn text_of(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {} KiB", FILE_BYTES_MAX / 1024));
    }
    Ok(text)
}
