//! One server process: started with its output in a file, ended by its id, whatever state the test ended in.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Killed when dropped; what it said is printed if the test failed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// # Panics
    /// When the program is not installed: a test that needs a server fails without one.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Process {
        let file = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let copy = file.try_clone().expect("the log twice");
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}; try: cargo xtask test"));
        Process { name: name.to_owned(), child, log: log.to_path_buf() }
    }

    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.id()), signal);
    }

    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`, and gone when this comes back.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            let last = &lines[lines.len().saturating_sub(20)..];
            eprintln!("--- what {} said last ---\n{}", self.name, last.join("\n"));
        }
        self.kill();
    }
}
