//! What happened, written down: the journal of this server, open from the moment it owns the data folder until it lets
//! go as the first act of its end.
//!
//! It is never needed in order to serve: a store that is away is said once, and tried again.

mod noticed;

use crate::control::{JournalAsked, Refused, Say};
use crate::operate::OPERATOR;
use crate::reload;
use crate::server::Server;
use crate::settings;
use crate::stores::{self, Store};
use crate::voice::Voice;
use mainstay_limits::bans::{Banned, Reason};
use mainstay_runtime::{OnEnd, Shutdown, Tasks, Trigger};
use mainstay_store::journal::{Class, Event, Journal, Notes, Query, Writer};
use mainstay_store::{Durable, Options};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two attempts to open a store that is away.
const OPEN_EVERY: Duration = Duration::from_secs(10);
/// A server that ends does not wait longer than this for its journal; a successor waits 2 s for the file.
const CLOSE_LIMIT: Duration = Duration::from_millis(1500);
/// Where nobody says how many.
const SHOWN: u32 = 100;
/// An operator waits for a store that hangs no longer than this.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// The journal as the rest of the server holds it.
pub struct Book {
    pub notes: Notes,
    options: Options,
    end: RefCell<Option<Trigger>>,
    closed: watch::Sender<bool>,
    /// For the blocks that keep something.
    pub store: watch::Sender<Store>,
}

/// What the task of the journal starts from.
pub struct Opening {
    writer: Writer,
    shutdown: Shutdown,
    options: Options,
    data: PathBuf,
}

impl Book {
    pub fn new(options: &Options, data: PathBuf) -> (Book, Opening) {
        let (notes, writer) = Notes::new();
        let (trigger, shutdown) = Shutdown::new();
        let (end, closed) = (RefCell::new(Some(trigger)), watch::Sender::new(false));
        let store = watch::Sender::new(Store::Opening);
        let book = Book { notes, options: options.clone(), end, closed, store };
        (book, Opening { writer, shutdown, options: options.clone(), data })
    }

    /// Whether these options name the store that this server has opened; a reload opens no other.
    pub fn is_on(&self, options: &Options) -> bool {
        self.options.durable.is_same(&options.durable)
    }

    /// What an operator did, for the audit.
    pub fn did(&self, action: &str, detail: String) {
        let event = Event::Admin { action: action.to_owned(), detail };
        self.notes.note(event, Some(OPERATOR.to_owned()));
    }

    pub fn options(&self) -> Options {
        self.options.clone()
    }

    /// Writes what was noted and lets go of the store. Idempotent.
    pub async fn close(&self) {
        let Some(trigger) = self.end.take() else { return };
        trigger.request();
        let mut closed = self.closed.subscribe();
        let _ = tokio::time::timeout(CLOSE_LIMIT, closed.wait_for(|closed| *closed)).await;
    }
}

/// Until the server ends or hands over. The first attempt that fails is said.
async fn keep(server: Rc<Server>, opening: Opening, voice: Voice) {
    let Opening { writer, shutdown, options, data } = opening;
    let mut is_said = false;
    let store = loop {
        let error = match Durable::open(&options, &data, &stores::BLOCKS).await {
            Ok(store) => break Some(store),
            Err(error) => error,
        };
        server.book.store.send_replace(Store::Away);
        if !std::mem::replace(&mut is_said, true) {
            voice.error(&format!("no journal is kept for now: {}", settings::chain(&error)));
        }
        if tokio::time::timeout(OPEN_EVERY, shutdown.requested()).await.is_ok() {
            break None;
        }
    };
    if let Some(store) = store {
        let journal = Journal::new(store.clone());
        server.book.store.send_replace(Store::Open(store.clone()));
        let say = |error: &mainstay_store::Error| {
            voice.error(&format!("the journal was not written: {}", settings::chain(error)));
        };
        writer.run(journal, shutdown, say).await;
        server.services.write_down().await;
        server.book.store.send_replace(Store::Closed);
        store.close().await;
    }
    server.book.closed.send_replace(true);
}

/// For `mainstay journal`.
pub async fn read(server: &Server, asked: &JournalAsked) -> Result<Value, Refused> {
    let query = Query {
        since_us: asked.since_us,
        kinds: asked.kinds.clone(),
        class: asked.class.as_deref().and_then(Class::parse),
        limit: if asked.limit == 0 { SHOWN } else { asked.limit },
        ..Query::default()
    };
    let mut store = server.book.store.subscribe();
    let reading = async {
        // A server that has just started opens it now.
        let store = store.wait_for(|store| matches!(store, Store::Open(_) | Store::Closed)).await;
        let Ok(Store::Open(store)) = store.as_deref().cloned() else { return Err(mainstay_store::Error::Closed) };
        let journal = Journal::new(store);
        server.book.notes.flush().await;
        journal.read(&query).await
    };
    let Ok(entries) = tokio::time::timeout(READ_LIMIT, reading).await else {
        return Err(Refused::new(format!(
            "the store of the journal did not answer within {READ_LIMIT:?}   see: mainstay logs --level error"
        )));
    };
    let entries = entries.map_err(|error| Refused::new(settings::chain(&error)))?;
    let entries: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({
                "id": entry.id, "at_us": entry.at_us, "last_us": entry.last_us, "count": entry.count,
                "class": entry.class.as_str(), "kind": entry.kind, "version": entry.version, "actor": entry.actor,
                "event": entry.payload, "text": entry.event().map(|event| event.line()),
            })
        })
        .collect();
    Ok(json!({ "entries": entries, "lost": server.book.notes.lost() }))
}

/// A reload, and what became of it.
pub async fn reload(server: &Server, say: &Say, actor: Option<&str>) -> Result<Value, Refused> {
    let outcome = reload::run(server, say).await;
    let event = match &outcome {
        Ok(answer) => {
            let changes = answer["changed"].as_array().cloned().unwrap_or_default();
            let changes: Vec<String> = changes.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect();
            (!changes.is_empty()).then_some(Event::Config { changes })
        }
        Err(refused) => Some(Event::ConfigRefused { why: first_line(&refused.message) }),
    };
    if let Some(event) = event {
        server.book.notes.note(event, actor.map(str::to_owned));
    }
    outcome
}

/// The rest stands in the log.
fn first_line(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let told = match first {
        "nothing was changed" => lines.next().unwrap_or(first),
        first => first,
    };
    told.chars().take(500).collect()
}

/// Bans that were not there before; `before` are clients with how often they were banned.
pub fn banned(notes: &Notes, before: &[(String, u32)], now: &[Banned]) {
    for ban in
        now.iter().filter(|ban| !before.iter().any(|(client, times)| *client == ban.client && *times == ban.times))
    {
        let reason = match &ban.reason {
            Reason::Operator => "by an operator".to_owned(),
            Reason::Offence(status, path) => format!("{status} {path}"),
        };
        notes.note(Event::Ban { client: ban.client.clone(), reason, seconds: ban.left_s }, None);
    }
}

/// Begins to write down what happens, how this server came to serve first. Not before it owns the data folder: what has
/// one owner was the other server's until then.
pub fn open(
    tasks: &Tasks,
    server: &Rc<Server>,
    (opening, crashed): (Opening, bool),
    voice: &Voice,
    watching: Shutdown,
) {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    let event = match server.upgrade.taken_from() {
        Some(from_pid) => Event::Upgraded { from_pid, version },
        None if crashed => Event::Replaced { version, pid },
        None => Event::Started { version, pid, environment: server.current.borrow().environment.clone() },
    };
    server.book.notes.note(event, None);
    tasks.spawn("journal", OnEnd::Ignore, keep(server.clone(), opening, voice.clone()));
    tasks.spawn("changes for the journal", OnEnd::Ignore, noticed::watch(server.clone(), watching));
}

/// The last word of a server that was told to stop.
pub async fn stopped(server: &Server) {
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    server.book.notes.note(Event::Stopped { version: env!("CARGO_PKG_VERSION").to_owned(), pid }, None);
    server.book.close().await;
}
