//! Which keys there are: `KEYS`, `SCAN`, `DBSIZE`. Queues' own first, then a key for each job by its id, so that a scan
//! gives each job that was there throughout exactly once.

use super::commands::{shown, syntax};
use super::frame::Reply;
use super::glob::{PATTERN_BYTES_MAX, matches, may_end_in_a_digit};
use super::keys::{self, Part};
use super::{Port, REPLY_BYTES_MAX};
use crate::engine::{Engine, QUEUES_MAX, QueueGlance};

/// Jobs that `KEYS` looks at; beyond, `SCAN` does.
const KEYS_JOBS_MAX: usize = 10_000;
/// Jobs that one `SCAN` looks at.
const SCAN_MAX: usize = 1000;
/// What a scan looks at unless it says how many.
const SCAN_USUAL: usize = 10;
/// Keys of a queue beside its jobs, about.
const QUEUE_KEYS: usize = 8;
/// Cursors below are queues', those above ids.
const IDS: u64 = 1 << 32;
/// Names that are matched before others have a turn.
const MATCHES_AT_ONCE: usize = 256;

pub async fn answer(command: &str, rest: &[Vec<u8>], port: &Port) -> Result<Reply, Reply> {
    match (command, rest) {
        ("DBSIZE", _) => Ok(Reply::count(size(port).await?)),
        ("KEYS", [pattern]) => keys(pattern, port).await,
        (_, [cursor, options @ ..]) => scan(cursor, options, port).await,
        _ => Err(syntax()),
    }
}

/// How many keys there are.
pub async fn size(port: &Port) -> Result<u64, Reply> {
    let count = |engine: &Engine| {
        let last_id = engine.last_id();
        let of_queues: usize = engine.queues().map(|queue| keys::of_queue(queue.counts, last_id).count()).sum();
        (of_queues + engine.job_count()) as u64
    };
    port.look(count).await
}

async fn keys(pattern: &[u8], port: &Port) -> Result<Reply, Reply> {
    check(pattern)?;
    let wants_jobs = may_end_in_a_digit(pattern);
    let (queues, last_id, jobs, count) = port
        .look(move |engine| {
            let count = engine.job_count();
            let jobs = if wants_jobs && count <= KEYS_JOBS_MAX { engine.ids_from(0, count) } else { Vec::new() };
            (engine.queues().collect::<Vec<_>>(), engine.last_id(), jobs, count)
        })
        .await?;
    if wants_jobs && count > KEYS_JOBS_MAX {
        let text = format!(
            "ERR there are {count} jobs, and KEYS looks at {KEYS_JOBS_MAX}: use SCAN, or a pattern that ends as \
             \"bull:*:wait\" does"
        );
        return Err(Reply::Error(text));
    }
    let of_queues = queues.iter().flat_map(|queue| named(queue, last_id)).map(|(name, _)| name);
    let of_jobs = jobs.iter().map(|(id, queue)| keys::name(queue, Part::Job(*id)));
    let all: Vec<Vec<u8>> = of_queues.chain(of_jobs).collect();
    chosen(pattern, all).await.map(Reply::Array)
}

fn named(queue: &QueueGlance, last_id: u64) -> impl Iterator<Item = (Vec<u8>, Part)> {
    keys::of_queue(queue.counts, last_id).map(|part| (keys::name(&queue.name, part), part))
}

fn check(pattern: &[u8]) -> Result<(), Reply> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(Reply::Error(format!("ERR a pattern has at most {PATTERN_BYTES_MAX} bytes here")));
    }
    Ok(())
}

async fn chosen(pattern: &[u8], names: Vec<Vec<u8>>) -> Result<Vec<Reply>, Reply> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for (number, name) in names.into_iter().enumerate() {
        if number % MATCHES_AT_ONCE == MATCHES_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        if matches(pattern, &name) {
            bytes += name.len();
            if bytes > REPLY_BYTES_MAX {
                return Err(super::too_large());
            }
            found.push(Reply::Bulk(name));
        }
    }
    Ok(found)
}

/// What a scan asks for besides its cursor.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    pattern: Vec<u8>,
    count: usize,
    kind: Option<String>,
}

fn wanted(options: &[Vec<u8>]) -> Result<Wanted, Reply> {
    let mut wanted = Wanted { pattern: b"*".to_vec(), count: SCAN_USUAL, kind: None };
    for pair in options.chunks(2) {
        let [option, value] = pair else { return Err(syntax()) };
        match option.to_ascii_uppercase().as_slice() {
            b"MATCH" => wanted.pattern.clone_from(value),
            b"TYPE" => wanted.kind = Some(shown(value).to_ascii_lowercase()),
            b"COUNT" => {
                let count = std::str::from_utf8(value).ok().and_then(|text| text.parse::<usize>().ok());
                let count = count.ok_or_else(|| Reply::error("ERR value is not an integer or out of range"))?;
                if count == 0 {
                    return Err(syntax());
                }
                wanted.count = count.min(SCAN_MAX);
            }
            _ => return Err(syntax()),
        }
    }
    check(&wanted.pattern)?;
    Ok(wanted)
}

async fn scan(cursor: &[u8], options: &[Vec<u8>], port: &Port) -> Result<Reply, Reply> {
    let cursor = std::str::from_utf8(cursor).ok().and_then(|text| text.parse::<u64>().ok());
    let cursor = cursor.ok_or_else(|| Reply::error("ERR invalid cursor"))?;
    let wanted = wanted(options)?;
    let count = wanted.count;
    let (next, names) = port.look(move |engine| page(engine, cursor, count)).await?;
    let is_wanted = |part: Part| wanted.kind.as_deref().is_none_or(|kind| kind == part.kind().as_str());
    let names = names.into_iter().filter(|(_, part)| is_wanted(*part)).map(|(name, _)| name).collect();
    let found = chosen(&wanted.pattern, names).await?;
    Ok(Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(found)]))
}

/// The keys from a cursor on, about so many, and the cursor behind them: 0 at the end.
fn page(engine: &Engine, cursor: u64, count: usize) -> (u64, Vec<(Vec<u8>, Part)>) {
    if cursor < IDS {
        let (skip, most) = (usize::try_from(cursor).unwrap_or(QUEUES_MAX), count.div_ceil(QUEUE_KEYS));
        let mut queues = engine.queues().skip(skip);
        let last_id = engine.last_id();
        let page: Vec<QueueGlance> = queues.by_ref().take(most).collect();
        let next = match (queues.next(), engine.job_count()) {
            (Some(_), _) => cursor + page.len() as u64,
            (None, 0) => 0,
            (None, _) => IDS,
        };
        return (next, page.iter().flat_map(|queue| named(queue, last_id)).collect());
    }
    let mut jobs = engine.ids_from(cursor - IDS, count + 1);
    let next = if jobs.len() > count { jobs.pop().map_or(0, |(id, _)| IDS + id) } else { 0 };
    let part = |id: u64| Part::Job(id);
    (next, jobs.into_iter().map(|(id, queue)| (keys::name(&queue, part(id)), part(id))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<u8>> {
        text.split(' ').filter(|word| !word.is_empty()).map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn options_of_a_scan_are_bounded() {
        let found = wanted(&words("match bull:* count 5000000 type HASH")).expect("options");
        assert_eq!((found.pattern, found.count), (b"bull:*".to_vec(), SCAN_MAX));
        assert_eq!(found.kind.as_deref(), Some("hash"));
        for wrong in ["match", "count 0", "count x", "count -1", "novalues x"] {
            assert!(wanted(&words(wrong)).is_err(), "{wrong}");
        }
        assert!(wanted(&[b"MATCH".to_vec(), vec![b'*'; PATTERN_BYTES_MAX + 1]]).is_err());
    }

    #[test]
    fn a_scan_of_nothing_is_over_at_once_wherever_it_stands() {
        let engine = Engine::new(1);
        for cursor in [0, 7, IDS - 1, IDS, u64::MAX] {
            assert_eq!(page(&engine, cursor, 10), (0, Vec::new()), "{cursor}");
        }
    }
}
