//! Why a command could not be started, in words: the kernel's ENOENT has four meanings.

use crate::{Error, protocol};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Commands looked at for a name that was nearly right; a PATH of a few folders has some thousands.
const NEAR_NAMES_MAX: usize = 20_000;

/// The directory, before anything is forked: its absence would look like the command's.
pub(super) fn check_dir(spec: &protocol::Spawn) -> Result<(), Error> {
    let Some(dir) = &spec.dir else { return Ok(()) };
    let name = dir.display();
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Error::Spawn(format!("{name} is not a directory; fix: correct `dir` of app {}", spec.app))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Spawn(format!(
            "directory {name} does not exist; fix: create it, or correct `dir` of app {}",
            spec.app
        ))),
        Err(error) => Err(Error::at("enter directory", dir)(error)),
    }
}

pub(super) fn sentence(spec: &protocol::Spawn, error: &io::Error) -> Error {
    let program = spec.argv.first().map_or("", String::as_str);
    let text = match error.raw_os_error() {
        Some(libc::ENOENT) => missing(spec, program),
        Some(libc::EACCES) => forbidden(spec, program),
        Some(libc::ENOTDIR) => format!("{program}: a part of this path is not a directory"),
        Some(libc::ENOEXEC) => {
            format!("{program} is not a program; fix: begin it with a line like #!/bin/sh, or name its interpreter")
        }
        Some(libc::E2BIG) => format!("{program}: its arguments and environment are too large for the kernel"),
        Some(libc::EMFILE | libc::ENFILE) => {
            format!("{program}: too many open files; fix: raise `ulimit -n` (systemd: LimitNOFILE=65536)")
        }
        Some(libc::EAGAIN | libc::ENOMEM) => {
            format!("{program}: no process or memory to be had ({error}); fix: `ulimit -u`, the cgroup's limits")
        }
        Some(libc::EPERM) if spec.user.is_some() => {
            format!("{program}: not allowed to become user {}", spec.user.as_deref().unwrap_or_default())
        }
        None if error.kind() == io::ErrorKind::InvalidInput => {
            format!("{program}: an argument or a variable contains a NUL byte")
        }
        _ => format!("{program}: cannot be started: {error}"),
    };
    Error::Spawn(text)
}

fn missing(spec: &protocol::Spawn, program: &str) -> String {
    if program.contains('/') {
        let path = within(spec, program);
        return match fs::symlink_metadata(&path) {
            Err(_) => format!("{} does not exist; fix: correct the command of app {}", path.display(), spec.app),
            Ok(_) => format!("{program} exists, but {} does not; fix: install it", interpreter(&path)),
        };
    }
    if let Some(path) = folders(spec).map(|folder| folder.join(program)).find(|path| path.is_file()) {
        return format!("{} exists, but {} does not; fix: install it", path.display(), interpreter(&path));
    }
    let local = within(spec, &format!("node_modules/.bin/{program}"));
    if local.exists() {
        return format!("command not found: {program}; fix: it is a package of this project: npx {program}");
    }
    match nearest(spec, program) {
        Some(near) => format!("command not found: {program}; fix: {near}?"),
        None => format!("command not found: {program}; fix: install it, or write its whole path"),
    }
}

fn forbidden(spec: &protocol::Spawn, program: &str) -> String {
    let found = folders(spec).map(|folder| folder.join(program)).find(|path| path.exists());
    let path = if program.contains('/') { within(spec, program) } else { found.unwrap_or_else(|| program.into()) };
    let shown = path.display();
    match fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => format!("{shown} is a directory, not a command"),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
            format!("{shown} is not executable; fix: chmod +x {shown}")
        }
        _ => match &spec.user {
            Some(user) => {
                format!("user {user} may not run {shown}; fix: give it read and execute on every folder above")
            }
            None => format!("{shown} may not be run by this user (permissions, or a `noexec` file system)"),
        },
    }
}

/// What the kernel misses when the file itself is there: a script's interpreter or a program's loader.
fn interpreter(path: &Path) -> String {
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(256).read_to_end(&mut start));
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match line.strip_prefix(b"#!") {
        Some(rest) if read.is_ok() => {
            let shown = String::from_utf8_lossy(rest).trim_end_matches(' ').to_owned();
            let carriage = if shown.ends_with('\r') { " (the file has Windows line ends)" } else { "" };
            format!("its interpreter {}{carriage}", shown.trim())
        }
        _ => "the loader or library it was built for (another libc or machine?)".into(),
    }
}

fn within(spec: &protocol::Spawn, path: &str) -> PathBuf {
    spec.dir.as_deref().unwrap_or(Path::new(".")).join(path)
}

fn folders(spec: &protocol::Spawn) -> impl Iterator<Item = PathBuf> {
    let path = spec.env.iter().rfind(|(name, _)| name == "PATH").map_or("/bin:/usr/bin", |(_, path)| path.as_str());
    path.split(':').map(|folder| within(spec, folder))
}

/// A command of PATH that differs by one slip.
fn nearest(spec: &protocol::Spawn, program: &str) -> Option<String> {
    let entries = folders(spec).flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let names = entries.take(NEAR_NAMES_MAX).filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| one_slip(name, program)).min_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)))
}

/// One byte added, left out, changed, or two neighbours swapped. Names of two letters are all near to each other.
fn one_slip(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let (short, long) = (short.as_bytes(), long.as_bytes());
    if short.len() < 3 || long.len() - short.len() > 1 {
        return false;
    }
    let same = short.iter().zip(long).take_while(|(a, b)| a == b).count();
    let (a, b) = (&short[same..], &long[same..]);
    if short.len() < long.len() {
        return a == &b[1..];
    }
    a.is_empty() || a[1..] == b[1..] || a.len() > 1 && a[0] == b[1] && a[1] == b[0] && a[2..] == b[2..]
}

#[cfg(test)]
mod tests {
    use super::super::start;
    use super::super::tests::spec;
    use super::*;

    fn error(spec: &protocol::Spawn) -> String {
        start(spec, "id:1", crate::limits::Limits::default()).unwrap_err().to_string()
    }

    #[test]
    fn slips() {
        for (one, other, expected) in [
            ("npm", "npmm", true),
            ("npm", "nmp", true),
            ("node", "noda", true),
            ("node", "node", true),
            ("npm", "npx", true),
            ("node", "deno", false),
            ("ls", "lsx", false),
            ("python3", "python", true),
        ] {
            assert_eq!(one_slip(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn commands_that_are_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut missing = spec(&["npmm", "start"]);
        missing.env = vec![("PATH".into(), dir.path().display().to_string())];
        assert!(error(&missing).starts_with("command not found: npmm; fix: install it"));
        fs::write(dir.path().join("npm"), "").unwrap();
        assert_eq!(error(&missing), "command not found: npmm; fix: npm?");
        missing.dir = Some(dir.path().to_owned());
        fs::create_dir_all(dir.path().join("node_modules/.bin/npmm")).unwrap();
        assert!(error(&missing).ends_with("npx npmm"));
        assert!(error(&spec(&["./no/such"])).contains("does not exist"));
        assert!(error(&spec(&[])).contains("no command"));
        assert!(error(&spec(&["a\0b"])).contains("NUL"));
    }

    #[test]
    fn files_that_cannot_run() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let plain = write("plain", "#!/bin/sh\n", 0o644);
        assert!(error(&spec(&[&plain])).ends_with(&format!("chmod +x {plain}")));
        let windows = write("windows", "#!/bin/sh\r\necho\r\n", 0o755);
        assert!(error(&spec(&[&windows])).contains("Windows line ends"));
        let gone = write("gone", "#!/opt/none/ruby -w\n", 0o755);
        assert!(error(&spec(&[&gone])).contains("its interpreter /opt/none/ruby -w"));
        assert!(error(&spec(&[&dir.path().display().to_string()])).contains("is a directory"));
    }

    #[test]
    fn directories_and_users_that_are_not_there() {
        let mut elsewhere = spec(&["/bin/true"]);
        elsewhere.dir = Some("/no/such/dir".into());
        assert!(error(&elsewhere).contains("/no/such/dir does not exist"));
        let mut nobody = spec(&["/bin/true"]);
        nobody.user = Some("nosuchuser".into());
        assert!(error(&nobody).contains("no user nosuchuser"));
    }
}
