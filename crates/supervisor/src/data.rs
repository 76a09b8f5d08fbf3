//! The data folder: one owner at a time, an id that stays, a number that counts starts.
//!
//! Must never touch a folder that is somebody else's: neither empty nor ours is an error.

use crate::{Error, kernel, protocol};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// More than any of our small files holds.
const SMALL_FILE_MAX_BYTES: u64 = 4096;

/// The folder, locked for as long as this lives.
#[derive(Debug)]
pub struct Data {
    path: PathBuf,
    id: String,
    boot: u64,
    _lock: Flock<File>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CarriedData {
    path: PathBuf,
    id: String,
    boot: u64,
    lock: RawFd,
}

impl Data {
    /// Creates the folder if need be, takes its lock, and counts one more start.
    pub fn open(path: &Path) -> Result<Data, Error> {
        create(path)?;
        let path = path.canonicalize().map_err(Error::at("open", path))?;
        let lock = lock(&path)?;
        write_once(&path.join(".gitignore"), "*\n")?;
        let id = id(&path)?;
        let boot = read_small(&path.join("boot"))?.trim().parse::<u64>().unwrap_or(0).saturating_add(1);
        replace(&path.join("boot"), &format!("{boot}\n"))?;
        Ok(Data { path, id, boot, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn boot_number(&self) -> u64 {
        self.boot
    }

    /// The value of `MAINSTAY_BOOT`; the same text as `protocol::Hello::boot`.
    pub fn boot(&self) -> String {
        protocol::boot(&self.id, self.boot)
    }

    /// For the process this one becomes: what cannot be read from the folder again without counting a start.
    pub(crate) fn carried(&self) -> (CarriedData, BorrowedFd<'_>) {
        let carried =
            CarriedData { path: self.path.clone(), id: self.id.clone(), boot: self.boot, lock: self._lock.as_raw_fd() };
        (carried, self._lock.as_fd())
    }

    /// The lock belongs to the open file, so it was never let go.
    pub(crate) fn from_carried(carried: CarriedData) -> Result<Data, Error> {
        let CarriedData { path, id, boot, lock } = carried;
        let file = kernel::inherited(lock).map_err(Error::at("go on holding", &path))?;
        let lock = Flock::lock(File::from(file), FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| Error::at("lock", &path)(errno.into()))?;
        Ok(Data { path, id, boot, _lock: lock })
    }

    /// Remembers the server of this boot: one that is not dumpable hides its environment from the next boot's sweep.
    pub(crate) fn note_server(&self, pid: i32, start_ticks: u64) -> Result<(), Error> {
        replace(&self.path.join("server"), &format!("{pid} {start_ticks}\n"))
    }

    /// The server noted last: its pid and when it started, in clock ticks since the machine did.
    pub fn noted_server(&self) -> Option<(i32, u64)> {
        let text = read_small(&self.path.join("server")).ok()?;
        let (pid, ticks) = text.trim().split_once(' ')?;
        Some((pid.parse().ok()?, ticks.parse().ok()?))
    }
}

fn create(path: &Path) -> Result<(), Error> {
    let mut folder = DirBuilder::new();
    if let Some(parent) = path.parent() {
        folder.recursive(true).create(parent).map_err(Error::at("create", parent))?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::at("create", path)(error)),
    }
    let mut ours = false;
    let mut foreign = false;
    for entry in fs::read_dir(path).map_err(Error::at("read", path))? {
        let name = entry.map_err(Error::at("read", path))?.file_name();
        match name.to_str() {
            Some("lock" | "id") => ours = true,
            Some(".gitignore" | "lost+found") => {}
            _ => foreign = true,
        }
    }
    if foreign && !ours {
        return Err(Error::DataForeign(path.to_owned()));
    }
    match fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE)) {
        // A mounted volume that belongs to root and lets us in by its group.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(Error::at("close to other users", path)),
    }
}

fn lock(folder: &Path) -> Result<Flock<File>, Error> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
    let file = options.open(&path).map_err(Error::at("open", &path))?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((file, Errno::EWOULDBLOCK)) => {
            return Err(Error::DataHeld { path: folder.to_owned(), pid: written_pid(file) });
        }
        Err((_, errno)) => return Err(Error::at("lock", &path)(errno.into())),
    };
    let pid = format!("{}\n", std::process::id());
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| lock.write_all(pid.as_bytes()))
        .map_err(Error::at("write", &path))?;
    Ok(lock)
}

fn written_pid(file: File) -> Option<i32> {
    let mut text = String::new();
    file.take(SMALL_FILE_MAX_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// A copied folder must not end the processes of the original, so the id holds for one folder (device and inode).
fn id(folder: &Path) -> Result<String, Error> {
    let path = folder.join("id");
    let place = fs::metadata(folder).map_err(Error::at("read", folder))?;
    let place = format!("{}:{}", place.dev(), place.ino());
    let text = read_small(&path)?;
    if let Some((id, at)) = text.trim().split_once(' ')
        && at == place
        && id.len() == 32
        && id.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Ok(id.to_owned());
    }
    let source = Path::new("/proc/sys/kernel/random/uuid");
    let random = fs::read_to_string(source).map_err(Error::at("read", source))?;
    let id: String = random.chars().filter(char::is_ascii_hexdigit).collect();
    replace(&path, &format!("{id} {place}\n"))?;
    Ok(id)
}

fn read_small(path: &Path) -> Result<String, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(Error::at("read", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(SMALL_FILE_MAX_BYTES).read_to_end(&mut bytes).map_err(Error::at("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn write_once(path: &Path, text: &str) -> Result<(), Error> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(Error::at("write", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::at("write", path)(error)),
    }
}

/// Whole or not at all, whatever happens in between.
fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let partial = path.with_extension("partial");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let written = options.open(&partial).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&partial, path)).map_err(Error::at("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_private_and_counts_its_starts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/.mainstay");
        let first = Data::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(path.join(".gitignore")).unwrap(), "*\n");
        assert_eq!((first.boot_number(), first.boot()), (1, format!("{}:1", first.id())));
        let id = first.id().to_owned();
        drop(first);
        let second = Data::open(&path).unwrap();
        assert_eq!((second.boot_number(), second.id()), (2, id.as_str()));
    }

    #[test]
    fn a_second_owner_is_told_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = Data::open(&path).unwrap();
        let error = Data::open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        assert!(error.contains("mainstay status") && error.contains("mainstay stop"), "{error}");
        drop(first);
        Data::open(&path).unwrap();
    }

    #[test]
    fn a_copy_of_the_folder_has_an_id_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("data"), dir.path().join("copy"));
        let id = Data::open(&path).unwrap().id().to_owned();
        fs::create_dir(&copy).unwrap();
        for name in ["id", "lock", "boot"] {
            fs::copy(path.join(name), copy.join(name)).unwrap();
        }
        assert_ne!(Data::open(&copy).unwrap().id(), id);
    }

    #[test]
    fn somebody_elses_folder_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("package.json"), "{}").unwrap();
        assert!(matches!(Data::open(dir.path()), Err(Error::DataForeign(_))));
        assert!(!dir.path().join(".gitignore").exists());
    }

    #[test]
    fn damaged_small_files_do_not_stop_a_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        drop(Data::open(&path).unwrap());
        fs::write(path.join("id"), [0xff, 0, 1]).unwrap();
        fs::write(path.join("boot"), "no number").unwrap();
        let data = Data::open(&path).unwrap();
        assert_eq!((data.id().len(), data.boot_number()), (32, 1));
    }
}
