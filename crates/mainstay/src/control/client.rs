//! The side of the control socket that asks: the verbs.

use super::command::{Command, Line, Refused};
use crate::exit::Failure;
use crate::place::Place;
use anyhow::Context;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::Path;
use tokio::net::UnixStream;

/// A line of an answer; `status` of a large fleet is the longest.
const LINE_MAX_BYTES: usize = 16 * 1024 * 1024;

/// What a command says on the way goes to stderr, so that stdout stays data.
pub fn to_stderr(line: &str) {
    eprintln!("{line}");
}

/// Asks the server of this place and waits for its answer.
pub fn ask(place: &Place, command: &Command, say: impl FnMut(&str)) -> Result<Value, Failure> {
    let data = place.data.display();
    let nobody = || {
        Failure::Unreachable(format!(
            "no mainstay runs with the data folder {data}\n  \
             fix: mainstay run -- COMMAND   or name the folder: --data DIR"
        ))
    };
    let socket = place.socket().ok_or_else(nobody)?;
    let (runtime, local) = mainstay_runtime::current_thread()?;
    let answer = local.block_on(&runtime, async {
        match command.limit() {
            Some(limit) => tokio::time::timeout(limit, exchange(&socket, command, say))
                .await
                .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {} s", limit.as_secs()))),
            None => exchange(&socket, command, say).await,
        }
    });
    match answer {
        Ok(Line::Done(value)) => Ok(value),
        Ok(Line::Refused(Refused { exit: 78, message })) => Err(Failure::Configuration(message)),
        Ok(Line::Refused(refused)) => Err(Failure::Refused(refused.message)),
        Ok(Line::Say(_)) => Err(Failure::Refused("the server ended before it had answered".to_owned())),
        Err(error) if is_nobody(&error) => Err(nobody()),
        Err(error) => {
            Err(Failure::Unreachable(format!("the server at {} does not answer: {error:#}", socket.display())))
        }
    }
}

/// The socket of a server that is gone: no file, or a file nobody listens on.
fn is_nobody(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| matches!(io.kind(), ConnectionRefused | NotFound))
}

/// One exchange; gives the last line. Must run inside a `LocalSet`.
pub async fn exchange(socket: &Path, command: &Command, mut say: impl FnMut(&str)) -> anyhow::Result<Line> {
    let stream = UnixStream::connect(socket).await.context("cannot connect")?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    let request = Request::post(command.path())
        .header(hyper::header::HOST, "mainstay")
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(command.body()?)))?;
    let response = sender.send_request(request).await.context("no answer")?;
    let status = response.status();
    let mut body = response.into_body();
    let mut pending = BytesMut::new();
    let mut last = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("the answer broke off")?.into_data() else { continue };
        pending.extend_from_slice(&data);
        anyhow::ensure!(pending.len() <= LINE_MAX_BYTES, "the answer has a line larger than 16 MiB");
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line = pending.split_to(end + 1);
            if !status.is_success() {
                return Ok(Line::Refused(serde_json::from_slice(&line).context("not an answer of ours")?));
            }
            match serde_json::from_slice(&line).context("not an answer of ours")? {
                Line::Say(text) => say(&text),
                end => last = Some(end),
            }
        }
    }
    last.context("the server ended before it had answered")
}
