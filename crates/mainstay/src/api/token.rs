//! The token of an app: made of a key of the data folder, the boot and the app's name. Nothing need be kept of it, and
//! instances that outlive a server go on with theirs.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mainstay_store::key_file::{self, Damaged};
use std::io;
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
        let key = key_file::load(&folder.join(FILE), KEY_BYTES, Damaged::Replaced)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
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
