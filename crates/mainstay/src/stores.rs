//! What the Redis of `[store]` is like: whether it forgets, grows without end, lets everybody in (D10). `mainstay
//! check` asks it, and so does a server that starts; nothing waits for the answer.

use crate::journal::{self, Opening};
use crate::screen;
use crate::server::Server;
use crate::settings::{self, Settings};
use crate::voice::Voice;
use mainstay_config::Fault;
use mainstay_jobs::Truth;
use mainstay_runtime::{OnEnd, Shutdown, Tasks};
use mainstay_store::migrate::Migrations;
use mainstay_store::redis::{self, Finding, Level, Uses};
use mainstay_store::{Durable, Options, Shared};
use std::rc::Rc;
use std::time::Duration;

/// All servers of a cluster together.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// Between two attempts to ask one that is away.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// Which Redis is looked at, and what is to be kept there. Nothing is asked where nothing is kept: an app's cache may
/// be as it is.
fn kept(settings: &Settings) -> Option<(redis::Options, Uses)> {
    let (is_shared, jobs) = (settings.store.shared == Shared::Redis, settings.jobs.truth != Truth::Own);
    let sessions = is_shared && settings.edge.identity.sessions.is_some();
    let uses = Uses { limits: is_shared, sessions, jobs };
    settings.store.redis.clone().filter(|_| is_shared || jobs).map(|redis| (redis, uses))
}

/// Whose tables the durable store holds.
pub const BLOCKS: [Migrations; 4] = [
    mainstay_store::journal::MIGRATIONS,
    mainstay_identity::sessions::MIGRATIONS,
    mainstay_identity::operators::MIGRATIONS,
    mainstay_identity::accounts::MIGRATIONS,
];

/// The durable store, as those see it who wait for it.
#[derive(Clone)]
pub enum Store {
    Opening,
    /// The first attempt came to nothing; it is tried again.
    Away,
    Open(Durable),
    /// It is somebody else's now.
    Closed,
}

/// Nothing is asked where nothing is kept there: an app's cache may be as it is.
pub fn shared(options: &Options) -> Option<&redis::Options> {
    options.redis.as_ref().filter(|_| options.shared == Shared::Redis)
}

/// Opens what this server keeps, and looks at what it shares. Not before it owns the data folder.
pub fn open(tasks: &Tasks, server: &Rc<Server>, journal: (Opening, bool), voice: &Voice, watching: Shutdown) {
    let options = server.book.options();
    // Jobs look at theirs themselves, before they open.
    let uses = Uses { limits: true, sessions: server.edge.options().identity.sessions.is_some(), jobs: false };
    tasks.spawn("look at Redis", OnEnd::Ignore, look(options, uses, voice.clone(), watching.clone()));
    journal::open(tasks, server, journal, voice, watching);
    server.queues.open();
}

/// Faults and warnings, for a verb that waits for them.
pub fn judged(settings: &Settings) -> (Vec<Fault>, Vec<Fault>) {
    let Some((options, uses)) = kept(settings) else { return Default::default() };
    let options = &options;
    let report = mainstay_runtime::local().map(|runtime| runtime.block_on(redis::check(options, uses, ASK_LIMIT)));
    match report {
        Ok(Ok(report)) => {
            let (faults, warnings) = report.findings.into_iter().partition(|finding| finding.level == Level::Fault);
            let told = |all: Vec<Finding>| all.into_iter().map(|finding| told(options, finding)).collect();
            (told(faults), told(warnings))
        }
        Ok(Err(error)) => (Vec::new(), vec![away(options, &settings::chain(&error))]),
        Err(error) => (Vec::new(), vec![away(options, &error.to_string())]),
    }
}

/// Said once it answers; that it is away is said too, once. What is wrong keeps nobody from serving.
async fn look(options: Options, uses: Uses, voice: Voice, shutdown: Shutdown) {
    let Some(options) = shared(&options) else { return };
    let mut is_said = false;
    loop {
        let looking = redis::check(options, uses, ASK_LIMIT);
        let report = tokio::select! {
            report = looking => report,
            () = shutdown.requested() => return,
        };
        match report {
            Ok(report) => {
                let faults = report.findings.into_iter().map(|finding| (finding.level, told(options, finding)));
                faults.for_each(|(level, fault)| match level {
                    Level::Fault => voice.error(&text(&fault)),
                    Level::Warning => voice.warn(&text(&fault)),
                });
                return;
            }
            Err(error) if !std::mem::replace(&mut is_said, true) => {
                voice.warn(&text(&away(options, &settings::chain(&error))));
            }
            Err(_) => {}
        }
        if tokio::time::timeout(ASK_EVERY, shutdown.requested()).await.is_ok() {
            return;
        }
    }
}

/// For a log, where the level stands elsewhere.
fn text(fault: &Fault) -> String {
    screen::without_label(&screen::warn(fault)).trim_end().to_owned()
}

fn told(options: &redis::Options, finding: Finding) -> Fault {
    let node = format!("{}:{}", finding.node.host, finding.node.port);
    fault(options, format!("Redis at {node}: {}", finding.what), finding.fix)
}

fn away(options: &redis::Options, why: &str) -> Fault {
    fault(options, format!("Redis could not be looked at: {why}"), "start it, or mend its address".to_owned())
}

fn fault(options: &redis::Options, what: String, fix: String) -> Fault {
    Fault::new(&options.at, what).fix(fix)
}
