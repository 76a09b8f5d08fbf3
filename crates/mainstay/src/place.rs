//! Where things lie: the configuration file, the data folder, the control socket.
//!
//! The server and every verb that talks to it must come to the same answer from the same arguments; what could
//! differ between two shells (`XDG_RUNTIME_DIR`) is written into the data folder by the one that starts.

use anyhow::Context;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// `sockaddr_un` holds 108 bytes, the last one NUL.
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// Options every verb takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PlaceArgs {
    /// The configuration file (default: mainstay.toml here; MAINSTAY_FILE)
    #[arg(long, global = true, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The data folder (default: .mainstay beside the file; MAINSTAY_DATA)
    #[arg(long, global = true, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Where this invocation works.
#[derive(Debug, Clone)]
pub struct Place {
    pub dir: PathBuf,
    /// Named by `--file` or `MAINSTAY_FILE`; the reader looks for `mainstay.toml` in `dir` by itself.
    pub file: Option<PathBuf>,
    pub data: PathBuf,
}

impl PlaceArgs {
    pub fn resolve(&self) -> anyhow::Result<Place> {
        let dir = std::env::current_dir().context("the current directory cannot be read")?;
        let file = self.file.clone().or_else(|| variable("MAINSTAY_FILE"));
        let data = self.data.clone().or_else(|| variable("MAINSTAY_DATA"));
        let data = match data {
            Some(data) => dir.join(data),
            None => default_data(&dir, file.as_deref(), under_systemd()),
        };
        Ok(Place { dir, file, data })
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// systemd started this very process, not a shell that systemd started.
fn under_systemd() -> bool {
    std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == std::process::id().to_string())
}

/// `.mainstay` beside the file; under systemd `/var/lib/mainstay/NAME`, which the verbs find too, once it exists.
fn default_data(dir: &Path, file: Option<&Path>, systemd: bool) -> PathBuf {
    let file = file.map(|f| dir.join(f));
    let beside = file.as_deref().and_then(Path::parent).unwrap_or(dir);
    let own = beside.join(".mainstay");
    let name = beside.file_name().unwrap_or_else(|| "main".as_ref());
    let system = Path::new("/var/lib/mainstay").join(name);
    if systemd || (!own.exists() && system.join(SOCKET_RECORD).exists()) { system } else { own }
}

/// Where the data folder says which control socket its server listens on.
const SOCKET_RECORD: &str = "control.path";

impl Place {
    /// Decides where the control socket will be, creates its directory and writes the choice into the data folder,
    /// which exists and is locked by now.
    pub fn choose_socket(&self) -> anyhow::Result<PathBuf> {
        let data = fs::canonicalize(&self.data).with_context(|| format!("cannot resolve {}", self.data.display()))?;
        let is_root = nix::unistd::geteuid().is_root();
        let socket = socket_candidates(&data, variable("XDG_RUNTIME_DIR"), is_root)
            .into_iter()
            .find(|path| {
                path.as_os_str().len() <= SOCKET_PATH_MAX_BYTES
                    && path.parent().is_some_and(|parent| create_private(parent).is_ok() && is_writable(parent))
            })
            .with_context(|| {
                format!("no place for the control socket: {} is too long a path; use --data", data.display())
            })?;
        let record = self.data.join(SOCKET_RECORD);
        let mut file = fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&record)
            .with_context(|| format!("cannot write {}", record.display()))?;
        file.write_all(socket.as_os_str().as_encoded_bytes())?;
        Ok(socket)
    }

    /// The control socket of the server that uses this data folder, if one ever did.
    pub fn socket(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.data.join(SOCKET_RECORD)).ok()?;
        Some(PathBuf::from(text.trim_end()))
    }
}

fn socket_candidates(data: &Path, runtime: Option<PathBuf>, is_root: bool) -> Vec<PathBuf> {
    let name = format!("{:016x}.sock", fnv1a(data.as_os_str().as_encoded_bytes()));
    let runtime = runtime.map(|dir| dir.join("mainstay").join(&name));
    let run = is_root.then(|| Path::new("/run/mainstay").join(&name));
    runtime.into_iter().chain(run).chain([data.join("control.sock")]).collect()
}

/// The same folder must give the same name in every version of the binary, which `std`'s hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn create_private(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn is_writable(dir: &Path) -> bool {
    nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lies_beside_the_file_or_where_systemd_keeps_state() {
        let dir = Path::new("/nowhere/shop");
        assert_eq!(default_data(dir, None, false), Path::new("/nowhere/shop/.mainstay"));
        assert_eq!(
            default_data(dir, Some(Path::new("etc/mainstay.toml")), false),
            Path::new("/nowhere/shop/etc/.mainstay")
        );
        assert_eq!(default_data(dir, None, true), Path::new("/var/lib/mainstay/shop"));
    }

    #[test]
    fn the_socket_prefers_the_runtime_directory_then_run_then_the_data_folder() {
        let data = Path::new("/srv/shop/.mainstay");
        let all = socket_candidates(data, Some("/run/user/1000".into()), true);
        assert!(all[0].starts_with("/run/user/1000/mainstay"));
        assert!(all[1].starts_with("/run/mainstay"));
        assert_eq!(all[2], Path::new("/srv/shop/.mainstay/control.sock"));
        assert_eq!(socket_candidates(data, None, false), [PathBuf::from("/srv/shop/.mainstay/control.sock")]);
    }
}
