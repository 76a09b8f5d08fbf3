//! What comes out when the file is right.

use std::time::Duration;

use mainstay_config::{Inputs, Item, Reader, Value};

use crate::blocks::{finish, inputs, lines};

const FILE: &str = r#"
environment = "production"
[edge]
listen = [":80", { at = ":8443", tls = true }]
trusted_proxies = "cloudflare"
[edge.timeouts]
drain = "1m"
[edge.limits]
body = 1024
connections = 0x10
[app.web]
run = "npm start"
[app.api]
run = "node ${ENTRY:-server.js} $${HOME}"
balance = "LEAST_CONN"
health = { interval = "2s" }
env = { PORTS = 3, DEBUG = true, NAME = "${NAME}", "odd.key" = "x" }
[[route]]
match = "/b"
[[route]]
match = "/a"
"#;

#[test]
fn reads_a_whole_file() {
    let (options, report) = finish(&inputs(FILE, &[("NAME", "api")], ""));
    assert!(report.faults.is_empty(), "{:?}", lines(&report.faults));
    assert_eq!(*options.edge.drain, Duration::from_secs(60));
    assert_eq!((*options.edge.body, *options.edge.connections), (1024, 16));
    assert_eq!(options.edge.proxies.iter().map(|p| p.value.as_str()).collect::<Vec<_>>(), ["cloudflare"]);
    // The order of the file, for apps and routes.
    let apps: Vec<_> = options.apps.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(apps, ["web", "api"]);
    let routes: Vec<_> = options.routes.iter().map(|route| (route.as_str(), route.at.to_string())).collect();
    assert_eq!(routes, [("/b", "mainstay.toml:19".to_owned()), ("/a", "mainstay.toml:21".to_owned())]);
    let api = &options.apps[1];
    assert_eq!(api.run.as_ref().map(|run| run.as_str()), Some("node server.js ${HOME}"));
    assert_eq!(api.balance.as_str(), "least_conn");
    assert_eq!(*api.interval, Duration::from_secs(2));
    let env: Vec<_> = api.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(env, [("PORTS", "3"), ("DEBUG", "true"), ("NAME", "api"), ("odd.key", "x")]);
}

#[test]
fn a_value_of_its_own_shape_is_read_by_its_block() {
    let reader =
        Reader::new(&Inputs::of_file("[edge]\nlisten = [\":80\", { at = \":8443\", tls = true, tsl = 1 }, 5]\n"));
    let value = reader.table("edge").key("listen").value().expect("listen");
    let Value::List(items) = value.value else { panic!("a list") };
    assert!(matches!(&items[0].value, Value::Text(text) if text == ":80"));
    let Value::Table(table) = &items[1].value else { panic!("a table") };
    assert_eq!(table.key("at").text("").as_str(), ":8443");
    assert!(*table.key("tls").boolean(false));
    assert!(matches!(items[2].value, Value::Integer(5)));
    assert_eq!(items[2].at.column(), Some(57));
    assert_eq!(
        lines(&reader.finish().faults),
        ["mainstay.toml:2: unknown key \"tsl\" in [edge.listen[1]]; nearest: \"tls\""]
    );
}

#[test]
fn a_named_table_is_the_same_by_its_path() {
    let reader = Reader::new(&Inputs::of_file("[app.main]\nrum = 1\n[app.\"my.app\"]\nrun = \"x\"\n"));
    let apps = reader.named("app");
    apps.iter().for_each(|app| drop(app.key("run").opt_text()));
    assert!(reader.table("app.main").exists());
    assert_eq!(apps[1].path(), "app.\"my.app\"");
    assert_eq!(reader.table(apps[1].path()).key("run").text("").as_str(), "x");
    let fault = "mainstay.toml:2: unknown key \"rum\" in [app.main]; nearest: \"run\"";
    assert_eq!(lines(&reader.finish().faults), [fault]);
}

#[test]
fn parsed_values_say_what_is_wrong_in_the_words_of_their_block() {
    let even = |text: &str| match text.parse::<u32>() {
        Ok(number) if number % 2 == 0 => Ok(number),
        Ok(_) => Err("odd".to_owned()),
        Err(_) => Err(String::new()),
    };
    let read = |file: &str| {
        let reader = Reader::new(&Inputs::of_file(file));
        let value = reader.key("n").parsed("an even number", "2", even);
        (value.value, lines(&reader.finish().faults))
    };
    assert_eq!(read("n = \"4\""), (4, vec![]));
    assert_eq!(read("n = 6"), (6, vec![]));
    assert_eq!(read(""), (2, vec![]));
    let fault = "mainstay.toml:1: \"n\" cannot be read; found \"5\": odd; expected an even number";
    assert_eq!(read("n = \"5\""), (2, vec![fault.to_owned()]));
}

#[test]
fn items_are_equal_when_their_values_are() {
    let read = |file: &str| finish(&Inputs::of_file(file)).0.apps[0].run.clone();
    assert_eq!(read("[app.a]\nrun = \"x\"\n"), read("\n\n# moved\n[app.a]\nrun = \"x\"\n"));
    assert_ne!(read("[app.a]\nrun = \"x\"\n"), read("[app.a]\nrun = \"y\"\n"));
    let sendable: fn() -> Item<String> = Item::default;
    assert!(std::thread::spawn(sendable).join().is_ok_and(|item| item.is_default()));
}

#[test]
fn a_table_that_is_not_there_has_its_defaults() {
    let (options, report) = finish(&Inputs::default());
    assert!(report.faults.is_empty() && options.apps.is_empty() && options.edge.listen.is_none());
    assert_eq!(*options.edge.drain, Duration::from_secs(30));
    assert!(options.edge.drain.at.is_default());
    assert!(!Reader::new(&Inputs::default()).table("edge").exists());
}

#[test]
fn deep_nesting_ends_in_a_fault() {
    for file in [
        format!("x = {}{}", "[".repeat(5000), "]".repeat(5000)),
        format!("x = {}", "{a=".repeat(5000)),
        format!("[{}a]\n", "a.".repeat(5000)),
        format!("{}a = 1\n", "a.".repeat(5000)),
        (1..70).map(|n| format!("[{}b]\n", "a.".repeat(n))).collect(),
    ] {
        let (_, report) = finish(&Inputs::of_file(file));
        assert!(!report.faults.is_empty());
        let _ = report.render(false);
    }
}

#[test]
fn a_key_beside_named_tables_is_no_table_once_it_is_read() {
    let reader = Reader::new(&Inputs::of_file("[jobs]\nredis = \"a\"\nother = \"b\"\n[jobs.scan]\n"));
    assert_eq!(reader.table("jobs").key("redis").text("").value, "a");
    let tables = reader.named("jobs");
    assert_eq!(tables.iter().map(mainstay_config::Table::name).collect::<Vec<_>>(), ["scan"]);
    let said = lines(&reader.finish().faults);
    assert!(said.len() == 1 && said[0].contains("\"other\" in [jobs] is not a table"), "{said:?}");
}
