//! Keys of a data folder: made at first need, kept from then on, and read by their owner alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What becomes of a file that is there and holds something else than a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// It is told: what was made with the key that it held would be lost.
    Told,
    /// A new key takes its place: what was made with the old one is short-lived.
    Replaced,
}

/// So many random bytes, the same over starts.
///
/// # Errors
/// When the file can neither be read nor made, or is damaged and that is to be told.
pub fn load(path: &Path, bytes: usize, damaged: Damaged) -> io::Result<Vec<u8>> {
    let told = || io::Error::other(format!("{} is no key of {bytes} bytes", path.display()));
    match fs::read(path) {
        Ok(key) if key.len() == bytes => return Ok(key),
        Ok(_) if damaged == Damaged::Told => return Err(told()),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = vec![0; bytes];
    // The kernel's: of a server that starts nobody wants entropy of a quality that takes its time.
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let kept = keep(path, &key)?;
    if kept.len() == bytes { Ok(kept) } else { Err(told()) }
}

/// Keeps these bytes; what is there from then on, which of two that do so at once is the first one's. Whoever is killed
/// meanwhile leaves no half of a key.
///
/// # Errors
/// When nothing can be written or read there.
pub fn keep(path: &Path, key: &[u8]) -> io::Result<Vec<u8>> {
    let beside = path.with_extension(format!("key.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(key)?;
    file.sync_all()?;
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside)?;
    match linked {
        Ok(()) => Ok(key.to_vec()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_stays_is_its_owners_alone_and_the_first_of_two_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.key");
        let key = load(&path, 32, Damaged::Told).expect("made");
        assert_eq!(load(&path, 32, Damaged::Told).expect("read"), key);
        assert_eq!(keep(&path, b"another").expect("kept"), key, "somebody was quicker");
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_no_key_is_told_or_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.key");
        fs::write(&path, "half").expect("write");
        let told = load(&path, 32, Damaged::Told).expect_err("half a key");
        assert!(told.to_string().contains("no key of 32 bytes"), "{told}");
        assert_eq!(fs::read(&path).expect("read"), b"half", "left as it was");
        assert_eq!(load(&path, 32, Damaged::Replaced).expect("made").len(), 32);
    }
}
