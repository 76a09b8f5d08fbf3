//! A request for a file, and the answer to it.

use super::condition::{Decision, date, decide, range_counts};
use super::kind::{YEAR_S, content_type, is_immutable};
use super::name::{file_of, folder_path};
use super::reader::{Content, Found, Look, PIECE_BYTES, Reader, Wanted};
use super::{Files, condition};
use crate::core::Core;
use crate::fields::{Fields, Name};
use crate::message::{RequestHead, ResponseHead};
use crate::proxy::Refusal;
use crate::range::{Part, part};
use crate::respond::accept::{Coding, acceptable};
use crate::respond::compress::is_text;
use crate::respond::vary;
use bytes::Bytes;
use http::Method;
use mainstay_telemetry::Verdict;
use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The answer's body.
#[derive(Debug)]
pub enum Sent {
    Bytes(Bytes),
    Large(Streaming),
}

/// The answer from the folder; `None`: the app's to give.
pub async fn serve(
    core: &Core,
    files: &Files,
    head: &RequestHead,
    page: bool,
) -> Result<Option<(Box<ResponseHead>, Sent)>, Refusal> {
    let nobody = || if files.to_app { Ok(None) } else { Err(Verdict::NoRoute.into()) };
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return nobody();
    }
    let name = file_of(head.path(), files.strip.as_deref(), files.well_known);
    let Some(name) = name else { return nobody() };
    let accepted = acceptable(head.fields.tokens(Name::AcceptEncoding), &Coding::ALL);
    let index = name.is_empty() || name.ends_with('/');
    let name = if index { format!("{name}index.html") } else { name };
    match look(core, files, &name, &accepted).await? {
        Look::File(found) => return Ok(Some(answer(core, files, head, &name, &found))),
        Look::Folder => {
            let index = format!("{name}/index.html");
            if let Look::File(_) = look(core, files, &index, &accepted).await? {
                return Ok(Some(to_folder(head)));
            }
        }
        Look::Nothing => {}
    }
    if files.spa
        && page
        && let Look::File(found) = look(core, files, "index.html", &accepted).await?
    {
        let (mut answered, sent) = answer(core, files, head, "index.html", &found);
        // A script that asks for the same address gets something else.
        vary(&mut answered.fields, "Sec-Fetch-Mode");
        vary(&mut answered.fields, "Accept");
        return Ok(Some((answered, sent)));
    }
    nobody()
}

async fn look(core: &Core, files: &Files, name: &str, accepted: &[Coding]) -> Result<Look, Refusal> {
    let codings = if is_text(content_type(name).as_bytes()) { accepted.to_vec() } else { Vec::new() };
    let wanted = Wanted { folder: files.folder.as_path().into(), name: name.to_owned(), codings };
    let looked = core.shared.files.look(wanted, core.now_ms()).await;
    looked.ok_or(Refusal { retry_after: Some(1), ..Verdict::ServiceBusy.into() })
}

/// Links in a page of a folder are relative to it only behind a `/`.
fn to_folder(head: &RequestHead) -> (Box<ResponseHead>, Sent) {
    let mut answered = Box::new(ResponseHead::new(308));
    let query = head.query().map_or(String::new(), |q| format!("?{q}"));
    answered.fields.add(Name::Location, format!("{}{query}", folder_path(head.path())).as_bytes());
    answered.fields.set(Name::ContentLength, b"0");
    (answered, Sent::Bytes(Bytes::new()))
}

fn answer(core: &Core, files: &Files, head: &RequestHead, name: &str, found: &Found) -> (Box<ResponseHead>, Sent) {
    let now_s = i64::try_from(core.unix_us(core.now_us()) / 1_000_000).unwrap_or(0);
    let mut answered = Box::new(ResponseHead::new(200));
    let none = |answered| (answered, Sent::Bytes(Bytes::new()));
    describe(&mut answered.fields, files, name, found, now_s);
    match decide(&head.fields, &found.state) {
        Decision::Send => {}
        Decision::NotModified => {
            answered.status = 304;
            return none(answered);
        }
        Decision::Failed => {
            answered = Box::new(ResponseHead::new(412));
            answered.fields.set(Name::ContentLength, b"0");
            return none(answered);
        }
    }
    let size = found.state.size;
    let range = head.fields.find("range").filter(|_| head.method == Method::GET);
    let part = part(range.filter(|_| range_counts(&head.fields, &found.state)), size);
    let (from, length) = match part {
        Part::Whole => (0, size),
        Part::Some { from, size: length } => {
            answered.status = 206;
            answered.fields.push(b"Content-Range", format!("bytes {from}-{}/{size}", from + length - 1).as_bytes());
            (from, length)
        }
        Part::None => {
            answered = Box::new(ResponseHead::new(416));
            answered.fields.push(b"Content-Range", format!("bytes */{size}").as_bytes());
            answered.fields.set(Name::ContentLength, b"0");
            return none(answered);
        }
    };
    answered.fields.add(Name::ContentType, content_type(name).as_bytes());
    if let Some(coding) = found.coding {
        answered.fields.add(Name::ContentEncoding, coding.name().as_bytes());
    }
    answered.fields.set(Name::ContentLength, length.to_string().as_bytes());
    if head.method == Method::HEAD {
        return none(answered);
    }
    let sent = match &found.content {
        Content::Whole(bytes) => {
            let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
            let to = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(from).min(bytes.len());
            Sent::Bytes(bytes.slice(from..to))
        }
        Content::Large(file) => Sent::Large(Streaming::new(core.shared.files.clone(), file.clone(), from, length)),
    };
    (answered, sent)
}

/// What a 304 tells as well.
fn describe(fields: &mut Fields, files: &Files, name: &str, found: &Found, now_s: i64) {
    fields.push(b"ETag", found.state.tag().as_bytes());
    if let Some(modified) = found.state.modified() {
        fields.push(b"Last-Modified", modified.as_bytes());
    }
    fields.push(b"Accept-Ranges", b"bytes");
    if is_text(content_type(name).as_bytes()) {
        vary(fields, "Accept-Encoding");
    }
    if is_immutable(name, files.immutable) {
        fields.add(Name::CacheControl, b"public, max-age=31536000, immutable");
        if let Some(expires) = condition::date(now_s + YEAR_S) {
            fields.push(b"Expires", expires.as_bytes());
        }
    } else {
        // Kept, and asked about each time: 304 costs nothing, and a new deployment is seen at once.
        fields.add(Name::CacheControl, b"no-cache");
    }
    if let Some(now) = date(now_s) {
        fields.add(Name::Date, now.as_bytes());
    }
}

type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>>>>;

/// A large file on its way, one piece at a time.
pub struct Streaming {
    reader: Reader,
    file: Arc<File>,
    at: u64,
    left: u64,
    reading: Option<Reading>,
}

impl std::fmt::Debug for Streaming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streaming").field("at", &self.at).field("left", &self.left).finish_non_exhaustive()
    }
}

impl Streaming {
    fn new(reader: Reader, file: Arc<File>, at: u64, left: u64) -> Streaming {
        Streaming { reader, file, at, left, reading: None }
    }

    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next piece; an error too where the file has become shorter than was promised.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let (reader, file, at) = (&self.reader, &self.file, self.at);
        let reading = self.reading.get_or_insert_with(|| Box::pin(reader.clone().read(file.clone(), at, size)));
        let piece = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        let piece = piece?;
        if piece.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.at += piece.len() as u64;
        self.left -= (piece.len() as u64).min(self.left);
        Poll::Ready(Ok(piece))
    }
}
