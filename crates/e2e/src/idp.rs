//! Providers that people log in with: npm's oidc-provider as it is, and stubs that answer as they are told, so that
//! they can deviate as GitHub and LinkedIn do, lie, hang and flood.

use crate::peer::{Ask, Peer, Then, answer};
use crate::ports::Port;
use crate::wait::wait_until;
use crate::{curl, fixtures};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// What its one client is called, and a secret that has to be escaped.
pub const CLIENT_ID: &str = "mainstay";
pub const CLIENT_SECRET: &str = "kU3v:X9q %Lw/2Zr+7TnB5sYd";

/// A running oidc-provider; it ends when dropped.
#[derive(Debug)]
pub struct OidcProvider {
    folder: TempDir,
    child: Child,
    port: Port,
}

impl OidcProvider {
    /// `callback`: the one address it sends browsers back to. `people`: by login, what it says of each.
    pub fn start(callback: &str, people: &Value) -> OidcProvider {
        let (folder, port) = (tempfile::tempdir().expect("a folder for a provider"), Port::free());
        fixtures::node_app("oidc", folder.path());
        let said = std::fs::File::create(folder.path().join("said")).expect("create a file");
        let child = Command::new("node")
            .arg("server.mjs")
            .current_dir(folder.path())
            .env("PORT", port.number.to_string())
            .env("CALLBACK", callback)
            .env("SECRET", CLIENT_SECRET)
            .env("PEOPLE", people.to_string())
            .stdin(Stdio::null())
            .stdout(said.try_clone().expect("a second handle"))
            .stderr(said)
            .spawn()
            .expect("run node");
        let provider = OidcProvider { folder, child, port };
        let document = format!("{}/.well-known/openid-configuration", provider.issuer());
        wait_until("the provider", || curl::get(&document).status == 200);
        provider
    }

    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number)
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }
}

impl Drop for OidcProvider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a stub does with a path.
#[derive(Debug, Clone)]
pub enum Reply {
    Says(u16, String),
    /// Not a byte, until the client gives up.
    Hangs,
    /// A body that never ends.
    Floods,
}

type Replies = Arc<Mutex<HashMap<String, Reply>>>;

/// Answers by path, as told; 404 else.
#[derive(Debug)]
pub struct Stub {
    pub peer: Peer,
    replies: Replies,
}

impl Stub {
    /// Of OpenID Connect, with its document and nothing else. `below`: the path of its issuer, as "/oauth".
    pub fn oidc(below: &str) -> Stub {
        let replies = Replies::default();
        let told = replies.clone();
        let peer = Peer::with(move |ask, out| {
            let reply = told.lock().expect("lock").get(ask.path()).cloned();
            match reply {
                Some(reply) => replied(out, &reply),
                None => answer(out, 404, &[], b"{}"),
            }
        });
        let stub = Stub { peer, replies };
        let base = stub.issuer();
        let document = json!({
            "issuer": format!("{base}{below}"),
            "authorization_endpoint": format!("{base}/auth"),
            "token_endpoint": format!("{base}/token"),
            "jwks_uri": format!("{base}/jwks"),
        });
        stub.says(&format!("{below}/.well-known/openid-configuration"), 200, &document.to_string());
        stub
    }

    pub fn issuer(&self) -> String {
        format!("http://{}", self.peer.address)
    }

    pub fn says(&self, path: &str, status: u16, body: &str) {
        self.replies(path, Reply::Says(status, body.to_owned()));
    }

    pub fn replies(&self, path: &str, reply: Reply) {
        self.replies.lock().expect("lock").insert(path.to_owned(), reply);
    }

    /// The code it gives out next is worth this id token.
    pub fn grants(&self, id_token: &str) {
        let answer = json!({"access_token": "at-1", "token_type": "Bearer", "id_token": id_token});
        self.says("/token", 200, &answer.to_string());
    }

    /// How often codes were brought.
    pub fn exchanges(&self) -> usize {
        self.peer.all().iter().filter(|ask| ask.path() == "/token").count()
    }
}

fn replied(out: &mut TcpStream, reply: &Reply) -> Then {
    match reply {
        Reply::Says(status, body) => answer(out, *status, &[("content-type", "application/json")], body.as_bytes()),
        Reply::Hangs => {
            // Comes back when the client has closed.
            let _ = out.read(&mut [0]);
            Then::Close
        }
        Reply::Floods => {
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"access_token\":\"");
            while out.write_all(&[b'a'; 16 * 1024]).is_ok() {}
            Then::Close
        }
    }
}

/// GitHub as it is: no OpenID Connect, errors with 200, a form to whoever does not ask for JSON, nothing to whoever
/// has no name. The code "good" is worth `user`; `emails` is its list of addresses.
pub fn github(user: Value, emails: Value) -> Peer {
    let said = Arc::new((user, emails));
    Peer::with(move |ask, out| {
        let may = ask.header("authorization") == Some("Bearer gho_16C7e42F292c6912E7") && ask.has("user-agent");
        let (status, body) = match (ask.method.as_str(), ask.path()) {
            ("POST", "/login/oauth/access_token") => return github_token(ask, out),
            ("GET", "/api/v3/user") if may => (200, said.0.to_string()),
            ("GET", "/api/v3/user/emails") if may => (200, said.1.to_string()),
            _ => (403, json!({"message": "Bad credentials"}).to_string()),
        };
        answer(out, status, &[("content-type", "application/json; charset=utf-8")], body.as_bytes())
    })
}

fn github_token(ask: &Ask, out: &mut TcpStream) -> Then {
    let body = String::from_utf8_lossy(&ask.body).into_owned();
    let has = |field: &str| body.split('&').any(|own| own == field);
    let fields =
        match has("code=good") && has("client_id=mainstay") && body.contains("client_secret=kU3v%3AX9q%20%25Lw") {
            true => vec![
                ("access_token", "gho_16C7e42F292c6912E7"),
                ("scope", "read:user,user:email"),
                ("token_type", "bearer"),
            ],
            false => vec![("error", "bad_verification_code"), ("error_description", "The code passed is incorrect")],
        };
    let asks_json = ask.header("accept").is_some_and(|accept| accept.contains("application/json"));
    if asks_json {
        let body: serde_json::Map<String, Value> = fields.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let body = Value::Object(body).to_string();
        return answer(out, 200, &[("content-type", "application/json; charset=utf-8")], body.as_bytes());
    }
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", value.replace(' ', "+"))).collect();
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    answer(out, 200, &[("content-type", kind)], pairs.join("&").as_bytes())
}
