//! Real servers as upstreams that write down every request they believe to have got: Node, Python's http.server,
//! gunicorn, uvicorn, nginx, Apache. Each runs from a folder of its own and is ended by its process id.

use crate::fixtures;
use crate::ports::Port;
use crate::processes::{self, MARK};
use crate::wait::wait_until;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Node,
    Python,
    Gunicorn,
    Uvicorn,
    Nginx,
    Apache,
}

impl Kind {
    pub const ALL: [Kind; 6] = [Kind::Node, Kind::Python, Kind::Gunicorn, Kind::Uvicorn, Kind::Nginx, Kind::Apache];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Python => "python",
            Kind::Gunicorn => "gunicorn",
            Kind::Uvicorn => "uvicorn",
            Kind::Nginx => "nginx",
            Kind::Apache => "apache",
        }
    }

    fn command(self, at: &Path, port: u16, inner: u16) -> Command {
        let python = |words: &[&str]| {
            let mut command = Command::new(fixtures::python());
            command.args(words).current_dir(fixtures::folder().join("python/apps/recorder"));
            command
        };
        let bind = format!("127.0.0.1:{port}");
        let (number, record) = (port.to_string(), at.join(RECORD));
        match self {
            Kind::Node => {
                let mut node = Command::new("node");
                node.arg(fixtures::folder().join("node/apps/recorder/server.js")).arg(number).arg(record);
                node
            }
            Kind::Python => {
                let mut server = python(&["plain.py", &number]);
                server.arg(record);
                server
            }
            Kind::Gunicorn => {
                let threads = ["-m", "gunicorn", "-k", "gthread", "--threads", "4", "--keep-alive", "75"];
                let mut server = python(&threads);
                server.args(["--no-control-socket", "--worker-tmp-dir"]).arg(at);
                server.args(["--bind", &bind, "wsgi:app"]).env("RECORD", record);
                server
            }
            Kind::Uvicorn => {
                let words = ["-m", "uvicorn", "--http", "h11", "--timeout-keep-alive", "75", "--no-access-log"];
                let mut server = python(&words);
                server.args(["--no-proxy-headers", "--port", &number, "asgi:app"]).env("RECORD", record);
                server
            }
            Kind::Nginx => {
                write(&at.join("nginx.conf"), &nginx(port, inner));
                let mut server = Command::new(program("nginx"));
                server.arg("-p").arg(at).args(["-e", "error.log", "-c", "nginx.conf"]);
                server
            }
            Kind::Apache => {
                write(&at.join("httpd.conf"), &apache(at, port));
                let script = at.join("record.cgi");
                write(&script, &CGI.replace("RECORD", &record.display().to_string()));
                allow(&script, 0o755);
                let mut server = Command::new(program("apache2"));
                server.arg("-d").arg(at).arg("-f").arg(at.join("httpd.conf")).arg("-DFOREGROUND");
                server
            }
        }
    }
}

/// In `/usr/sbin`, which need not be in everybody's `PATH`.
fn program(name: &str) -> PathBuf {
    let own = Path::new("/usr/sbin").join(name);
    if own.exists() { own } else { name.into() }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set permissions");
}

const RECORD: &str = "record";

/// Bodies are seen where they are passed on: it is its own upstream.
fn nginx(port: u16, inner: u16) -> String {
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    format!(
        r#"{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    client_body_buffer_size 256k;
    keepalive_requests 1000000;
    log_format seen escape=json '{{"port": $remote_port, "ids": ["$http_mainstay_request_id"], "status": $status, '
        '"method": "$request_method", "target": "$request_uri", "body": "$request_body", "line": "$request"}}';
    server {{
        listen 127.0.0.1:{port};
        access_log {RECORD} seen;
        location / {{
            proxy_pass http://127.0.0.1:{inner};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
    server {{
        listen 127.0.0.1:{inner};
        access_log off;
        default_type application/json;
        location / {{ return 200 '{{"ids": ["$http_mainstay_request_id"]}}'; }}
    }}
}}
"#
    )
}

fn apache(at: &Path, port: u16) -> String {
    let user = if nix::unistd::geteuid().is_root() { "User www-data\nGroup www-data" } else { "" };
    let at = at.display();
    let module = |name: &str| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
    let modules: String = ["mpm_event", "authz_core", "alias", "env", "cgid"].map(module).concat();
    format!(
        r#"{modules}
{user}
ServerName recorder.example
Listen 127.0.0.1:{port}
PidFile {at}/apache.pid
ErrorLog {at}/error.log
ScriptSock {at}/cgi.sock
DefaultRuntimeDir {at}
KeepAlive On
KeepAliveTimeout 75
MaxKeepAliveRequests 0
AllowEncodedSlashes NoDecode
SetEnv ap_trust_cgilike_cl 1
LogFormat "{{\"port\": %{{remote}}p, \"ids\": [\"%{{mainstay-request-id}}i\"], \"status\": %>s, \"line\": \"%r\"}}" seen
CustomLog {at}/{RECORD} seen "expr=%{{REQUEST_STATUS}} -ge 400"
ScriptAliasMatch "^" "{at}/record.cgi"
<Directory "{at}">
    Options +ExecCGI
    Require all granted
</Directory>
"#
    )
}

const CGI: &str = r#"#!/bin/sh
escaped() { printf '%s' "$1" | sed 's/[\\"]/\\&/g'; }
hex=$(od -An -v -tx1 | tr -d ' \n')
printf '{"port": %s, "ids": ["%s"], "method": "%s", "target": "%s", "hex": "%s"}\n' "$REMOTE_PORT" \
    "$HTTP_MAINSTAY_REQUEST_ID" "$(escaped "$REQUEST_METHOD")" "$(escaped "$REQUEST_URI")" "$hex" >> RECORD
told="{\"ids\": [\"$HTTP_MAINSTAY_REQUEST_ID\"]}"
# Told beforehand, so that the framing does not hang on how fast this is.
printf 'Content-Type: application/json\r\nContent-Length: %s\r\n\r\n%s' "${#told}" "$told"
"#;

/// One request as a server understood it, or one it refused.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The other end's port: which connection it came on.
    pub port: u64,
    /// Every id of Mainstay's that the request carries.
    pub ids: Vec<String>,
    pub method: String,
    pub target: String,
    pub body: Vec<u8>,
    /// The request line of what the server refused by itself, as far as it read one.
    pub refused: Option<String>,
}

impl Record {
    fn parse(line: &str) -> Record {
        // Apache writes bytes as `\xff`, which is no JSON.
        let json: serde_json::Value = serde_json::from_str(line)
            .or_else(|_| serde_json::from_str(&line.replace("\\x", "\\\\x")))
            .unwrap_or_else(|e| panic!("a record that is no JSON ({e}): {line}"));
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        let ids = json["ids"].as_array().cloned().unwrap_or_default();
        let ids = ids.iter().filter_map(|id| id.as_str()).filter(|id| !id.is_empty() && *id != "-");
        let refused = json["status"].as_u64().is_some_and(|status| status >= 400).then(|| text("line"));
        let hex = text("hex");
        let bytes = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        let body = match hex.is_empty() {
            true => text("body").chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect(),
            false => (0..hex.len()).step_by(2).filter_map(bytes).collect(),
        };
        Record {
            port: json["port"].as_u64().unwrap_or_default(),
            ids: ids.map(str::to_owned).collect(),
            method: text("method"),
            target: text("target"),
            body,
            refused: json["refused"].as_str().map(str::to_owned).or(refused),
        }
    }
}

/// A running server; it ends when dropped.
#[derive(Debug)]
pub struct Recorder {
    pub kind: Kind,
    folder: TempDir,
    child: Child,
    port: Port,
    _inner: Port,
    mark: String,
}

impl Recorder {
    #[track_caller]
    pub fn start(kind: Kind) -> Recorder {
        let folder = tempfile::Builder::new().prefix("mainstay-e2e-recorder-").tempdir().expect("a folder");
        let at = folder.path();
        // Apache's workers are another user.
        allow(at, 0o777);
        write(&at.join(RECORD), "");
        allow(&at.join(RECORD), 0o666);
        let (port, inner) = (Port::free(), Port::free());
        let mark = format!("recorder-{}-{}", std::process::id(), port.number);
        let log = std::fs::File::create(at.join("log")).expect("a log");
        let mut command = kind.command(at, port.number, inner.number);
        command.env(MARK, &mark).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("the log twice")).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let recorder = Recorder { kind, folder, child, port, _inner: inner, mark };
        let url = format!("http://{}/recorder-is-there", recorder.address());
        wait_until(&format!("{} to answer:\n{}", kind.name(), recorder.log()), || crate::get(&url).status == 200);
        recorder
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number))
    }

    /// Everything it wrote down so far, in order.
    pub fn records(&self) -> Vec<Record> {
        let bytes = std::fs::read(self.folder.path().join(RECORD)).expect("the record");
        let text = String::from_utf8_lossy(&bytes);
        // A line that is just being written counts next time.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(Record::parse).collect()
    }

    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read(self.folder.path().join(name)).unwrap_or_default();
        [read("log"), read("error.log")].iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what {} said ---\n{}", self.kind.name(), self.log());
        }
        processes::end(&mut self.child, &self.mark);
    }
}
