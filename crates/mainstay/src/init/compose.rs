//! docker-compose.yml: services that are the project's own become apps, the rest is said to stay where it is.
//!
//! Never copies a secret, nor a URL that names a host of the compose network: it would resolve nowhere else.

use super::found::{App, Found, Listen, Port, Seen, Upstream, app_name, cut};
use super::package;
use super::yaml::{self, Node};
use mainstay_config::secret::is_secret_name;
use std::path::Path;

/// Images of what keeps data; Mainstay neither runs nor replaces it.
const STORES: [&str; 22] = [
    "postgres",
    "postgis",
    "timescaledb",
    "mysql",
    "mariadb",
    "mongo",
    "redis",
    "valkey",
    "keydb",
    "memcached",
    "rabbitmq",
    "kafka",
    "zookeeper",
    "nats",
    "elasticsearch",
    "opensearch",
    "minio",
    "clickhouse",
    "meilisearch",
    "pgbouncer",
    "mailhog",
    "mailpit",
];

/// Images whose place Mainstay takes.
const EDGES: [&str; 10] = [
    "nginx",
    "traefik",
    "caddy",
    "haproxy",
    "envoy",
    "certbot",
    "nginx-proxy",
    "acme-companion",
    "swag",
    "cloudflared",
];

/// Keys of a service that mean nothing outside a container, or that Mainstay does anyhow.
const NOT_NEEDED: [&str; 16] = [
    "build",
    "image",
    "command",
    "ports",
    "expose",
    "environment",
    "deploy",
    "healthcheck",
    "mem_limit",
    "scale",
    "depends_on",
    "restart",
    "container_name",
    "networks",
    "init",
    "hostname",
];

/// Keys of a service that matter, and what to do about each.
const BY_HAND: [(&str, &str); 12] = [
    ("env_file", "give it to the app: mainstay run --env-file FILE"),
    ("entrypoint", "put it in front of `run`"),
    ("volumes", "paths are the host's own now"),
    ("user", "user = \"NAME\" in its [app.NAME], if mainstay is started as root"),
    ("working_dir", "dir = \"…\" in its [app.NAME]"),
    ("secrets", "NAME_FILE variables, or --env-file"),
    ("configs", "paths are the host's own now"),
    ("ulimits", "LimitNOFILE in the unit of `mainstay init --systemd`"),
    ("extra_hosts", "/etc/hosts"),
    ("labels", "what a proxy reads there is routes = [\"/api/*\"] of the app, and domains in [edge]"),
    ("logging", "[logs] has level, keep and size"),
    ("stop_grace_period", "drain = \"30s\" in [edge.timeouts]"),
];

pub fn read(dir: &Path, file: &str, text: &str, found: &mut Found) {
    let root = match yaml::parse(text) {
        Ok(Some(root)) => root,
        Ok(None) => return found.not_understood(format!("{file}:1"), "an empty file"),
        Err((line, what)) => return found.not_understood(format!("{file}:{line}"), &what),
    };
    let Some(services) = root.get("services") else {
        return found.not_understood(format!("{file}:1"), "no `services`");
    };
    let names: Vec<&str> = services.pairs().iter().map(|pair| pair.key.as_str()).collect();
    for pair in services.pairs() {
        let service = Service {
            dir,
            file,
            name: &pair.key,
            at: format!("{file}:{}", pair.line),
            node: &pair.value,
            names: &names,
        };
        service.read(found);
    }
}

/// One service, and what is needed to understand it.
struct Service<'a> {
    dir: &'a Path,
    file: &'a str,
    name: &'a str,
    at: String,
    node: &'a Node,
    names: &'a [&'a str],
}

impl Service<'_> {
    fn place(&self, node: &Node) -> String {
        format!("{}:{}", self.file, node.line)
    }

    fn read(&self, found: &mut Found) {
        let image = self.node.get("image").and_then(|image| image.text()).map(image_name).unwrap_or_default();
        if STORES.contains(&image.as_str()) {
            return found.note(&self.at, format!("{} ({image}) goes on running where it runs", self.name));
        }
        if EDGES.contains(&image.as_str()) {
            return found.note(&self.at, format!("{} ({image}): Mainstay takes its place", self.name));
        }
        let Some(mut app) = self.app(found) else { return };
        self.details(&mut app, found);
        self.left_over(found);
        place_app(app, self.node.get("build").is_some(), found);
    }

    /// How it is started, or where it is reached.
    fn app(&self, found: &mut Found) -> Option<App> {
        let mut app = App::named(app_name(self.name));
        let Some(build) = self.node.get("build") else {
            let Some(port) = self.published().map(|(host, _)| host) else {
                found.note(&self.at, format!("{} is an image without a published port: not carried over", self.name));
                return None;
            };
            app.upstreams.push(Seen::new(Upstream { to: format!("127.0.0.1:{port}"), weight: 1 }, &self.at));
            return Some(app);
        };
        let context = build.text().or_else(|| build.get("context").and_then(|context| context.text())).unwrap_or(".");
        let context = context.trim_start_matches("./").trim_end_matches('/');
        let folder = if matches!(context, "" | ".") { None } else { Some(context) };
        let dockerfile = build.get("dockerfile").and_then(|name| name.text()).unwrap_or("Dockerfile");
        match self.command() {
            Some(run) => {
                let port = package::fixed_port(&run.value);
                app.port = port.map_or(Port::Own, |port| Port::Fixed(Seen::new(port, &run.at)));
                app.run = Some(run);
            }
            None => app = App { name: app.name, ..self.start_of(folder, dockerfile, found) },
        }
        app.dir = folder.map(|folder| Seen::new(folder.to_owned(), self.place(build)));
        if self.published().is_none() && self.node.get("expose").is_none() {
            app.port = Port::None;
        }
        if app.run.is_none() {
            let what =
                format!("{} has no command and its {dockerfile} no CMD: add run = \"…\" to [app.NAME]", self.name);
            found.note(&self.at, what);
            return None;
        }
        Some(app)
    }

    fn command(&self) -> Option<Seen<String>> {
        let command = self.node.get("command")?;
        let line = command_line(command)?;
        Some(Seen::new(line, self.place(command)))
    }

    /// The context's own package.json, else the last CMD of its Dockerfile.
    fn start_of(&self, folder: Option<&str>, dockerfile: &str, found: &mut Found) -> App {
        let shown = |name: &str| folder.map_or(name.to_owned(), |folder| format!("{folder}/{name}"));
        let read = |name: &str| super::text_of(&self.dir.join(shown(name))).ok();
        if let Some(text) = read("package.json") {
            let mut inner = Found::default();
            let folder = self.dir.join(folder.unwrap_or("."));
            package::read(&folder, &shown("package.json"), &text, &mut inner);
            found.notes.append(&mut inner.notes);
            if let Some(app) = inner.apps.pop().filter(|app| app.run.is_some()) {
                return app;
            }
        }
        let run = read(dockerfile).and_then(|text| {
            let lines = text.lines().enumerate();
            let (number, words) = lines.filter_map(|(n, line)| Some((n, line.trim().strip_prefix("CMD ")?))).last()?;
            let line = match serde_json::from_str::<Vec<String>>(words) {
                Ok(list) => list.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
                Err(_) => words.trim().to_owned(),
            };
            (!line.is_empty()).then(|| Seen::new(line, format!("{}:{}", shown(dockerfile), number + 1)))
        });
        App { run, ..App::default() }
    }

    /// The first port of the host and the container's behind it.
    fn published(&self) -> Option<(u16, u16)> {
        self.node.get("ports")?.items().iter().find_map(|item| {
            if let Some(text) = item.text() {
                let text = text.trim_end_matches("/tcp");
                let (host, inner) = text.rsplit_once(':')?;
                let host = host.rsplit(':').next().unwrap_or(host);
                return Some((host.parse().ok()?, inner.parse().ok()?));
            }
            let number = |key: &str| item.get(key).and_then(|node| node.text()).and_then(|text| text.parse().ok());
            Some((number("published")?, number("target")?))
        })
    }

    fn details(&self, app: &mut App, found: &mut Found) {
        let text_at = |path: &[&str]| self.node.at(path).and_then(|node| Some((node.text()?, self.place(node))));
        let replicas = text_at(&["deploy", "replicas"]).or_else(|| text_at(&["scale"]));
        if let Some((Ok(count), at)) = replicas.map(|(text, at)| (text.parse::<u32>(), at))
            && (1..=256).contains(&count)
            && !matches!(app.port, Port::Fixed(_))
        {
            app.instances = Some(Seen::new(count, at));
        }
        let memory = text_at(&["deploy", "resources", "limits", "memory"]).or_else(|| text_at(&["mem_limit"]));
        if let Some((text, at)) = memory {
            match memory_size(text) {
                Some(size) => app.memory_limit = Some(Seen::new(size, at)),
                None => found.not_understood(at, text),
            }
        }
        if let Some(test) = self.node.at(&["healthcheck", "test"]) {
            let text = command_line(test).unwrap_or_default();
            match health_path(&text) {
                Some(path) => app.health = Some(Seen::new(path, self.place(test))),
                None => found.note(self.place(test), format!("healthcheck is not carried over: {}", cut(&text))),
            }
        }
        if let Some((host @ (80 | 443), _)) = self.published()
            && found.listen.is_empty()
        {
            let at = self.node.get("ports").map_or_else(|| self.at.clone(), |ports| self.place(ports));
            found.listen.push(Seen::new(Listen { port: host, tls: host == 443, ..Listen::default() }, at));
        }
        self.environment(app, found);
    }

    fn environment(&self, app: &mut App, found: &mut Found) {
        let Some(environment) = self.node.get("environment") else { return };
        let mut all: Vec<(String, Option<String>, usize)> = Vec::new();
        for item in environment.items() {
            let text = item.text().unwrap_or_default();
            match text.split_once('=') {
                Some((name, value)) => all.push((name.to_owned(), Some(value.to_owned()), item.line)),
                None => all.push((text.to_owned(), None, item.line)),
            }
        }
        let pairs = environment.pairs().iter();
        all.extend(pairs.map(|pair| (pair.key.clone(), pair.value.text().map(str::to_owned), pair.line)));
        for (name, value, line) in all {
            let at = format!("{}:{line}", self.file);
            let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
            match self.why_not(&name, &value) {
                Some(why) => found.note(at, format!("{} is not copied: {why}", cut(&name))),
                None => app.env.push((name, Seen::new(value, at))),
            }
        }
    }

    /// Why a variable stays where it is.
    fn why_not(&self, name: &str, value: &str) -> Option<String> {
        let is_name = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let host = value.split_once("://").map(|(_, rest)| rest.rsplit('@').next().unwrap_or(rest));
        let host = host.unwrap_or(value).split([':', '/', '?']).next().unwrap_or("");
        if !is_name || name.is_empty() {
            return Some("no name of a variable".to_owned());
        }
        if matches!(name, "PORT" | "HOST") {
            return Some("each instance gets its own".to_owned());
        }
        if matches!(name, "NODE_ENV" | "ENVIRONMENT") {
            return Some("set it where mainstay is started, it is for both".to_owned());
        }
        if value.contains("${") {
            return Some("set it where mainstay is started, or in --env-file".to_owned());
        }
        if self.names.contains(&host) {
            return Some(format!("`{host}` is a name of the compose network; set it to the host's own address"));
        }
        if is_secret_name(name) || value.contains("://") && value.contains('@') {
            return Some("it holds a secret; put it into .env".to_owned());
        }
        None
    }

    fn left_over(&self, found: &mut Found) {
        for pair in self.node.pairs() {
            let at = format!("{}:{}", self.file, pair.line);
            match BY_HAND.iter().find(|(key, _)| *key == pair.key) {
                Some((key, fix)) => found.note(at, format!("{key} of {} is not carried over: {fix}", self.name)),
                None if NOT_NEEDED.contains(&pair.key.as_str()) || pair.key.starts_with("x-") => {}
                None => found.note(at, format!("{} of {} is not carried over", cut(&pair.key), self.name)),
            }
        }
    }
}

/// A service built from the project's own folder is the app that package.json or Procfile tell of, where they do.
fn place_app(app: App, is_built: bool, found: &mut Found) {
    let is_here = is_built && app.dir.is_none() && app.takes_requests();
    let Some(own) = found.own().filter(|_| is_here) else {
        match found.app(&app.name) {
            Some(known) => fill(known, app),
            None => found.apps.push(app),
        }
        return;
    };
    fill(own, app);
}

/// How it is started is known better; the rest of it is not.
fn fill(known: &mut App, app: App) {
    known.instances = known.instances.take().or(app.instances);
    known.health = known.health.take().or(app.health);
    known.memory_limit = known.memory_limit.take().or(app.memory_limit);
    for (name, value) in app.env {
        if !known.env.iter().any(|(have, _)| *have == name) {
            known.env.push((name, value));
        }
    }
}

/// `registry/org/postgres:15-alpine@sha256:…` is `postgres`.
fn image_name(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split(':').next().unwrap_or(name).to_ascii_lowercase()
}

/// A list loses its quotes where a word has none to keep; compose's `$$` is a `$`.
fn command_line(node: &Node) -> Option<String> {
    let words: Vec<&str> = node.items().iter().filter_map(|item| item.text()).collect();
    let line = match node.text() {
        Some(text) => text.trim().to_owned(),
        None => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    };
    (!line.is_empty()).then(|| line.replace("$$", "$"))
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+$".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The path of the URL that a check asks on the container itself.
fn health_path(test: &str) -> Option<String> {
    let (_, rest) = test.split_once("http://")?;
    let url: String = rest.chars().take_while(|c| !c.is_whitespace() && !"'\"|)".contains(*c)).collect();
    let host = url.split(['/', ':']).next().unwrap_or("");
    if !matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0") {
        return None;
    }
    let path = url.split_once('/').map_or("/".to_owned(), |(_, path)| format!("/{path}"));
    Some(path.split(['?', '#', '$']).next().unwrap_or("/").to_owned())
}

/// Docker counts in powers of two: `512m`, `1g`, `0.5g` is no size it takes.
fn memory_size(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    match unit {
        "k" | "kb" => Some(format!("{number}KiB")),
        "m" | "mb" => Some(format!("{number}MiB")),
        "g" | "gb" => Some(format!("{number}GiB")),
        "" | "b" => Some(format!("{}KiB", number.div_ceil(1024))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_sizes_and_checks_are_read_as_docker_means_them() {
        assert_eq!(image_name("docker.io/library/postgres:15-alpine@sha256:ab"), "postgres");
        assert_eq!(image_name("localhost:5000/shop/api"), "api");
        for (text, size) in [("512m", Some("512MiB")), ("1G", Some("1GiB")), ("1048576", Some("1024KiB")), ("1t", None)]
        {
            assert_eq!(memory_size(text).as_deref(), size, "{text}");
        }
        for (test, path) in [
            ("CMD curl -f http://localhost:3000/health", Some("/health")),
            ("CMD-SHELL wget -qO- 'http://127.0.0.1/api/health?x' || exit 1", Some("/api/health")),
            ("CMD curl http://localhost", Some("/")),
            ("CMD curl http://other/health", None),
            ("CMD pg_isready", None),
        ] {
            assert_eq!(health_path(test).as_deref(), path, "{test}");
        }
    }
}
