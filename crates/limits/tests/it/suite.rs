//! One suite over everything that counts: this process's memory, a Redis, a Redis Cluster whose master of the key dies,
//! and Sentinels that fail over meanwhile. The oracle is a list of times that were admitted, nothing cleverer.

use mainstay_config::units::{Per, rate};
use mainstay_config::{Inputs, Reader};
use mainstay_limits::redis::{SCRIPT, Subject, ask, give_back, key, read};
use mainstay_limits::window::{Decision, Limit};
use mainstay_limits::{Rates, Rule};
use mainstay_runtime::{Shutdown, Trigger};
use mainstay_servers::wait::wait_until;
use mainstay_servers::{Cluster, Sentinels};
use mainstay_store::redis::{Options, Redis, Script, Value};
use std::time::Duration;
use tokio::runtime::LocalRuntime;

/// Requests of a sequence; half of them come before whatever happens to the server.
const REQUESTS: u32 = 600;
/// What Redis keeps of any of them outlives a failover, in time that really passes.
const LIMITS: [&str; 4] = ["5/min", "100/min", "200/min", "20/h smooth"];
const BEGIN_US: u64 = 1_795_000_000_000_000;

/// Whoever counts. One client a limit.
trait Counts {
    fn admit(&mut self, limit: &Limit, now_us: u64) -> Decision;
    fn give_back(&mut self, limit: &Limit, mark_us: u64);
}

struct Memory {
    rates: Rates,
}

impl Memory {
    fn place(&self, limit: &Limit) -> (mainstay_limits::rates::InForce, mainstay_limits::rates::Place) {
        let rule = Rule { limit: *limit, ..rule() };
        let rule = self.rates.in_force(&Rule { name: format!("{limit:?}"), ..rule });
        let place = self.rates.of_header(&rule, b"client");
        (rule, place)
    }
}

fn rule() -> Rule {
    Rule::new(String::new(), String::new(), &rate("1/min", None).expect("a rate"), Per::Ip)
}

impl Counts for Memory {
    fn admit(&mut self, limit: &Limit, now_us: u64) -> Decision {
        let (rule, place) = self.place(limit);
        self.rates.admit(&rule, &place, now_us)
    }

    fn give_back(&mut self, limit: &Limit, mark_us: u64) {
        let (_, place) = self.place(limit);
        self.rates.give_back(&place, mark_us);
    }
}

struct Shared {
    runtime: LocalRuntime,
    redis: Redis,
    script: Script,
    _running: Trigger,
}

impl Shared {
    fn at(variables: &[(&str, &str)]) -> Shared {
        let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let reader = Reader::new(&Inputs { environment, ..Inputs::default() });
        let options = Options::read(&reader).expect("an address");
        let runtime = mainstay_runtime::local().expect("a runtime");
        let (redis, keeper) = Redis::new(&options).expect("a handle");
        let (trigger, shutdown) = Shutdown::new();
        runtime.spawn_local(keeper.run(shutdown));
        Shared { runtime, redis, script: Script::new(SCRIPT), _running: trigger }
    }

    /// Until it is answered: a server that has just taken over refuses at first, and what it refused it did not count.
    fn call(&self, limit: &Limit, arguments: &[String; 5]) -> Vec<i64> {
        let key = key_of(limit);
        let ask = || {
            let keys = [&key];
            let call = self.redis.script(&self.script, &keys, arguments, Duration::from_secs(5));
            let Ok(answer) = self.runtime.block_on(call) else {
                // The keeper of the link runs only while something is waited for.
                self.runtime.block_on(async {
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                });
                return None;
            };
            let Value::Array(numbers) = answer else { return Some(Vec::new()) };
            Some(numbers.iter().map(|n| if let Value::Int(n) = n { *n } else { panic!("{n:?}") }).collect())
        };
        let mut answer = None;
        wait_until("an answer of Redis", || {
            answer = ask();
            answer.is_some()
        });
        answer.expect("waited for")
    }
}

/// Each limit is a rule of its own.
fn key_of(limit: &Limit) -> String {
    key(&format!("{limit:?}"), Subject::Name("client"), limit)
}

impl Counts for Shared {
    fn admit(&mut self, limit: &Limit, now_us: u64) -> Decision {
        read(&self.call(limit, &ask(limit, Some(now_us)))).expect("an answer of the script")
    }

    fn give_back(&mut self, limit: &Limit, mark_us: u64) {
        self.call(limit, &give_back(limit, mark_us));
    }
}

/// What a reader of `N/W` expects: the times that were admitted and not taken back.
#[derive(Default)]
struct Log(Vec<u64>);

impl Log {
    fn within(&self, now_us: u64, span_us: u64) -> u32 {
        self.0.iter().filter(|at| now_us - **at < span_us).count() as u32
    }

    /// May this one be admitted; must it be?
    fn expected(&self, limit: &Limit, now_us: u64) -> (bool, bool) {
        let window = limit.window_us();
        match limit {
            Limit { smooth: true, .. } => {
                let room = self.within(now_us, limit.distance_us()) == 0;
                (room, room)
            }
            Limit { count: ..=128, .. } => {
                let room = self.within(now_us, window) < limit.count;
                (room, room)
            }
            // In 64 parts, of which the oldest counts until all of it is outside.
            _ => (self.within(now_us, window) < limit.count, self.within(now_us, window / 64 * 65 + 1) < limit.count),
        }
    }
}

/// The same numbers each time: a failure names the limit and the moment.
struct Gaps(u64);

impl Gaps {
    fn next(&mut self, limit: &Limit) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = self.0 >> 33;
        // Mostly about twice as fast as the limit, now and then a pause, to the millisecond as stamps are.
        let usual = limit.window_us() / u64::from(limit.count);
        let gap = if random.is_multiple_of(200) { usual * 30 } else { random % usual };
        gap / 1000 * 1000
    }
}

/// `meanwhile` happens between the two halves; what was counted stays counted.
fn suite(name: &str, counts: &mut dyn Counts, meanwhile: &mut dyn FnMut()) {
    let limits = LIMITS.map(|text| Limit::new(&rate(text, None).expect("a rate")));
    let mut logs: [(Log, Gaps, u64); 4] =
        std::array::from_fn(|number| (Log::default(), Gaps(number as u64 + 7), BEGIN_US));
    for half in 0..2 {
        for (limit, (log, gaps, now_us)) in limits.iter().zip(&mut logs) {
            let mut refused = 0;
            for request in 0..REQUESTS {
                *now_us += gaps.next(limit);
                let (may, must) = log.expected(limit, *now_us);
                let decision = counts.admit(limit, *now_us);
                let told = format!("{name}, {limit:?}, half {half}, request {request}: {decision:?}");
                assert!(if decision.allowed { may } else { !must }, "{told}");
                match decision.allowed {
                    true => log.0.push(*now_us),
                    false => refused += 1,
                }
                if limit.count <= 128 && !limit.smooth {
                    let left = limit.count - log.within(*now_us, limit.window_us());
                    assert_eq!(decision.remaining, left, "{told}");
                    // What succeeded may be given back, once.
                    if decision.allowed && request % 9 == 0 {
                        counts.give_back(limit, decision.mark_us);
                        counts.give_back(limit, decision.mark_us);
                        log.0.pop();
                    }
                }
            }
            assert!(refused > REQUESTS / 10, "{name}, {limit:?}: {refused} were refused, which proves little");
        }
        if half == 0 {
            meanwhile();
        }
    }
}

#[test]
fn memory_counts_as_a_list_of_times_would() {
    suite("memory", &mut Memory { rates: Rates::default() }, &mut || {});
}

#[test]
fn a_redis_counts_alike() {
    let redis = mainstay_servers::Redis::plain();
    suite("redis", &mut Shared::at(&[("REDIS_URL", &redis.url())]), &mut || {});
}

#[test]
fn a_cluster_counts_alike_and_goes_on_where_a_master_has_died() {
    let mut cluster = Cluster::start(None);
    let nodes = cluster.nodes();
    let mut counts = Shared::at(&[("REDIS_CLUSTER_ENABLED", "true"), ("REDIS_CLUSTER_NODES", &nodes)]);
    let smooth = Limit::new(&rate(LIMITS[3], None).expect("a rate"));
    let mine = key_of(&smooth);
    suite("cluster", &mut counts, &mut || {
        let master = cluster.master_of(&mine);
        // What a replica has is what counts on; it follows a little later.
        master.wait_until_followed();
        master.kill();
    });
}

#[test]
fn sentinels_count_alike_over_a_failover() {
    let mut sentinels = Sentinels::start(None);
    let list = sentinels.list();
    let variables =
        [("REDIS_SENTINEL_ENABLED", "true"), ("REDIS_SENTINELS", list.as_str()), ("REDIS_RETRY_DELAY", "100")];
    let mut counts = Shared::at(&variables);
    suite("sentinels", &mut counts, &mut || {
        let before = sentinels.master();
        let master = sentinels.servers.iter().find(|server| server.port() == before);
        master.expect("one of ours").wait_until_followed();
        sentinels.kill_master();
        wait_until("the failover", || sentinels.master() != before);
    });
}
