//! What stands under a key: ids of jobs by state, a job's fields, a queue's own.

use super::commands::{Session, shown, syntax};
use super::frame::Reply;
use super::keys::{self, Key, Kind, Part};
use super::{Port, REPLY_BYTES_MAX, record};
use crate::engine::Engine;
use crate::job::State;
use std::ops::Range;

/// Members that one request is given.
pub const RANGE_MAX: usize = 5000;
/// Members between those asked for and the nearer end: they are counted through, and nobody may wait for that.
pub const DEPTH_MAX: usize = 10_000;
/// What BullMQ multiplies the time of a delayed job by, to keep order within a millisecond.
const DELAYED_SCALE: u64 = 4096;

/// Answers a request whose first word is a key.
pub async fn answer(command: &str, rest: &[Vec<u8>], session: &mut Session, port: &Port) -> Result<Reply, Reply> {
    let Some((name, words)) = rest.split_first() else { return Err(syntax()) };
    match command {
        "EXISTS" => exists(rest, port).await,
        "TYPE" => {
            let kind = kind_of(name, port).await?;
            Ok(Reply::Simple(kind.map_or("none", Kind::as_str)))
        }
        "TTL" | "PTTL" => Ok(Reply::Integer(if kind_of(name, port).await?.is_some() { -1 } else { -2 })),
        "GET" | "STRLEN" => text(command, name, port).await,
        "LLEN" | "LRANGE" | "LINDEX" => list(command, name, words, session, port).await,
        "ZCARD" | "ZCOUNT" | "ZRANGE" | "ZREVRANGE" | "ZSCORE" => sorted(command, name, words, port).await,
        _ => hash(command, name, words, session, port).await,
    }
}

/// Of what kind the key is, if it is there.
async fn kind_of(name: &[u8], port: &Port) -> Result<Option<Kind>, Reply> {
    let Some(key) = Key::parse(name) else {
        // A key that can never be is not there either while jobs are away.
        return port.jobs().map(|_| None);
    };
    port.look(move |engine| is_there(engine, &key).then(|| key.kind())).await
}

fn is_there(engine: &Engine, key: &Key) -> bool {
    let is_its = |id: u64| engine.placed(id).filter(|placed| *placed.queue == *key.queue);
    match key.part {
        Part::Jobs(state) => engine.counts(&key.queue).is_some_and(|counts| counts.of(state) > 0),
        Part::Meta => engine.counts(&key.queue).is_some(),
        Part::Id => engine.counts(&key.queue).is_some() && engine.last_id() > 0,
        Part::Job(id) => is_its(id).is_some(),
        Part::Log(id) => is_its(id).is_some_and(|placed| placed.has_lines),
    }
}

async fn exists(names: &[Vec<u8>], port: &Port) -> Result<Reply, Reply> {
    let asked: Vec<Key> = names.iter().filter_map(|name| Key::parse(name)).collect();
    let there = port.look(move |engine| asked.iter().filter(|key| is_there(engine, key)).count()).await?;
    Ok(Reply::count(there as u64))
}

/// The key, if it may be there as this kind. A key of another kind that is there is an error.
async fn of_kind(name: &[u8], kind: Kind, port: &Port) -> Result<Option<Key>, Reply> {
    match Key::parse(name) {
        Some(key) if key.kind() == kind => Ok(Some(key)),
        Some(_) if kind_of(name, port).await?.is_some() => {
            Err(Reply::error("WRONGTYPE Operation against a key holding the wrong kind of value"))
        }
        _ => port.jobs().map(|_| None),
    }
}

async fn text(command: &str, name: &[u8], port: &Port) -> Result<Reply, Reply> {
    let found = match of_kind(name, Kind::Text, port).await? {
        Some(key) => port.look(move |engine| is_there(engine, &key).then(|| engine.last_id())).await?,
        None => None,
    };
    let text = found.map(|id| id.to_string());
    Ok(match (command, text) {
        ("STRLEN", text) => Reply::count(text.map_or(0, |text| text.len()) as u64),
        (_, Some(text)) => Reply::bulk(text),
        (_, None) => Reply::Null,
    })
}

/// `LRANGE`'s two numbers as ranks of a list that is so long.
fn ranks(len: usize, start: i64, stop: i64) -> Result<Range<usize>, Reply> {
    let length = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |rank: i64| if rank < 0 { rank.saturating_add(length) } else { rank };
    let (start, end) = (from_end(start).max(0), from_end(stop).saturating_add(1).min(length));
    if start >= end {
        return Ok(0..0);
    }
    let place = |rank: i64| usize::try_from(rank).unwrap_or(0);
    let (start, end) = (place(start), place(end));
    if end - start > RANGE_MAX {
        let text = format!("ERR {} members, and a range gives at most {RANGE_MAX}: ask for fewer at once", end - start);
        return Err(Reply::Error(text));
    }
    if start.min(len - end) > DEPTH_MAX {
        let text = format!("ERR a range lies within {DEPTH_MAX} of either end: there are {len} members");
        return Err(Reply::Error(text));
    }
    Ok(start..end)
}

fn integer(word: &[u8]) -> Result<i64, Reply> {
    let number = std::str::from_utf8(word).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Reply::error("ERR value is not an integer or out of range"))
}

/// `LRANGE`'s two numbers, or `LINDEX`'s one.
fn bounds(words: &[Vec<u8>]) -> Result<(i64, i64), Reply> {
    match words {
        [index] => integer(index).map(|index| (index, index)),
        [start, stop] => Ok((integer(start)?, integer(stop)?)),
        _ => Err(syntax()),
    }
}

/// BullMQ puts in at the head and takes out at the tail: the last is the next to start.
async fn list(
    command: &str,
    name: &[u8],
    words: &[Vec<u8>],
    session: &mut Session,
    port: &Port,
) -> Result<Reply, Reply> {
    let asked = if words.is_empty() { None } else { Some(bounds(words)?) };
    let (start, stop) = asked.unwrap_or((0, -1));
    let found: Vec<Vec<u8>> = match (of_kind(name, Kind::List, port).await?, command) {
        (None, "LLEN") => return Ok(Reply::Integer(0)),
        (None, _) => Vec::new(),
        (Some(Key { queue, part: Part::Jobs(state) }), "LLEN") => {
            let counts = port.look(move |engine| engine.counts(&queue)).await?;
            return Ok(Reply::count(counts.map_or(0, |counts| counts.of(state))));
        }
        (Some(Key { queue, part: Part::Jobs(state) }), _) => {
            let found = members(queue, state, (start, stop), true, port).await?;
            found.into_iter().map(|(_, id)| id.to_string().into_bytes()).collect()
        }
        (Some(key), _) => {
            let lines = lines(&key, session, port).await?;
            if command == "LLEN" {
                return Ok(Reply::count(lines.len() as u64));
            }
            let ranks = ranks(lines.len(), start, stop)?;
            lines.into_iter().skip(ranks.start).take(ranks.len()).collect()
        }
    };
    let bytes: usize = found.iter().map(Vec::len).sum();
    if bytes > REPLY_BYTES_MAX {
        return Err(super::too_large());
    }
    let mut found = found.into_iter().map(Reply::Bulk);
    Ok(if command == "LINDEX" { found.next().unwrap_or(Reply::Null) } else { Reply::Array(found.collect()) })
}

/// When each is due or ended, and its id; with `is_reversed` from the last on.
async fn members(
    queue: String,
    state: State,
    (start, stop): (i64, i64),
    is_reversed: bool,
    port: &Port,
) -> Result<Vec<(u64, u64)>, Reply> {
    let look = move |engine: &Engine| {
        let len = engine.counts(&queue).map_or(0, |counts| counts.of(state));
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let ranks = ranks(len, start, stop)?;
        if !is_reversed || ranks.is_empty() {
            return Ok(engine.ranked(&queue, state, ranks));
        }
        let mut found = engine.ranked(&queue, state, len - ranks.end..len - ranks.start);
        found.reverse();
        Ok(found)
    };
    port.look(look).await?
}

/// The log of a job, oldest first.
async fn lines(key: &Key, session: &mut Session, port: &Port) -> Result<Vec<Vec<u8>>, Reply> {
    let Part::Log(id) = key.part else { return Ok(Vec::new()) };
    let asked = key.clone();
    if !port.look(move |engine| is_there(engine, &asked)).await? {
        return Ok(Vec::new());
    }
    let detail = port.detail(id, session).await?;
    Ok(detail.into_iter().flat_map(|detail| detail.lines).map(|line| line.line.into_bytes()).collect())
}

fn score(state: State, at_ms: u64) -> u64 {
    if state == State::Delayed { at_ms.saturating_mul(DELAYED_SCALE) } else { at_ms }
}

async fn sorted(command: &str, name: &[u8], words: &[Vec<u8>], port: &Port) -> Result<Reply, Reply> {
    let asked = match command {
        "ZRANGE" | "ZREVRANGE" => Some(span(command, words)?),
        _ => None,
    };
    let limits = if command == "ZCOUNT" { Some((limit(&words[0])?, limit(&words[1])?)) } else { None };
    let found = of_kind(name, Kind::SortedSet, port).await?;
    let Some(Key { queue, part: Part::Jobs(state) }) = found else {
        return Ok(match command {
            "ZCARD" | "ZCOUNT" => Reply::Integer(0),
            "ZSCORE" => Reply::Null,
            _ => Reply::Array(Vec::new()),
        });
    };
    match (asked, limits) {
        (Some(span), _) => {
            let found = members(queue, state, (span.start, span.stop), span.is_reversed, port).await?;
            let name = |id: u64| id.to_string().into_bytes();
            Ok(if span.with_scores {
                Reply::Scored(found.into_iter().map(|(at_ms, id)| (name(id), score(state, at_ms))).collect())
            } else {
                Reply::Array(found.into_iter().map(|(_, id)| Reply::Bulk(name(id))).collect())
            })
        }
        (None, Some(limits)) => port.look(move |engine| counted(engine, &queue, state, limits)).await?,
        (None, None) if command == "ZSCORE" => {
            let id = std::str::from_utf8(&words[0]).ok().and_then(keys::id_of);
            let placed = port.look(move |engine| id.and_then(|id| engine.placed(id))).await?;
            let placed = placed.filter(|placed| *placed.queue == *queue && placed.state == state);
            Ok(placed.map_or(Reply::Null, |placed| Reply::Score(score(state, placed.at_ms))))
        }
        (None, None) => {
            let counts = port.look(move |engine| engine.counts(&queue)).await?;
            Ok(Reply::count(counts.map_or(0, |counts| counts.of(state))))
        }
    }
}

/// `ZRANGE`, as far as it goes by rank.
struct Span {
    start: i64,
    stop: i64,
    is_reversed: bool,
    with_scores: bool,
}

fn span(command: &str, words: &[Vec<u8>]) -> Result<Span, Reply> {
    let (range, options) = words.split_at(words.len().min(2));
    let mut span = Span { start: 0, stop: 0, is_reversed: command == "ZREVRANGE", with_scores: false };
    for option in options {
        match option.to_ascii_uppercase().as_slice() {
            b"WITHSCORES" => span.with_scores = true,
            b"REV" if command == "ZRANGE" => span.is_reversed = true,
            b"BYSCORE" | b"BYLEX" | b"LIMIT" => {
                let text = format!("ERR {} is not answered here: ask by rank, as in ZRANGE key 0 99", shown(option));
                return Err(Reply::Error(text));
            }
            _ => return Err(syntax()),
        }
    }
    (span.start, span.stop) = bounds(range)?;
    Ok(span)
}

/// One end of `ZCOUNT`, and whether it is left out itself.
fn limit(word: &[u8]) -> Result<(f64, bool), Reply> {
    let text = std::str::from_utf8(word).unwrap_or_default();
    let (text, is_out) = text.strip_prefix('(').map_or((text, false), |text| (text, true));
    match text.parse::<f64>() {
        Ok(number) if !number.is_nan() => Ok((number, is_out)),
        _ => Err(Reply::error("ERR min or max is not a float")),
    }
}

fn counted(
    engine: &Engine,
    queue: &str,
    state: State,
    (least, most): ((f64, bool), (f64, bool)),
) -> Result<Reply, Reply> {
    let len = engine.counts(queue).map_or(0, |counts| counts.of(state));
    if least.0 == f64::NEG_INFINITY && most.0 == f64::INFINITY {
        return Ok(Reply::count(len));
    }
    if len > DEPTH_MAX as u64 {
        return Err(Reply::Error(format!("ERR {len} members, and ZCOUNT looks at {DEPTH_MAX}: use ZCARD")));
    }
    let is_within = |at_ms: u64| {
        // Scores are below 2^53, as in Redis.
        let score = score(state, at_ms) as f64;
        let above = if least.1 { score > least.0 } else { score >= least.0 };
        above && if most.1 { score < most.0 } else { score <= most.0 }
    };
    let all = engine.ranked(queue, state, 0..DEPTH_MAX);
    Ok(Reply::count(all.into_iter().filter(|(at_ms, _)| is_within(*at_ms)).count() as u64))
}

async fn hash(
    command: &str,
    name: &[u8],
    words: &[Vec<u8>],
    session: &mut Session,
    port: &Port,
) -> Result<Reply, Reply> {
    let fields = match of_kind(name, Kind::Hash, port).await? {
        Some(key) => fields(key, session, port).await?,
        None => Vec::new(),
    };
    let value = |field: &Vec<u8>| fields.iter().find(|(name, _)| name.as_bytes() == field).map(|(_, value)| value);
    let bulk = |value: Option<&Vec<u8>>| value.map_or(Reply::Null, |value| Reply::bulk(value.as_slice()));
    Ok(match (command, words) {
        ("HLEN", _) => Reply::count(fields.len() as u64),
        ("HGET", [field]) => bulk(value(field)),
        ("HEXISTS", [field]) => Reply::Integer(i64::from(value(field).is_some())),
        ("HSTRLEN", [field]) => Reply::count(value(field).map_or(0, Vec::len) as u64),
        ("HMGET", wanted) => {
            // One field may be asked for as often as a request has words.
            let bytes: usize = wanted.iter().filter_map(value).map(Vec::len).sum();
            if bytes > REPLY_BYTES_MAX {
                return Err(super::too_large());
            }
            Reply::Array(wanted.iter().map(|field| bulk(value(field))).collect())
        }
        ("HKEYS", _) => Reply::Array(fields.into_iter().map(|(name, _)| Reply::bulk(name)).collect()),
        ("HVALS", _) => Reply::Array(fields.into_iter().map(|(_, value)| Reply::Bulk(value)).collect()),
        ("HGETALL", _) => {
            Reply::Map(fields.into_iter().map(|(name, value)| (Reply::bulk(name), Reply::Bulk(value))).collect())
        }
        _ => return Err(syntax()),
    })
}

async fn fields(key: Key, session: &mut Session, port: &Port) -> Result<record::Fields, Reply> {
    let asked = key.clone();
    let queue = port.look(move |engine| engine.queue(&asked.queue).filter(|_| is_there(engine, &asked))).await?;
    let Some(queue) = queue else { return Ok(Vec::new()) };
    let Part::Job(id) = key.part else { return Ok(record::of_queue(&queue)) };
    // It may have been removed since.
    let detail = port.detail(id, session).await?;
    Ok(detail.map_or(Vec::new(), |detail| record::of_job(&detail, &queue.settings)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_from_either_end() {
        for (len, start, stop, expected) in [
            (0, 0, -1, 0..0),
            (5, 0, -1, 0..5),
            (5, -1, -1, 4..5),
            (5, -2, -1, 3..5),
            (5, 1, 2, 1..3),
            (5, 3, 1, 0..0),
            (5, -100, 100, 0..5),
            (5, 5, 9, 0..0),
            (5, i64::MIN, i64::MAX, 0..5),
            (usize::MAX, 0, 4, 0..5),
        ] {
            assert_eq!(ranks(len, start, stop), Ok(expected), "{len} {start} {stop}");
        }
        assert!(ranks(RANGE_MAX + 1, 0, -1).is_err());
        assert!(ranks(RANGE_MAX, 0, -1).is_ok());
        let deep = i64::try_from(DEPTH_MAX).expect("a number") + 1;
        assert!(ranks(1_000_000, deep, deep + 9).is_err());
        assert!(ranks(1_000_000, -deep, -deep + 9).is_ok());
    }

    #[test]
    fn ends_of_a_count_are_floats() {
        assert_eq!(limit(b"(5"), Ok((5.0, true)));
        assert_eq!(limit(b"-inf"), Ok((f64::NEG_INFINITY, false)));
        for wrong in ["", "x", "nan", "(", "(("] {
            assert!(limit(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
