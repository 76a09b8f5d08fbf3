//! What became of single requests: notable ones in memory, the others in the log files.
//!
//! Kept as the access line itself, so that an answer from memory and one from a file are made alike.

use crate::json::key;
use crate::read::{Logs, Query};
use crate::time;
use crate::why::Entry;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// About 10 MiB when full, which takes as many refused, failed, retried, held or slow requests.
pub const TRAILS_MAX: usize = 20_000;
/// Fewer characters would be unique only by accident.
pub const SUFFIX_CHARS_MIN: usize = 3;
/// An ambiguous suffix is answered with some of the ids it fits.
const AMBIGUOUS_IDS_MAX: usize = 10;

/// How long after it has added a job a request may end and be found by that job.
const LATE_US: u64 = 10 * 60 * 1_000_000;

/// The newest notable requests.
#[derive(Debug, Default)]
pub struct Trails {
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    id: [u8; 26],
    line: Box<str>,
}

/// What a question for an id found.
#[derive(Debug, PartialEq)]
pub enum Found {
    None,
    One(Box<Entry>),
    /// The suffix fits several; these are some of them.
    Several(Vec<String>),
}

impl Trails {
    /// The oldest makes room.
    pub fn keep(&mut self, id: [u8; 26], line: &str) {
        if self.kept.len() >= TRAILS_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept { id, line: line.into() });
    }

    /// By whole id or unique suffix; else by the id the client gave, or by trace id.
    pub fn find(&self, text: &str) -> Found {
        let Some(wanted) = Wanted::new(text) else { return Found::None };
        let by_id = self.kept.iter().rev().filter(|kept| wanted.fits_id(&kept.id)).map(|kept| &*kept.line);
        match found(by_id) {
            Found::None => found(self.kept.iter().rev().map(|kept| &*kept.line).filter(|line| wanted.fits(line))),
            found => found,
        }
    }

    /// The newest failures, newest first.
    pub fn failures(&self, count: usize) -> Vec<Entry> {
        let entries = self.kept.iter().rev().filter_map(|kept| Entry::parse(&kept.line));
        entries.filter(|entry| entry.status >= 500).take(count).collect()
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

/// In the files, newest first. Reads everything if it finds nothing: not for a thread that must answer others.
pub fn find_in_files(logs: &Logs, text: &str) -> std::io::Result<Found> {
    let Some(wanted) = Wanted::new(text) else { return Ok(Found::None) };
    let query = Query { kind: Some("access".into()), ..Query::default() };
    let mut lines: Vec<String> = Vec::new();
    logs.backward(&query, |line| {
        if wanted.fits(line) {
            lines.push(line.to_owned());
        }
        let enough = if wanted.is_whole() { 1 } else { AMBIGUOUS_IDS_MAX };
        if lines.len() >= enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found(lines.iter().map(String::as_str)))
}

/// The id of the request of this trace that was under way at this moment, if its access line is in the files. Looks no
/// further than ten minutes on.
pub fn find_traced(logs: &Logs, trace_id: &str, at_unix_us: u64) -> std::io::Result<Option<String>> {
    // A line is written when its request ends; clocks are given a second.
    let since_unix_us = Some(at_unix_us.saturating_sub(1_000_000));
    let query = Query { kind: Some("access".into()), since_unix_us, ..Query::default() };
    let wanted = format!(",\"traceId\":\"{trace_id}\"");
    let last = time::iso(at_unix_us.saturating_add(LATE_US));
    let mut request = None;
    logs.read(&query, |line| {
        if line.contains(&wanted) {
            request = Entry::parse(line).map(|entry| entry.request_id);
        }
        let is_late = crate::read::timestamp(line).is_some_and(|at| *at > *last);
        if request.is_some() || is_late { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(request)
}

/// One request may have left several lines, a suffix may fit several requests.
fn found<'a>(lines: impl Iterator<Item = &'a str>) -> Found {
    let mut entries: Vec<Entry> = Vec::new();
    for entry in lines.filter_map(Entry::parse) {
        if entries.iter().all(|known| known.request_id != entry.request_id) {
            entries.push(entry);
        }
        if entries.len() >= AMBIGUOUS_IDS_MAX {
            break;
        }
    }
    match entries.len() {
        0 => Found::None,
        1 => Found::One(Box::new(entries.remove(0))),
        _ => Found::Several(entries.into_iter().map(|entry| entry.request_id).collect()),
    }
}

/// What was asked for, ready to be compared.
struct Wanted {
    /// Lower case, without `r_`.
    suffix: String,
    /// The same in three places of a line.
    id: String,
    client_id: String,
    trace_id: String,
}

impl Wanted {
    fn new(text: &str) -> Option<Wanted> {
        let text = text.trim().trim_start_matches('…').trim_start_matches("...");
        let lower = text.to_ascii_lowercase();
        let suffix = lower.strip_prefix("r_").unwrap_or(&lower).to_owned();
        if suffix.len() < SUFFIX_CHARS_MIN {
            return None;
        }
        let mut client_id = Vec::new();
        crate::json::text(&mut client_id, key!("clientRequestId"), text);
        Some(Wanted {
            id: format!("{suffix}\""),
            client_id: String::from_utf8(client_id).ok()?,
            trace_id: format!(",\"traceId\":\"{lower}\""),
            suffix,
        })
    }

    fn is_whole(&self) -> bool {
        self.suffix.len() == 26
    }

    fn fits_id(&self, id: &[u8; 26]) -> bool {
        id.ends_with(self.suffix.as_bytes())
    }

    fn fits(&self, line: &str) -> bool {
        let id = line.split_once(",\"requestId\":\"r_").and_then(|(_, rest)| rest.get(..27));
        id.is_some_and(|id| id.ends_with(&self.id)) || line.contains(&self.client_id) || line.contains(&self.trace_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::{Cut, Ids, Names, Record, Redactor};

    fn kept(trails: &mut Trails, record: &Record) {
        let mut out = Vec::new();
        Access::new(Names::default(), "production", Redactor::default()).write_json(record, &mut out);
        trails.keep(record.id.0, String::from_utf8(out).expect("text").trim_end());
    }

    #[test]
    fn by_whole_id_suffix_client_id_and_trace() {
        let (mut trails, mut ids) = (Trails::default(), Ids::seeded(1));
        let records: Vec<Record> = (0..100)
            .map(|i| Record {
                id: ids.request(1_769_947_200_000_000 + i),
                status: 502,
                trace_id: ids.trace(),
                client_request_id: Cut::new(&format!("Mine-{i}")),
                ..Record::EMPTY
            })
            .collect();
        records.iter().for_each(|record| kept(&mut trails, record));
        let one = |text: &str| match trails.find(text) {
            Found::One(entry) => entry.request_id,
            other => panic!("{text}: {other:?}"),
        };
        let (id, trace) = (records[42].id.to_string(), &records[42].trace_id);
        let trace: String = trace.iter().map(|b| format!("{b:02x}")).collect();
        for text in [&*id, &id[2..], &id.to_uppercase()[2..], &id[16..], &format!("…{}", &id[16..]), "Mine-42", &trace]
        {
            assert_eq!(one(text), id, "{text}");
        }
        assert_eq!(trails.find("zz"), Found::None);
        assert_eq!(trails.find("nobodyhasthis"), Found::None);
        let same = Record { id: records[3].id, ..records[3] };
        kept(&mut trails, &same);
        assert!(matches!(trails.find(&same.id.to_string()), Found::One(_)), "one request, two lines");
        kept(&mut trails, &Record { id: crate::RequestId(*b"00000000000000000000000abc"), ..same });
        kept(&mut trails, &Record { id: crate::RequestId(*b"10000000000000000000000abc"), ..same });
        assert_eq!(
            trails.find("abc"),
            Found::Several(vec!["r_10000000000000000000000abc".into(), "r_00000000000000000000000abc".into()])
        );
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut trails = Trails::default();
        for i in 0..TRAILS_MAX + 5 {
            let mut id = [b'0'; 26];
            id[18..].copy_from_slice(format!("{i:08}").as_bytes());
            trails.keep(id, "{}");
        }
        assert_eq!(trails.len(), TRAILS_MAX);
        assert_eq!(trails.kept[0].id[18..], *b"00000005");
    }
}
