//! J6: the pages of queues, as the edge hands their requests over: read, and changed by the verbs of `mainstay jobs`.
//!
//! Who may come was decided by the edge. Must never change anything for a page that is not ours. What a form has begun
//! is finished and told of in the audit, whether or not somebody waits for its page.

// Its tasks live on the service runtime, and end with it.
#![allow(clippy::disallowed_methods)]

use crate::control::{JobAdded, JobAsked, JobsAsked, JobsListed, Refused};
use crate::jobs;
use crate::operate::OPERATOR;
use arc_swap::ArcSwapOption;
use http::header::{ALLOW, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, ORIGIN, REFERRER_POLICY};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use mainstay_config::units;
use mainstay_console::queues::{self, Listed, Place};
use mainstay_console::{NO_SCRIPTS, STYLE, goes_on, refused};
use mainstay_edge::is_at_or_below;
use mainstay_identity::csrf::{Page, Said, page};
use mainstay_identity::exchange::{Answer, Asked};
use mainstay_jobs::{Jobs, LIST_MAX, State};
use mainstay_runtime::Clock;
use mainstay_store::journal::{Event, Notes};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Jobs on one page.
const SHOWN: usize = 50;
/// Of each state a search looks at the first so many.
const SEARCHED: usize = 2 * LIST_MAX;
/// And shows no more than so many.
const FOUND_MAX: usize = 200;
/// Characters of what is searched for.
const WORDS_MAX: usize = 200;
/// Of a query that forms come back to.
const HERE_BYTES_MAX: usize = 1024;
/// Pages that are made at a time: a search reads thousands of jobs, and logins are answered by the same threads.
const TURNS: usize = 4;
/// Forms that are seen to at a time, those that nobody waits for any more included.
const FORMS: usize = 4;
/// For one page. A form is answered by then, and goes on.
const PAGE_LIMIT: Duration = Duration::from_secs(5);
/// Who acts where users are not recognised: whoever sits at this machine.
const NOBODY: &str = "this machine";

/// As the service runtime holds them. Cheap to clone.
#[derive(Clone)]
pub struct Pages {
    /// Where they stand, if they do.
    root: Arc<ArcSwapOption<String>>,
    jobs: Arc<ArcSwapOption<Jobs>>,
    notes: Notes,
    turns: Arc<Semaphore>,
    forms: Arc<Semaphore>,
    limit: Duration,
    /// Who acts where no user is recognised, and what the pages are a part of then.
    nobody: &'static str,
    home: Option<&'static str>,
}

/// Names and values, of a query or a form.
pub type Fields = HashMap<String, String>;

impl Pages {
    pub fn new(root: Arc<ArcSwapOption<String>>, jobs: Arc<ArcSwapOption<Jobs>>, notes: Notes) -> Pages {
        let [turns, forms] = [TURNS, FORMS].map(|most| Arc::new(Semaphore::new(most)));
        Pages { root, jobs, notes, turns, forms, limit: PAGE_LIMIT, nobody: NOBODY, home: None }
    }

    /// The same, below this page, for those who come by another door than the edge and are operators.
    pub fn of_operators(self, home: &'static str) -> Pages {
        Pages { nobody: OPERATOR, home: Some(home), ..self }
    }

    /// There is something to show.
    pub fn has_queues(&self) -> bool {
        self.jobs.load().is_some()
    }

    /// Never takes longer than some seconds, nor more than its share of them.
    pub async fn answer(&self, root: &str, asked: Asked) -> Answer {
        let busy = |why: &str| told(root, StatusCode::SERVICE_UNAVAILABLE, &Refused::new(why)).retry_after(1);
        if asked.method == Method::POST && below(root, &asked) == "do" {
            let Ok(turn) = self.forms.clone().try_acquire_owned() else {
                return busy("nothing was done: what other forms have begun goes on still; try again");
            };
            return self.form(root, asked, turn).await;
        }
        let Ok(_turn) = self.turns.try_acquire() else { return busy("other pages are being made; try again") };
        let made = tokio::time::timeout(self.limit, self.page(root, asked)).await;
        made.unwrap_or_else(|_| busy("this took too long: a search goes through every job; mainstay jobs does not"))
    }

    /// Where they stand, if this path is theirs. `path` is canonical.
    pub fn root_of(&self, path: &str) -> Option<Arc<String>> {
        let root = self.root.load_full()?;
        is_at_or_below(path, &root).then_some(root)
    }

    /// On its own: who asked may be gone, and what a page may take be over.
    async fn form(&self, root: &str, asked: Asked, turn: OwnedSemaphorePermit) -> Answer {
        let (pages, place) = (self.clone(), root.to_owned());
        let doing = tokio::spawn(async move {
            let done = pages.done(&place, &asked).await;
            drop(turn);
            done.unwrap_or_else(|(status, why)| told(&place, status, &why))
        });
        match tokio::time::timeout(self.limit, doing).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => told(root, StatusCode::INTERNAL_SERVER_ERROR, &Refused::new("see: mainstay logs")),
            Err(_) => html(StatusCode::ACCEPTED, goes_on(root)),
        }
    }

    async fn page(&self, root: &str, asked: Asked) -> Answer {
        let below = below(root, &asked);
        let (is_write, is_read) = (below == "do", matches!(asked.method, Method::GET | Method::HEAD));
        let answer = match below {
            "style.css" if is_read => return file("text/css; charset=utf-8", STYLE),
            "" | "list" | "job" | "find" if is_read => self.shown(root, below, &asked).await,
            "" | "list" | "job" | "find" | "do" | "style.css" => {
                let allowed = if is_write { "POST" } else { "GET, HEAD" };
                let text = Refused::new(format!("it takes {allowed}"));
                let answer = told(root, StatusCode::METHOD_NOT_ALLOWED, &text);
                return answer.with(ALLOW, HeaderValue::from_static(allowed));
            }
            _ => Err((StatusCode::NOT_FOUND, Refused::new("there is no such page"))),
        };
        answer.unwrap_or_else(|(status, why)| told(root, status, &why))
    }

    async fn shown(&self, root: &str, below: &str, asked: &Asked) -> Result<Answer, (StatusCode, Refused)> {
        let query = fields(asked.query.as_deref().unwrap_or_default());
        let here = match &asked.query {
            // It stands in every form of a page.
            Some(query) if query.len() > HERE_BYTES_MAX => root.to_owned(),
            Some(query) => format!("{root}/{below}?{query}"),
            None if below.is_empty() => root.to_owned(),
            None => format!("{root}/{below}"),
        };
        let place = Place { root, home: self.home, here: &here, now_ms: Clock::unix_micros() / 1000 };
        let word = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let page = match below {
            "list" => self.list(&place, word("queue"), word("state"), word("skip")).await?,
            "job" => {
                let job = self.ask(JobsAsked::Show { id: id(word("id"))?, payload: true }).await?;
                queues::job(&place, &job)
            }
            "find" => return self.find(&place, word("queue"), word("q")).await,
            _ => {
                let all = self.ask(JobsAsked::Queues).await?;
                let schedules = self.ask(JobsAsked::Schedules).await?;
                queues::overview(&place, items(&all, "queues"), items(&schedules, "schedules"))
            }
        };
        Ok(html(StatusCode::OK, page))
    }

    async fn list(
        &self,
        place: &Place<'_>,
        queue: &str,
        state: &str,
        skip: &str,
    ) -> Result<String, (StatusCode, Refused)> {
        let of = self.queue(queue).await?;
        let skip = if skip.is_empty() { 0 } else { usize::try_from(number(skip)?).unwrap_or(usize::MAX) };
        // Where nothing is said: what one comes for.
        let some = |state: &&&str| of[**state].as_u64().unwrap_or_default() > 0;
        let usual = || ["active", "failed", "waiting"].iter().find(some).map_or("waiting", |state| *state);
        let state = if state.is_empty() { usual() } else { state };
        let asked = JobsListed { queue: queue.to_owned(), state: Some(state.to_owned()), skip, limit: SHOWN };
        let found = self.ask(JobsAsked::List(asked)).await?;
        let left = found["left"].as_u64().unwrap_or_default();
        let listed = Listed { state, skip, left, page: SHOWN, found: None, looked: 0 };
        Ok(queues::list(place, &of, items(&found, "jobs"), &listed))
    }

    /// A job by its number, or those of a queue that hold these words.
    async fn find(&self, place: &Place<'_>, queue: &str, typed: &str) -> Result<Answer, (StatusCode, Refused)> {
        let words = typed.trim();
        if words.is_empty() || typed.chars().count() > WORDS_MAX {
            let why = format!("search for something of at most {WORDS_MAX} characters");
            return Err((StatusCode::BAD_REQUEST, Refused::new(why)));
        }
        // Blanks around what was typed may belong to an id of BullMQ's; most do not.
        let texts: &[&str] = if typed == words { &[words] } else { &[typed, words] };
        for text in texts.iter().copied() {
            if let Ok(id) = id(text)
                && (queue.is_empty() && text == words
                    || self.ask(JobsAsked::Show { id: id.clone(), payload: false }).await.is_ok())
            {
                let id = utf8_percent_encode(&id, NON_ALPHANUMERIC);
                return Ok(to(&format!("{}/job?id={id}", place.root)));
            }
        }
        let of = self.queue(queue).await?;
        let wanted = words.to_lowercase();
        let holds = |job: &Value| {
            let texts = ["name", "key", "group", "error", "worker"].iter().filter_map(|name| job[*name].as_str());
            texts.into_iter().any(|text| text.to_lowercase().contains(&wanted))
        };
        let mut found = Vec::new();
        for state in State::ALL {
            for skip in (0..SEARCHED).step_by(LIST_MAX) {
                let state = Some(state.as_str().to_owned());
                let asked = JobsListed { queue: queue.to_owned(), state, skip, limit: LIST_MAX };
                let page = self.ask(JobsAsked::List(asked)).await?;
                let jobs = items(&page, "jobs");
                found.extend(jobs.iter().filter(|job| holds(job)).cloned());
                if jobs.len() < LIST_MAX || found.len() >= FOUND_MAX {
                    break;
                }
            }
        }
        found.truncate(FOUND_MAX);
        let listed = Listed { state: "", skip: 0, left: 0, page: SHOWN, found: Some(words), looked: SEARCHED };
        Ok(html(StatusCode::OK, queues::list(place, &of, &found, &listed)))
    }

    async fn queue(&self, name: &str) -> Result<Value, (StatusCode, Refused)> {
        let all = self.ask(JobsAsked::Queues).await?;
        let found = items(&all, "queues").iter().find(|queue| queue["name"] == name).cloned();
        found.ok_or_else(|| (StatusCode::NOT_FOUND, Refused::new(format!("there is no queue `{name}`"))))
    }

    /// What a form asks for; then back to the page it stands on.
    async fn done(&self, root: &str, asked: &Asked) -> Result<Answer, (StatusCode, Refused)> {
        if comes_from(asked) != Page::Ours {
            let why = "this was not sent by a page of ours: go to the pages themselves";
            return Err((StatusCode::FORBIDDEN, Refused::new(why)));
        }
        let form = fields(std::str::from_utf8(&asked.body).unwrap_or_default());
        let wanted = wanted(&form).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
        let answer = self.ask(wanted.clone()).await?;
        if let Some((action, detail)) = jobs::deed(&wanted, &answer) {
            let actor = asked.identity.as_ref().map_or(self.nobody, |identity| &identity.user);
            self.notes.note(Event::Admin { action: action.to_owned(), detail }, Some(actor.to_owned()));
        }
        let back = form.get("back").filter(|back| is_within(root, back)).map_or(root, String::as_str);
        // A job that was removed has no page any more.
        let is_gone = matches!(wanted, JobsAsked::Remove(_)) && back.contains("/job?");
        Ok(to(if is_gone { root } else { back }))
    }

    async fn ask(&self, asked: JobsAsked) -> Result<Value, (StatusCode, Refused)> {
        let jobs = self.jobs.load_full();
        let status = if jobs.is_some() { StatusCode::CONFLICT } else { StatusCode::SERVICE_UNAVAILABLE };
        let status =
            if matches!(asked, JobsAsked::Show { .. }) && jobs.is_some() { StatusCode::NOT_FOUND } else { status };
        jobs::run(jobs.as_deref(), asked).await.map_err(|why| (status, why))
    }
}

/// Which page.
fn below<'a>(root: &str, asked: &'a Asked) -> &'a str {
    asked.path.get(root.len()..).unwrap_or_default().trim_start_matches('/')
}

/// The verb a form names, as `mainstay jobs` has it.
fn wanted(form: &Fields) -> Result<JobsAsked, Refused> {
    let word = |name: &str| form.get(name).map(|word| word.trim().to_owned()).unwrap_or_default();
    // As it stands there: blanks at the end of an id of BullMQ's are its own.
    let id = || id(form.get("id").map_or("", String::as_str)).map_err(|(_, why)| why);
    let queue = || word("queue");
    Ok(match word("verb").as_str() {
        "retry" => JobsAsked::Retry(id()?),
        "promote" => JobsAsked::Promote(id()?),
        "remove" => JobsAsked::Remove(id()?),
        "pause" => JobsAsked::Pause(queue()),
        "resume" => JobsAsked::Resume(queue()),
        "drain" => JobsAsked::Drain { queue: queue(), delayed: word("delayed") == "1" },
        "clean" => JobsAsked::Clean { queue: queue(), state: word("state"), older_ms: 0 },
        "redrive" => JobsAsked::Redrive { queue: queue(), state: Some(word("state")) },
        "unschedule" => JobsAsked::Unschedule(word("name")),
        "add" => JobsAsked::Add(Box::new(added(&word)?)),
        other => return Err(Refused::new(format!("there is no verb `{other}`"))),
    })
}

fn added(word: &dyn Fn(&str) -> String) -> Result<JobAdded, Refused> {
    let payload = word("payload");
    let payload = if payload.is_empty() { "{}".to_owned() } else { payload };
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&payload) {
        return Err(Refused::new(format!("the data is no JSON: {error}")));
    }
    let delay_ms = match word("delay").as_str() {
        "" => 0,
        text => {
            let delay = units::duration(text).map_err(|why| Refused::new(format!("the delay: {why}")))?;
            u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
        }
    };
    let job = JobAsked { name: word("name"), payload, ..JobAsked::default() };
    Ok(JobAdded { queue: word("queue"), job, delay_ms, ..JobAdded::default() })
}

/// By the browser's own word; a program that brings no such word brings no cookie either, and has verbs of its own.
pub fn comes_from(asked: &Asked) -> Page {
    let header = |name: HeaderName| asked.headers.get(name).map(HeaderValue::as_bytes);
    page(&Said {
        origin: header(ORIGIN),
        site: header(HeaderName::from_static("sec-fetch-site")),
        host: &asked.host,
        https: asked.https,
        allowed: false,
    })
}

/// An address of these pages, and of nobody else's.
fn is_within(root: &str, back: &str) -> bool {
    let rest = back.strip_prefix(root);
    // What is asked there is no path: an id of BullMQ's may hold anything.
    let path = back.split_once('?').map_or(back, |(path, _)| path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        && back.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && !["/.", "%2e", "%2E"].iter().any(|part| path.contains(part))
}

/// `a=b&c=d`, as browsers send it; of a name that comes twice the last.
pub fn fields(text: &str) -> Fields {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn number(text: &str) -> Result<u64, (StatusCode, Refused)> {
    text.parse().map_err(|_| (StatusCode::BAD_REQUEST, Refused::new(format!("`{text}` is no number"))))
}

/// A number, or a queue and what BullMQ calls the job.
fn id(text: &str) -> Result<String, (StatusCode, Refused)> {
    match text.split_once(':') {
        Some((queue, id)) if !queue.is_empty() && !id.is_empty() => Ok(text.to_owned()),
        _ => number(text).map(|number| number.to_string()),
    }
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

pub fn html(status: StatusCode, page: String) -> Answer {
    let mut answer = Answer::empty(status);
    answer.body = page.into();
    answer
        .with(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))
        .with(CONTENT_SECURITY_POLICY, HeaderValue::from_static(NO_SCRIPTS))
        .with(REFERRER_POLICY, HeaderValue::from_static("same-origin"))
}

fn told(root: &str, status: StatusCode, why: &Refused) -> Answer {
    html(status, refused(root, &why.message))
}

/// 303: the browser comes with GET, and a reload does nothing twice.
pub fn to(address: &str) -> Answer {
    let mut answer = Answer::empty(StatusCode::SEE_OTHER);
    if let Ok(location) = HeaderValue::from_str(address) {
        answer.headers.insert(LOCATION, location);
    }
    answer
}

pub fn file(content_type: &'static str, text: &'static str) -> Answer {
    let mut answer = Answer::empty(StatusCode::OK);
    answer.body = text.into();
    answer.with(CONTENT_TYPE, HeaderValue::from_static(content_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_browsers_send_it() {
        let form = fields("verb=add&queue=a+b%26c&payload=%7B%22a%22%3A1%7D&delay=10s&name=");
        let JobsAsked::Add(added) = wanted(&form).expect("a verb") else { panic!("another verb") };
        assert_eq!((&*added.queue, &*added.job.payload, added.delay_ms), ("a b&c", "{\"a\":1}", 10_000));
    }

    #[test]
    fn what_a_form_lacks_is_told() {
        for (form, why) in [
            ("verb=retry&id=x", "`x` is no number"),
            ("verb=burn", "there is no verb `burn`"),
            ("verb=add&queue=q&payload=%7B", "the data is no JSON"),
            ("verb=add&queue=q&delay=soon", "the delay"),
            ("", "there is no verb ``"),
        ] {
            let refused = wanted(&fields(form)).expect_err(form);
            assert!(refused.message.contains(why), "{form}: {}", refused.message);
        }
    }

    fn form(body: &str) -> Asked {
        let mut headers = http::HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static("http://127.0.0.1:3000"));
        Asked {
            method: Method::POST,
            path: "/admin/queues/do".to_owned(),
            query: None,
            headers,
            body: body.to_owned().into(),
            client: std::net::Ipv4Addr::LOCALHOST.into(),
            https: false,
            host: "127.0.0.1:3000".to_owned(),
            request_id: String::new(),
            identity: None,
            session: None,
        }
    }

    /// A drain of many pieces, for a page whose time is over before it has begun, and for a browser that goes away.
    #[test]
    fn what_a_form_has_begun_is_finished_and_told_of_whoever_waits() {
        use mainstay_jobs::{NewJob, Settings, Setup};
        use mainstay_store::Durable;
        use mainstay_store::journal::{Journal, MIGRATIONS, Query};
        use mainstay_store::sqlite::Sqlite;
        let folder = tempfile::tempdir().expect("a folder");
        let setup = Setup {
            place: mainstay_jobs::Place::File(folder.path().join("jobs.db")),
            queues: vec![("scan".into(), Settings::default())],
            clock: mainstay_jobs::Clock::system(),
            seed: 1,
            pusher: None,
        };
        let jobs = Jobs::open(setup).expect("jobs");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let store = Sqlite::open(&folder.path().join("journal.db"), &[MIGRATIONS]).expect("a store");
            let journal = Journal::new(Durable::Sqlite(store));
            let ((notes, writer), (end, shutdown)) = (Notes::new(), mainstay_runtime::Shutdown::new());
            let writing = tokio::spawn(writer.run(journal.clone(), shutdown, |error| panic!("{error}")));
            let current = Arc::new(ArcSwapOption::from_pointee(jobs.clone()));
            let mut pages = Pages::new(Arc::default(), current, notes.clone());
            for leaves in [false, true] {
                jobs.add("scan", (0..3500).map(|_| NewJob::new("x")).collect()).await.expect("added");
                let drained = form("verb=drain&queue=scan");
                if leaves {
                    let answering = pages.answer("/admin/queues", drained);
                    // Begun, and dropped at its first wait.
                    assert!(tokio::time::timeout(Duration::ZERO, answering).await.is_err());
                } else {
                    pages.limit = Duration::ZERO;
                    let answer = pages.answer("/admin/queues", drained).await;
                    pages.limit = PAGE_LIMIT;
                    assert_eq!(answer.status, StatusCode::ACCEPTED);
                    assert!(String::from_utf8_lossy(&answer.body).contains("mainstay journal --audit"));
                }
                // Its turn comes back when it is done.
                let all = u32::try_from(FORMS).expect("few");
                let turns = tokio::time::timeout(Duration::from_secs(30), pages.forms.acquire_many(all)).await;
                drop(turns.expect("it ends").expect("turns"));
                let queues = jobs.queues().await.expect("queues");
                assert_eq!(queues[0].counts.waiting, 0);
            }
            end.request();
            writing.await.expect("no panic");
            let told = journal.read(&Query::default()).await.expect("entries");
            let drained = Event::Admin { action: "queue drained".to_owned(), detail: "3500 of scan".to_owned() };
            let told: Vec<Event> = told.iter().filter_map(|entry| entry.event()).collect();
            assert_eq!(told, [drained.clone(), drained]);
            jobs.close().await;
        });
    }

    #[test]
    fn it_goes_back_to_pages_of_ours_alone() {
        let within = |back| is_within("/admin/queues", back);
        for good in [
            "/admin/queues",
            "/admin/queues?x=1",
            "/admin/queues/list?queue=a&skip=50",
            "/admin/queues/job?id=a%3Ab%2E%2E%2Fc",
        ] {
            assert!(within(good), "{good}");
        }
        for bad in [
            "//evil.example",
            "https://evil.example/",
            "/admin/queuesx",
            "/admin/queues/\r\nx",
            "/",
            "/admin/queues/../x",
            "/admin/queues/%2e%2e",
        ] {
            assert!(!within(bad), "{bad}");
        }
    }
}
