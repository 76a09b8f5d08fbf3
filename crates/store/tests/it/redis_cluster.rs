//! Three masters, three replicas: every slot served, a killed master replaced without a restart of ours.

use crate::support::{count, counted, counting, linked, on_a_core, options, until, until_answered};
use mainstay_runtime::Shutdown;
use mainstay_servers::Cluster;
use mainstay_store::redis::{Heard, REQUEST_BUDGET, Uses, Value, check, cmd, health, listen};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn d6_a_cluster_serves_every_slot_and_survives_the_death_of_a_master() {
    let password = "k3J9xQ_7vZt";
    let mut cluster = Cluster::start(Some(password));
    let nodes = cluster.nodes();
    let options =
        options(&[("REDIS_CLUSTER_ENABLED", "true"), ("REDIS_CLUSTER_NODES", &nodes), ("REDIS_PASSWORD", password)]);
    on_a_core(async {
        let (redis, _running) = linked(&options).await;
        let script = counting();
        for n in 0..200 {
            let key = format!("{{tenant{n}}}:limit");
            assert_eq!(counted(&redis, &script, &key).await, 1);
        }
        let (mut heard, listener) = listen(&options, &["news"]).expect("a listener");
        let (_trigger, shutdown) = Shutdown::new();
        tokio::spawn(listener.run(shutdown));
        assert_eq!(heard.recv().await, Some(Heard::Gap));
        // Said at one node, heard at another.
        cluster.node(3).cli(&["PUBLISH", "news", "one"]);
        assert_eq!(heard.recv().await, Some(Heard::Message { channel: "news".to_owned(), payload: b"one".to_vec() }));
        let report = check(&options, Uses { limits: true, ..Uses::default() }, LIMIT).await.expect("a report");
        assert_eq!((report.servers.len(), report.servers.iter().filter(|s| s.is_master).count()), (6, 3));
        let (_, memory) = health(&options, LIMIT).await.expect("health");
        assert!(memory.used > 1_000_000 && memory.max.is_none(), "{memory:?}");

        cluster.master_of("{tenant7}:limit").kill();
        let took = until_answered("the replica to serve", || count(&redis, &script, "{tenant7}:limit")).await;
        println!("slot served again {took:?} after its master was killed");
        let mut get = cmd("GET");
        get.arg("{tenant8}:limit");
        until_answered("the others too", || redis.ask(&get, REQUEST_BUDGET)).await;
        let Ok(Value::BulkString(kept)) = redis.patiently(&get, true).await else { panic!("no value") };
        assert_eq!(kept, b"1");
    });
}

/// A third of the slots hang: the breaker opens although two of three calls are answered, and closes again.
#[test]
fn a_master_that_hangs_opens_the_breaker_and_no_call_waits_longer_than_its_budget() {
    let mut cluster = Cluster::start(None);
    let nodes = cluster.nodes();
    let options = options(&[("REDIS_CLUSTER_ENABLED", "true"), ("REDIS_CLUSTER_NODES", &nodes)]);
    on_a_core(async {
        let (redis, _running) = linked(&options).await;
        let script = counting();
        until_answered("the first answer", || count(&redis, &script, "{a}")).await;
        let opened = redis.counts().opened;
        let hanging = cluster.master_of("{a}");
        hanging.pause();
        until("the breaker to open", || {
            for key in ["{a}", "{b}", "{c}"] {
                let (caller, script) = (redis.clone(), script.clone());
                tokio::spawn(async move { count(&caller, &script, key).await });
            }
            redis.counts().opened > opened
        })
        .await;
        let took = until_answered("its slots to be served by the replica", || count(&redis, &script, "{a}")).await;
        println!("slots of a hanging master served again after {took:?}");
        hanging.resume();
    });
}
