//! Jobs in Postgres with what can happen to it: another node takes over, the server is killed, and apps add jobs in
//! transactions of their own.

use crate::ground::options;
use crate::image::Image;
use crate::simulation::Play;
use mainstay_jobs::op::Finish;
use mainstay_jobs::store::Store;
use mainstay_jobs::{Claim, Clock, Error, Jobs, NewJob, Outcome, Place, Settings, Setup, State, Work};
use mainstay_servers::PgBouncer;
use mainstay_servers::postgres::Postgres as Server;
use mainstay_servers::wait::BOUND;
use mainstay_store::Error as StoreError;
use mainstay_store::postgres::tokio_postgres::types::Type;
use mainstay_store::postgres::tokio_postgres::{Client, NoTls};
use std::time::{Duration, Instant};

fn place(server: &Server) -> Place {
    Place::Postgres(Box::new(options(&server.url())))
}

/// Through PgBouncer, where nobody has a session.
fn pooled(bouncer: &PgBouncer) -> Place {
    Place::Postgres(Box::new(options(&bouncer.url())))
}

/// A server with and without PgBouncer before it, and how each is reached.
fn servers() -> [(Option<PgBouncer>, Server); 2] {
    let (plain, behind) = (Server::plain(), Server::plain());
    [(None, plain), (Some(PgBouncer::before(&behind)), behind)]
}

fn reached((bouncer, server): &(Option<PgBouncer>, Server)) -> Place {
    bouncer.as_ref().map_or_else(|| place(server), pooled)
}

fn open(place: Place) -> Jobs {
    let queues = vec![("scan".into(), Settings::default())];
    Jobs::open(Setup { place, queues, clock: Clock::system(), seed: 1, pusher: None }).expect("opened")
}

async fn owned(place: &Place) -> Store {
    let mut store = Store::open(place).await.expect("opened");
    store.probe().await.expect("owned");
    store
}

/// A session that was given up holds its lock until the server has noticed.
async fn owned_again(store: &mut Store) {
    let began = Instant::now();
    while let Err(error) = store.probe().await {
        assert!(matches!(error, StoreError::Standby) && began.elapsed() < BOUND, "{error}");
    }
}

async fn add(jobs: &Jobs, payload: &str) -> Result<u64, Error> {
    Ok(jobs.add("scan", vec![NewJob::new(payload)]).await?[0].job)
}

async fn claim(jobs: &Jobs, wait: Duration) -> Result<Vec<Work>, Error> {
    jobs.claim(Claim { queue: "scan".into(), worker: "w".into(), max: 1, wait }).await
}

/// An app's own connection.
async fn app(url: &str) -> Client {
    let url = url.trim_end_matches("?pgbouncer=true");
    let (client, connection) = mainstay_store::postgres::tokio_postgres::connect(url, NoTls).await.expect("connected");
    tokio::spawn(connection);
    client
}

/// Tries until it is let; what it gave, and how long that took.
async fn until<T, F: Future<Output = Result<T, Error>>>(what: &str, attempt: impl Fn() -> F) -> (T, Duration) {
    let began = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return (done, began.elapsed()),
            Err(error) => assert!(began.elapsed() < BOUND, "waited in vain: {what}: {error}"),
        }
        mainstay_servers::wait::pause(Duration::from_millis(10));
    }
}

fn batches(seed: u64, steps: u32) -> Vec<Vec<mainstay_jobs::change::Change>> {
    let mut play = Play::recorded(seed);
    let first = play.first.clone();
    play.run(steps);
    let rest = play.batches.drain(..).map(|batch| batch.changes);
    std::iter::once(first.changes).chain(rest).collect()
}

async fn loaded(store: &mut Store) -> Vec<String> {
    let mut records = Vec::new();
    store.load(&mut |record| records.push(format!("{record:?}"))).await.expect("loaded");
    records.sort_unstable();
    records
}

fn sorted(image: &Image) -> Vec<String> {
    let mut lines: Vec<String> = image.records().iter().map(|record| format!("{record:?}")).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn who_was_replaced_and_does_not_know_it_commits_nothing() {
    let server = Server::plain();
    let mut store = owned(&place(&server)).await;
    let mut image = Image::default();
    for (number, changes) in batches(21, 300).iter().enumerate() {
        if number % 10 == 3 {
            // Its session lives, and somebody else has the jobs by now.
            server.psql("UPDATE mainstay.jobs_owner SET epoch = epoch + 1");
            let fenced = store.commit(changes, true).await;
            assert!(matches!(fenced, Err(StoreError::Fenced)), "{fenced:?}");
            assert!(matches!(store.commit(changes, true).await, Err(StoreError::Standby)));
            owned_again(&mut store).await;
            assert_eq!(loaded(&mut store).await, sorted(&image), "commit {number} was fenced off");
        }
        store.commit(changes, false).await.expect("committed");
        image.commit(changes);
    }
    assert_eq!(loaded(&mut store).await, sorted(&image));
}

#[tokio::test]
async fn another_node_takes_over_when_the_owners_session_is_killed() {
    let server = Server::plain();
    let (first, second) = (open(place(&server)), open(place(&server)));
    assert!(first.decides() && !second.decides());
    let job = add(&first, "x").await.expect("added");
    let work = claim(&first, Duration::ZERO).await.expect("claimed").remove(0);
    // Of the two one will have it, and which is not known.
    let owner = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted";
    server.psql(&format!("SELECT pg_terminate_backend(pid) FROM ({owner}) AS owner"));
    let either = |payload: &'static str| {
        let (first, second) = (first.clone(), second.clone());
        async move {
            match add(&first, payload).await {
                Ok(job) => Ok((job, first)),
                Err(_) => add(&second, payload).await.map(|job| (job, second)),
            }
        }
    };
    let ((next, owner), took) = until("an owner", || either("y")).await;
    println!("taken over within {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(next > job);
    // The token of before holds with whoever has the jobs now.
    owner.complete(job, work.claimed.token, None).await.expect("completed");
    assert_eq!(claim(&owner, Duration::ZERO).await.expect("claimed")[0].claimed.job, next);
    assert_eq!(server.psql("SELECT count(*) FROM mainstay.jobs_job"), "2");
    first.close().await;
    second.close().await;
}

#[tokio::test]
async fn an_owner_that_closes_hands_over_at_once_with_and_without_sessions() {
    for ways in servers() {
        let (first, second) = (open(reached(&ways)), open(reached(&ways)));
        let job = add(&first, "x").await.expect("added");
        first.close().await;
        let (work, took) = until("the second to own", || claim(&second, Duration::ZERO)).await;
        println!("handed over within {took:?}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(work[0].claimed.job, job);
        second.close().await;
    }
}

/// The owner's row is made old instead of waiting until it is.
#[tokio::test]
async fn behind_a_pooler_a_silent_owner_is_replaced_and_fenced_off() {
    let server = Server::plain();
    let bouncer = PgBouncer::before(&server);
    let mut first = owned(&pooled(&bouncer)).await;
    let mut second = Store::open(&pooled(&bouncer)).await.expect("opened");
    assert!(matches!(second.probe().await, Err(StoreError::Standby)));
    server.psql("UPDATE mainstay.jobs_owner SET seen_at = seen_at - interval '1 minute'");
    second.probe().await.expect("owned");
    let changes = &batches(22, 10)[0];
    let fenced = first.commit(changes, true).await;
    assert!(matches!(fenced, Err(StoreError::Fenced)), "{fenced:?}");
    assert!(matches!(first.probe().await, Err(StoreError::Standby)));
    second.commit(changes, true).await.expect("committed");
}

/// One holds a lock and the other cannot: whichever owns the jobs, the other knows it.
#[tokio::test]
async fn nodes_with_and_without_a_pooler_stand_by_for_each_other() {
    let server = Server::plain();
    let bouncer = PgBouncer::before(&server);
    let mut direct = owned(&place(&server)).await;
    let mut behind = Store::open(&pooled(&bouncer)).await.expect("opened");
    // Though it was not heard of: it holds its lock.
    let old = "UPDATE mainstay.jobs_owner SET seen_at = seen_at - interval '1 minute'";
    server.psql(old);
    assert!(matches!(behind.probe().await, Err(StoreError::Standby)));
    direct.commit(&batches(22, 10)[0], true).await.expect("committed");
    // Gone, and replaced at once: nobody holds the lock.
    drop(direct);
    owned_again(&mut behind).await;
    let mut direct = Store::open(&place(&server)).await.expect("opened");
    let mut another = Store::open(&place(&server)).await.expect("opened");
    for _ in 0..2 {
        assert!(matches!(direct.probe().await, Err(StoreError::Standby)));
        assert!(matches!(another.probe().await, Err(StoreError::Standby)));
    }
    behind.commit(&[], true).await.expect("committed");
    server.psql(old);
    direct.probe().await.expect("owned: whoever asked in vain holds nothing");
    let fenced = behind.commit(&[], true).await;
    assert!(matches!(fenced, Err(StoreError::Fenced)), "{fenced:?}");
    assert!(matches!(behind.probe().await, Err(StoreError::Standby)));
}

/// What is left on a connection is the next one's who is given it: both of the pooler's are looked at.
#[tokio::test]
async fn behind_a_pooler_no_statement_and_nobody_who_listens_is_left_behind() {
    let server = Server::plain();
    let bouncer = PgBouncer::before(&server);
    let jobs = open(pooled(&bouncer));
    let job = add(&jobs, "x").await.expect("added");
    jobs.get(job).await.expect("read").expect("it is there");
    let (mut one, mut other) = (app(&bouncer.url()).await, app(&bouncer.url()).await);
    let (one, other) = (one.transaction().await.expect("begun"), other.transaction().await.expect("begun"));
    let sql = "SELECT (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_listening_channels())";
    let mut servers = Vec::new();
    for transaction in [&one, &other] {
        let row = transaction.query_typed_one(&format!("{sql}, pg_backend_pid()"), &[]).await.expect("an answer");
        assert_eq!(row.get::<_, i64>(0), 0);
        servers.push(row.get::<_, i32>(1));
    }
    assert_ne!(servers[0], servers[1]);
    drop((one, other));
    jobs.close().await;
}

/// Four producers add while the server is killed three times: what was acknowledged is there, and whatever was not is
/// there once at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_postgres_is_killed() {
    let mut server = Server::plain();
    let jobs = open(place(&server));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let producers: Vec<_> = (0..4)
        .map(|number| {
            let (jobs, stopped) = (jobs.clone(), stopped.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), 0_u32);
                for round in 0.. {
                    if *stopped.borrow() {
                        break;
                    }
                    match add(&jobs, &format!("{number} {round}")).await {
                        Ok(job) => acknowledged.push((job, format!("{number} {round}"))),
                        Err(_) => {
                            refused += 1;
                            tokio::task::yield_now().await;
                        }
                    }
                }
                (acknowledged, refused)
            })
        })
        .collect();
    for _ in 0..3 {
        add(&jobs, "before").await.expect("added");
        server.kill();
        server.run();
        let (_, took) = until("adds after the restart", || add(&jobs, "after")).await;
        println!("added again {took:?} after the restart");
    }
    stop.send_replace(true);
    let mut all = Vec::new();
    let mut refused = 0;
    for producer in producers {
        let (acknowledged, not) = producer.await.expect("joined");
        all.extend(acknowledged);
        refused += not;
    }
    println!("{} acknowledged, {refused} refused", all.len());
    assert!(all.len() > 20 && refused > 0);
    for (job, payload) in &all {
        let detail = jobs.get(*job).await.expect("read").unwrap_or_else(|| panic!("{payload} is lost"));
        assert_eq!(detail.body.payload, payload.as_bytes());
    }
    let twice = "SELECT count(*) FROM (SELECT payload FROM mainstay.jobs_body WHERE payload NOT IN ('before', 'after')
                 GROUP BY payload HAVING count(*) > 1) AS twice";
    assert_eq!(server.psql(twice), "0");
    jobs.close().await;
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_found_again() {
    let server = Server::plain();
    let mut options = options(&server.url());
    options.statement = Duration::from_millis(300);
    let jobs = open(Place::Postgres(Box::new(options)));
    add(&jobs, "x").await.expect("added");
    server.pause();
    let began = Instant::now();
    add(&jobs, "y").await.expect_err("nothing answers");
    println!("given up after {:?}", began.elapsed());
    server.resume();
    until("adds once it goes on", || add(&jobs, "z")).await;
    jobs.close().await;
}

#[tokio::test]
async fn a_job_of_an_apps_transaction_is_there_when_that_commits_and_never_when_it_does_not() {
    for ways in servers() {
        let server = &ways.1;
        let jobs = open(reached(&ways));
        // An app asks through the same pooler, and there by statements without a name, as its libraries do.
        let mut client = app(&ways.0.as_ref().map_or_else(|| server.url(), PgBouncer::url)).await;
        let sql = "SELECT mainstay.add_job('scan', 'pdf', $1::text::jsonb, '{\"priority\": 3, \"group\": \"t\"}')";
        let transaction = client.transaction().await.expect("begun");
        transaction.query_typed_one(sql, &[(&"1", Type::TEXT)]).await.expect("added");
        transaction.rollback().await.expect("rolled back");
        let transaction = client.transaction().await.expect("begun");
        let row = transaction.query_typed_one(sql, &[(&"{\"a\": 2}", Type::TEXT)]).await.expect("added");
        let id: i64 = row.get(0);
        assert!(claim(&jobs, Duration::ZERO).await.expect("claimed").is_empty(), "it is not committed");
        transaction.commit().await.expect("committed");
        let began = Instant::now();
        let work = claim(&jobs, Duration::from_secs(30)).await.expect("claimed").remove(0);
        let took = began.elapsed();
        println!("with a worker {took:?} after its commit");
        // Nobody is woken through a pooler: then it is looked every second.
        let limit = if ways.0.is_some() { 3 } else { 1 };
        assert!(took < Duration::from_secs(limit), "{took:?}");
        assert_eq!(work.claimed.job, id as u64, "its id is what the app was given");
        assert_eq!((&*work.body.name, &*work.body.payload), ("pdf", &b"{\"a\": 2}"[..]));
        let detail = jobs.get(id as u64).await.expect("read").expect("kept");
        assert_eq!((detail.row.priority, detail.row.group.as_deref()), (3, Some("t")));
        assert_eq!(server.psql("SELECT count(*) FROM mainstay.jobs_inbox"), "0");
        assert_eq!(server.psql("SELECT count(*) FROM mainstay.jobs_job"), "1", "what was rolled back is nowhere");
        jobs.close().await;
    }
}

/// Taken over exactly once while they come, with a node that stands by; by whoever owns the jobs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_apps_add_is_taken_over_once_by_one_of_two_nodes() {
    const COUNT: usize = 600;
    let server = Server::plain();
    let both = [open(place(&server)), open(place(&server))];
    let client = app(&server.url()).await;
    let adding = tokio::spawn(async move {
        let mut ids = Vec::new();
        for number in 0..COUNT {
            let sql = "SELECT mainstay.add_job('scan', '', to_jsonb($1::bigint))";
            ids.push(client.query_one(sql, &[&(number as i64)]).await.expect("added").get::<_, i64>(0) as u64);
        }
        ids
    });
    let mut done = Vec::new();
    let began = Instant::now();
    while done.len() < COUNT {
        assert!(began.elapsed() < BOUND, "{} of {COUNT}", done.len());
        for jobs in &both {
            let claim = Claim { queue: "scan".into(), worker: "w".into(), max: 50, wait: Duration::ZERO };
            for work in jobs.claim(claim).await.unwrap_or_default() {
                let outcome = Outcome::Completed { result: None };
                let end = Finish { job: work.claimed.job, token: work.claimed.token, outcome };
                let ended = jobs.finish(vec![end], None).await.is_ok_and(|finished| finished.ends[0].is_ok());
                done.extend(ended.then_some(work.claimed.job));
            }
        }
        if done.len() % 3 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut ids = adding.await.expect("joined");
    ids.sort_unstable();
    done.sort_unstable();
    assert_eq!(done, ids);
    for jobs in both {
        jobs.close().await;
    }
}

#[tokio::test]
async fn add_job_says_what_is_wrong_with_it() {
    let server = Server::plain();
    let jobs = open(place(&server));
    let client = app(&server.url()).await;
    let cases = [
        ("'scan', '', '1', '{\"dely\": 1}'", "opts has no \"dely\"; known are delay, priority"),
        ("'scan', '', '1', '[]'", "opts is []; an object"),
        ("'scan', '', '1', '{\"delay\": \"soon\"}'", "delay is \"soon\"; milliseconds, or a time as \"2s\""),
        ("'scan', '', '1', '{\"delay\": -1}'", "delay is -1;"),
        ("'scan', '', '1', '{\"delay\": \"1.5ms\"}'", "delay is \"1.5ms\";"),
        ("'scan', '', '1', '{\"delay\": \"11w 4y\"}'", "delay is"),
        ("'scan', '', '1', '{\"delay\": \"999999w\"}'", "is the most"),
        ("'scan', '', '1', '{\"priority\": 3000000}'", "priority is 3000000; a whole number from 0 to 2097152"),
        ("'scan', '', '1', '{\"priority\": \"1\"}'", "a whole number"),
        ("'scan', '', '1', '{\"attempts\": 1.5}'", "a whole number"),
        ("'scan', '', '1', '{\"backoff\": {\"type\": \"odd\", \"delay\": 1}}'", "\"fixed\" or \"exponential\""),
        ("'scan', '', '1', '{\"backoff\": {\"type\": \"fixed\"}}'", "\"delay\""),
        ("'scan', '', '1', '{\"backoff\": {\"type\": \"fixed\", \"delay\": 1, \"x\": 1}}'", "backoff has no \"x\""),
        ("'scan', '', '1', '{\"backoff\": 7}'", "backoff is 7; an object"),
        ("'scan', '', '1', '{\"backoff\": {\"type\": \"fixed\", \"delay\": 1, \"jitter\": 101}}'", "from 0 to 100"),
        ("'scan', '', '1', '{\"keyFor\": 1}'", "there is no key"),
        ("'scan', '', '1', '{\"key\": \"\"}'", "key: a text of 1 to 256 bytes"),
        ("'scan', repeat('x', 257), '1'", "name: a text"),
        ("'', '', '1'", "queue: a text"),
        ("NULL, '', '1'", "queue is null"),
        ("'scan', '', to_jsonb(repeat('x', 1048577))", "where 1048576 is the most"),
    ];
    for (arguments, said) in cases {
        let sql = format!("SELECT mainstay.add_job({arguments})");
        let error = client.query_one(&sql, &[]).await.expect_err(arguments);
        let message = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
        assert!(message.contains(said), "{arguments}: {message}");
    }
    let all = "'{\"delay\": \"1h30m\", \"priority\": 1, \"attempts\": 5, \"timeout\": \"1m\", \"key\": \"k\",
        \"keyFor\": \"1d\", \"group\": \"g\", \"traceparent\": \"00-1\",
        \"backoff\": {\"type\": \"exponential\", \"delay\": \"1.5s\", \"jitter\": 10}}'";
    let sql = format!("SELECT mainstay.add_job('scan', NULL, NULL, {all})");
    let id: i64 = client.query_one(&sql, &[]).await.expect("added").get(0);
    let again: i64 = client.query_one(&sql, &[]).await.expect("added").get(0);
    let (detail, _) = until("it is taken over", || async {
        // Both, so that what the second came to is known too.
        let left: i64 = client.query_one("SELECT count(*) FROM mainstay.jobs_inbox", &[]).await.expect("count").get(0);
        jobs.get(id as u64).await?.filter(|_| left == 0).ok_or(Error::Closed)
    })
    .await;
    let row = detail.row;
    assert_eq!((row.progressed.state, row.priority, row.own.attempts), (State::Delayed, 1, Some(5)));
    assert_eq!((row.own.timeout_ms, row.own.backoff.map(|backoff| backoff.delay_ms)), (Some(60_000), Some(1500)));
    assert_eq!((&*detail.body.payload, detail.body.trace.as_deref()), (&b"null"[..], Some("00-1")));
    assert_eq!(row.unique.and_then(|unique| unique.for_ms), Some(86_400_000));
    assert_eq!(jobs.get(again as u64).await.expect("read"), None, "its key is known");
    jobs.close().await;
}

/// What somebody wrote past `add_job` and cannot be a job is shown where it is, and holds up nobody.
#[tokio::test]
async fn what_cannot_be_taken_over_is_set_aside_with_the_reason() {
    let server = Server::plain();
    let jobs = open(place(&server));
    let columns = "queue, name, payload, priority, delay_ms";
    server.psql(&format!(
        "INSERT INTO mainstay.jobs_inbox ({columns}) VALUES ('scan', repeat('x', 300), '1', 0, 0);
         INSERT INTO mainstay.jobs_inbox ({columns}) VALUES ('scan', '', '1', 5000000000, 0);
         SELECT mainstay.add_job('scan', 'good', '1')"
    ));
    let work = claim(&jobs, Duration::from_secs(30)).await.expect("claimed").remove(0);
    assert_eq!(work.body.name, "good");
    let shown = server.psql("SELECT refused FROM mainstay.jobs_inbox ORDER BY id");
    assert_eq!(shown, "the name of a job is 300 where 256 is the most\npriority holds what no mainstay writes there");
    jobs.close().await;
}

#[tokio::test]
async fn texts_with_a_nul_hold_up_nobody() {
    let server = Server::plain();
    let jobs = open(place(&server));
    let job = add(&jobs, "x\0y").await.expect("added");
    let work = claim(&jobs, Duration::ZERO).await.expect("claimed").remove(0);
    assert_eq!(work.body.payload, b"x\0y");
    jobs.log(job, work.claimed.token, "a\0b".into()).await.expect("logged");
    assert_eq!(jobs.get(job).await.expect("read").expect("kept").lines[0].line, "a\u{2400}b");
    jobs.close().await;
}

#[tokio::test]
async fn installing_says_what_it_did_and_who_may_add_needs_no_table() {
    let server = Server::plain();
    let options = options(&server.url());
    let said = mainstay_jobs::store::install(&options).await.expect("installed");
    let steps = |done: &str| {
        ["1 jobs", "2 add_job", "3 flows", "4 lookups", "5 calls"].map(|step| format!("jobs {step}: {done}"))
    };
    assert_eq!(said, steps("installed"));
    let said = mainstay_jobs::store::install(&options).await.expect("installed");
    assert_eq!(said, steps("was there"));
    server.psql("CREATE ROLE web; GRANT USAGE ON SCHEMA mainstay TO web");
    server.psql("SET ROLE web; SELECT mainstay.add_job('scan', '', '1')");
    assert_eq!(server.psql("SELECT count(*) FROM mainstay.jobs_inbox"), "1");
}
