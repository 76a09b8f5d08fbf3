//! The file that `init` writes: what was found, each line with its place, and what one would look for next.
//!
//! Pure text. Whatever came from a file is quoted or has its control characters taken out.

use super::found::{App, Found, Listen, Port, Route, Seen, Value, plain};

/// Comments are set in a column, so that the eye finds them.
const COLUMN: usize = 42;
const WIDTH: usize = 118;

/// What cannot be known from the files alone.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// What `#:schema` names, for editors.
    pub schema: &'a str,
    /// The certificates are here and fit: this is the machine that serves.
    pub on_the_server: bool,
}

#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    fn key(&mut self, key: &str, value: &str, comment: &str) {
        self.commented(&format!("{key} = {value}"), comment);
    }

    /// A key that is not in force.
    fn off(&mut self, key: &str, value: &str, comment: &str) {
        self.commented(&format!("# {key} = {value}"), comment);
    }

    fn commented(&mut self, text: &str, comment: &str) {
        let comment = plain(comment);
        if comment.is_empty() {
            return self.line(text);
        }
        if text.chars().count() + comment.chars().count() + 4 > WIDTH.max(COLUMN) {
            self.remark(&comment);
            return self.line(text);
        }
        self.line(&format!("{text:<COLUMN$}# {comment}"));
    }

    /// A comment of its own, in as many lines as it takes.
    fn remark(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in plain(text).split_whitespace() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > 1 {
                self.line(&line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }
}

pub fn file(found: &Found, surroundings: Surroundings<'_>) -> String {
    let mut page = Page::default();
    page.line(&format!("#:schema {}", surroundings.schema));
    let files = if found.files.is_empty() { "nothing: no file it knows".to_owned() } else { found.files.join(", ") };
    page.remark(&format!("Written by `mainstay init` from {files}. Read it, then: mainstay check   and: mainstay run"));
    page.remark("`mainstay config --reference` shows every key there is.");
    if found.apps.is_empty() {
        nothing(&mut page);
    }
    let routes = shared_routes(&found.apps);
    for (app, routes) in found.apps.iter().zip(routes) {
        page.line("");
        one_app(&mut page, app, &routes, found);
    }
    edge(&mut page, found, surroundings.on_the_server);
    certificates(&mut page, found, surroundings.on_the_server);
    for route in &found.routes {
        one_route(&mut page, route);
    }
    page.line("");
    page.line("[logs]");
    page.off("level", "\"info\"", "error, warn, info, debug, trace");
    page.off("dir", "\"logs\"", "error.log and combined.log here too, 5 MB x 5 each");
    page.0
}

fn one_route(page: &mut Page, route: &Route) {
    page.line("");
    if let Some(why) = &route.off {
        page.remark(why);
    }
    let (open, off) = if route.off.is_some() { ("# [[route]]", "# ") } else { ("[[route]]", "") };
    page.line(open);
    page.key(&format!("{off}match"), &quoted(&route.pattern), "");
    for (key, value) in &route.settings {
        page.key(&format!("{off}{key}"), &written(&value.value), &value.at);
    }
}

fn written(value: &Value) -> String {
    match value {
        Value::Text(text) => quoted(text),
        Value::Flag(flag) => flag.to_string(),
        Value::Headers(headers) => {
            let one = |(name, text): &(String, Option<String>)| {
                format!("{} = {}", quoted(name), text.as_ref().map_or("false".to_owned(), |text| quoted(text)))
            };
            format!("{{ {} }}", headers.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

fn nothing(page: &mut Page) {
    page.line("");
    page.remark("Nothing here says how the app is started. Take the # away from one of these:");
    page.line("# [app.main]");
    page.off("run", "\"npm start\"", "it gets a PORT of its own and is restarted");
    page.off("upstreams", "[\"127.0.0.1:3000\"]", "it runs already");
}

/// The routes to write for each app: none where there is nothing to tell apart.
fn shared_routes(apps: &[App]) -> Vec<Vec<Seen<String>>> {
    let with_port = apps.iter().filter(|app| app.takes_requests()).count();
    let has_all = |app: &App| app.routes.iter().any(|route| route.value == "/*");
    let mut taken = apps.iter().any(has_all);
    let routes = |app: &App| {
        if !app.takes_requests() || with_port == 1 && (app.routes.is_empty() || app.routes.len() == 1 && has_all(app)) {
            return Vec::new();
        }
        if !app.routes.is_empty() {
            return app.routes.clone();
        }
        let guess = if taken { format!("/{}/*", app.name.to_ascii_lowercase()) } else { "/*".to_owned() };
        taken = true;
        vec![Seen::new(guess, "a guess: which paths are its?")]
    };
    apps.iter().map(routes).collect()
}

fn one_app(page: &mut Page, app: &App, routes: &[Seen<String>], found: &Found) {
    let made_of = app.made_of.as_ref().map_or(String::new(), |made_of| format!("{} ({})", made_of.value, made_of.at));
    page.commented(&format!("[app.{}]", app.name), &made_of);
    if let Some(run) = &app.run {
        page.key("run", &quoted(&run.value), &run.at);
    }
    if let Some(dir) = &app.dir {
        page.key("dir", &quoted(&dir.value), &dir.at);
    }
    if !app.upstreams.is_empty() {
        upstreams(page, app);
    }
    if let Some(first) = routes.first() {
        let list: Vec<String> = routes.iter().map(|route| quoted(&route.value)).collect();
        page.key("routes", &format!("[{}]", list.join(", ")), &first.at);
    }
    if let Some(balance) = &app.balance {
        page.key("balance", &quoted(balance.value), &balance.at);
    }
    if let Some(protocol) = &app.protocol {
        page.key("protocol", &quoted(protocol.value), &protocol.at);
    }
    match &app.port {
        Port::Own => {}
        Port::None => page.key("port", "false", "it takes no requests"),
        Port::Fixed(port) => {
            page.key("port", &port.value.to_string(), &format!("fixed by its start line, {}", port.at))
        }
    }
    if app.run.is_some() {
        instances(page, app);
    }
    if let Some(health) = &app.health {
        page.key("health", &format!("{{ path = {} }}", quoted(&health.value)), &health.at);
    } else if app.takes_requests() {
        page.off("health", "{ path = \"/health\" }", "else the usual paths are tried");
    }
    if let Some(limit) = &app.memory_limit {
        page.key("memory_limit", &quoted(&limit.value), &format!("an instance above it is replaced; {}", limit.at));
    }
    if app.run.is_some() && app.takes_requests() {
        if let Some(first) = found.required.first() {
            let list: Vec<String> = found.required.iter().map(|name| quoted(&name.value)).collect();
            let comment = format!("production refuses to start without; {}", first.at);
            page.key("required", &format!("[{}]", list.join(", ")), &comment);
        }
        if let Some(file) = &found.env_file {
            page.remark(&format!("The app gets what is in {file} only if it is named: mainstay run --env-file {file}"));
        }
    }
    if !app.env.is_empty() {
        page.line(&format!("[app.{}.env]", app.name));
        for (name, value) in &app.env {
            page.key(name, &quoted(&value.value), &value.at);
        }
    }
}

fn upstreams(page: &mut Page, app: &App) {
    let one = |upstream: &Seen<super::found::Upstream>| match upstream.value.weight {
        1 => quoted(&upstream.value.to),
        weight => format!("{{ to = {}, weight = {weight} }}", quoted(&upstream.value.to)),
    };
    let list: Vec<String> = app.upstreams.iter().map(one).collect();
    let at = app.upstreams.first().map_or("", |first| &first.at);
    page.key("upstreams", &format!("[{}]", list.join(", ")), at);
}

/// Two, unless the files show what would go wrong with two; a worker is started as often as it was before.
fn instances(page: &mut Page, app: &App) {
    if matches!(app.port, Port::Fixed(_)) {
        return;
    }
    if let Some(count) = &app.instances {
        page.key("instances", &count.value.to_string(), &count.at);
    } else if !app.takes_requests() {
        page.key("instances", "1", "");
    } else if app.before_two.is_empty() {
        page.key("instances", "2", "works as one? look at: sessions, Socket.IO, cron, pool");
    } else {
        page.key("instances", "1", "2 keep serving while one restarts; before that:");
    }
    for reason in &app.before_two {
        page.remark(&format!("  {} ({})", reason.value, reason.at));
    }
}

fn edge(page: &mut Page, found: &Found, on_the_server: bool) {
    page.line("");
    page.line("[edge]");
    let listen: Vec<String> = found.listen.iter().map(|listen| listen_text(listen.value)).collect();
    let listen = format!("[{}]", listen.join(", "));
    let domains: Vec<String> = found.domains.iter().map(|domain| quoted(&domain.value)).collect();
    let domains = format!("[{}]", domains.join(", "));
    let first = |list: Option<&str>| list.unwrap_or_default().to_owned();
    let listen_at = first(found.listen.first().map(|listen| listen.at.as_str()));
    let domains_at = first(found.domains.first().map(|domain| domain.at.as_str()));
    if on_the_server && !found.listen.is_empty() {
        page.key("listen", &listen, &listen_at);
        page.key("domains", &domains, &format!("a domain means production; {domains_at}"));
    } else if !found.listen.is_empty() || !found.domains.is_empty() {
        page.remark("For the server; a domain means production. Here :8080, or PORT:");
        if !found.listen.is_empty() {
            page.off("listen", &listen, &listen_at);
        }
        if !found.domains.is_empty() {
            page.off("domains", &domains, &domains_at);
        }
    } else {
        page.off("listen", "[\":80\", \":443\"]", "else :8080, or PORT");
        page.off("domains", "[\"api.example.com\"]", "a domain means production");
    }
    if found.trusted.is_empty() {
        page.off("trusted_proxies", "[\"10.0.0.0/8\"]", "whose X-Forwarded-* is believed");
    } else {
        let list: Vec<String> = found.trusted.iter().map(|range| quoted(&range.value)).collect();
        page.key("trusted_proxies", &format!("[{}]", list.join(", ")), &found.trusted[0].at);
    }
    if let Some(compress) = &found.compress {
        page.key("compress", &compress.value.to_string(), &format!("zstd, br, gzip; {}", compress.at));
    }
    page.line("[edge.timeouts]");
    for (key, default, comment) in [("response", "60s", "longest wait for the app"), ("drain", "30s", "to finish")] {
        if !found.timeouts.iter().any(|(known, _)| *known == key) {
            page.off(key, &quoted(default), comment);
        }
    }
    for (key, value) in &found.timeouts {
        page.key(key, &quoted(&value.value), &value.at);
    }
    page.line("[edge.limits]");
    match &found.body {
        Some(body) => page.key("body", &quoted(&body.value), &body.at),
        None => page.off("body", "\"10MB\"", "largest request body"),
    }
    if let Some(most) = &found.per_client {
        page.key("connections_per_client", &most.value.to_string(), &most.at);
    }
    if let Some(hsts) = &found.hsts {
        page.line("[edge.headers]");
        page.key("hsts", &quoted(&hsts.value), &hsts.at);
    }
}

fn listen_text(listen: Listen) -> String {
    let Listen { port, tls, proxy_protocol } = listen;
    let tls = if tls && port != 443 { ", tls = true" } else { "" };
    let proxy_protocol = if proxy_protocol { ", proxy_protocol = true" } else { "" };
    match format!("{tls}{proxy_protocol}").as_str() {
        "" => format!("\":{port}\""),
        more => format!("{{ at = \":{port}\"{more} }}"),
    }
}

fn certificates(page: &mut Page, found: &Found, on_the_server: bool) {
    for certificate in &found.certificates {
        let value = &certificate.value;
        page.line("");
        if value.cert.starts_with("/etc/letsencrypt/") {
            page.remark("certbot renews this one; without this table Mainstay orders and renews its own.");
        }
        if on_the_server {
            page.commented(&format!("[tls.{}]", quoted(&value.host)), &certificate.at);
            page.key("cert", &quoted(&value.cert), "");
            page.key("key", &quoted(&value.key), "");
        } else {
            page.commented(&format!("# [tls.{}]", quoted(&value.host)), &certificate.at);
            page.off("cert", &quoted(&value.cert), "");
            page.off("key", &quoted(&value.key), "");
        }
    }
}

/// A basic string of TOML, in which our own `${…}` is taken literally.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.replace("${", "$${").chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::found::Upstream;
    use crate::settings;
    use mainstay_config::Inputs;

    #[track_caller]
    fn fine(found: &Found) -> String {
        let text = file(found, Surroundings { schema: "./mainstay.schema.json", on_the_server: false });
        let (_, report) = settings::read(&Inputs::of_file(text.clone()));
        assert!(report.faults.is_empty(), "{}\n{text}", report.render(false));
        assert!(text.lines().all(|line| line.chars().count() <= 160), "{text}");
        text
    }

    #[test]
    fn any_text_is_written_so_that_it_is_read_as_it_was() {
        let nasty = "sh -c \"a\\b ${HOME} $$\" '\u{7f}\n'";
        let mut app = App { run: Some(Seen::new(nasty.to_owned(), "x\ny:1")), ..App::named("main") };
        app.env.push(("A".into(), Seen::new(nasty.into(), "z")));
        let found = Found { apps: vec![app], ..Found::default() };
        let text = fine(&found);
        let (settings, _) = settings::read(&Inputs::of_file(text));
        assert_eq!(settings.fleet.apps[0].line, nasty);
        assert!(settings.fleet.apps[0].env.contains(&("A".to_owned(), nasty.to_owned())));
    }

    #[test]
    fn an_empty_folder_gives_a_file_that_is_read() {
        let text = fine(&Found::default());
        assert!(text.contains("# run = \"npm start\""), "{text}");
    }

    #[test]
    fn several_apps_are_told_apart_by_their_routes() {
        let up = |to: &str| vec![Seen::new(Upstream { to: to.into(), weight: 3 }, "c:1")];
        let app = |name: &str| App { upstreams: up("a:1"), ..App::named(name) };
        let worker = App { run: Some(Seen::new("w".into(), "P:1")), port: Port::None, ..App::named("worker") };
        let text = fine(&Found { apps: vec![app("web"), app("api"), worker], ..Found::default() });
        assert!(text.contains("routes = [\"/*\"]") && text.contains("routes = [\"/api/*\"]"), "{text}");
        assert!(text.contains("{ to = \"a:1\", weight = 3 }") && text.contains("port = false"), "{text}");
    }
}
