//! The threads that read files, and the small files kept in memory.
//!
//! Invariant: a file is opened beneath its folder or not at all; no symbolic link leads out of it.

use super::condition::State;
use crate::respond::accept::Coding;
use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Disks answer several at once; more threads than this only wait in line elsewhere.
const THREADS: usize = 4;
/// Reads under way or waiting, over all cores; one more waits its turn.
const JOBS_MAX: usize = 1024;
/// Longest wait for a disk before the client is told that we are busy.
pub const READ_MAX: Duration = Duration::from_secs(10);
/// A piece of a large file, and the largest file that is kept.
pub const PIECE_BYTES: usize = 256 * 1024;
/// Files kept in memory, over all cores.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Names remembered, also of what is not there.
const KEPT_NAMES_MAX: usize = 8192;
/// What was looked at is believed for so long.
const FRESH_MS: u64 = 1000;

/// A file as it was found.
#[derive(Debug)]
pub struct Found {
    pub state: State,
    /// It is a compressed form of what was asked for.
    pub coding: Option<Coding>,
    pub content: Content,
}

#[derive(Debug, Clone)]
pub enum Content {
    Whole(Bytes),
    Large(Arc<File>),
}

/// What stands under a name.
#[derive(Debug, Clone)]
pub enum Look {
    File(Arc<Found>),
    Folder,
    Nothing,
}

/// A name in a folder, and the compressed forms that would do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wanted {
    pub folder: Arc<Path>,
    pub name: String,
    pub codings: Vec<Coding>,
}

enum Job {
    Look(Wanted, oneshot::Sender<Look>),
    Read(Arc<File>, u64, usize, oneshot::Sender<io::Result<Bytes>>),
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Reader(Arc<Inner>);

struct Inner {
    jobs: mpsc::Sender<Job>,
    /// Taken by the threads when they start.
    waiting: Mutex<Option<mpsc::Receiver<Job>>>,
    kept: Mutex<Kept>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

#[derive(Default)]
struct Kept {
    looks: HashMap<Wanted, (Look, u64)>,
    /// In the order they came: the first goes first.
    order: VecDeque<Wanted>,
    bytes: usize,
}

impl Default for Reader {
    fn default() -> Reader {
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        Reader(Arc::new(Inner { jobs, waiting: Mutex::new(Some(waiting)), kept: Mutex::default() }))
    }
}

impl Reader {
    /// The bodies of the threads; none the second time.
    pub fn threads(&self) -> Vec<impl FnOnce() + Send + 'static> {
        let waiting = lock(&self.0.waiting).take();
        let shared = waiting.map(|w| Arc::new(Mutex::new(w)));
        let one = |waiting: &Arc<Mutex<mpsc::Receiver<Job>>>| {
            let waiting = waiting.clone();
            move || {
                loop {
                    let job = lock(&waiting).blocking_recv();
                    let Some(job) = job else { return };
                    job.run();
                }
            }
        };
        shared.iter().flat_map(|w| (0..THREADS).map(move |_| one(w))).collect()
    }

    /// What stands under this name. `None`: the disk does not answer.
    pub async fn look(&self, wanted: Wanted, now_ms: u64) -> Option<Look> {
        if let Some(look) = lock(&self.0.kept).get(&wanted, now_ms) {
            return Some(look);
        }
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.0.jobs.send(Job::Look(wanted.clone(), answer)).await.ok()?;
            answered.await.ok()
        };
        let look = tokio::time::timeout(READ_MAX, asked).await.ok()??;
        lock(&self.0.kept).keep(wanted, &look, now_ms);
        Some(look)
    }

    /// A piece of a large file.
    pub async fn read(self, file: Arc<File>, at: u64, size: usize) -> io::Result<Bytes> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.0.jobs.send(Job::Read(file, at, size, answer)).await.map_err(io::Error::other)?;
            answered.await.map_err(io::Error::other)?
        };
        tokio::time::timeout(READ_MAX, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

impl Kept {
    fn get(&self, wanted: &Wanted, now_ms: u64) -> Option<Look> {
        let (look, looked_ms) = self.looks.get(wanted)?;
        (now_ms.saturating_sub(*looked_ms) <= FRESH_MS).then(|| look.clone())
    }

    fn keep(&mut self, wanted: Wanted, look: &Look, now_ms: u64) {
        if matches!(look, Look::File(found) if matches!(found.content, Content::Large(_))) {
            return self.forget(&wanted);
        }
        match self.looks.insert(wanted.clone(), (look.clone(), now_ms)) {
            Some((old, _)) => self.bytes -= size_of(&old),
            None => self.order.push_back(wanted),
        }
        self.bytes += size_of(look);
        while self.bytes > KEPT_BYTES_MAX || self.looks.len() > KEPT_NAMES_MAX {
            let Some(first) = self.order.pop_front() else { break };
            if let Some((old, _)) = self.looks.remove(&first) {
                self.bytes -= size_of(&old);
            }
        }
    }

    fn forget(&mut self, wanted: &Wanted) {
        if let Some((old, _)) = self.looks.remove(wanted) {
            self.bytes -= size_of(&old);
            self.order.retain(|w| w != wanted);
        }
    }
}

fn size_of(look: &Look) -> usize {
    match look {
        Look::File(found) => match &found.content {
            Content::Whole(bytes) => bytes.len(),
            Content::Large(_) => 0,
        },
        Look::Folder | Look::Nothing => 0,
    }
}

impl Job {
    fn run(self) {
        // Whoever asked may have gone since.
        match self {
            Job::Look(wanted, answer) => drop(answer.send(look(&wanted))),
            Job::Read(file, at, size, answer) => drop(answer.send(read(&file, at, size))),
        }
    }
}

fn look(wanted: &Wanted) -> Look {
    let Some(file) = open_beneath(&wanted.folder, &wanted.name) else { return Look::Nothing };
    match file.metadata() {
        Ok(meta) if meta.is_dir() => return Look::Folder,
        Ok(meta) if meta.is_file() => {}
        _ => return Look::Nothing,
    }
    for &coding in &wanted.codings {
        let name = format!("{}{}", wanted.name, coding.ending());
        if let Some(found) = open_beneath(&wanted.folder, &name).and_then(|f| found(f, Some(coding))) {
            return Look::File(Arc::new(found));
        }
    }
    found(file, None).map_or(Look::Nothing, |f| Look::File(Arc::new(f)))
}

fn found(file: File, coding: Option<Coding>) -> Option<Found> {
    let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let state = State {
        size: meta.size(),
        inode: meta.ino(),
        modified_s: meta.mtime(),
        modified_ns: u32::try_from(meta.mtime_nsec()).unwrap_or(0),
    };
    let content = match usize::try_from(state.size) {
        Ok(size) if size <= PIECE_BYTES => {
            let bytes = read(&file, 0, size).ok()?;
            // Cut short while it was read: the next look finds what it has become.
            if bytes.len() != size {
                return None;
            }
            Content::Whole(bytes)
        }
        _ => Content::Large(Arc::new(file)),
    };
    Some(Found { state, coding, content })
}

fn read(file: &File, at: u64, size: usize) -> io::Result<Bytes> {
    let mut bytes = vec![0; size.min(PIECE_BYTES)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes.into())
}

/// Opens what stands beneath the folder; a link that leads out is as nothing. Never waits for a pipe's other end.
fn open_beneath(folder: &Path, name: &str) -> Option<File> {
    let name = if name.is_empty() { "." } else { name };
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    // The folder itself may be a link, and a deployment may have put it elsewhere since.
    let root = open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(&root, name, how) {
        Ok(fd) => Some(File::from(fd)),
        Err(Errno::ENOSYS | Errno::EPERM) => open_resolved(folder, name),
        Err(_) => None,
    }
}

/// The same where the kernel, or whoever confines us, has no such call: the links are followed first, then compared.
fn open_resolved(folder: &Path, name: &str) -> Option<File> {
    let root = folder.canonicalize().ok()?;
    let path = root.join(name).canonicalize().ok()?;
    if !path.starts_with(&root) {
        return None;
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn wanted(folder: &Path, name: &str, codings: &[Coding]) -> Wanted {
        Wanted { folder: folder.into(), name: name.to_owned(), codings: codings.to_vec() }
    }

    #[test]
    fn nothing_outside_the_folder_is_opened() {
        let outside = tempfile::tempdir().expect("folder");
        std::fs::write(outside.path().join("secret"), "secret").expect("file");
        let dist = outside.path().join("dist");
        std::fs::create_dir_all(dist.join("sub")).expect("folder");
        std::fs::write(dist.join("in.txt"), "in").expect("file");
        symlink("../secret", dist.join("out")).expect("link");
        symlink(outside.path().join("secret"), dist.join("absolute")).expect("link");
        symlink("..", dist.join("up")).expect("link");
        symlink("in.txt", dist.join("within")).expect("link");
        for (name, there) in [
            ("in.txt", true),
            ("within", true),
            ("out", false),
            ("absolute", false),
            ("up/secret", false),
            ("x", false),
        ] {
            for file in [open_beneath(&dist, name), open_resolved(&dist, name)] {
                assert_eq!(file.is_some(), there, "{name}");
            }
        }
        assert!(matches!(look(&wanted(&dist, "sub", &[])), Look::Folder));
        assert!(matches!(look(&wanted(&dist, "", &[])), Look::Folder));
        nix::unistd::mkfifo(&dist.join("pipe"), Mode::S_IRWXU).expect("pipe");
        assert!(matches!(look(&wanted(&dist, "pipe", &[])), Look::Nothing), "and nobody waits for it");
    }

    #[test]
    fn a_compressed_form_is_preferred_and_a_large_file_is_not_read() {
        let folder = tempfile::tempdir().expect("folder");
        let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("file");
        put("a.js", b"plain");
        put("a.js.gz", b"gz");
        put("large", &vec![1; PIECE_BYTES + 1]);
        let find = |name: &str, codings: &[Coding]| match look(&wanted(folder.path(), name, codings)) {
            Look::File(found) => found,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(find("a.js", &[Coding::Br, Coding::Gzip]).coding, Some(Coding::Gzip));
        assert_eq!(find("a.js", &[Coding::Br]).coding, None);
        assert!(matches!(find("large", &[]).content, Content::Large(_)));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::default();
        let folder: Arc<Path> = Path::new("/x").into();
        let state = State { size: 0, inode: 0, modified_s: 0, modified_ns: 0 };
        let content = Content::Whole(vec![0; PIECE_BYTES].into());
        let file = Look::File(Arc::new(Found { state, coding: None, content }));
        for i in 0..2 * KEPT_NAMES_MAX {
            let wanted = Wanted { folder: folder.clone(), name: i.to_string(), codings: Vec::new() };
            kept.keep(wanted, if i % 4 == 0 { &file } else { &Look::Nothing }, 0);
            assert!(kept.bytes <= KEPT_BYTES_MAX && kept.looks.len() <= KEPT_NAMES_MAX);
            assert_eq!(kept.looks.len(), kept.order.len());
        }
        let last = Wanted { folder, name: (2 * KEPT_NAMES_MAX - 1).to_string(), codings: Vec::new() };
        assert!(kept.get(&last, FRESH_MS).is_some() && kept.get(&last, FRESH_MS + 1).is_none());
    }
}
