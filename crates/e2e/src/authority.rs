//! An authority with a will of its own: pebble answers, and this stands in front of it and adds what Debian's pebble
//! lacks (renewal information, RFC 9773) and what an authority does on a bad day (too many, silence, nonsense).

use crate::pebble::Pebble;
use crate::wire;
use base64::Engine;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// What it says about renewals.
#[derive(Debug, Clone, Default)]
pub enum Renewals {
    /// Its directory does not name the resource.
    #[default]
    Absent,
    /// A window, in seconds from now, and what `Retry-After` says.
    Window { from_s: i64, to_s: i64, retry_after: Option<String> },
    /// This status and this text.
    Other(u16, String),
}

/// What it does with what it is asked, pebble aside.
#[derive(Debug, Clone, Default)]
pub struct Conduct {
    pub renewals: Renewals,
    /// Requests to this path get "too many", for so many seconds.
    pub limited: Option<(String, u64)>,
    /// Requests to this path are never answered: they end when this changes.
    pub silent: Option<String>,
    /// Every connection ends at once.
    pub down: bool,
}

/// One request, as far as a test asks.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    /// Of an order: the certificate it is to take the place of.
    pub replaces: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    conduct: Conduct,
    asked: Vec<Asked>,
}

/// Listening until dropped.
#[derive(Debug)]
pub struct Authority {
    pub address: SocketAddr,
    folder: TempDir,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    behind: SocketAddr,
    client: Arc<ClientConfig>,
    state: Mutex<State>,
    stopped: AtomicBool,
}

impl Authority {
    pub fn before(pebble: &Pebble, conduct: Conduct) -> Authority {
        let folder = tempfile::tempdir().expect("a folder for an authority");
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("make a certificate");
        std::fs::write(folder.path().join("own.pem"), made.cert.pem()).expect("write");
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).expect("a key");
        let provider = || Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a pair");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pebble.own_root()).expect("pebble's own")).expect("a root");
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind an authority");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            address,
            behind: pebble.address(),
            client: Arc::new(client),
            state: Mutex::new(State { conduct, asked: Vec::new() }),
            stopped: AtomicBool::new(false),
        });
        let (own, server) = (shared.clone(), Arc::new(server));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if own.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (own, server) = (own.clone(), server.clone());
                std::thread::spawn(move || own.converse(stream, server));
            }
        });
        Authority { address, folder, shared }
    }

    pub fn conduct(&self, conduct: Conduct) {
        self.shared.state().conduct = conduct;
    }

    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Lines of `[edge.acme]` that lead here.
    pub fn lines(&self) -> String {
        format!("directory = [\"{}\"]\nca = \"{}\"\n", self.directory(), self.own_root().display())
    }

    /// What its own server is to be believed by.
    pub fn own_root(&self) -> PathBuf {
        self.folder.path().join("own.pem")
    }

    /// Requests so far whose path begins like this.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.shared.state().asked.iter().filter(|asked| asked.path.starts_with(path)).cloned().collect()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

/// Head and body as they came.
struct Message {
    head: String,
    body: Vec<u8>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("lock")
    }

    /// One request: nobody here keeps a connection.
    fn converse(&self, stream: TcpStream, server: Arc<ServerConfig>) {
        let _ = stream.set_read_timeout(Some(crate::BOUND));
        if self.state().conduct.down {
            return;
        }
        let Ok(connection) = ServerConnection::new(server) else { return };
        let mut stream = StreamOwned::new(connection, stream);
        let Some(ask) = read(&mut stream) else { return };
        if let Some(answer) = self.answer(&ask) {
            let _ = stream.write_all(&answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }

    fn answer(&self, ask: &Message) -> Option<Vec<u8>> {
        let mut words = ask.head.split(' ');
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let replaces = payload(&ask.body).and_then(|told| told["replaces"].as_str().map(str::to_owned));
        self.state().asked.push(Asked { method, path: path.clone(), replaces: replaces.clone() });
        let named = |rule: &Option<String>| rule.as_ref().is_some_and(|rule| path.starts_with(rule.as_str()));
        while named(&self.state().conduct.silent) {
            if self.stopped.load(Ordering::SeqCst) {
                return None;
            }
            crate::wait::pause(Duration::from_millis(10));
        }
        let conduct = self.state().conduct.clone();
        if conduct.down {
            return None;
        }
        if let Some((_, seconds)) = conduct.limited.filter(|(rule, _)| path.starts_with(rule.as_str())) {
            let problem = r#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many of these"}"#;
            let more = format!("Content-Type: application/problem+json\r\nRetry-After: {seconds}\r\n");
            return Some(whole(429, &more, problem.as_bytes()));
        }
        if path.starts_with("/renewal/") {
            return Some(renewal(&conduct.renewals));
        }
        let answer = self.behind(ask)?;
        match (path.as_str(), &conduct.renewals) {
            ("/dir", Renewals::Absent) => Some(answer),
            ("/dir", _) => changed(&answer, "renewalInfo", &format!("https://{}/renewal", self.address)),
            // RFC 9773 §5: who takes it says so.
            ("/order-plz", _) if replaces.is_some() => changed(&answer, "replaces", &replaces?),
            _ => Some(answer),
        }
    }

    /// What pebble says to this.
    fn behind(&self, ask: &Message) -> Option<Vec<u8>> {
        let name = ServerName::try_from("127.0.0.1").ok()?;
        let connection = ClientConnection::new(self.client.clone(), name).ok()?;
        let stream = TcpStream::connect(self.behind).ok()?;
        let _ = stream.set_read_timeout(Some(crate::BOUND));
        let mut stream = StreamOwned::new(connection, stream);
        let (line, fields) = ask.head.split_once("\r\n")?;
        let kept = |field: &&str| !field.is_empty() && !field.to_ascii_lowercase().starts_with("connection:");
        let fields: Vec<&str> = fields.split("\r\n").filter(kept).collect();
        let head = format!("{line}\r\n{}\r\nConnection: close\r\n\r\n", fields.join("\r\n"));
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&ask.body)).ok()?;
        let mut answer = Vec::new();
        // An end without a word is an end all the same.
        let _ = stream.read_to_end(&mut answer);
        (!answer.is_empty()).then_some(answer)
    }
}

fn read(stream: &mut impl Read) -> Option<Message> {
    let (mut bytes, mut more) = (Vec::new(), [0u8; 4096]);
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let count = stream.read(&mut more).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&more[..count]);
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let fields = wire::parse_fields(head.split_once("\r\n")?.1).ok()?;
    let length = wire::find(&fields, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end);
    while body.len() < length {
        let count = stream.read(&mut more).ok().filter(|count| *count > 0)?;
        body.extend_from_slice(&more[..count]);
    }
    Some(Message { head, body })
}

/// What a signed request says.
fn payload(body: &[u8]) -> Option<Value> {
    let signed: Value = serde_json::from_slice(body).ok()?;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signed["payload"].as_str()?).ok()?;
    serde_json::from_slice(&text).ok()
}

fn renewal(renewals: &Renewals) -> Vec<u8> {
    let json = "Content-Type: application/json\r\n".to_owned();
    match renewals {
        Renewals::Absent => whole(404, "", b""),
        Renewals::Other(status, text) => whole(*status, &json, text.as_bytes()),
        Renewals::Window { from_s, to_s, retry_after } => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
            let at = |s: &i64| jiff::Timestamp::from_second(now.cast_signed() + s).expect("a time").to_string();
            let window = serde_json::json!({ "suggestedWindow": { "start": at(from_s), "end": at(to_s) } });
            let again = retry_after.as_ref().map_or(String::new(), |told| format!("Retry-After: {told}\r\n"));
            whole(200, &format!("{json}{again}"), window.to_string().as_bytes())
        }
    }
}

fn whole(status: u16, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The same answer with one more member in its document.
fn changed(answer: &[u8], name: &str, value: &str) -> Option<Vec<u8>> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut document: Value = serde_json::from_slice(&answer[end + 4..]).ok()?;
    document[name] = Value::from(value);
    let body = document.to_string();
    let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
    let lines: Vec<&str> = head.split("\r\n").filter(|line| !is_length(line)).collect();
    Some(format!("{}\r\nContent-Length: {}\r\n\r\n{body}", lines.join("\r\n"), body.len()).into_bytes())
}
