//! The API of jobs over one kept connection. Each call is one try: who is not answered decides for himself whether to
//! ask again, as the journal has to know of it.

use crate::wire::{Connection, Response};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// Longer than the longest wait of a claim here.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where instances are told to ask, and by which token; both change with the supervisor.
#[derive(Clone, Debug)]
struct Given {
    address: SocketAddr,
    token: String,
}

/// A client that finds the API by asking the app what it was given.
#[derive(Debug)]
pub struct Client {
    edge: SocketAddr,
    given: Option<Given>,
    connection: Option<Connection>,
}

/// A status and a body.
pub type Told = (u16, Value);

impl Client {
    /// `edge`: the address at which Mainstay serves the app.
    pub fn new(edge: SocketAddr) -> Client {
        Client { edge, given: None, connection: None }
    }

    /// # Errors
    /// What happened to the connection: nobody knows whether the request was served.
    pub fn get(&mut self, path: &str) -> Result<Told, String> {
        self.ask("GET", path, None, "")
    }

    /// # Errors
    /// As [`Client::get`].
    pub fn post(&mut self, path: &str, body: &Value) -> Result<Told, String> {
        self.ask("POST", path, Some(body), "")
    }

    /// An add with its idempotency key.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn add(&mut self, queue: &str, jobs: &Value, key: &str) -> Result<Told, String> {
        let more = format!("Idempotency-Key: {key}\r\n");
        self.ask("POST", &format!("/v1/queues/{queue}/jobs"), Some(jobs), &more)
    }

    /// A request whose answer goes on for as long as it is read.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn stream(&mut self, path: &str) -> Result<Connection, String> {
        let given = self.given()?;
        let mut connection = Connection::open(given.address).map_err(|e| e.to_string())?;
        connection.send(head("GET", path, &given, "", None).as_bytes()).map_err(|e| e.to_string())?;
        Ok(connection)
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<&Value>, more: &str) -> Result<Told, String> {
        let told = self.once(method, path, body, more);
        // Another boot has other tokens, perhaps at another address.
        if told.as_ref().map_or(true, |(status, _)| *status == 401) {
            self.given = None;
            self.connection = None;
        }
        told
    }

    fn once(&mut self, method: &str, path: &str, body: Option<&Value>, more: &str) -> Result<Told, String> {
        let given = self.given()?;
        let kept = self.connection.take().filter(|connection| !connection.is_readable());
        let mut connection = match kept {
            Some(kept) => kept,
            None => Connection::open(given.address).map_err(|e| e.to_string())?.patience(PATIENCE),
        };
        let body = body.map(Value::to_string);
        let mut bytes = head(method, path, &given, more, body.as_deref());
        bytes.push_str(body.as_deref().unwrap_or_default());
        connection.send(bytes.as_bytes()).map_err(|e| e.to_string())?;
        let response = connection.response(false).map_err(|fault| format!("{fault:?}"))?;
        let value = json(&response);
        self.connection = Some(connection);
        Ok((response.status, value))
    }

    fn given(&mut self) -> Result<Given, String> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        let ask = format!("GET /given HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.edge);
        let response = crate::wire::exchange(self.edge, ask.as_bytes()).map_err(|fault| format!("{fault:?}"))?;
        let told = json(&response);
        let text = |name: &str| told[name].as_str().ok_or(format!("status {}, no {name}", response.status));
        let address = text("url")?.trim_start_matches("http://").parse().map_err(|_| "no address".to_owned())?;
        let given = Given { address, token: text("token")?.to_owned() };
        self.given = Some(given.clone());
        Ok(given)
    }
}

fn head(method: &str, path: &str, given: &Given, more: &str, body: Option<&str>) -> String {
    let Given { address, token } = given;
    let length = body.map(|body| format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    let length = length.unwrap_or_default();
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{more}{length}\r\n")
}

fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or(Value::Null)
}
