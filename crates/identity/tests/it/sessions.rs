//! One suite for sessions on SQLite and on Postgres, with Redis and without, on one node and on two.

use mainstay_config::{Inputs, Reader, Text};
use mainstay_identity::Identity;
use mainstay_identity::sessions::{self, ASK_LIMIT, Fault, Id, Policy, SESSIONS_A_USER_MAX, Sessions, Who};
use mainstay_runtime::{Clock, Shutdown, Trigger};
use mainstay_servers::PgBouncer;
use mainstay_servers::postgres::Postgres as Server;
use mainstay_servers::redis::Redis as RedisServer;
use mainstay_servers::wait::BOUND;
use mainstay_store::postgres::{self, Postgres};
use mainstay_store::redis::{self, Redis, State};
use mainstay_store::sqlite::Sqlite;
use mainstay_store::{Durable, migrate::Migrations};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const BLOCKS: [Migrations; 1] = [sessions::MIGRATIONS];
const DAY_S: u64 = 86_400;

fn reader(file: &str, environment: &[(&str, &str)]) -> Reader {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file = Some(Text { path: "mainstay.toml".into(), text: file.to_owned() });
    Reader::new(&Inputs { environment, file, ..Inputs::default() })
}

fn policy() -> Policy {
    let reader = reader("[identity.sessions]\n", &[("MAINSTAY_ENV", "development")]);
    Policy::read(&reader, &reader.table("identity")).expect("a policy")
}

/// Where the durable store is.
enum Place {
    File(tempfile::TempDir),
    Server(Server),
    Pooled(PgBouncer),
}

impl Place {
    fn all() -> [Place; 3] {
        let file = Place::File(tempfile::tempdir().expect("a folder"));
        [file, Place::Server(Server::plain()), Place::Pooled(PgBouncer::plain())]
    }

    async fn open(&self) -> Durable {
        let url = match self {
            Place::File(folder) => {
                return Durable::Sqlite(Sqlite::open(&folder.path().join("x.db"), &BLOCKS).expect("a file"));
            }
            Place::Server(server) => server.url(),
            Place::Pooled(bouncer) => bouncer.url(),
        };
        let options = postgres::Options::read(&reader("", &[("DATABASE_URL", &url)]), true);
        Durable::Postgres(Postgres::open(&options.expect("an address"), &BLOCKS).await.expect("tables"))
    }
}

/// A node: its sessions, with their upkeep running.
struct Node {
    sessions: Arc<Sessions>,
    policy: Arc<Policy>,
    redis: Option<Redis>,
    durable: Durable,
    _running: Trigger,
}

impl Node {
    async fn start(place: &Place, server: Option<&RedisServer>) -> Node {
        let (sessions, upkeep) = Sessions::new(Some(policy()));
        let (trigger, shutdown) = Shutdown::new();
        let (mut redis, mut heard) = (None, None);
        if let Some(server) = server {
            let options = redis::Options::read(&reader("", &[("REDIS_URL", &server.url())])).expect("an address");
            let (handle, keeper) = Redis::new(&options).expect("a handle");
            tokio::spawn(keeper.run(shutdown.clone()));
            let (news, listener) = redis::listen(&options, &[sessions::CHANNEL]).expect("a listener");
            tokio::spawn(listener.run(shutdown.clone()));
            until("a link", async || handle.state() == State::Up).await;
            (redis, heard) = (Some(handle), Some(news));
        }
        let durable = place.open().await;
        sessions.open(durable.clone(), redis.clone());
        tokio::spawn(upkeep.run(heard, shutdown));
        let policy = sessions.policy().expect("a policy");
        Node { sessions, policy, redis, durable, _running: trigger }
    }

    async fn begin(&self, user: &str, old: Option<&Id>) -> Id {
        let (roles, second_factor) = (vec!["user".to_owned()], false);
        let identity = Identity { user: user.to_owned(), roles, tenant: None, tier: None, second_factor, expires_s: 0 };
        self.sessions.begin(&identity, old, "curl/8", HOME, now_s()).await.expect("a session").id
    }

    /// As a core asks, that many seconds from now on both clocks.
    async fn who_in(&self, id: &Id, later_s: u64) -> Option<String> {
        self.asked(id, now_s() + later_s, Clock::now().0 + later_s * 1000).await
    }

    /// By the clock that sessions live by alone: what a store has said stays fresh.
    async fn used_in(&self, id: &Id, later_s: u64) -> Option<String> {
        self.asked(id, now_s() + later_s, Clock::now().0).await
    }

    /// What this node says by itself. The store goes by its own clock.
    fn is_over_in(&self, id: &Id, later_s: u64) -> bool {
        self.sessions.at_once(&self.policy, id.hash(), now_s() + later_s, Clock::now().0).is_none()
    }

    async fn asked(&self, id: &Id, now_s: u64, now_ms: u64) -> Option<String> {
        let who = match self.sessions.at_once(&self.policy, id.hash(), now_s, now_ms) {
            Some(who) => who,
            None => self.sessions.recognise(&self.policy, id.hash(), ASK_LIMIT, (now_s, now_ms)).await,
        };
        match who {
            Who::User { session, .. } => Some(session.identity.user.clone()),
            Who::Nobody => None,
            Who::Unsaid => Some("unsaid".to_owned()),
        }
    }

    async fn who(&self, id: &Id) -> Option<String> {
        self.who_in(id, 0).await
    }

    async fn users_sessions(&self, user: &str) -> usize {
        self.sessions.list(user, now_s()).await.expect("a list").len()
    }
}

fn now_s() -> u64 {
    Clock::unix_micros() / 1_000_000
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < BOUND, "waited {BOUND:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    mainstay_runtime::services().expect("a runtime").block_on(work)
}

fn user(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn a_session_outlives_the_server_and_its_end_does_too() {
    for place in Place::all() {
        run(async {
            let node = Node::start(&place, None).await;
            let (one, other) = (node.begin("u1", None).await, node.begin("u1", None).await);
            assert_eq!((node.who(&one).await, node.who(&other).await), (user("u1"), user("u1")));
            assert!(node.sessions.end(&other, now_s()).await.expect("an end"));
            assert!(!node.sessions.end(&other, now_s()).await.expect("no end"), "once");
            assert_eq!(node.who(&other).await, None);
            // Not asked to end in any order: as a killed server leaves it.
            node.durable.close().await;
            let after = Node::start(&place, None).await;
            assert_eq!((after.who(&one).await, after.who(&other).await), (user("u1"), None));
            assert_eq!(after.who(&Id::random().expect("an id")).await, None, "one that never was");
            assert_eq!(after.users_sessions("u1").await, 1);
        });
    }
}

#[test]
fn a_login_ends_the_session_before_and_one_too_many_the_least_used() {
    for place in Place::all() {
        run(async {
            let node = Node::start(&place, None).await;
            let planted = node.begin("mallory", None).await;
            let own = node.begin("u1", Some(&planted)).await;
            assert_eq!((node.who(&planted).await, node.who(&own).await), (None, user("u1")));
            let mut all = Vec::new();
            for _ in 0..SESSIONS_A_USER_MAX {
                all.push(node.begin("many", None).await);
            }
            // Used since it began, so another one goes.
            assert_eq!(node.used_in(&all[0], 120).await, user("many"));
            until("the use to be written down", async || {
                let listed = node.sessions.list("many", now_s()).await.expect("a list");
                listed[0].session.hash == all[0].hash()
            })
            .await;
            let last = node.begin("many", None).await;
            assert_eq!(node.users_sessions("many").await, SESSIONS_A_USER_MAX as usize);
            assert_eq!((node.who(&all[0]).await, node.who(&last).await), (user("many"), user("many")));
            let ended = all[1..].iter();
            let mut gone = 0;
            for id in ended {
                gone += usize::from(node.who(id).await.is_none());
            }
            assert_eq!(gone, 1);
            assert_eq!(node.who(&own).await, user("u1"), "nobody else's");
        });
    }
}

#[test]
fn it_rolls_while_it_is_used_and_a_restart_knows_that() {
    for place in Place::all() {
        run(async {
            let node = Node::start(&place, None).await;
            let (used, unused) = (node.begin("u1", None).await, node.begin("u2", None).await);
            for hours in [20, 40, 60] {
                assert_eq!(node.used_in(&used, hours * 3600).await, user("u1"), "after {hours} h");
            }
            assert!(node.is_over_in(&unused, DAY_S));
            until("the use to be written down", async || {
                let listed = node.sessions.list("u1", now_s()).await.expect("a list");
                listed[0].seen_s > now_s() + 59 * 3600
            })
            .await;
            // Long enough for the writer, which gathers for a second: what the list says may be from memory.
            until("the store to know", async || match &node.durable {
                Durable::Sqlite(store) => {
                    let sql = "SELECT max(seen_s) FROM sessions";
                    let read = store.read(move |c| Ok(c.query_row(sql, [], |row| row.get::<_, i64>(0))?));
                    read.await.expect("a time") as u64 > now_s() + 59 * 3600
                }
                Durable::Postgres(store) => {
                    let client = store.client().await.expect("a client");
                    let row = client.query_one("SELECT max(seen_s) FROM mainstay.sessions", &[]).await;
                    row.expect("a time").get::<_, i64>(0) as u64 > now_s() + 59 * 3600
                }
            })
            .await;
            node.durable.close().await;
            let after = Node::start(&place, None).await;
            assert_eq!(after.who_in(&used, 80 * 3600).await, user("u1"));
            assert!(after.is_over_in(&used, 80 * 3600 + DAY_S));
            assert!(after.is_over_in(&unused, DAY_S));
        });
    }
}

#[test]
fn all_of_a_user_end_but_the_one_that_asks() {
    for place in Place::all() {
        run(async {
            let node = Node::start(&place, None).await;
            let mine = [node.begin("u1", None).await, node.begin("u1", None).await, node.begin("u1", None).await];
            let theirs = node.begin("u2", None).await;
            let handle = mine[2].hash().handle();
            assert!(!node.sessions.end_of("u2", &handle, now_s()).await.expect("no end"), "somebody else's");
            assert!(node.sessions.end_of("u1", &handle, now_s()).await.expect("an end"));
            assert_eq!(node.sessions.end_all("u1", Some(&mine[0]), now_s()).await.expect("an end"), 1);
            assert_eq!(node.who(&mine[0]).await, user("u1"));
            assert_eq!((node.who(&mine[1]).await, node.who(&mine[2]).await), (None, None));
            assert_eq!(node.sessions.end_all("u1", None, now_s()).await.expect("an end"), 1);
            assert_eq!((node.who(&mine[0]).await, node.who(&theirs).await), (None, user("u2")));
        });
    }
}

#[test]
fn two_nodes_see_each_others_sessions_and_ends() {
    let (place, server) = (Place::Server(Server::plain()), RedisServer::plain());
    run(async {
        let (a, b) = (Node::start(&place, Some(&server)).await, Node::start(&place, Some(&server)).await);
        let id = a.begin("u1", None).await;
        assert_eq!((a.who(&id).await, b.who(&id).await), (user("u1"), user("u1")));
        assert!(a.sessions.end(&id, now_s()).await.expect("an end"));
        assert_eq!(a.who(&id).await, None, "at once");
        let began = Instant::now();
        until("the other to hear of it", async || b.who(&id).await.is_none()).await;
        println!("heard after {:?}", began.elapsed());
        // Without the message: what is 5 s old is asked again.
        let id = b.begin("u2", None).await;
        assert_eq!(a.who(&id).await, user("u2"));
        let said = server.cli(&["SET", &format!("mainstay:session:{}", key(&id)), "-"]);
        assert_eq!(said.trim(), "OK");
        assert_eq!(a.who(&id).await, user("u2"));
        assert_eq!(a.who_in(&id, 5).await, None);
    });
}

/// As Redis has it.
fn key(id: &Id) -> String {
    use base64::Engine;
    let hash = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        &base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(id.text()).expect("an id"),
    );
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(hash.as_ref())
}

#[test]
fn redis_killed_with_all_it_knew_logs_nobody_out_and_nobody_in() {
    for place in Place::all() {
        let mut server = RedisServer::plain();
        run(async {
            let node = Node::start(&place, Some(&server)).await;
            let (stays, ends) = (node.begin("u1", None).await, node.begin("u2", None).await);
            server.kill();
            // Past what this node knows for sure.
            assert_eq!(node.who_in(&stays, 6).await, user("u1"));
            assert!(node.sessions.end(&ends, now_s()).await.expect("an end while Redis is away"));
            assert_eq!(node.who_in(&ends, 6).await, None);
            let late = node.begin("u3", None).await;
            assert_eq!(node.who_in(&late, 6).await, user("u3"));
            // Nothing was saved: it comes back empty.
            server.run();
            let redis = node.redis.clone().expect("a handle");
            until("the link to be back", async || redis.state() == State::Up).await;
            for id in [&stays, &late] {
                until("a session to be back in Redis", async || {
                    assert!(node.who_in(id, 12).await.is_some_and(|name| name != "unsaid"));
                    server.cli(&["EXISTS", &format!("mainstay:session:{}", key(id))]).trim() == "1"
                })
                .await;
            }
            until("the end to be told", async || {
                server.cli(&["GET", &format!("mainstay:session:{}", key(&ends))]).trim() == "-"
            })
            .await;
            assert_eq!(node.who_in(&ends, 12).await, None);
        });
    }
}

#[test]
fn with_every_store_away_what_is_known_counts_and_what_is_not_is_unsaid() {
    let place = Place::Server(Server::plain());
    run(async {
        let Place::Server(used) = &place else { unreachable!() };
        let node = Node::start(&place, None).await;
        let (known, unknown) = (node.begin("u1", None).await, Id::random().expect("an id"));
        used.pause();
        assert_eq!(node.who_in(&known, 6).await, user("u1"));
        assert_eq!(node.who(&unknown).await, user("unsaid"));
        used.resume();
        until("the store to answer", async || node.who(&unknown).await.is_none()).await;
        node.sessions.close();
        assert!(matches!(node.sessions.end(&known, now_s()).await, Err(Fault::Closed)));
        assert_eq!(node.who_in(&known, 6).await, user("u1"));
    });
}
