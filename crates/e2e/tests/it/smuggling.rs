//! Request smuggling: a corpus of requests that two servers could read in two ways, sent through the real binary to
//! six real servers. Nothing is seen by an app that the edge did not pass on, nothing otherwise than the edge read it,
//! and nobody gets what was meant for another.
//!
//! The edge runs on one core, so that requests in a row share one connection to the server. Every request the edge
//! passes on carries the id it gave it; what a server believes to have got without such an id, or with another
//! method, target or body than RFC 9112 makes of the item, is a desync. Behind each item a marked request of another
//! client must get its own answer.

use crate::smuggling_corpus::{self as corpus, Then, Want};
use crate::smuggling_http2 as http2;
use crate::support::on_one_core;
use mainstay_e2e::frames::{Client, DATA, GOAWAY, Next, RST_STREAM};
use mainstay_e2e::wire::find;
use mainstay_e2e::{Connection, Fault, Kind, Mainstay, Record, Recorder, Response, poll};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What became of an item's requests, counted.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    refused: usize,
    passed: usize,
    /// Passed, and refused by the server itself.
    declined: usize,
    /// Never whole.
    half: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passed,
    Declined,
    Refused,
}

/// Method and path by id.
type Log = HashMap<String, (String, String)>;

/// One server behind one edge, and what was said on both sides.
struct Run {
    mainstay: Mainstay,
    recorder: Recorder,
    /// By id: the item, and what the server must have seen.
    asked: HashMap<String, (String, Want)>,
    /// Ids that a server answered with its own record of them.
    echoed: HashSet<String>,
    /// By target, what a server may have seen under an id that no client learnt.
    unlearnt: HashMap<String, Want>,
    /// By target, items that break off: a server may have seen the beginning, and nothing else on that connection.
    begun: HashMap<String, Want>,
    tally: BTreeMap<&'static str, Tally>,
    faults: Vec<String>,
}

/// The same text, whether it was written as bytes or as what they mean.
fn is_same(one: &str, other: &str) -> bool {
    let bytes = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>();
    let is_read_as = |one: &str, other: &str| bytes(one).is_some_and(|bytes| bytes == other.as_bytes());
    one == other || is_read_as(one, other) || is_read_as(other, one)
}

fn is_what(record: &Record, want: &Want) -> bool {
    want.method == record.method && want.body == record.body && is_same(&record.target, &want.target)
}

/// As far as it was sent: a server may give its app the beginning of a body that breaks off, as gunicorn does.
fn is_start(record: &Record, sent: &Want) -> bool {
    sent.method == record.method && sent.body.starts_with(&record.body)
}

impl Run {
    fn new(kind: Kind) -> Run {
        let recorder = Recorder::start(kind);
        let text = format!("[app.main]\nupstreams = [\"{}\"]\nmax_fails = 0\n", recorder.address());
        let mainstay = on_one_core(&text, "/recorder-is-there");
        Run {
            mainstay,
            recorder,
            asked: HashMap::new(),
            echoed: HashSet::new(),
            unlearnt: HashMap::new(),
            begun: HashMap::new(),
            tally: BTreeMap::new(),
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, name: &str, what: impl std::fmt::Display) {
        self.faults.push(format!("{}: {name}: {what}", self.recorder.kind.name()));
    }

    fn connect(&self) -> Connection {
        Connection::open(self.mainstay.edge()).expect("connect")
    }

    /// Sends an item, judges every answer to it, and then asks as somebody else.
    fn item(&mut self, item: &corpus::Item) {
        let mut connection = self.connect();
        // It may be refused before all of it is sent.
        let _ = connection.send(&item.bytes);
        let fates = self.answers(item, &mut connection);
        drop(connection);
        let tally = self.tally.entry(item.class).or_default();
        match (item.then, &fates[..]) {
            (Then::Waits, _) => tally.half += 1,
            (_, [] | [Fate::Refused, ..]) => tally.refused += 1,
            (_, fates) if fates.contains(&Fate::Declined) => tally.declined += 1,
            _ => tally.passed += 1,
        }
        self.marker(&item.name);
    }

    fn answers(&mut self, item: &corpus::Item, connection: &mut Connection) -> Vec<Fate> {
        let mut fates = Vec::new();
        for want in &item.wants {
            let fate = match connection.response(want.method == "HEAD") {
                Ok(response) => self.judge(&item.name, want, &response),
                Err(_) if fates.contains(&Fate::Declined) => return fates,
                Err(fault) => Err(format!("no answer to {want:?}: {fault:?}")),
            };
            match fate {
                Ok(Fate::Refused) if item.then == Then::Maybe && fates.is_empty() => {
                    self.ends(&item.name, connection);
                    return vec![Fate::Refused];
                }
                Ok(Fate::Refused) => self.fault(&item.name, format!("{want:?} was refused")),
                Ok(fate) => fates.push(fate),
                Err(what) => {
                    self.fault(&item.name, what);
                    return fates;
                }
            }
        }
        match item.then {
            Then::Refused(status) => self.refused(&item.name, status, connection),
            Then::Closed => self.ends(&item.name, connection),
            Then::Waits => {
                let head = item.bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(item.bytes.len(), |end| end + 4);
                let target = format!("/{}", item.name);
                let begun = Want { method: "POST".to_owned(), target, body: item.bytes[head..].to_vec() };
                self.begun.insert(begun.target.clone(), begun);
            }
            Then::Open | Then::Maybe => self.goes_on(&item.name, fates.contains(&Fate::Declined), connection),
        }
        fates
    }

    /// Judges one answer: the edge's own, the app's, or what the server itself said.
    fn judge(&mut self, name: &str, want: &Want, response: &Response) -> Result<Fate, String> {
        let id = response.id();
        if id.is_empty() {
            return Ok(Fate::Refused);
        }
        let ours = find(&response.headers, "content-type") == Some("application/problem+json");
        let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
        let code = json["code"].as_str().unwrap_or_default();
        if ours && !code.starts_with("upstream_") {
            return Ok(Fate::Refused);
        }
        if self.asked.insert(id.clone(), (name.to_owned(), want.clone())).is_some() {
            return Err(format!("the id {id} was given twice"));
        }
        let Some(ids) = json["ids"].as_array() else {
            // A HEAD, or an error of the server's own.
            return Ok(if response.status == 200 { Fate::Passed } else { Fate::Declined });
        };
        if ids.iter().map(|i| i.as_str()).ne([Some(id.as_str())]) {
            return Err(format!("the answer to {want:?} is {ids:?}, the id {id}"));
        }
        self.echoed.insert(id);
        Ok(Fate::Passed)
    }

    /// The edge says so, and says nothing more.
    fn refused(&mut self, name: &str, status: u16, connection: &mut Connection) {
        match connection.response(false) {
            Ok(response) if response.status == status && !response.text().contains("\"ids\"") => {
                self.ends(name, connection);
            }
            Ok(response) => self.fault(name, format!("{status} expected: {}{}", response.head, response.text())),
            Err(fault) => self.fault(name, format!("{status} expected: {fault:?}")),
        }
    }

    fn ends(&mut self, name: &str, connection: &mut Connection) {
        match connection.response(false) {
            Err(Fault::Closed) => {}
            other => self.fault(name, format!("the connection goes on: {other:?}")),
        }
    }

    /// The same connection serves one more, and that one alone.
    fn goes_on(&mut self, name: &str, may_end: bool, connection: &mut Connection) {
        let want = Want { method: "GET".to_owned(), target: format!("/end-{name}"), body: Vec::new() };
        let _ = connection.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", want.target).as_bytes());
        match connection.response(false) {
            Ok(response) => match self.judge(name, &want, &response) {
                Ok(Fate::Passed) => {}
                other => self.fault(name, format!("behind it: {other:?} {}", response.head)),
            },
            Err(Fault::Closed) if may_end => {}
            Err(fault) => self.fault(name, format!("nothing is served behind it: {fault:?}")),
        }
    }

    /// Somebody else asks: the answer is his.
    fn marker(&mut self, name: &str) {
        let want = Want { method: "GET".to_owned(), target: format!("/marker-{name}"), body: Vec::new() };
        let mut connection = self.connect();
        connection.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", want.target).as_bytes()).expect("send");
        match connection.response(false) {
            Ok(response) => match self.judge(name, &want, &response) {
                Ok(Fate::Passed) if response.status == 200 => {}
                other => self.fault(name, format!("the marker behind it: {other:?} {}", response.head)),
            },
            Err(fault) => self.fault(name, format!("the marker behind it: {fault:?}")),
        }
    }

    /// The same over HTTP/2.
    fn stream(&mut self, item: &http2::Item) {
        let mut frames = Client::open(self.mainstay.edge(), &[]);
        frames.send(&item.bytes);
        self.begun.extend(item.begun.clone().map(|want| (want.target.clone(), want)));
        let tally = self.tally.entry(item.class).or_default();
        if item.half {
            tally.half += 1;
            drop(frames);
            return self.marker(&item.name);
        }
        let body = answered(&mut frames).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let id = json["ids"][0].as_str().map(str::to_owned);
        if let (None, Some(want)) = (&id, &item.want) {
            self.unlearnt.insert(want.target.clone(), want.clone());
        }
        match (id, &item.want) {
            (Some(id), Some(want)) => {
                tally.passed += 1;
                self.asked.insert(id.clone(), (item.name.clone(), want.clone()));
                self.echoed.insert(id);
            }
            (Some(_), None) => self.fault(&item.name, "it reached the app"),
            (None, _) if item.may_refuse => tally.refused += 1,
            // Unless the server itself had something against it.
            (None, _) if json["code"].is_null() && !body.is_empty() => tally.declined += 1,
            (None, _) => self.fault(&item.name, format!("it was refused: {}", String::from_utf8_lossy(&body))),
        }
        self.marker(&item.name);
    }

    /// What the server believes to have got is what the edge says it passed on.
    fn compare(&mut self) {
        let (recorder, echoed) = (&self.recorder, &self.echoed);
        let written = poll(mainstay_e2e::BOUND, || {
            let seen: HashSet<String> = recorder.records().into_iter().flat_map(|r| r.ids).collect();
            echoed.is_subset(&seen).then_some(())
        });
        if written.is_none() {
            self.fault("all", "the server answered what it has no record of");
        }
        let log = self.log();
        let mut seen: HashMap<String, Record> = HashMap::new();
        for record in self.recorder.records() {
            let trouble = match record.refused {
                Some(_) => self.compare_refused(&record, &log),
                None => self.compare_one(&record, &log, &seen),
            };
            if let Err(what) = trouble {
                self.fault("desync", format!("{what}: {record:?}"));
            }
            record.ids.first().map(|id| seen.insert(id.clone(), record.clone()));
        }
    }

    fn compare_one(&self, record: &Record, log: &Log, seen: &HashMap<String, Record>) -> Result<(), String> {
        // Asked before the edge was there, and by it, to see whether the server lives.
        let probes = ["/recorder-is-there", "/health", "/"];
        if record.ids.is_empty() && record.method == "GET" && probes.contains(&record.target.as_str()) {
            return Ok(());
        }
        let [id] = &record.ids[..] else { return Err("a request that nobody passed on".to_owned()) };
        self.is_logged(id, &record.method, &record.target, log)?;
        // A connection that died under it: what is safe to repeat is repeated, with its id.
        let repeated = seen.get(id).is_some_and(|before| before.refused.is_none());
        if repeated && record.method == "POST" {
            return Err("it came twice".to_owned());
        }
        match self.asked.get(id) {
            Some((name, want)) => {
                if is_what(record, want) {
                    Ok(())
                } else {
                    Err(format!("{name} is {want:?}"))
                }
            }
            None if record.target == "/recorder-is-there" => Ok(()),
            None if self.unlearnt.get(&record.target).is_some_and(|want| is_what(record, want)) => Ok(()),
            None if self.begun.get(&record.target).is_some_and(|whole| is_start(record, whole)) => {
                let mut later = self.recorder.records().into_iter().skip_while(|r| r.ids != record.ids).skip(1);
                match later.any(|r| r.port == record.port && r.port != 0) {
                    true => Err("it broke off, and its connection was used again".to_owned()),
                    false => Ok(()),
                }
            }
            None => Err("no client asked for it".to_owned()),
        }
    }

    /// The access log has it so.
    fn is_logged(&self, id: &str, method: &str, target: &str, log: &Log) -> Result<(), String> {
        let path = target.split('?').next().unwrap_or_default();
        match log.get(id) {
            // A long path is cut there, and a method nobody knows has no name.
            Some((logged_method, logged))
                if (logged_method == method || logged_method == "OTHER")
                    && (is_same(path, logged) || logged.len() > 200) =>
            {
                Ok(())
            }
            other => Err(format!("the access log says {other:?}")),
        }
    }

    /// A server may refuse what it was sent; never what nobody sent.
    fn compare_refused(&self, record: &Record, log: &Log) -> Result<(), String> {
        let line = record.refused.as_deref().unwrap_or_default();
        if let [id] = &record.ids[..] {
            let mut words = line.split(' ');
            let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let known = self.asked.contains_key(id);
            return if known { Ok(()) } else { self.is_logged(id, method, target, log) };
        }
        // It read no further than the first line.
        let is_of = |(name, want): &(String, Want)| {
            line.starts_with(&format!("{} ", want.method)) && (line.contains(name) || want.target == "*")
        };
        match self.asked.values().any(is_of) {
            true => Ok(()),
            false => Err("the server refused what nobody sent".to_owned()),
        }
    }

    /// Method and path by id, of the access log.
    fn log(&self) -> Log {
        let lines = |text: &str| {
            let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let text = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
            lines
                .filter(|line| line["kind"] == "access")
                .map(|line| (text(&line, "requestId"), (text(&line, "method"), text(&line, "path"))))
                .collect::<HashMap<_, _>>()
        };
        let mut found = HashMap::new();
        let complete = poll(mainstay_e2e::BOUND, || {
            found = lines(&self.mainstay.verb(&["logs", "--json", "--tail", "1000000"]).out);
            self.asked.keys().all(|id| found.contains_key(id)).then_some(())
        });
        assert!(complete.is_some(), "not every request stands in the access log");
        found
    }

    /// How many items' connections to the server served the marker behind them, too.
    fn shared(&self) -> usize {
        let ports: HashMap<String, u64> =
            self.recorder.records().into_iter().map(|record| (record.target, record.port)).collect();
        let names = ports.iter().filter_map(|(target, port)| Some((target.strip_prefix("/marker-")?, port)));
        names.filter(|(name, port)| ports.get(&format!("/{name}")) == Some(port)).count()
    }
}

/// Everything through one server.
fn judged(kind: Kind) -> (Kind, BTreeMap<&'static str, Tally>, usize, Vec<String>) {
    let mut run = Run::new(kind);
    corpus::all().iter().for_each(|item| run.item(item));
    http2::all().iter().for_each(|item| run.stream(item));
    run.compare();
    let shared = run.shared();
    (kind, run.tally, shared, run.faults)
}

#[test]
fn no_request_is_read_by_an_app_otherwise_than_by_the_edge() {
    let (items, streams) = (corpus::all(), http2::all());
    let names: HashSet<&str> =
        items.iter().map(|i| i.name.as_str()).chain(streams.iter().map(|i| i.name.as_str())).collect();
    assert_eq!(names.len(), items.len() + streams.len(), "an item has the name of another");
    let columns: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = Kind::ALL.iter().map(|kind| scope.spawn(|| judged(*kind))).collect();
        runs.into_iter().map(|run| run.join().expect("a run")).collect()
    });
    println!("refused at the edge / passed and agreed / passed and refused by the server / never whole");
    print!("{:22}", "class");
    columns.iter().for_each(|(kind, ..)| print!("{:>18}", kind.name()));
    for class in columns.iter().flat_map(|(_, tally, ..)| tally.keys()).collect::<std::collections::BTreeSet<_>>() {
        print!("\n{class:22}");
        for (_, tally, ..) in &columns {
            let Tally { refused, passed, declined, half } = tally.get(class).copied().unwrap_or_default();
            print!("{:>18}", format!("{refused}/{passed}/{declined}/{half}"));
        }
    }
    println!("\n{} items over HTTP/1, {} over HTTP/2", items.len(), streams.len());
    let faults: Vec<&String> = columns.iter().flat_map(|(.., faults)| faults).collect();
    let lines: Vec<String> = faults.iter().map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), lines.join("\n"));
    // Else the markers would show nothing.
    for (kind, _, shared, _) in &columns {
        assert!(*shared > 50, "{}: only {shared} markers went the way of the item before them", kind.name());
    }
}

/// The body of the first stream's answer; `None` where the stream or the connection was ended instead.
fn answered(client: &mut Client) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Next::Frame(frame) = client.read() {
        match frame.kind {
            GOAWAY => return None,
            RST_STREAM if frame.stream == 1 => return None,
            DATA if frame.stream == 1 => body.extend_from_slice(&frame.payload),
            _ => {}
        }
        if frame.stream == 1 && frame.ends_stream() {
            return Some(body);
        }
    }
    None
}
