//! The token of an app: made of a key of the data folder, the boot and the app's name. Nothing need be kept of it, and
//! instances that outlive a server go on with theirs.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const FILE: &str = "api.key";
const KEY_BYTES: usize = 32;
/// By what a scanner of secrets knows it.
const PREFIX: &str = "mat_";

/// Of one boot. Whoever knows one token of it can make no other.
pub struct Tokens {
    key: hmac::Key,
    boot: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// With the data folder's key, made at first need. Only its owner may read it.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn load(folder: &Path, boot: &str) -> io::Result<Tokens> {
        let path = folder.join(FILE);
        let key = match fs::read(&path) {
            Ok(bytes) if bytes.len() == KEY_BYTES => bytes,
            Ok(_) => made(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => made(&path)?,
            Err(error) => return Err(error),
        };
        Ok(Tokens { key: hmac::Key::new(hmac::HMAC_SHA256, &key), boot: boot.to_owned() })
    }

    pub fn of(&self, app: &str) -> String {
        let tag = hmac::sign(&self.key, format!("{}\n{app}", self.boot).as_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// Whose token this is. Compared in a time that says nothing about it.
    pub fn app<'a>(&self, apps: &'a [String], given: &str) -> Option<&'a str> {
        let is_its = |app: &&String| verify_slices_are_equal(self.of(app).as_bytes(), given.as_bytes()).is_ok();
        apps.iter().find(is_its).map(String::as_str)
    }
}

/// Written beside and renamed: a start that is killed leaves no half of a key behind.
fn made(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let beside = path.with_extension("key.new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_one_apps_and_one_boots_and_outlives_a_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = Tokens::load(folder.path(), "f:1").expect("a key");
        let apps = ["api".to_owned(), "worker".to_owned()];
        let token = tokens.of("worker");
        assert_eq!(tokens.app(&apps, &token), Some("worker"));
        assert_eq!(Tokens::load(folder.path(), "f:1").expect("the same").of("worker"), token);
        assert_ne!(Tokens::load(folder.path(), "f:2").expect("the same").of("worker"), token);
        for wrong in ["", "mat_", &token[..token.len() - 1], &tokens.of("other")] {
            assert_eq!(tokens.app(&apps, wrong), None, "{wrong}");
        }
        let mode = fs::metadata(folder.path().join(FILE)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
