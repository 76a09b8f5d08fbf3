//! The starter apps and what they need, installed once under the target folder from the lock files beside the apps,
//! never into the tree. This is the one place that does it; the program `fixtures` of this crate only calls it.

use nix::fcntl::{Flock, FlockArg};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `crates/e2e/fixtures`.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The build's own folder (`target/ci`), found from the running test.
pub fn build_folder() -> PathBuf {
    let test = std::env::current_exe().expect("path of the running test");
    // A test runs from target/PROFILE/deps, a program of this crate from target/PROFILE.
    let deps = test.ancestors().find(|path| path.file_name().is_some_and(|name| name == "deps"));
    deps.unwrap_or(&test).parent().expect("a program lies in a folder").to_path_buf()
}

/// `target/e2e`: installed packages, locks, nothing a test leaves behind.
pub fn scratch() -> PathBuf {
    let folder = build_folder().parent().expect("the build folder lies in the target folder").join("e2e");
    std::fs::create_dir_all(&folder).expect("create the scratch folder");
    folder
}

/// The sample app of this crate: a static binary that takes `PORT`.
pub fn static_app() -> PathBuf {
    let path = build_folder().join("static_app");
    assert!(path.exists(), "{} is not built: cargo build --profile ci -p mainstay-e2e --bins", path.display());
    path
}

/// `node_modules` with everything of `fixtures/node/package-lock.json`.
pub fn node_modules() -> PathBuf {
    static AT: OnceLock<PathBuf> = OnceLock::new();
    AT.get_or_init(|| node_modules_of("node")).clone()
}

/// The same of `fixtures/bullmq`: BullMQ of two majors, and bull-board.
pub fn bullmq_modules() -> PathBuf {
    static AT: OnceLock<PathBuf> = OnceLock::new();
    AT.get_or_init(|| node_modules_of("bullmq")).clone()
}

fn node_modules_of(kind: &str) -> PathBuf {
    let install = |at: &Path| {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(at);
        vec![npm]
    };
    installed(kind, &["package.json", "package-lock.json"], "node", install).join("node_modules")
}

/// A Python interpreter with everything of `fixtures/python/requirements.txt`.
pub fn python() -> PathBuf {
    static AT: OnceLock<PathBuf> = OnceLock::new();
    let install = |at: &Path| {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(at);
        let mut pip = Command::new(at.join("bin/python"));
        let words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        pip.args(words).arg(at.join("requirements.txt"));
        vec![venv, pip]
    };
    AT.get_or_init(|| installed("python", &["requirements.txt"], "python3", install).join("bin/python")).clone()
}

/// Written last: a folder without it was left half done and is made anew.
const COMPLETE: &str = "complete";

/// Installs once for all tests of all processes, into a folder of its own for each content of the lock files and each
/// version of the interpreter.
fn installed(kind: &str, files: &[&str], interpreter: &str, commands: impl Fn(&Path) -> Vec<Command>) -> PathBuf {
    let mut hash = DefaultHasher::new();
    for name in files {
        std::fs::read(folder().join(kind).join(name)).expect(name).hash(&mut hash);
    }
    let version = Command::new(interpreter).arg("--version").output();
    version.unwrap_or_else(|e| panic!("{interpreter}: {e}")).stdout.hash(&mut hash);
    let at = scratch().join(format!("{kind}-{:016x}", hash.finish()));
    let lock = std::fs::File::create(scratch().join(format!("{kind}.lock"))).expect("create a lock file");
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| e).expect("lock the packages");
    if at.join(COMPLETE).exists() {
        return at;
    }
    if at.exists() {
        std::fs::remove_dir_all(&at).expect("remove packages that were left half done");
    }
    std::fs::create_dir_all(&at).expect("create the folder of packages");
    for name in files {
        std::fs::copy(folder().join(kind).join(name), at.join(name)).expect(name);
    }
    for mut command in commands(&at) {
        let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?} failed: {said}");
    }
    std::fs::write(at.join(COMPLETE), "").expect("write the mark of a complete folder");
    at
}

/// Copies `fixtures/node/apps/NAME` into `to`, with the packages beside it as `npm ci` would leave them.
pub fn node_app(name: &str, to: &Path) {
    copy(&folder().join("node/apps").join(name), to);
    let link = to.join("node_modules");
    if !link.exists() {
        std::os::unix::fs::symlink(node_modules(), &link).expect("link node_modules");
    }
}

/// Copies `fixtures/python/apps/NAME` into `to`.
pub fn python_app(name: &str, to: &Path) {
    copy(&folder().join("python/apps").join(name), to);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("create a folder for an app");
    for entry in std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())).flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copy a file of an app");
        }
    }
}

/// Runs `fixtures/node/clients/NAME` and gives what it printed; it must end with 0.
#[track_caller]
pub fn node_client(name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("node");
    command.arg(folder().join("node/clients").join(name)).args(arguments).env("NODE_PATH", node_modules());
    finished(command)
}

/// `fixtures/bullmq/NAME`, to be run.
pub fn bullmq_client(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("node");
    command.arg(folder().join("bullmq").join(name)).args(arguments).env("NODE_PATH", bullmq_modules());
    command
}

/// Runs `fixtures/python/clients/NAME` and gives what it printed; it must end with 0.
#[track_caller]
pub fn python_client(name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(python());
    command.arg(folder().join("python/clients").join(name)).args(arguments);
    finished(command)
}

/// Runs a line of Python and gives what it printed.
#[track_caller]
pub fn python_script(line: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(python());
    command.args(["-c", line]).args(arguments);
    finished(command)
}

/// What it printed; it must end with 0.
#[track_caller]
pub fn finished(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {}\n{out}\n{err}", output.status);
    out.into_owned()
}
