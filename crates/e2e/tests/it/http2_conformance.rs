//! HTTP/2 by the letter: a case for each MUST of RFC 9113 that a server owes, of RFC 7541 (HPACK) and of RFC 8441
//! (WebSockets) too. Each says what is sent, what the RFC owes, and, where something else comes, what and why that is
//! borne: an exception that is none any more fails as well.
//!
//! A malformed request never reaches the app, which counts what reaches it.

mod answers;
mod connection;
mod flow;
mod messages;
mod packing;
mod streams;

use crate::support::in_front_of;
use mainstay_e2e::frames::{Client, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Next, PROTOCOL_ERROR, RST_STREAM, frame};
use mainstay_e2e::hpack::block;
use mainstay_e2e::{Mainstay, Peer, Setup};

/// The stream that is judged, unless the case says another.
const JUDGED: u32 = 1;
/// A request that follows each case: where the connection is to go on, it is answered.
const AFTER: u32 = 1001;

/// What the RFC owes a client that sends this.
#[derive(Clone, Copy, Debug)]
enum Owed {
    /// A connection error (§5.4.1).
    Connection(u32),
    /// A stream error (§5.4.2), which a server may treat as a connection error.
    Stream(u32),
    /// The head is malformed (§8.1.1): a stream error, or a refusal in its place. Nothing of it reaches the app.
    Malformed,
    /// The body is, or what follows it: the app may have begun to read, and never sees a whole request.
    MalformedBody,
    Served,
    /// An answer that is no success.
    Refused,
    /// Nothing at all, and the connection goes on.
    Nothing,
    OneOf(&'static [Came]),
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// A GOAWAY with this code, then the end.
    GoneAway(u32),
    /// The end without a word.
    Ended,
    Reset(u32),
    Answered(u16),
    Nothing,
}

impl Owed {
    fn allows(self, came: Came) -> bool {
        match (self, came) {
            (Owed::Connection(code), Came::GoneAway(sent)) => code == sent,
            (Owed::Stream(code), Came::Reset(sent) | Came::GoneAway(sent)) => code == sent,
            (Owed::Malformed | Owed::MalformedBody, Came::Reset(sent) | Came::GoneAway(sent)) => sent == PROTOCOL_ERROR,
            (Owed::Malformed | Owed::MalformedBody, Came::Answered(status)) => (400..500).contains(&status),
            (Owed::Served, Came::Answered(status)) => status == 200,
            (Owed::Refused, Came::Answered(status)) => status >= 400,
            (Owed::Nothing, Came::Nothing) => true,
            (Owed::OneOf(all), came) => all.contains(&came),
            _ => false,
        }
    }
}

type Bytes = fn(&Asking) -> Vec<u8>;

/// One case.
#[derive(Debug)]
struct Case {
    section: &'static str,
    name: &'static str,
    /// Sent first; what is judged follows its answer.
    first: Option<Bytes>,
    sends: Bytes,
    owed: Owed,
    /// Comes instead, and why that is borne.
    but: Option<(Came, &'static str)>,
    /// The client says no preface but what it sends.
    bare: bool,
    /// However it ends, the app sees nothing of it.
    unseen: bool,
    /// The app may see the beginning and never the whole of it.
    half: bool,
    /// An exception by which what is malformed is served, without what made it so.
    seen: bool,
    stream: u32,
}

fn case(section: &'static str, name: &'static str, owed: Owed, sends: Bytes) -> Case {
    let unseen = matches!(owed, Owed::Malformed);
    Case {
        section,
        name,
        first: None,
        sends,
        owed,
        but: None,
        bare: false,
        unseen,
        half: false,
        seen: false,
        stream: JUDGED,
    }
}

impl Case {
    fn but(mut self, came: Came, reason: &'static str) -> Case {
        self.but = Some((came, reason));
        self
    }

    fn after(mut self, first: Bytes) -> Case {
        self.first = Some(first);
        self
    }

    fn bare(mut self) -> Case {
        self.bare = true;
        self
    }

    fn unseen(mut self) -> Case {
        self.unseen = true;
        self
    }

    fn half(mut self) -> Case {
        self.half = true;
        self
    }

    fn seen(mut self) -> Case {
        self.seen = true;
        self
    }

    /// Something is to come on the stream that is judged.
    fn answers(&self) -> bool {
        match self.but {
            Some((came, _)) => matches!(came, Came::Answered(_) | Came::Reset(_)),
            None => !matches!(self.owed, Owed::Connection(_) | Owed::Nothing),
        }
    }

    fn on(mut self, stream: u32) -> Case {
        self.stream = stream;
        self
    }
}

/// A case's requests, told from all others by a field.
#[derive(Debug)]
struct Asking {
    mark: String,
}

impl Asking {
    /// A block of these fields, in this order.
    fn block(&self, fields: &[(&str, &str)]) -> Vec<u8> {
        block(&[fields, &[("x-case", &self.mark)]].concat())
    }

    /// The block of an ordinary request with further fields.
    fn with(&self, method: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let pseudo = [(":method", method), (":scheme", "http"), (":path", "/case"), (":authority", "a.example")];
        self.block(&[&pseudo[..], more].concat())
    }

    /// A whole request.
    fn get(&self, stream: u32) -> Vec<u8> {
        frame(HEADERS, END_STREAM | END_HEADERS, stream, &self.with("GET", &[]))
    }

    /// The same with further fields, on the stream that is judged.
    fn get_with(&self, more: &[(&str, &str)]) -> Vec<u8> {
        frame(HEADERS, END_STREAM | END_HEADERS, JUDGED, &self.with("GET", more))
    }

    /// The same of these fields alone.
    fn only(&self, fields: &[(&str, &str)]) -> Vec<u8> {
        frame(HEADERS, END_STREAM | END_HEADERS, JUDGED, &self.block(fields))
    }

    /// The head of a request whose body is to follow.
    fn post(&self, stream: u32) -> Vec<u8> {
        self.post_with(stream, &[])
    }

    fn post_with(&self, stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
        frame(HEADERS, END_HEADERS, stream, &self.with("POST", more))
    }
}

/// A file, so that `why` has one; the app mirrors.
fn started() -> (Peer, Mainstay) {
    let peer = Peer::mirror();
    let mainstay = Setup::file(&in_front_of(&[&peer])).ready("/");
    (peer, mainstay)
}

/// Runs a table; all its faults are told at once.
#[track_caller]
fn hold(cases: &[Case]) {
    let (peer, mainstay) = started();
    let mut faults = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let ask = Asking { mark: format!("case-{number}.") };
        let title = format!("§{} {}", case.section, case.name);
        match drive(&mainstay, case, &ask) {
            Err(fault) => faults.push(format!("{title}: {fault}")),
            Ok(came) => {
                println!("{title}: {came:?}{}", case.but.map(|(_, why)| format!(" ({why})")).unwrap_or_default());
                faults.extend(judge(case, came).map(|fault| format!("{title}: {fault}")));
            }
        }
    }
    // After all of them, so that what was on its way has had the time to get there.
    for (number, case) in cases.iter().enumerate() {
        let mark = format!("case-{number}.");
        let seen = match case.owed {
            _ if case.seen => 0,
            _ if case.half => peer.holding(&mark).len(),
            _ if case.unseen => peer.raw_holding(&mark).len(),
            Owed::MalformedBody => peer.holding(&mark).len(),
            _ => 0,
        };
        if seen > 0 {
            faults.push(format!("§{} {}: it reached the app {seen} times", case.section, case.name));
        }
        if matches!(case.owed, Owed::Served) && case.but.is_none() && peer.holding(&mark).is_empty() {
            faults.push(format!("§{} {}: it did not reach the app", case.section, case.name));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(!mainstay.said().contains("panicked"), "{}", mainstay.said());
}

fn judge(case: &Case, came: Came) -> Option<String> {
    match case.but {
        Some((expected, _)) if came != expected => Some(format!("{came:?} came, the exception says {expected:?}")),
        Some(_) if case.owed.allows(came) => Some(format!("{came:?} is what is owed: it is no exception")),
        None if !case.owed.allows(came) => Some(format!("{came:?} came, {:?} is owed", case.owed)),
        _ => None,
    }
}

/// One case on a connection of its own, a request behind it.
fn drive(mainstay: &Mainstay, case: &Case, ask: &Asking) -> Result<Came, String> {
    let mut client = Client::silent(mainstay.edge());
    if !case.bare {
        client.greet(&[]);
    }
    if let Some(first) = case.first {
        client.send(&first(ask));
        let answer = client.answer(case.stream);
        if answer.status() != 200 {
            return Err(format!("what is sent first is not served: {answer:?}"));
        }
    }
    client.send(&[(case.sends)(ask), get(AFTER, "/after")].concat());
    let (mut came, mut status, mut after) = (None, 0, false);
    while !after || came.is_none() && case.answers() {
        let frame = match client.read() {
            Next::Frame(frame) => frame,
            Next::End => return Ok(Came::Ended),
            Next::Silence => return Err(format!("no more comes; so far {came:?}, the request behind it: {after}")),
        };
        match frame.kind {
            GOAWAY => return gone(&mut client, frame.number(1)),
            HEADERS => {
                let fields = client.heads.read(&frame.payload)?;
                let told = fields.iter().find(|(name, _)| name == ":status").and_then(|(_, text)| text.parse().ok());
                if frame.stream == AFTER && told != Some(200) {
                    return Err(format!("the request behind it: {fields:?}"));
                }
                status = if frame.stream == case.stream { told.unwrap_or(status) } else { status };
            }
            RST_STREAM if frame.stream == case.stream => came = came.or(Some(Came::Reset(frame.number(0)))),
            RST_STREAM if frame.stream == AFTER => return Err(format!("the request behind it is reset: {frame:?}")),
            _ => {}
        }
        if frame.ends_stream() {
            after |= frame.stream == AFTER;
            came = came.or((frame.stream == case.stream).then_some(Came::Answered(status)));
        }
    }
    Ok(came.unwrap_or(Came::Nothing))
}

/// Behind a GOAWAY that tells of an error the connection ends (§5.4.1).
fn gone(client: &mut Client, code: u32) -> Result<Came, String> {
    loop {
        match client.read() {
            Next::End => return Ok(Came::GoneAway(code)),
            Next::Silence => return Err(format!("GOAWAY with {code}, and then no end")),
            Next::Frame(_) => {}
        }
    }
}

/// A request of this path.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a.example")];
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(&fields))
}

/// The head of a request of this path, whose body is to follow.
fn post(stream: u32, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a.example")];
    frame(HEADERS, END_HEADERS, stream, &block(&[&fields[..], more].concat()))
}
