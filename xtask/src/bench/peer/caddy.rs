//! Debian's caddy as the proxy beside Mainstay.

use super::{KEPT_MAX, write_files};
use crate::instance::{Ports, Running, certificate};
use anyhow::{Context, Result};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// As it is packaged it limits neither connections nor requests of a client.
pub fn start(dir: &Path, upstream: SocketAddr) -> Result<Running> {
    let dir = dir.join("caddy");
    write_files(&dir)?;
    let (chain, key) = certificate(&dir)?;
    let ports = Ports::free()?;
    let text = format!(
        r#"{{
	admin off
	auto_https off
	log {{
		output discard
	}}
	servers {{
		timeouts {{
			read_header 10s
			idle 75s
		}}
	}}
}}
(edge) {{
	bind 127.0.0.1
	log {{
		output file {dir}/access.log {{
			roll_disabled
		}}
	}}
	request_body {{
		max_size 10MB
	}}
	header X-Request-Id {{http.request.uuid}}
	@files path /c /cm
	handle @files {{
		root * {dir}/files
		file_server
	}}
	handle {{
		reverse_proxy {upstream} {{
			header_up X-Request-Id {{http.request.uuid}}
			header_up X-Real-IP {{remote_host}}
			lb_try_duration 5s
			transport http {{
				dial_timeout 5s
				response_header_timeout 60s
				keepalive 75s
				keepalive_idle_conns_per_host {KEPT_MAX}
			}}
		}}
	}}
}}
http://:{plain} {{
	import edge
}}
https://:{tls} {{
	tls {chain} {key}
	import edge
}}
"#,
        dir = dir.display(),
        plain = ports.plain.port(),
        tls = ports.tls.port(),
        chain = chain.display(),
        key = key.display(),
    );
    let file = dir.join("Caddyfile");
    fs::write(&file, text)?;
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file).current_dir(&dir);
    command.envs(["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|variable| (variable, &dir)));
    Running::start(&mut command, "caddy", &dir, ports)
}

pub fn version() -> Result<String> {
    let output = Command::new("caddy").arg("version").output().context("caddy version")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(format!("caddy/{}", text.split_whitespace().next().unwrap_or("?").trim_start_matches('v')))
}
