//! Every way the guides name a Redis.

use super::*;
use mainstay_config::{Inputs, Text};

fn read(file: &str, environment: &[(&str, &str)]) -> (Option<Options>, Vec<String>) {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let file = Some(Text { path: "mainstay.toml".into(), text: file.to_owned() });
    let reader = Reader::new(&Inputs { environment, file, ..Inputs::default() });
    let _ = reader.table("store");
    let options = Options::read(&reader);
    let report = reader.finish();
    let said = report.faults.iter().chain(&report.warnings).map(|fault| fault.what.clone()).collect();
    (options, said)
}

fn of(environment: &[(&str, &str)]) -> Options {
    let (options, said) = read("", environment);
    options.unwrap_or_else(|| panic!("{environment:?}: {said:?}"))
}

fn node(host: &str, port: u16) -> Node {
    Node { host: host.to_owned(), port }
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret(text.to_owned()))
}

#[test]
fn a_url_alone_says_host_login_database_and_tls() {
    let options = of(&[("REDIS_URL", "rediss://bob:p%40ss@r:7000/3")]);
    assert_eq!(options.place, Place::Single(node("r", 7000)));
    assert_eq!((options.user.as_deref(), options.password.clone()), (Some("bob"), secret("p@ss")));
    assert_eq!((options.database, options.tls.is_some()), (3, true));
    let plain = of(&[("REDIS_URL", "redis://r")]);
    assert_eq!((plain.place, plain.password, plain.tls), (Place::Single(node("r", 6379)), None, None));
    assert_eq!((plain.connect, plain.command), (Duration::from_secs(10), Duration::from_secs(5)));
    assert_eq!(
        (plain.keepalive, plain.retries, plain.retry_delay),
        (Duration::from_secs(30), 3, Duration::from_secs(1))
    );
}

#[test]
fn every_variable_of_the_guides_counts() {
    let host = [("REDIS_HOST", "r"), ("REDIS_PORT", "7000"), ("REDIS_PASSWORD", "pw"), ("REDIS_TLS_ENABLED", "true")];
    let options = of(&host);
    assert_eq!((options.place, options.password.clone()), (Place::Single(node("r", 7000)), secret("pw")));
    assert!(options.tls.is_some());
    let switched = of(&[("REDIS_URL", "redis://r"), ("REDIS_TLS_ENABLED", "true"), ("REDIS_PASSWORD", "pw")]);
    assert!(switched.tls.is_some() && switched.password == secret("pw"));
    let times = of(&[
        ("REDIS_URL", "redis://r"),
        ("REDIS_CONNECT_TIMEOUT_MS", "2000"),
        ("REDIS_COMMAND_TIMEOUT_MS", "3000"),
        ("REDIS_KEEPALIVE_MS", "4000"),
        ("REDIS_MAX_RETRIES", "7"),
        ("REDIS_RETRY_DELAY", "250"),
    ]);
    assert_eq!((times.connect, times.command), (Duration::from_secs(2), Duration::from_secs(3)));
    assert_eq!(
        (times.keepalive, times.retries, times.retry_delay),
        (Duration::from_secs(4), 7, Duration::from_millis(250))
    );
}

#[test]
fn a_cluster_and_sentinels_are_named_by_their_switches() {
    let three = Place::Cluster(vec![node("a", 1), node("b", 2), node("c", 6379)]);
    let cluster = [("REDIS_CLUSTER_ENABLED", "true"), ("REDIS_CLUSTER_NODES", "a:1, b:2,c"), ("REDIS_PASSWORD", "pw")];
    let options = of(&[cluster.as_slice(), &[("REDIS_CLUSTER_RETRY_ATTEMPTS", "9")]].concat());
    assert_eq!((options.place, options.password.clone(), options.retries), (three.clone(), secret("pw"), 9));
    assert_eq!(of(&[("REDIS_URL", "redis://:pw@a:1,redis://b:2,redis://c")]).place, three);
    let one = of(&[("REDIS_URL", "redis://:pw@a:1"), ("REDIS_CLUSTER_ENABLED", "1")]);
    assert_eq!((one.place, one.password), (Place::Cluster(vec![node("a", 1)]), secret("pw")));
    let sentinels = of(&[
        ("REDIS_SENTINEL_ENABLED", "true"),
        ("REDIS_SENTINELS", "s1:26380,s2"),
        ("REDIS_MASTER_NAME", "main"),
        ("REDIS_PASSWORD", "pw"),
    ]);
    let place = Place::Sentinel { sentinels: vec![node("s1", 26_380), node("s2", 26_379)], master: "main".to_owned() };
    assert_eq!((sentinels.place, sentinels.password), (place, secret("pw")));
}

#[test]
fn the_file_stands_against_every_address_of_the_environment() {
    let file = "[store.redis]\nurl = \"redis://ours:1\"\n";
    let (options, said) = read(file, &[("REDIS_URL", "redis://:pw@cache:2"), ("REDIS_PASSWORD", "other")]);
    let options = options.expect("options");
    assert_eq!((options.place, options.password, said), (Place::Single(node("ours", 1)), None, vec![]));
    let file = "[store.redis]\nurl = \"redis://s1:1,s2:2\"\nsentinel = \"main\"\npassword = \"${PW}\"\n";
    let options = read(file, &[("PW", "pw")]).0.expect("options");
    let sentinels = vec![node("s1", 1), node("s2", 2)];
    assert_eq!(options.place, Place::Sentinel { sentinels, master: "main".to_owned() });
    assert_eq!(options.password, secret("pw"));
}

#[test]
fn what_cannot_be_used_is_said_and_no_secret_is_shown() {
    for (file, what) in [
        ("[store.redis]\nurl = \"postgres://x\"\n", "url is none of Redis"),
        ("[store.redis]\nurl = \"redis://:hunter22/x@r\"\n", "url is broken by"),
        ("[store.redis]\nurl = \"redis://r\"\ncert = \"a\"\n", "a certificate and its key come together"),
        ("[store.redis]\nurl = \"redis://a,b/3\"\n", "a Redis Cluster has only database 0"),
        ("[store.redis]\nurl = \"redis://a,b\"\ncluster = true\nsentinel = \"m\"\n", "cluster and sentinel exclude"),
    ] {
        let (_, said) = read(file, &[]);
        assert!(said.iter().any(|said| said.starts_with(what)), "{file}: {said:?}");
        assert!(!said.concat().contains("hunter22"), "{said:?}");
    }
    let options = of(&[("REDIS_URL", "redis://:hunter22@r")]);
    assert!(!format!("{options:?}").contains("hunter22"));
    assert_eq!(read("", &[]).0, None);
    assert_eq!(read("", &[("REDIS_URL", "unix:///run/redis.sock")]).0, None);
}
