//! Debian's nginx: as the proxy beside Mainstay, and as the server of static files they all stand in front of.

use super::{KEPT_MAX, write_files};
use crate::instance::{Ports, Running, certificate};
use crate::workspace;
use anyhow::{Context, Result};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

/// First lines of both configurations; nothing is written outside the run's own folder. `user` counts only when
/// root starts it: then the workers must read the folder as we do.
pub const MAIN: &str = "\
user root;
worker_processes 2;
worker_rlimit_nofile 16384;
pid nginx.pid;
error_log error.log;
daemon off;
events { worker_connections 16384; }
http {
    default_type application/octet-stream;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    keepalive_timeout 75s;
";

/// Static files on a free port.
pub fn upstream(dir: &Path) -> Result<(Running, SocketAddr)> {
    let dir = dir.join("upstream");
    write_files(&dir)?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let http = format!("access_log off;\nserver {{ listen {address}; root files; }}");
    let running = running(&[], &dir, "upstream", (Ports { plain: address, tls: address }, &http))?;
    Ok((running, address))
}

/// The proxy, with Mainstay's duties: log to a file, forwarding headers, a request id in and out, kept
/// upstream connections, the same limits and timeouts, the next upstream on an error, TLS 1.2 and 1.3.
pub fn start(dir: &Path, upstream: SocketAddr) -> Result<Running> {
    start_under(&[], dir, upstream)
}

/// The same with a limit: a line of `http`, and one of the server.
pub fn limited(dir: &Path, upstream: SocketAddr, lines: (&str, &str)) -> Result<Running> {
    configured(&[], dir, upstream, lines)
}

/// The same, started by what counts it.
pub fn start_under(wrapper: &[&str], dir: &Path, upstream: SocketAddr) -> Result<Running> {
    configured(wrapper, dir, upstream, ("", ""))
}

fn configured(wrapper: &[&str], dir: &Path, upstream: SocketAddr, (zone, limit): (&str, &str)) -> Result<Running> {
    let dir = dir.join("nginx");
    write_files(&dir)?;
    let (chain, key) = certificate(&dir)?;
    let ports = Ports::free()?;
    let http = format!(
        r#"
    access_log access.log combined;
    limit_conn_zone $binary_remote_addr zone=clients:1m;
    {zone}
    upstream app {{
        server {upstream} max_fails=3 fail_timeout=30s;
        keepalive {KEPT_MAX};
        keepalive_requests 100000000;
    }}
    server {{
        listen {plain};
        listen {tls} ssl http2;
        server_name localhost;
        ssl_certificate {chain};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:tls:1m;
        limit_conn clients 20000;
        {limit}
        client_max_body_size 10m;
        client_header_timeout 10s;
        large_client_header_buffers 4 16k;
        add_header X-Request-Id $request_id always;
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header X-Request-Id $request_id;
            proxy_connect_timeout 5s;
            proxy_read_timeout 60s;
            proxy_next_upstream error timeout http_502 http_503 http_504;
        }}
        location /api/v1/admin/ {{ proxy_pass http://app; }}
        location ~ ^/cm?$ {{ root files; }}
    }}"#,
        plain = ports.plain,
        tls = ports.tls,
        chain = chain.display(),
        key = key.display(),
    );
    running(wrapper, &dir, "nginx", (ports, &http))
}

fn running(wrapper: &[&str], dir: &Path, name: &str, (ports, http): (Ports, &str)) -> Result<Running> {
    fs::write(dir.join("nginx.conf"), format!("{MAIN}{http}\n}}\n"))?;
    let mut nginx = command(wrapper);
    Running::start(nginx.arg("-p").arg(dir).args(["-c", "nginx.conf", "-e", "error.log"]), name, dir, ports)
}

/// `nginx/1.22.1` and its OpenSSL, as it says itself.
pub fn version() -> Result<String> {
    let output = command(&[]).arg("-V").output().context("nginx -V")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let after = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).unwrap_or("?").trim().to_owned();
    Ok(format!("{}, {}", after("nginx version:"), after("built with")))
}

/// Debian keeps it in `/usr/sbin`, which need not be in everybody's `PATH`. By its whole path: to upgrade, nginx
/// starts what it was started as. Under a wrapper, which is followed by its own words.
pub fn command(wrapper: &[&str]) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = format!("{path}:/usr/sbin");
    let found = folders.split(':').map(|folder| Path::new(folder).join("nginx")).find(|file| file.is_file());
    let nginx = found.unwrap_or_else(|| "nginx".into());
    let mut command = match wrapper {
        [] => Command::new(nginx),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(nginx);
            command
        }
    };
    command.current_dir(workspace::root());
    command
}
