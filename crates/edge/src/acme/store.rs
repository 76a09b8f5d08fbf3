//! Where certificates, keys, accounts and what is known of earlier attempts lie: the seam that a store shared by
//! several nodes can fill later.
//!
//! A value is whole or absent, whatever is killed when. Must never be readable by anybody else.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Within the data folder.
pub const FOLDER: &str = "certificates";
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// A chain with its key is a few kilobytes.
const VALUE_BYTES_MAX: u64 = 256 * 1024;

/// Named texts. A key is `kind/name`, both of letters, digits, dots, dashes.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    pub fn new(data: &Path) -> Store {
        Store { folder: data.join(FOLDER) }
    }

    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key)
    }

    /// `None` where there is none.
    pub fn get(&self, key: &str) -> io::Result<Option<String>> {
        let path = self.path(key);
        match fs::metadata(&path) {
            Ok(about) if about.len() > VALUE_BYTES_MAX => Err(io::Error::other("larger than anything of ours")),
            Ok(_) => fs::read_to_string(&path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    /// Durable when it returns: a certificate that was paid for with a rate limit is not lost to a power cut.
    pub fn put(&self, key: &str, value: &str) -> io::Result<()> {
        let path = self.path(key);
        self.replace(&path, value).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    pub fn remove(&self, key: &str) -> io::Result<()> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn replace(&self, path: &Path, value: &str) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.folder);
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        let new = path.with_extension("new");
        // One left by a crash may have been made with other rights.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&new)?;
        file.write_all(value.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        fs::File::open(folder)?.sync_all()
    }
}

/// A name as it may stand in a key: what is unusual becomes `_`.
pub fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let plain: String = name.chars().map(keep).collect();
    // Neither hidden nor a way up.
    format!("{}{}", if plain.starts_with('.') { "_" } else { "" }, plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_value_comes_back_and_nobody_else_can_read_it() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::new(dir.path());
        assert_eq!(store.get("issued/a.example").expect("get"), None);
        for value in ["one", "two"] {
            store.put("issued/a.example", value).expect("put");
            assert_eq!(store.get("issued/a.example").expect("get").as_deref(), Some(value));
        }
        let mode = |path: PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(store.path("issued/a.example")), 0o600);
        assert_eq!(mode(store.path("issued")), 0o700);
        assert_eq!(mode(store.path("")), 0o700);
        store.remove("issued/a.example").expect("remove");
        store.remove("issued/a.example").expect("twice");
        assert_eq!(store.get("issued/a.example").expect("get"), None);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for (name, expected) in [("*.a.test", "_.a.test"), ("../x", "_.._x"), ("fd00::1", "fd00__1"), ("a/b", "a_b")] {
            assert_eq!(plain(name), expected);
        }
    }
}
