//! The verbs as a person types them, without a running app: what they print where, and their exit codes.

mod check;
mod config;
mod init;
mod init_nginx;
mod run;
mod secret;
mod verbs;

use std::path::Path;
use std::process::{Command, Output};

/// What one invocation said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// A folder of its own, files in it, and no variable of the machine that runs the test.
pub struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    pub fn new(files: &[(&str, &str)]) -> Project {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        Project { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn mainstay(&self, args: &[&str]) -> Said {
        self.mainstay_with(args, &[])
    }

    pub fn mainstay_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(variables.iter().copied())
            .output()
            .expect("the binary starts");
        said(output)
    }
}

/// Production asks of root who an app is to run as; a line of its table that says: as we do.
pub fn as_ourselves() -> String {
    format!("user = \"{}\"\n", nix::unistd::geteuid())
}

fn said(output: Output) -> Said {
    Said {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Every one of `parts` is in the text.
pub fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}
