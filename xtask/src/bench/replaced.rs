//! The two proxies of `bench lossless` and what is done to them: a reload with a real change, and an upgrade to another
//! file. Each waits until the change is seen from outside.

use super::peer;
use crate::instance::{self, Ports, Running, certificate};
use crate::keepalive::{self, Client};
use crate::process;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What a reload changes, and how it is seen.
const ROUND_HEADER: &str = "X-Round";

/// A proxy under the load.
pub trait Replaced {
    fn ports(&self) -> Ports;
    /// The certificate it has.
    fn chain(&self) -> &Path;
    /// Weights of the upstreams and a header change.
    fn reload(&mut self, round: usize) -> Result<()>;
    /// The running processes become another file's.
    fn upgrade(&mut self) -> Result<()>;
}

/// Asks on a connection of its own until the header says the round.
fn seen(ports: Ports, round: usize) -> Result<()> {
    until("the change to be seen", || {
        let header = Client::connect(ports.plain).and_then(|mut client| client.header("/number?n=0", ROUND_HEADER));
        header.is_ok_and(|header| header == Some(round.to_string()))
    })
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !holds() {
        ensure!(begun.elapsed() < PATIENCE, "waited {} s in vain: {what}", PATIENCE.as_secs());
        std::thread::park_timeout(LOOK_EVERY);
    }
    Ok(())
}

#[derive(Debug)]
pub struct Mainstay {
    running: Running,
    dir: PathBuf,
    chain: PathBuf,
    key: PathBuf,
    /// The file that is to be run; what runs is a copy, replaced at each upgrade.
    binary: PathBuf,
    upstreams: [SocketAddr; 2],
}

impl Mainstay {
    pub fn start(dir: &Path, binary: &Path, upstreams: [SocketAddr; 2]) -> Result<Mainstay> {
        let dir = dir.join("mainstay");
        fs::create_dir_all(&dir)?;
        let (chain, key) = certificate(&dir)?;
        fs::copy(binary, dir.join("program"))?;
        let ports = Ports::free()?;
        configure(&dir, ports, &chain, &key, upstreams, 0)?;
        let mut command = instance::mainstay(&[], &dir.join("program"), &dir.join("mainstay.toml"));
        let running = Running::start(&mut command, "mainstay", &dir, ports)?;
        Ok(Mainstay { running, chain, key, binary: binary.to_owned(), upstreams, dir })
    }

    fn verb(&self, words: &[&str]) -> Result<()> {
        let output = instance::verb(&self.dir.join("program"), &self.dir.join("mainstay.toml"), words).output()?;
        if !output.status.success() {
            bail!("mainstay {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

fn configure(dir: &Path, ports: Ports, chain: &Path, key: &Path, to: [SocketAddr; 2], round: usize) -> Result<()> {
    let text = format!(
        r#"[app.main]
upstreams = [{{ to = "{}", weight = {} }}, {{ to = "{}", weight = {} }}]

[edge]
listen = ["{}", {{ at = "{}", tls = true }}]
redirect = false

[edge.limits]
body = "10MB"
connections_per_client = 20000

[tls."localhost"]
cert = "{}"
key = "{}"

[[route]]
match = "/*"
headers = {{ {ROUND_HEADER} = "{round}" }}
"#,
        to[0],
        round % 3 + 1,
        to[1],
        round % 5 + 1,
        ports.plain,
        ports.tls,
        chain.display(),
        key.display(),
    );
    Ok(fs::write(dir.join("mainstay.toml"), text)?)
}

impl Replaced for Mainstay {
    fn ports(&self) -> Ports {
        self.running.ports
    }

    fn chain(&self) -> &Path {
        &self.chain
    }

    fn reload(&mut self, round: usize) -> Result<()> {
        configure(&self.dir, self.running.ports, &self.chain, &self.key, self.upstreams, round)?;
        self.verb(&["reload"])?;
        seen(self.running.ports, round)
    }

    fn upgrade(&mut self) -> Result<()> {
        // As a package manager does it: whole, by a rename.
        let (program, new) = (self.dir.join("program"), self.dir.join("program.new"));
        fs::copy(&self.binary, &new)?;
        fs::rename(&new, &program)?;
        self.verb(&["upgrade"])?;
        // The supervisor becomes the new file's last.
        let runs = PathBuf::from(format!("/proc/{}/exe", self.running.pid()));
        until("the supervisor to run the new file", || {
            fs::read_link(&runs).is_ok_and(|path| fs::canonicalize(&program).is_ok_and(|new| new == path))
        })
    }
}

#[derive(Debug)]
pub struct Nginx {
    ports: Ports,
    dir: PathBuf,
    chain: PathBuf,
    key: PathBuf,
    upstreams: [SocketAddr; 2],
}

impl Nginx {
    /// In the background: a master in the foreground ignores USR2. It is known by `nginx.pid`.
    pub fn start(dir: &Path, upstreams: [SocketAddr; 2]) -> Result<Nginx> {
        let dir = dir.join("nginx");
        fs::create_dir_all(&dir)?;
        let (chain, key) = certificate(&dir)?;
        let ports = Ports::free()?;
        configure_nginx(&dir, ports, &chain, &key, upstreams, 0)?;
        let mut command = peer::nginx::command(&[]);
        command.arg("-p").arg(&dir).args(["-c", "nginx.conf", "-e", "error.log"]);
        let output = command.output().context("nginx")?;
        ensure!(output.status.success(), "nginx: {}", String::from_utf8_lossy(&output.stderr).trim());
        let nginx = Nginx { ports, dir, chain, key, upstreams };
        keepalive::wait_until_served(ports.plain)?;
        Ok(nginx)
    }

    fn master(&self) -> Result<u32> {
        let text = fs::read_to_string(self.dir.join("nginx.pid")).context("nginx.pid")?;
        text.trim().parse().context("nginx.pid")
    }
}

/// Kept connections on both sides, the next upstream on an error, log, ids: Mainstay's duties.
fn configure_nginx(
    dir: &Path,
    ports: Ports,
    chain: &Path,
    key: &Path,
    to: [SocketAddr; 2],
    round: usize,
) -> Result<()> {
    let http = format!(
        r#"
    access_log access.log combined;
    upstream app {{
        server {} weight={};
        server {} weight={};
        keepalive 128;
        keepalive_requests 100000000;
    }}
    server {{
        listen {};
        listen {} ssl;
        server_name localhost;
        ssl_certificate {};
        ssl_certificate_key {};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:tls:1m;
        client_max_body_size 10m;
        add_header X-Request-Id $request_id always;
        add_header {ROUND_HEADER} {round} always;
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Request-Id $request_id;
            proxy_next_upstream error timeout http_502 http_503 http_504;
        }}
    }}"#,
        to[0],
        round % 3 + 1,
        to[1],
        round % 5 + 1,
        ports.plain,
        ports.tls,
        chain.display(),
        key.display(),
    );
    let main = peer::nginx::MAIN.replace("daemon off;\n", "");
    Ok(fs::write(dir.join("nginx.conf"), format!("{main}{http}\n}}\n"))?)
}

impl Replaced for Nginx {
    fn ports(&self) -> Ports {
        self.ports
    }

    fn chain(&self) -> &Path {
        &self.chain
    }

    /// `nginx -s reload` is this signal.
    fn reload(&mut self, round: usize) -> Result<()> {
        configure_nginx(&self.dir, self.ports, &self.chain, &self.key, self.upstreams, round)?;
        process::signal(self.master()?, "HUP")?;
        seen(self.ports, round)
    }

    /// As nginx's manual says: USR2, then WINCH and QUIT to the old master.
    fn upgrade(&mut self) -> Result<()> {
        let old = self.master()?;
        process::signal(old, "USR2")?;
        until("nginx's new master", || self.master().is_ok_and(|new| new != old))?;
        let new = self.master()?;
        until("nginx's new workers", || process::tree(new).is_ok_and(|tree| tree.len() > 2))?;
        process::signal(old, "WINCH")?;
        process::signal(old, "QUIT")?;
        let oldbin = self.dir.join("nginx.pid.oldbin");
        until("nginx's old master to end", || !oldbin.exists())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Ok(pid) = self.master() {
            let _ = process::terminate(pid);
            let _ = until("nginx to end", || !Path::new("/proc").join(pid.to_string()).exists());
        }
    }
}
