//! Debian's haproxy as the proxy beside Mainstay.

use crate::instance::{Ports, Running, certificate};
use anyhow::{Context, Result};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Log lines go to standard output, which is a file: one write each, as nginx does it. It serves no files, so what the
/// others have as files it answers from its cache.
pub fn start(dir: &Path, upstream: SocketAddr) -> Result<Running> {
    let dir = dir.join("haproxy");
    fs::create_dir_all(&dir)?;
    let (chain, key) = certificate(&dir)?;
    let pair = dir.join("pair.pem");
    fs::write(&pair, [fs::read(chain)?, fs::read(key)?].concat())?;
    let ports = Ports::free()?;
    let text = format!(
        r#"
global
    nbthread 2
    maxconn 4000
    log stdout format raw local0
    ssl-default-bind-options ssl-min-ver TLSv1.2
cache files
    total-max-size 16
    max-object-size 65536
    max-age 3600
defaults
    mode http
    log global
    option httplog
    option http-keep-alive
    option forwardfor
    option redispatch
    retries 1
    retry-on conn-failure empty-response 502 503 504
    http-reuse always
    timeout connect 5s
    timeout client 75s
    timeout server 60s
    timeout http-request 10s
    timeout http-keep-alive 75s
    unique-id-format %[uuid()]
backend clients
    stick-table type ip size 100k expire 10m store conn_cur
frontend edge
    bind {plain}
    bind {tls} ssl crt {pair} alpn h2,http/1.1
    tcp-request connection track-sc0 src table clients
    tcp-request connection reject if {{ sc0_conn_cur(clients) gt 20000 }}
    http-request deny deny_status 413 if {{ req.body_size gt 10485760 }}
    http-request set-header X-Request-Id %[unique-id]
    http-request set-header X-Real-IP %[src]
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}
    http-request set-header X-Forwarded-Proto http unless {{ ssl_fc }}
    http-response set-header X-Request-Id %[unique-id]
    use_backend cached if {{ path /c /cm }}
    default_backend app
backend cached
    http-request cache-use files
    http-response cache-store files
    server up {upstream}
backend app
    server up {upstream}
"#,
        plain = ports.plain,
        tls = ports.tls,
        pair = pair.display(),
    );
    let file = dir.join("haproxy.cfg");
    fs::write(&file, text)?;
    // In the foreground, one process.
    Running::start(haproxy().arg("-db").arg("-f").arg(&file), "haproxy", &dir, ports)
}

pub fn version() -> Result<String> {
    let output = haproxy().arg("-v").output().context("haproxy -v")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = text.split_whitespace().skip(2).take(1).collect();
    Ok(format!("haproxy/{}", words.first().unwrap_or(&"?")))
}

/// Debian keeps it in `/usr/sbin`, which need not be in everybody's `PATH`.
fn haproxy() -> Command {
    let mut command = Command::new("haproxy");
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    command
}
