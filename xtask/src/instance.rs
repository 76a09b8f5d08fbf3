//! Servers that are measured: Mainstay itself and its peer, each in a folder of its own, ended when dropped.

use crate::{keepalive, process};
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longer than the end of anything measured; valgrind slows one about fifty times.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// A folder for temporary files, removed when dropped. Not under the target folder: the path of a Unix socket is
/// at most 107 bytes.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Result<Scratch> {
        let dir = std::env::temp_dir().join(format!("mainstay-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a proxy listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
}

impl Ports {
    /// Two ports nobody uses now. Somebody else could take one before we do; then the start fails and says so.
    pub fn free() -> Result<Ports> {
        let (one, two) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        Ok(Ports { plain: one.local_addr()?, tls: two.local_addr()? })
    }
}

/// A running server and what it said.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pub ports: Ports,
}

impl Running {
    /// Starts a command with its output in `dir/NAME.out`; it is not waited for.
    pub fn spawn(command: &mut Command, name: &str, dir: &Path, ports: Ports) -> Result<Running> {
        let output = File::create(dir.join(format!("{name}.out")))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Running { child, ports })
    }

    /// Starts a command and waits until it answers; its output is part of the error if it does not.
    pub fn start(command: &mut Command, name: &str, dir: &Path, ports: Ports) -> Result<Running> {
        let running = Running::spawn(command, name, dir, ports)?;
        if let Err(error) = keepalive::wait_until_served(ports.plain) {
            let said = fs::read_to_string(dir.join(format!("{name}.out"))).unwrap_or_default();
            bail!("{name} does not serve: {error:#}\n{said}");
        }
        Ok(running)
    }

    /// Mainstay as it is measured, in front of an upstream.
    pub fn start_mainstay(binary: &Path, dir: &Path, upstream: SocketAddr) -> Result<Running> {
        let ports = Ports::free()?;
        let file = configuration(dir, ports, upstream)?;
        Running::start(&mut mainstay(&[], binary, &file), "mainstay", dir, ports)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits until it has; one that does not is killed.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        process::terminate(self.pid())?;
        let deadline = Instant::now() + STOP_PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                bail!("process {} did not end when it was asked to, and was killed", self.pid());
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// A certificate for `localhost` with a P-256 key: `(chain, key)`.
pub fn certificate(dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let (chain, key) = (dir.join("localhost.pem"), dir.join("localhost.key"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&chain)
        .output()?;
    if !output.status.success() {
        bail!("openssl: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok((chain, key))
}

/// A configuration in which every gate and the log are on, in front of one upstream, with TLS on a second address.
pub fn configuration(dir: &Path, ports: Ports, upstream: SocketAddr) -> Result<PathBuf> {
    let (chain, key) = certificate(dir)?;
    let listen = format!(r#""{}", {{ at = "{}", tls = true }}"#, ports.plain, ports.tls);
    let tls = format!("[tls.\"localhost\"]\ncert = \"{}\"\nkey = \"{}\"\n", chain.display(), key.display());
    written(dir, upstream, &listen, &tls)
}

/// The same without TLS, whose start gathers entropy from the jitter of the clock: as many instructions as the
/// machine's load makes it need.
pub fn plain_configuration(dir: &Path, ports: Ports, upstream: SocketAddr) -> Result<PathBuf> {
    written(dir, upstream, &format!(r#""{}""#, ports.plain), "")
}

fn written(dir: &Path, upstream: SocketAddr, listen: &str, tls: &str) -> Result<PathBuf> {
    let text = format!(
        r#"[app.main]
upstreams = ["{upstream}"]

[edge]
listen = [{listen}]
redirect = false

[edge.timeouts]
header = "10s"
response = "60s"

[edge.limits]
body = "10MB"
connections_per_client = 20000
handshakes_per_client = 20000

{tls}
[[route]]
match = "/api/v1/admin/*"

[[route]]
match = "/c"
cache = "1h"

[[route]]
match = "/cm"
cache = "1h"
"#
    );
    let file = dir.join("mainstay.toml");
    fs::write(&file, text)?;
    Ok(file)
}

/// `mainstay run` in production, with nothing of this shell's settings; `wrapper` is what it is run under.
pub fn mainstay(wrapper: &[&str], binary: &Path, file: &Path) -> Command {
    let mut words = wrapper.iter().map(|word| std::ffi::OsString::from(*word));
    let mut command = match words.next() {
        Some(program) => {
            let mut command = Command::new(program);
            command.args(words).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    command.args(["run", "--production", "--file"]).arg(file);
    beside(command, file)
}

/// One verb for the one that runs with this file.
pub fn verb(binary: &Path, file: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(words).arg("--file").arg(file);
    beside(command, file)
}

fn beside(mut command: Command, file: &Path) -> Command {
    let dir = file.parent().unwrap_or(Path::new("."));
    command.current_dir(dir).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("XDG_RUNTIME_DIR", dir);
    command
}
