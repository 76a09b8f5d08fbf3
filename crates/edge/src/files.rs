//! Files served at the edge (E9): `[[route]] files = "dist"`.
//!
//! A core never waits for a disk: small files come from memory, and whatever is read is read by threads of their own.
//! Nothing outside the folder is ever opened, nothing is listed, and what begins with a dot does not exist.

pub mod condition;
pub mod kind;
pub mod name;
pub mod reader;
pub mod serve;

use crate::options::beside;
use kind::Immutable;
use mainstay_config::Table;
use std::path::PathBuf;

/// `files` of one `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    pub folder: PathBuf,
    /// Taken off the path before the file is looked for.
    pub strip: Option<String>,
    /// What is no file is `index.html`, for a browser that opens an address.
    pub spa: bool,
    /// What is no file is the app's to answer; else 404.
    pub to_app: bool,
    pub immutable: Immutable,
    /// `/.well-known/` is served although it begins with a dot.
    pub well_known: bool,
    /// Where it stands.
    pub at: String,
}

impl Files {
    pub fn read(route: &Table) -> Option<Files> {
        const DOC: &str = "Folder whose files this route serves, before the app is asked";
        let item = route.key("files").doc(DOC).opt_text();
        let spa = route.key("spa").doc("What is no file is index.html, for a browser's navigation").opt_boolean();
        let strip = route.key("strip").doc("Beginning of the path that is no folder: \"/static\"").opt_text();
        let fallback = route
            .key("fallback")
            .doc("Who answers what is no file: the app, or nobody (404)")
            .opt_choice(&["app", "none"]);
        let immutable = route
            .key("immutable")
            .doc("Files browsers may keep for a year: by their endings, only those with a hash in their name, or off")
            .opt_choice(&["endings", "hashed", "off"]);
        let well_known = route.key("well_known").doc("Serve /.well-known/ of the folder too").opt_boolean();
        let Some(item) = item else {
            let orphan = spa.as_ref().map(|s| &s.at).or(strip.as_ref().map(|s| &s.at));
            if let Some(at) = orphan.or(fallback.as_ref().map(|f| &f.at)).or(immutable.as_ref().map(|i| &i.at)) {
                route.fault(at, "a setting about files in a route without `files`", "files = \"dist\"", None);
            }
            return None;
        };
        if let Some(strip) = strip.as_ref().filter(|s| !s.value.starts_with('/')) {
            route.fault(&strip.at, format!("`{}` is not the beginning of a path", strip.value), "\"/static\"", None);
        }
        Some(Files {
            folder: beside(&item),
            strip: strip.map(|s| s.value.trim_end_matches('/').to_owned()).filter(|s| !s.is_empty()),
            spa: spa.is_some_and(|s| s.value),
            to_app: fallback.is_none_or(|f| f.value == "app"),
            immutable: match immutable.as_ref().map(|i| i.value.as_str()) {
                Some("hashed") => Immutable::Hashed,
                Some("off") => Immutable::Off,
                _ => Immutable::Endings,
            },
            well_known: well_known.is_some_and(|w| w.value),
            at: item.at.to_string(),
        })
    }

    /// Why the folder cannot be served.
    pub fn fault(&self) -> Option<String> {
        let what = match std::fs::read_dir(&self.folder) {
            Ok(_) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "there is no such folder".to_owned(),
            Err(error) => error.to_string(),
        };
        Some(format!("{}: files of {}: {what}; build the frontend, or name its folder", self.at, self.folder.display()))
    }
}
