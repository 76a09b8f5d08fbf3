//! What nobody reports and is noticed by looking: apps and services that are well or not, a Redis that is left alone,
//! jobs that cannot be taken over, certificates that came, end soon or could not be had.

use crate::server::Server;
use mainstay_edge::acme::{Entry, Outlook};
use mainstay_runtime::{Clock, Shutdown};
use mainstay_store::journal::Event;
use mainstay_store::redis::{News, Outage, State};
use mainstay_watch::{Status, Watched};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// How often what is is compared with what was.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Notes each change, until the end is asked for.
pub(super) async fn watch(server: Rc<Server>, shutdown: Shutdown) {
    let mut healths: BTreeMap<String, Status> = BTreeMap::new();
    let mut certificates: BTreeMap<String, Seen> = BTreeMap::new();
    let mut outage = Outage::default();
    let mut inboxes: BTreeMap<String, u64> = BTreeMap::new();
    while tokio::time::timeout(LOOK_EVERY, shutdown.requested()).await.is_err() {
        let notes = &server.book.notes;
        for (subject, status) in statuses(&server) {
            let before = healths.insert(subject.clone(), status);
            if is_news(before, status) {
                notes.note(Event::Health { subject, status: status.as_str().to_owned() }, None);
            }
        }
        if let Some(event) = redis(&server, &mut outage).map(breaker) {
            notes.note(event, None);
        }
        for event in refused(&server, &mut inboxes).await {
            notes.note(event, None);
        }
        for entry in server.certificates.list() {
            let name = entry.names.first().cloned().unwrap_or_default();
            let now = Seen::of(&entry);
            if let Some(what) = told(certificates.get(&name), &now, &entry) {
                notes.note(Event::Certificate { name: name.clone(), what }, None);
            }
            certificates.insert(name, now);
        }
    }
}

/// Jobs that were added in SQL and cannot be taken over: where there are more of a queue, and where there are none any
/// more.
async fn refused(server: &Server, before: &mut BTreeMap<String, u64>) -> Vec<Event> {
    // What is not known now is looked at again soon.
    let Some(counts) = server.queues.refused().await else { return Vec::new() };
    let mut events = Vec::new();
    let told = |queue: &str, status| Event::Health { subject: format!("the inbox of {queue}"), status };
    before.retain(|queue, _| {
        let is_left = counts.iter().any(|of| *of.queue == **queue);
        if !is_left {
            events.push(told(queue, "clear".to_owned()));
        }
        is_left
    });
    for of in counts {
        if before.insert(of.queue.to_string(), of.count).is_none_or(|count| count < of.count) {
            events.push(told(&of.queue, format!("refused, {}: {}", of.count, of.why)));
        }
    }
    events
}

/// As every thread with a link of its own sees it, the cores' and that of sessions and accounts.
fn redis(server: &Server, outage: &mut Outage) -> Option<News> {
    let (seen, opened) = server.edge.limits().links();
    let own = server.services.redis();
    let is_up = seen.up == seen.cores && own.is_none_or(|redis| redis.state() == State::Up);
    outage.look(Clock::now(), is_up, opened + own.map_or(0, |redis| redis.counts().opened))
}

fn breaker(news: News) -> Event {
    let (open, seconds) = match news {
        News::Began => (true, None),
        News::Ended(lasted) => (false, Some(lasted.as_secs())),
    };
    Event::Breaker { subject: "redis".to_owned(), open, seconds }
}

/// What is not well from the start is news; what is well is not.
fn is_news(before: Option<Status>, now: Status) -> bool {
    match before {
        Some(before) => before != now,
        None => now != Status::Ok,
    }
}

/// Of those that can be well or not. What is not known yet says nothing.
fn statuses(server: &Server) -> Vec<(String, Status)> {
    let state = server.state();
    let apps = state.apps.iter().map(|app| (format!("app {}", app.name), app.status()));
    let services = Watched::ALL.iter().map(|service| (service.as_str().to_owned(), state.service(*service).status));
    let told = |status: &Status| matches!(status, Status::Ok | Status::Degraded | Status::Unavailable);
    apps.chain(services).filter(|(_, status)| told(status)).collect()
}

/// Of a certificate, what makes news when it changes.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    serial: Option<String>,
    outlook: Outlook,
    is_failing: bool,
}

impl Seen {
    fn of(entry: &Entry) -> Seen {
        Seen { serial: entry.serial.clone(), outlook: entry.outlook, is_failing: entry.failures > 0 }
    }
}

/// One sentence a look: another certificate says more than what was wrong with the one before.
fn told(before: Option<&Seen>, now: &Seen, entry: &Entry) -> Option<String> {
    let until = entry.valid_until.as_deref().unwrap_or("its end");
    let is_other = before.is_some_and(|before| before.serial != now.serial);
    if is_other && now.serial.is_some() {
        return Some(format!("in force until {until} (from {})", entry.source));
    }
    if before.map(|before| before.outlook) != Some(now.outlook) {
        match now.outlook {
            Outlook::ExpiresSoon => return Some(format!("expires soon, {until}")),
            Outlook::Expired => return Some(format!("has expired, {until}")),
            Outlook::Revoked => return Some("is revoked".to_owned()),
            Outlook::Missing if before.is_some() => return Some("is gone".to_owned()),
            Outlook::Good | Outlook::Missing => {}
        }
    }
    let began_to_fail = now.is_failing && !before.is_some_and(|before| before.is_failing);
    began_to_fail.then(|| format!("could not be had: {}", entry.last_error.as_deref().unwrap_or("see the log")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(serial: Option<&str>, outlook: Outlook, failures: u32) -> Entry {
        let mut entry = Entry::new(vec!["a.example".to_owned()], "letsencrypt", "mainstay.toml:3", None, 0);
        entry.serial = serial.map(str::to_owned);
        entry.valid_until = serial.map(|_| "2027-01-01".to_owned());
        entry.last_error = (failures > 0).then(|| "the name leads elsewhere".to_owned());
        Entry { outlook, failures, ..entry }
    }

    #[test]
    fn a_certificate_is_told_once_for_each_thing_that_happens_to_it() {
        let steps = [
            (entry(None, Outlook::Missing, 0), None),
            (entry(None, Outlook::Missing, 1), Some("could not be had: the name leads elsewhere")),
            (entry(None, Outlook::Missing, 2), None),
            (entry(Some("1"), Outlook::Good, 0), Some("in force until 2027-01-01 (from letsencrypt)")),
            (entry(Some("1"), Outlook::Good, 0), None),
            (entry(Some("1"), Outlook::ExpiresSoon, 0), Some("expires soon, 2027-01-01")),
            (entry(Some("1"), Outlook::ExpiresSoon, 3), Some("could not be had: the name leads elsewhere")),
            (entry(Some("1"), Outlook::Expired, 4), Some("has expired, 2027-01-01")),
            (entry(Some("2"), Outlook::Good, 0), Some("in force until 2027-01-01 (from letsencrypt)")),
            (entry(Some("2"), Outlook::Revoked, 0), Some("is revoked")),
            (entry(None, Outlook::Missing, 0), Some("is gone")),
        ];
        let mut before: Option<Seen> = None;
        for (entry, expected) in steps {
            let now = Seen::of(&entry);
            assert_eq!(told(before.as_ref(), &now, &entry).as_deref(), expected, "{now:?}");
            before = Some(now);
        }
    }

    #[test]
    fn an_outage_of_redis_is_two_lines_and_the_second_says_how_long_it_was() {
        let lines = [News::Began, News::Ended(Duration::from_millis(12_900))].map(|news| breaker(news).line());
        assert_eq!(lines, ["redis is left alone", "redis is asked again after 12 s"]);
    }

    #[test]
    fn what_is_well_from_the_start_is_no_news() {
        assert!(!is_news(None, Status::Ok) && is_news(None, Status::Unavailable));
        assert!(is_news(Some(Status::Ok), Status::Degraded) && !is_news(Some(Status::Ok), Status::Ok));
    }
}
