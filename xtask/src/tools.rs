//! Programs the tests and benchmarks need: looked for, and installed where that can be done without asking.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// A program, how to see that a good one is there, and the Debian packages that bring it.
#[derive(Debug)]
pub struct Tool {
    pub name: &'static str,
    /// A shell line that succeeds when the tool is there and new enough.
    present: &'static str,
    packages: &'static [&'static str],
}

pub const NODE: Tool = Tool {
    name: "node 18 or newer",
    present: r#"node -e 'process.exit(parseInt(process.versions.node) >= 18 ? 0 : 1)'"#,
    packages: &["nodejs"],
};
pub const NPM: Tool = Tool { name: "npm", present: "npm --version", packages: &["npm"] };
pub const PYTHON: Tool =
    Tool { name: "python3 with venv", present: "python3 -c 'import venv, ensurepip'", packages: &["python3-venv"] };
pub const CURL: Tool = Tool { name: "curl", present: "curl --version", packages: &["curl"] };
pub const OPENSSL: Tool = Tool { name: "openssl", present: "openssl version", packages: &["openssl"] };
/// A browser that people log in with; npm's playwright-core drives it and brings none of its own.
pub const CHROMIUM: Tool = Tool { name: "chromium", present: "command -v chromium", packages: &["chromium"] };
/// An authority for tests, and the names server that comes with it.
pub const PEBBLE: Tool =
    Tool { name: "pebble", present: "command -v pebble && command -v pebble-challtestsrv", packages: &["pebble"] };
/// Many HTTP/2 requests at once.
pub const H2LOAD: Tool = Tool { name: "h2load", present: "h2load --version", packages: &["nghttp2-client"] };
pub const TESTSSL: Tool = Tool { name: "testssl.sh", present: "command -v testssl", packages: &["testssl.sh"] };
pub const REDIS: Tool = Tool {
    name: "redis-server 6.2 or newer and redis-cli",
    present: r#"redis-cli --version && redis-server --version | grep -Eq 'v=(6\.[2-9]|[7-9]|[1-9][0-9])'"#,
    packages: &["redis-server", "redis-tools"],
};
/// Debian keeps the server's programs out of `PATH`.
pub const POSTGRES: Tool = Tool {
    name: "postgres",
    present: "ls /usr/lib/postgresql/*/bin/initdb || command -v initdb && command -v psql",
    packages: &["postgresql", "postgresql-client"],
};
/// In `/usr/sbin`; any version, since the oldest in use knows least.
pub const PGBOUNCER: Tool =
    Tool { name: "pgbouncer", present: "PATH=$PATH:/usr/sbin pgbouncer --version", packages: &["pgbouncer"] };
pub const VALGRIND: Tool =
    Tool { name: "valgrind", present: "valgrind --version", packages: &["valgrind", "libc6-dbg"] };
pub const STRACE: Tool = Tool { name: "strace", present: "strace -V", packages: &["strace"] };
/// Moves the clock of a program; a library, whose folder has the name of the machine's architecture.
pub const FAKETIME: Tool =
    Tool { name: "libfaketime", present: "ls /usr/lib/*/faketime/libfaketime.so.1", packages: &["libfaketime"] };
/// In `/usr/sbin`, which need not be in everybody's `PATH`.
pub const NGINX: Tool =
    Tool { name: "nginx", present: "PATH=$PATH:/usr/sbin nginx -v", packages: &["nginx-light", "nginx"] };
/// The same; the package without its service.
pub const APACHE: Tool =
    Tool { name: "apache2", present: "PATH=$PATH:/usr/sbin apache2 -v", packages: &["apache2-bin"] };
pub const HAPROXY: Tool = Tool { name: "haproxy", present: "PATH=$PATH:/usr/sbin haproxy -v", packages: &["haproxy"] };
pub const CADDY: Tool = Tool { name: "caddy", present: "caddy version", packages: &["caddy"] };
pub const WRK: Tool = Tool { name: "wrk", present: "command -v wrk", packages: &["wrk"] };

pub const DPKG_DEB: Tool = Tool { name: "dpkg-deb", present: "dpkg-deb --version", packages: &["dpkg"] };
pub const SYSTEMD_ANALYZE: Tool =
    Tool { name: "systemd-analyze", present: "systemd-analyze --version", packages: &["systemd"] };
pub const DEBOOTSTRAP: Tool =
    Tool { name: "debootstrap", present: "PATH=$PATH:/usr/sbin debootstrap --version", packages: &["debootstrap"] };

/// Installs with services barred from starting; what bars them goes again however this ends.
const INSTALL: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q -y --no-install-recommends install "$@"
"#;

/// Makes sure that every tool is there, or stops with the one command that brings what is missing.
pub fn require(tools: &[&Tool]) -> Result<()> {
    let missing: Vec<&Tool> = tools.iter().copied().filter(|tool| !is_present(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().flat_map(|tool| tool.packages).copied().collect();
    if !Path::new("/etc/debian_version").exists() {
        bail!("missing: {names}; install them with this system's packages and start again");
    }
    if !is_root()? {
        bail!("missing: {names}\ntype: sudo apt-get install --no-install-recommends {}", packages.join(" "));
    }
    println!("install  {} (services are kept from starting)", packages.join(" "));
    let status = Command::new("sh").arg("-c").arg(INSTALL).arg("install").args(&packages).status()?;
    if !status.success() {
        bail!("apt-get could not install {}: its own message stands above", packages.join(" "));
    }
    match missing.into_iter().find(|tool| !is_present(tool)) {
        Some(tool) => bail!("{} is still missing after the installation; this system's own may be too old", tool.name),
        None => Ok(()),
    }
}

fn is_present(tool: &Tool) -> bool {
    let check = Command::new("sh").arg("-c").arg(tool.present).stdout(Stdio::null()).stderr(Stdio::null()).status();
    check.is_ok_and(|status| status.success())
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("id -u")?;
    Ok(output.stdout.trim_ascii() == b"0")
}
