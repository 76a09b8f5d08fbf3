//! The side of the control socket that answers.

use super::command::{COMMAND_BYTES_MAX, Command, Line, Refused};
use crate::bodies::{self, Body};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

/// Lines that wait for a slow reader; past it the command waits with them.
const LINES_MAX: usize = 64;
/// Operators and probes at once; more than that is a loop that forgot to close.
const CONNECTIONS_MAX: usize = 64;

type Answer = Pin<Box<dyn Future<Output = Result<serde_json::Value, Refused>>>>;

/// Runs one command; the wiring decides on what.
pub type Handler = Rc<dyn Fn(Command, Say) -> Answer>;

/// Progress lines of one command.
#[derive(Clone, Debug)]
pub struct Say(mpsc::Sender<Line>);

impl Say {
    /// For a command that comes from elsewhere than the socket.
    pub fn channel() -> (Say, mpsc::Receiver<Line>) {
        let (tx, rx) = mpsc::channel(LINES_MAX);
        (Say(tx), rx)
    }

    pub async fn line(&self, text: impl Into<String>) {
        // Nobody listens any more: the command goes on, as it would under a closed terminal.
        let _ = self.0.send(Line::Say(text.into())).await;
    }

    /// For callers that cannot wait; a line too many is left out.
    pub fn try_line(&self, text: impl Into<String>) {
        let _ = self.0.try_send(Line::Say(text.into()));
    }
}

/// How many operators are being answered.
pub type Open = Rc<Cell<usize>>;

/// Accepts for ever. Must run inside a `LocalSet`.
pub async fn serve(listener: UnixListener, handler: Handler, open: Open) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: give those who hold them a moment instead of spinning.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        if open.get() >= CONNECTIONS_MAX {
            continue;
        }
        open.set(open.get() + 1);
        let (handler, open) = (handler.clone(), open.clone());
        tokio::task::spawn_local(async move {
            let service = hyper::service::service_fn(move |request| {
                let handler = handler.clone();
                async move { Ok::<_, Infallible>(answer(request, handler).await) }
            });
            // A broken connection concerns nobody but the one who broke it.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            open.set(open.get() - 1);
        });
    }
}

async fn answer(request: Request<Incoming>, handler: Handler) -> Response<Body> {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let Ok(body) = Limited::new(request.into_body(), COMMAND_BYTES_MAX).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, &Refused::new("the command is larger than 64 KiB"));
    };
    let command = match Command::parse(&path, &body.to_bytes()) {
        None => return plain(StatusCode::NOT_FOUND, &Refused::new(format!("there is no command {path}"))),
        Some(Err(e)) => return plain(StatusCode::BAD_REQUEST, &Refused::new(format!("{path}: {e}"))),
        Some(Ok(command)) => command,
    };
    match method {
        Method::POST => stream(command, handler),
        Method::GET if command.only_looks() => look(command, handler).await,
        _ => plain(StatusCode::METHOD_NOT_ALLOWED, &Refused::new(format!("{path} wants POST"))),
    }
}

/// The final answer alone, as a document: for `curl --unix-socket`.
async fn look(command: Command, handler: Handler) -> Response<Body> {
    let (say, mut unheard) = Say::channel();
    tokio::task::spawn_local(async move { while unheard.recv().await.is_some() {} });
    match handler(command, say).await {
        Ok(value) => json(StatusCode::OK, "application/json", value.to_string()),
        Err(refused) => plain(StatusCode::CONFLICT, &refused),
    }
}

/// Lines as they come, the result last.
fn stream(command: Command, handler: Handler) -> Response<Body> {
    let (tx, rx) = mpsc::channel(LINES_MAX);
    tokio::task::spawn_local(async move {
        let last = match handler(command, Say(tx.clone())).await {
            Ok(value) => Line::Done(value),
            Err(refused) => Line::Refused(refused),
        };
        let _ = tx.send(last).await;
    });
    bodies::response(StatusCode::OK, "application/x-ndjson", bodies::streamed(rx, |line| written(&line)))
}

fn plain(status: StatusCode, refused: &Refused) -> Response<Body> {
    let text = serde_json::to_string(refused).unwrap_or_default();
    json(status, "application/json", text)
}

fn json(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    bodies::response(status, content_type, bodies::whole(text + "\n"))
}

/// On a line of its own.
fn written(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::super::client;
    use super::*;
    use crate::control::{Reload, Restart, Status};

    fn handler() -> Handler {
        Rc::new(|command, say: Say| {
            Box::pin(async move {
                say.line("begun").await;
                match command {
                    Command::Restart(r) => Ok(serde_json::json!({ "app": r.app })),
                    Command::Reload(_) => Err(Refused::configuration("2 faults")),
                    _ => Ok(serde_json::json!({})),
                }
            })
        })
    }

    #[test]
    fn a_command_streams_its_lines_and_ends_with_its_result() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("s");
        let (runtime, local) = mainstay_runtime::current_thread().expect("runtime");
        local.block_on(&runtime, async {
            let listener = UnixListener::bind(&path).expect("bind");
            tokio::task::spawn_local(serve(listener, handler(), Open::default()));
            let mut said = Vec::new();
            let restart = Command::Restart(Restart { app: Some("api".to_owned()), instance: None });
            let done = client::exchange(&path, &restart, |line| said.push(line.to_owned())).await.expect("answer");
            assert_eq!(done, Line::Done(serde_json::json!({ "app": "api" })));
            assert_eq!(said, ["begun"]);
            let refused = client::exchange(&path, &Command::Reload(Reload {}), |_| {}).await.expect("answer");
            assert_eq!(refused, Line::Refused(Refused::configuration("2 faults")));
            let done = client::exchange(&path, &Command::Status(Status {}), |_| {}).await.expect("answer");
            assert_eq!(done, Line::Done(serde_json::json!({})));
        });
    }
}
