//! Blocks that read as the real ones do, and what the tests share.

use std::time::Duration;

use mainstay_config::{Inputs, Item, Reader, Report, Text, Value};

pub struct Edge {
    pub listen: Option<Item<Value>>,
    pub drain: Item<Duration>,
    pub body: Item<u64>,
    pub connections: Item<i64>,
    pub proxies: Item<Vec<Item<String>>>,
}

pub struct App {
    pub name: String,
    pub run: Option<Item<String>>,
    pub balance: Item<String>,
    pub interval: Item<Duration>,
    pub env: Vec<(Item<String>, Item<String>)>,
}

pub struct Options {
    pub edge: Edge,
    pub apps: Vec<App>,
    pub routes: Vec<Item<String>>,
    pub level: Item<String>,
    pub token: Option<Item<String>>,
    pub buffered: Item<bool>,
}

pub fn read(reader: &Reader) -> Options {
    let edge = reader.table("edge").doc("Where requests come in.");
    let _ = edge.key("domains").doc("Names of this server").example("[\"api.example.com\"]").opt_texts();
    let (timeouts, limits) = (edge.table("timeouts"), edge.table("limits"));
    let listen = edge.key("listen").doc("Addresses").env("PORT").example("[\":80\"]").strict().value();
    if let Some(Value::List(items)) = listen.as_deref() {
        for item in items {
            if let Value::Table(table) = &item.value {
                let _ = (table.key("at").text(""), table.key("tls").boolean(false));
            }
        }
    }
    let edge = Edge {
        listen,
        drain: timeouts.key("drain").doc("Longest drain").env_ms("GRACEFUL_SHUTDOWN_TIMEOUT").duration("30s"),
        body: limits.key("body").doc("Largest body").size("10MB"),
        connections: limits.key("connections").doc("At most").integer(20_000, 1..=1_000_000),
        proxies: edge.key("trusted_proxies").doc("Believed").texts(&[]),
    };
    let apps = reader.named("app").iter().map(app).collect();
    let routes = reader.array("route").iter().map(|route| route.key("match").doc("Which").text("/*")).collect();
    let _ = reader.array("route").iter().map(|route| route.key("limit").opt_text()).collect::<Vec<_>>();
    let logs = reader.table("logs");
    let level = logs.key("level").doc("Least level").env("LOG_LEVEL").choice(&["debug", "info", "warn"], "info");
    let buffered = logs.key("buffered").doc("In blocks").env("LOG_BUFFERED").boolean(true);
    let token = reader.table("ops").key("token").doc("Who may look").env("OPS_TOKEN").secret().opt_text();
    Options { edge, apps, routes, level, token, buffered }
}

fn app(table: &mainstay_config::Table) -> App {
    let health = table.table("health");
    App {
        name: table.name().to_owned(),
        run: table.key("run").doc("Its command").opt_text(),
        balance: table.key("balance").doc("How").choice(&["round_robin", "least_conn"], "round_robin"),
        interval: health.key("interval").doc("Between probes").duration("10s"),
        env: table.table("env").pairs(),
    }
}

pub fn finish(inputs: &Inputs) -> (Options, Report) {
    let reader = Reader::new(inputs);
    let options = read(&reader);
    (options, reader.finish())
}

pub fn lines(faults: &[mainstay_config::Fault]) -> Vec<String> {
    faults.iter().map(mainstay_config::Fault::line).collect()
}

pub fn inputs(file: &str, environment: &[(&str, &str)], dot_env: &str) -> Inputs {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Inputs {
        environment: environment.iter().map(pair).collect(),
        dot_env: (!dot_env.is_empty()).then(|| Text::new(".env", dot_env)),
        pid: 4711,
        ..Inputs::of_file(file)
    }
}
