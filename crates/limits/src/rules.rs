//! `[limits]`, and `limit` of a `[[route]]`: how much, for whom, and how it is told.

use crate::crawlers::{self, Skip};
use crate::window::Limit;
use mainstay_config::units::{MAX_WINDOW, Per, Rate, rate, show_rate};
use mainstay_config::{Item, Key, Position, Reader, Table};
use std::net::SocketAddr;
use std::time::Duration;

/// Limits of one route.
const ROUTE_LIMITS_MAX: usize = 16;
const EXPECTED: &str = "a number and a window, as \"100/min\", \"5/15m per ip\" or \"150/min smooth\"";

/// One limit, wherever it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What its counts are kept by, over reloads: the same for the same limit with other numbers.
    pub name: String,
    /// What it is written under, for trails.
    pub stands: String,
    /// What a client is told it by.
    pub label: String,
    pub per: Per,
    pub limit: Limit,
    /// Of a tenant's tier, in place of `limit`.
    pub tiers: Vec<(String, Limit)>,
    /// As it is written: `100/1m per ip`.
    pub quota: String,
    pub at: String,
    /// Whether it admits nobody while the store it shares is away; unset: as `[limits]` says.
    pub closed: Option<bool>,
}

/// Limits of paths that the guides name by a variable.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub rule: Rule,
    pub routes: Vec<Item<String>>,
}

/// How a client is told what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `RateLimit-Limit`, `-Remaining`, `-Reset`, `-Policy`.
    Draft6,
    /// `RateLimit` and `RateLimit-Policy` as structured fields.
    Draft10,
    Off,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RateOptions {
    pub enabled: bool,
    /// Where limits are counted, if they say so themselves: in Redis, and where that stands.
    pub in_redis: Option<Item<bool>>,
    /// They are, by what else the file says.
    pub shared: bool,
    /// While Redis is away nobody is admitted whom a limit cannot count for everybody.
    pub closed: bool,
    /// What ends below 400 does not count.
    pub skip_successful: bool,
    pub form: Form,
    /// For everything.
    pub everywhere: Vec<Rule>,
    pub groups: Vec<Group>,
    /// Sockets being opened.
    pub websocket: Option<Rule>,
    /// Who is not limited.
    pub skip: Vec<Skip>,
    /// Where crawlers are looked up; of the machine if unset.
    pub resolver: Option<SocketAddr>,
}

impl Default for RateOptions {
    fn default() -> RateOptions {
        RateOptions {
            enabled: true,
            in_redis: None,
            shared: false,
            closed: false,
            skip_successful: false,
            form: Form::Draft6,
            everywhere: Vec::new(),
            groups: Vec::new(),
            websocket: None,
            skip: Vec::new(),
            resolver: None,
        }
    }
}

impl Rule {
    pub fn new(name: String, at: String, rate: &Rate, usual: Per) -> Rule {
        let per = rate.per.clone().unwrap_or(usual);
        let quota = show_rate(&Rate { per: Some(per.clone()), ..rate.clone() });
        Rule {
            label: name.clone(),
            stands: name.clone(),
            name,
            per,
            limit: Limit::new(rate),
            tiers: Vec::new(),
            quota,
            at,
            closed: None,
        }
    }

    /// It can be judged only once it is known whose request it is.
    pub fn needs_identity(&self) -> bool {
        matches!(self.per, Per::User | Per::Tenant)
    }
}

impl RateOptions {
    /// `routed`: some route has a limit, so that the switches count even without the table. `users`: somebody says who
    /// they are.
    pub fn read(reader: &Reader, routed: bool, users: bool) -> RateOptions {
        let table = reader.table("limits");
        if !table.exists() && !routed {
            return RateOptions::default();
        }
        let enabled = table.key("enabled").doc("false: no limits at all").env("RATE_LIMIT_ENABLED").boolean(true);
        let usual = window(
            &table,
            table.key("window").doc("Window of a limit that is a number alone").env_ms("RATE_LIMIT_WINDOW_MS"),
        );
        let skip_successful = table
            .key("skip_successful")
            .doc("Answers with a status below 400 do not count")
            .env("RATE_LIMIT_SKIP_SUCCESSFUL_REQUESTS")
            .boolean(false);
        let mut everywhere = read_everywhere(&table, usual, users);
        read_tiers(reader, &mut everywhere, usual);
        let websocket = table
            .key("websocket")
            .doc("Sockets an address may open: a number and a window, or a number a `window`")
            .env("RATE_LIMIT_WEBSOCKET");
        RateOptions {
            enabled: enabled.value,
            in_redis: read_store(&table),
            shared: false,
            closed: read_outage(&table, "Limits while Redis is away: counted by each Mainstay alone, or refuse")
                .unwrap_or(false),
            skip_successful: skip_successful.value,
            form: read_form(&table),
            websocket: read_one(&table, websocket, "websocket", usual, (Per::Ip, true)),
            groups: read_groups(&table, usual),
            everywhere,
            skip: crawlers::read(&table),
            resolver: table
                .key("resolver")
                .doc("Name server that crawlers are looked up at; unset: those of /etc/resolv.conf")
                .example("\"127.0.0.53:53\"")
                .opt_parsed("an address and a port, as \"127.0.0.53:53\"", |text| {
                    text.parse().map_err(|_| String::new())
                })
                .map(|item| item.value),
        }
    }

    pub fn limits_something(&self) -> bool {
        self.enabled && (!self.everywhere.is_empty() || !self.groups.is_empty() || self.websocket.is_some())
    }
}

fn read_everywhere(table: &Table, usual: Duration, users: bool) -> Vec<Rule> {
    let ip = table
        .key("ip")
        .doc("Requests of one address (of IPv6 a /64): a number and a window, or a number a `window`")
        .example("\"100/min\"")
        .env("RATE_LIMIT_MAX_REQUESTS");
    let user = table.key("user").doc("Requests of one user, once it is known who it is").example("\"60/min\"");
    let own = window(
        table,
        table
            .key("tenant_window")
            .doc("Window of a tenant limit that is a number alone")
            .env_ms("RATE_LIMIT_TENANT_WINDOW_MS"),
    );
    let tenant = table
        .key("tenant")
        .doc("Requests of one tenant, once it is known whose request it is")
        .example("\"1000/min\"")
        .env("RATE_LIMIT_TENANT_MAX");
    let rules = [
        read_one(table, ip, "ip", usual, (Per::Ip, true)),
        read_one(table, user, "user", usual, (Per::User, users)),
        read_one(table, tenant, "tenant", own, (Per::Tenant, users)),
    ];
    rules.into_iter().flatten().collect()
}

fn read_one(table: &Table, key: Key, name: &str, usual: Duration, (per, users): (Per, bool)) -> Option<Rule> {
    let own = per.clone();
    let item = key.opt_parsed(EXPECTED, |text| match rate(text, Some(usual))? {
        Rate { per: Some(other), .. } if other != own => Err("what it counts per is said by its key".to_owned()),
        rate => Ok(rate),
    })?;
    warn_of_nobody(table, &item.at, &per, users);
    let label = name.to_owned();
    Some(Rule { label, ..Rule::new(format!("limits.{name}"), item.at.to_string(), &item.value, per) })
}

/// Where nobody says who users are, a limit of theirs would be silently none.
fn warn_of_nobody(table: &Table, at: &Position, per: &Per, users: bool) {
    if !users && matches!(per, Per::User | Per::Tenant) {
        let what = "this limit counts nobody: nothing says who the users are";
        table.warn(at, what, "[identity], or a limit per ip or per key:HEADER", None);
    }
}

fn window(table: &Table, key: Key) -> Duration {
    let item = key.duration("1m");
    if item.value.is_zero() || item.value > MAX_WINDOW {
        table.fault(&item.at, "not a window", "from \"1ms\" to \"7d\"", None);
        return Duration::from_secs(60);
    }
    item.value
}

/// `[limits.tier.pro] tenant = "5000/min"`.
fn read_tiers(reader: &Reader, rules: &mut [Rule], usual: Duration) {
    for table in reader.named("limits.tier") {
        for (name, doc) in [
            ("user", "Requests of one user of a tenant of this tier"),
            ("tenant", "Requests of one tenant of this tier"),
        ] {
            let key = table.key(name).doc(doc).example("\"5000/min\"");
            let Some(item) = key.opt_parsed(EXPECTED, |text| rate(text, Some(usual))) else { continue };
            match rules.iter_mut().find(|rule| rule.label == name) {
                Some(rule) => rule.tiers.push((table.name().to_owned(), Limit::new(&item.value))),
                None => {
                    let fix = format!("[limits] {name} = \"1000/min\"");
                    table.fault(&item.at, "a tier's limit without one for the others", fix, None);
                }
            }
        }
    }
}

/// What the guides limit by a variable: signing in, and the API.
fn read_groups(table: &Table, usual: Duration) -> Vec<Group> {
    let auth = table
        .key("auth")
        .doc("Requests of one address to `auth_routes`: a number and a window, or a number a `window`")
        .env("RATE_LIMIT_AUTH");
    let api = table
        .key("api")
        .doc("Requests of one address to `api_routes`: a number and a window, or a number a `window`")
        .env("RATE_LIMIT_API");
    let auth_routes = table.key("auth_routes").doc("What `auth` limits, together").texts(&[
        "/api/v1/auth/*",
        "/api/auth/*",
        "/auth/*",
    ]);
    let api_routes = table.key("api_routes").doc("What `api` limits, together").texts(&["/api/*"]);
    let of = |rule: Option<Rule>, routes: Item<Vec<Item<String>>>| Some(Group { rule: rule?, routes: routes.value });
    let groups = [
        of(read_one(table, auth, "auth", usual, (Per::Ip, true)), auth_routes),
        of(read_one(table, api, "api", usual, (Per::Ip, true)), api_routes),
    ];
    groups.into_iter().flatten().collect()
}

fn read_form(table: &Table) -> Form {
    let form = table
        .key("headers")
        .doc("How clients are told what is left: as the IETF's draft 6 has it, in its newer form, or not")
        .choice(&["draft-6", "draft-10", "off"], "draft-6");
    match form.value.as_str() {
        "draft-10" => Form::Draft10,
        "off" => Form::Off,
        _ => Form::Draft6,
    }
}

fn read_store(table: &Table) -> Option<Item<bool>> {
    let store = table
        .key("store")
        .doc("Where limits are counted: by each Mainstay alone, or by all together; unset: [store] shared")
        .env("RATE_LIMIT_STORE")
        .opt_choice(&["memory", "redis"])?;
    Some(Item { value: store.value == "redis", at: store.at })
}

/// `Some(true)`: refuse.
fn read_outage(table: &Table, doc: &str) -> Option<bool> {
    Some(table.key("on_outage").doc(doc).opt_choice(&["local", "refuse"])?.value == "refuse")
}

/// `limit` of a `[[route]]`: one, or a list of which each counts. `pattern` as it is written.
pub fn read_route(table: &Table, pattern: &str, users: bool) -> Vec<Rule> {
    let key = table
        .key("limit")
        .doc("N/WINDOW[ per ip|user|tenant|key:HEADER][ smooth], or a list: the strictest decides")
        .example("\"5/min per ip\"");
    let closed = read_outage(table, "This route's limits while Redis is away; unset: as [limits] says");
    let Some(list) = key.opt_texts() else { return Vec::new() };
    if list.value.is_empty() || list.value.len() > ROUTE_LIMITS_MAX {
        table.fault(&list.at, format!("{} limits", list.value.len()), "from 1 to 16 limits of a route", None);
    }
    let mut rules: Vec<Rule> = Vec::new();
    for item in list.value.iter().take(ROUTE_LIMITS_MAX) {
        match rate(&item.value, None) {
            Ok(rate) => {
                let per = rate.per.clone().unwrap_or(Per::Ip);
                warn_of_nobody(table, &item.at, &per, users);
                // Which of several per the same: other numbers of it are the same limit.
                let before = rules.iter().filter(|rule| rule.per == per).count();
                let per = show_rate(&Rate { per: Some(per), count: 0, window: Duration::ZERO, smooth: false });
                let per = per.split_once(" per ").map_or("", |(_, per)| per);
                let mut name = format!("route {pattern} per {per}");
                if before > 0 {
                    name.push_str(&format!(" {}", before + 1));
                }
                let rule = Rule::new(name, item.at.to_string(), &rate, Per::Ip);
                rules.push(Rule { label: "route".to_owned(), stands: format!("route {pattern}"), closed, ..rule });
            }
            Err(wrong) => table.fault(&item.at, format!("`{}` {wrong}", item.value), EXPECTED, None),
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_config::Inputs;

    fn read(text: &str, environment: &[(&str, &str)]) -> (RateOptions, Vec<Rule>, mainstay_config::Report) {
        let inputs = Inputs {
            file: Some(mainstay_config::Text { path: "mainstay.toml".into(), text: text.to_owned() }),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..Inputs::default()
        };
        let reader = Reader::new(&inputs);
        let routes: Vec<Rule> = reader
            .array("route")
            .iter()
            .flat_map(|t| {
                let pattern = t.key("match").text("/");
                read_route(t, &pattern.value, true)
            })
            .collect();
        let options = RateOptions::read(&reader, !routes.is_empty(), true);
        (options, routes, reader.finish())
    }

    #[test]
    fn a_guides_variables_count_where_there_is_the_table_and_only_there() {
        let variables = [
            ("RATE_LIMIT_WINDOW_MS", "900000"),
            ("RATE_LIMIT_MAX_REQUESTS", "100"),
            ("RATE_LIMIT_AUTH", "20"),
            ("RATE_LIMIT_API", "100"),
            ("RATE_LIMIT_WEBSOCKET", "50"),
            ("RATE_LIMIT_TENANT_MAX", "1000"),
            ("RATE_LIMIT_TENANT_WINDOW_MS", "60000"),
            ("RATE_LIMIT_SKIP_SUCCESSFUL_REQUESTS", "true"),
        ];
        let (options, _, report) = read("[limits]\n", &variables);
        assert!(report.faults.is_empty(), "{}", report.render(false));
        let quotas: Vec<&str> = options.everywhere.iter().map(|rule| rule.quota.as_str()).collect();
        assert_eq!(quotas, ["100/15m per ip", "1000/1m per tenant"]);
        let groups: Vec<&str> = options.groups.iter().map(|group| group.rule.quota.as_str()).collect();
        assert_eq!(groups, ["20/15m per ip", "100/15m per ip"]);
        assert_eq!(options.websocket.expect("sockets").limit.count, 50);
        assert!(options.skip_successful && options.enabled);
        assert_eq!(options.everywhere[0].at, "environment RATE_LIMIT_MAX_REQUESTS");

        let (options, _, _) = read("", &variables);
        assert_eq!(options, RateOptions::default());
        assert!(!options.limits_something());
        let (options, _, _) = read("[limits]\n", &[("RATE_LIMIT_STORE", "redis")]);
        assert_eq!(options.in_redis.map(|item| item.value), Some(true));
        let (options, _, _) = read("[limits]\nip = \"5/s\"\n", &[("RATE_LIMIT_ENABLED", "false")]);
        assert!(!options.limits_something());
    }

    #[test]
    fn routes_have_one_limit_or_several_that_keep_their_names() {
        let text = "[[route]]\nmatch = \"POST /login\"\nlimit = \"5/min per ip\"\n\
                    [[route]]\nmatch = \"/api\"\nlimit = [\"60/min per user\", \"9/s\", \"100/h\"]\n";
        let (_, routes, report) = read(text, &[]);
        assert!(report.faults.is_empty(), "{}", report.render(false));
        let names: Vec<&str> = routes.iter().map(|rule| rule.name.as_str()).collect();
        let expected = ["route POST /login per ip", "route /api per user", "route /api per ip", "route /api per ip 2"];
        assert_eq!(names, expected);
        assert_eq!(routes[0].at, "mainstay.toml:3");
        assert!(routes[1].needs_identity() && !routes[2].needs_identity());
        let text = "[limits]\nip = \"9/s\"\non_outage = \"refuse\"\n\
                    [[route]]\nmatch = \"/a\"\nlimit = \"5/s\"\non_outage = \"local\"\n";
        let (options, routes, _) = read(text, &[]);
        assert!(options.closed && options.everywhere[0].closed.is_none() && routes[0].closed == Some(false));
    }

    #[test]
    fn tiers_stand_beside_a_limit_and_faults_say_where() {
        let (options, ..) = read("[limits]\ntenant = \"1000/min\"\n[limits.tier.pro]\ntenant = \"5000/min\"\n", &[]);
        assert_eq!(options.everywhere[0].tiers[0].1.count, 5000);
        for (text, words) in [
            ("[limits]\nip = \"many\"\n", "a number and a window"),
            ("[limits]\nip = \"5/min per user\"\n", "said by its key"),
            ("[limits]\nwindow = \"8d\"\n", "not a window"),
            ("[limits.tier.pro]\ntenant = \"5/min\"\n", "without one for the others"),
            ("[[route]]\nmatch = \"/a\"\nlimit = \"5\"\n", "no window"),
            ("[[route]]\nmatch = \"/a\"\nlimit = []\n", "0 limits"),
            ("[limits]\nskip = [\"mybot\"]\n", "anybody can call itself"),
        ] {
            let (.., report) = read(text, &[]);
            assert!(report.render(false).contains(words), "{text}: {}", report.render(false));
        }
    }
}
