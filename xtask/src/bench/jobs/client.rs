//! Load clients: a script in a process of its own that is told what to do a line at a time, or threads of this one.

use super::threads::Threads;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

#[derive(Debug)]
pub enum Client {
    Script(Box<Script>),
    Threads(Threads),
}

impl Client {
    /// Has it done, and says what came of it.
    pub fn ask(&mut self, asked: &Value) -> Result<Value> {
        match self {
            Client::Script(script) => script.ask(asked),
            Client::Threads(threads) => threads.ask(asked),
        }
    }
}

/// A process of Node or Bun, ended when dropped.
#[derive(Debug)]
pub struct Script {
    child: Child,
    asked: ChildStdin,
    told: BufReader<ChildStdout>,
    errors: PathBuf,
}

impl Script {
    /// `command` runs `run.js` of a folder with the packages; what it complains of goes to `dir/NAME.err`.
    pub fn start(command: &mut Command, name: &str, dir: &Path) -> Result<Script> {
        let errors = dir.join(format!("{name}.err"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&errors)?);
        let mut child = command.spawn().with_context(|| format!("starting the load client of {name}"))?;
        let asked = child.stdin.take().context("no stdin")?;
        let told = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut script = Script { child, asked, told, errors };
        script.answer().with_context(|| format!("the load client of {name}"))?;
        Ok(script)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ask(&mut self, asked: &Value) -> Result<Value> {
        writeln!(self.asked, "{asked}").with_context(|| self.complaint())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Value> {
        loop {
            let mut line = String::new();
            if self.told.read_line(&mut line)? == 0 {
                bail!("it ended: {}", self.complaint());
            }
            // A package may greet on the same stream.
            let Ok(answer) = serde_json::from_str::<Value>(&line) else { continue };
            if let Some(error) = answer["error"].as_str() {
                bail!("{error}\n{}", self.complaint());
            }
            return Ok(answer);
        }
    }

    fn complaint(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
