//! What nginx's directives mean for Mainstay: apps and their routes, certificates, limits, and what has no key.

use super::Directive;
use super::answers::{Block, hsts, is_by_ending, limit_conn};
use super::words::{CARRIED, FAMILIES, LATER, OWN_HEADERS, SILENT, STOCK_INCLUDES, duration, size};
use crate::init::found::{App, Certificate, Found, Listen, Port, Seen, Upstream, Value, app_name, cut};
use std::path::Path;

/// nginx's name of a time limit, and ours in `[edge.timeouts]`.
const TIMEOUTS: [(&str, &str); 6] = [
    ("proxy_read_timeout", "response"),
    ("proxy_connect_timeout", "connect"),
    ("keepalive_timeout", "idle"),
    ("client_header_timeout", "header"),
    ("client_body_timeout", "body"),
    ("send_timeout", "send"),
];

pub fn read(dir: &Path, file: &str, directives: &[Directive], found: &mut Found) {
    // A file of `sites-enabled` or `conf.d` is the inside of `http`.
    let mut http: Vec<&Directive> = directives.iter().filter(|d| d.name == "http").flat_map(|d| d.inner()).collect();
    http.extend(directives.iter());
    let groups = http.iter().filter(|d| d.name == "upstream").copied().collect();
    let servers: Vec<&Directive> = http.iter().filter(|d| d.name == "server").copied().collect();
    let names: Vec<Vec<String>> = servers.iter().filter(|s| proxies(s)).map(|s| hosts(s)).collect();
    let hosts_differ = names.iter().any(|one| *one != names[0]);
    let site = Site { dir, file, http: &http, groups, hosts_differ };
    for directive in &http {
        site.everywhere(directive, found);
    }
    for group in &site.groups {
        site.group(group, found);
    }
    for server in servers {
        site.server(server, found);
    }
}

/// Names of a server that a request can carry.
fn hosts(server: &Directive) -> Vec<String> {
    let named = server.find("server_name").flat_map(|d| &d.args);
    let mut hosts: Vec<String> =
        named.filter(|name| name.contains('.') && !name.contains(['*', '~', '$', '/'])).cloned().collect();
    hosts.retain(|name| name.parse::<std::net::IpAddr>().is_err());
    hosts.sort();
    hosts.dedup();
    hosts
}

/// It serves something: an app, or files.
fn proxies(server: &Directive) -> bool {
    let serves = |d: &Directive| d.name.ends_with("_pass") || matches!(d.name.as_str(), "root" | "alias");
    server.inner().iter().any(|d| serves(d) || d.name == "location" && proxies(d))
}

struct Site<'a> {
    dir: &'a Path,
    file: &'a str,
    /// What stands in `http`.
    http: &'a [&'a Directive],
    groups: Vec<&'a Directive>,
    /// Servers for different names: a route then begins with its host.
    hosts_differ: bool,
}

impl Site<'_> {
    fn at(&self, directive: &Directive) -> String {
        format!("{}:{}", self.file, directive.line)
    }

    /// A directive of `http` itself.
    fn everywhere(&self, directive: &Directive, found: &mut Found) {
        let at = self.at(directive);
        match directive.name.as_str() {
            "gzip" | "brotli" if directive.arg(0) == "on" => {
                found.compress.get_or_insert(Seen::new(true, at));
            }
            "limit_conn" => limit_conn(self.http, at, directive, found),
            "add_header" if directive.arg(0).eq_ignore_ascii_case("strict-transport-security") => {
                hsts(directive, at, found);
            }
            "add_header" | "proxy_hide_header" | "proxy_cache" | "expires" => {
                let name = cut(directive.arg(0));
                found.note(at, format!("{} {name} of http is not carried over: a [[route]] says it", directive.name));
            }
            _ => self.setting(directive, found),
        }
    }

    fn block<'b>(&'b self, server: &'b Directive, location: Option<&'b Directive>, path: &'b str) -> Block<'b> {
        Block { file: self.file, dir: self.dir, http: self.http, server, location, path }
    }

    /// A directive for the whole of the edge.
    fn setting(&self, directive: &Directive, found: &mut Found) {
        let at = self.at(directive);
        match directive.name.as_str() {
            "client_max_body_size" => match size(directive.arg(0)) {
                Some(size) => found.body = Some(Seen::new(size, at)),
                None => {
                    found.note(at, "client_max_body_size 0 is not carried over: 10MB is the limit where none is set")
                }
            },
            "set_real_ip_from" if directive.arg(0) == "unix:" => {}
            "set_real_ip_from" => found.trusted.push(Seen::new(directive.arg(0).to_owned(), at)),
            name => match TIMEOUTS.iter().find(|(theirs, _)| *theirs == name) {
                Some((_, ours)) => match duration(directive.arg(0)) {
                    Some(value) if !found.timeouts.iter().any(|(known, _)| known == ours) => {
                        found.timeouts.push((ours, Seen::new(value, at)));
                    }
                    Some(_) => found.note(at, format!("{name} is there a second time; the first counts")),
                    None => found.not_understood(at, &shown(directive)),
                },
                None => self.fate(directive, found),
            },
        }
    }

    /// Silent, without a key yet, or not understood.
    fn fate(&self, directive: &Directive, found: &mut Found) {
        let (at, name) = (self.at(directive), directive.name.as_str());
        if SILENT.contains(&name) || CARRIED.contains(&name) || name == "ssl_certificate" {
            return;
        }
        let is_later = LATER.iter().any(|(known, _)| *known == name);
        if !is_later && FAMILIES.iter().any(|(prefix, _)| name.starts_with(prefix)) {
            return;
        }
        match name {
            // For WebSockets, which pass as they are.
            "map" if directive.arg(0) == "$http_upgrade" => {}
            "proxy_redirect" if matches!(directive.arg(0), "off" | "default") => {}
            "http3" | "auth_basic" if directive.arg(0) == "off" => {}
            "proxy_set_header" if OWN_HEADERS.contains(&directive.arg(0).to_ascii_lowercase().as_str()) => {}
            "proxy_set_header" => {
                let header = cut(directive.arg(0));
                found.note(at, format!("proxy_set_header {header} is not carried over: no header of yours is added"));
            }
            "include" if STOCK_INCLUDES.iter().any(|stock| directive.arg(0).ends_with(stock)) => {}
            "include" => {
                let file = cut(directive.arg(0));
                found.note(at, format!("include {file} was not followed: mainstay init --from {file}"));
            }
            _ => match LATER.iter().find(|(known, _)| *known == name) {
                Some((_, why)) => found.note(at, format!("{name} is not carried over: {why}")),
                None => found.not_understood(at, &shown(directive)),
            },
        }
    }

    fn group(&self, group: &Directive, found: &mut Found) {
        for directive in group.inner() {
            if !matches!(directive.name.as_str(), "server" | "least_conn" | "ip_hash" | "keepalive" | "zone") {
                self.fate(directive, found);
            }
            if directive.name == "server" {
                let is_read = |word: &String| word.starts_with("weight=") || word.starts_with("max_fails=");
                for word in directive.args.iter().skip(1).filter(|word| !is_read(word)) {
                    if !word.starts_with("fail_timeout=") {
                        found.note(self.at(directive), format!("`{}` of an upstream is not carried over", cut(word)));
                    }
                }
            }
        }
    }

    fn server(&self, server: &Directive, found: &mut Found) {
        let hosts = hosts(server);
        for listen in server.find("listen") {
            self.listen(listen, found);
        }
        for name in server.find("server_name").flat_map(|d| d.args.iter().map(move |arg| (d, arg))) {
            if name.1.starts_with('~') || name.1.contains('*') {
                found.note(self.at(name.0), format!("server_name {} is not carried over: name each host", cut(name.1)));
            }
        }
        if proxies(server) {
            for host in &hosts {
                let at = server.find("server_name").next().map_or_else(|| self.at(server), |d| self.at(d));
                if !found.domains.iter().any(|known| known.value == *host) {
                    found.domains.push(Seen::new(host.clone(), at));
                }
            }
        }
        self.certificate(server, &hosts, found);
        // As certbot writes it: a redirect for each host, and 404 for all others.
        let by_certbot = server.find("if").any(|d| d.find("return").any(|r| to_https(r, &hosts)));
        for directive in server.inner() {
            match directive.name.as_str() {
                "location" => self.location(server, directive, &hosts, found),
                // What happens unasked, where a certificate is there.
                "return" if to_https(directive, &hosts) || by_certbot && directive.arg(0) == "404" => {}
                "if" if directive.find("return").any(|r| to_https(r, &hosts)) => {}
                "return" if directive.arg(1).starts_with("https://") => {
                    let to = cut(directive.arg(1));
                    found.note(self.at(directive), format!("return {to} is not carried over: let the app redirect"));
                }
                "proxy_pass" | "grpc_pass" => self.proxy(directive, "/*", &hosts, found),
                "client_max_body_size" if found.body.is_some() => {
                    found.note(self.at(directive), "client_max_body_size is there a second time; the first counts");
                }
                _ => self.setting(directive, found),
            }
        }
        // Where `location /` says it all over again, that one counts.
        let whole = |d: &&Directive| d.args.as_slice() == ["/"];
        match server.find("location").find(whole) {
            None => self.whole(server, &hosts, found),
            Some(_) => {
                let mut only = server.clone();
                only.block
                    .get_or_insert_default()
                    .retain(|d| !matches!(d.name.as_str(), "root" | "try_files" | "expires"));
                self.whole(&only, &hosts, found);
            }
        }
    }

    /// What a server says outside of any location.
    fn whole(&self, server: &Directive, hosts: &[String], found: &mut Found) {
        for pattern in self.patterns("/*", hosts) {
            self.block(server, None, "/").carry(&pattern, found);
        }
    }

    /// Routes of a path: one a host, where servers differ by their hosts.
    fn patterns(&self, pattern: &str, hosts: &[String]) -> Vec<String> {
        if self.hosts_differ && !hosts.is_empty() {
            return hosts.iter().map(|host| format!("{host}{pattern}")).collect();
        }
        vec![pattern.to_owned()]
    }

    fn listen(&self, listen: &Directive, found: &mut Found) {
        let text = listen.arg(0);
        if text.starts_with("unix:") {
            return found.note(self.at(listen), "listen unix: is not carried over: the edge listens on TCP");
        }
        let port = text.rsplit(':').next().unwrap_or(text).parse::<u16>().ok().or_else(|| {
            // An address without a port.
            (!text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit() || ".:[]*".contains(c))).then_some(80)
        });
        let Some(port) = port.filter(|port| *port > 0) else {
            return found.not_understood(self.at(listen), &shown(listen));
        };
        let has = |word: &str| listen.args.iter().any(|arg| arg == word);
        if has("quic") {
            return found.note(self.at(listen), "listen … quic is not carried over: HTTP/1.1 and HTTP/2 are served");
        }
        let value = Listen { port, tls: has("ssl"), proxy_protocol: has("proxy_protocol") };
        if !found.listen.iter().any(|known| known.value.port == port) {
            found.listen.push(Seen::new(value, self.at(listen)));
        }
    }

    fn certificate(&self, server: &Directive, hosts: &[String], found: &mut Found) {
        let (Some(cert), Some(key)) =
            (server.find("ssl_certificate").next(), server.find("ssl_certificate_key").next())
        else {
            return;
        };
        for host in hosts {
            let entry = Certificate { host: host.clone(), cert: cert.arg(0).to_owned(), key: key.arg(0).to_owned() };
            if !found.certificates.iter().any(|known| known.value.host == *host) {
                found.certificates.push(Seen::new(entry, self.at(cert)));
            }
        }
        if hosts.is_empty() {
            found.note(self.at(cert), "ssl_certificate of a server without a name is not carried over");
        }
    }

    fn location(&self, server: &Directive, location: &Directive, hosts: &[String], found: &mut Found) {
        let (kind, path) = match location.args.as_slice() {
            [path] if path.starts_with(['=', '~', '^']) => ("~", path.as_str()),
            [path] => ("", path.as_str()),
            [kind, path] => (kind.as_str(), path.as_str()),
            _ => return found.not_understood(self.at(location), &shown(location)),
        };
        if path.starts_with("/.well-known/acme-challenge") {
            return;
        }
        if path.starts_with('@') {
            return self.named(server, location, hosts, found);
        }
        if kind.starts_with('~') {
            if is_by_ending(location) && server.find("root").next().is_some() {
                return;
            }
            if path.starts_with("/\\.") && location.inner().iter().any(|d| matches!(d.name.as_str(), "deny" | "return"))
            {
                let what = "files never gives out names that begin with a dot; other paths are the app's";
                return found.note(self.at(location), format!("location {kind} {} is not needed: {what}", cut(path)));
            }
            let what =
                format!("location {} {} is not carried over: patterns are paths, `:name` and `*`", kind, cut(path));
            return found.note(self.at(location), what.replace("  ", " "));
        }
        let pattern = match kind {
            "=" => path.to_owned(),
            _ => format!("{}/*", path.trim_end_matches('/')),
        };
        let mut settings = Vec::new();
        for directive in location.inner() {
            match directive.name.as_str() {
                "proxy_pass" | "grpc_pass" => self.proxy(directive, &pattern, hosts, found),
                "location" => self.location(server, directive, hosts, found),
                "return" if to_https(directive, hosts) => {}
                "client_max_body_size" => settings.extend(self.route("body", size(directive.arg(0)), directive, found)),
                "proxy_read_timeout" => {
                    settings.extend(self.route("response", duration(directive.arg(0)), directive, found));
                }
                "proxy_connect_timeout" => {
                    settings.extend(self.route("connect", duration(directive.arg(0)), directive, found));
                }
                _ => self.fate(directive, found),
            }
        }
        if pattern == "/*" && !self.hosts_differ {
            everywhere(settings, found);
        } else {
            for (pattern, (key, value)) in
                self.patterns(&pattern, hosts).iter().flat_map(|pattern| settings.iter().map(move |s| (pattern, s)))
            {
                found.set(pattern, key, Seen::new(Value::Text(value.value.clone()), value.at.clone()));
            }
        }
        for pattern in self.patterns(&pattern, hosts) {
            self.block(server, Some(location), path).carry(&pattern, found);
        }
    }

    /// `location @app`: the app behind whatever tries files first.
    fn named(&self, server: &Directive, location: &Directive, hosts: &[String], found: &mut Found) {
        let tries = |d: &Directive| d.find("try_files").any(|t| t.args.last().is_some_and(|l| l == location.arg(0)));
        let mut paths: Vec<&str> = server.find("location").filter(|d| tries(d)).map(|d| d.arg(0)).collect();
        if tries(server) {
            paths.push("/");
        }
        for directive in location.inner() {
            match directive.name.as_str() {
                "proxy_pass" | "grpc_pass" => {
                    for path in &paths {
                        let pattern = format!("{}/*", path.trim_end_matches('/'));
                        self.proxy(directive, &pattern, hosts, found);
                    }
                }
                _ => self.fate(directive, found),
            }
        }
    }

    fn route(
        &self,
        key: &'static str,
        value: Option<String>,
        directive: &Directive,
        found: &mut Found,
    ) -> Option<(&'static str, Seen<String>)> {
        if value.is_none() {
            found.not_understood(self.at(directive), &shown(directive));
        }
        value.map(|value| (key, Seen::new(value, self.at(directive))))
    }

    /// `proxy_pass http://NAME;`: the app behind it serves the location.
    fn proxy(&self, pass: &Directive, pattern: &str, hosts: &[String], found: &mut Found) {
        let at = self.at(pass);
        let Some((scheme, rest)) = pass.arg(0).split_once("://") else {
            return found.not_understood(at, &shown(pass));
        };
        let (target, path) = rest.split_once('/').map_or((rest, None), |(target, path)| (target, Some(path)));
        if !matches!(scheme, "http" | "grpc") || target.contains('$') || target.starts_with("unix:") {
            return found
                .note(at, format!("proxy_pass {} is not carried over: only http://HOST:PORT is", cut(pass.arg(0))));
        }
        if path.is_some_and(|path| format!("/{path}").trim_end_matches('/') != pattern.trim_end_matches("/*")) {
            found.note(&at, "the path of proxy_pass is not carried over: the app gets the path the client sent");
        }
        let routes: Vec<String> = match hosts {
            hosts if self.hosts_differ && !hosts.is_empty() => {
                hosts.iter().map(|host| format!("{host}{pattern}")).collect()
            }
            _ => vec![pattern.to_owned()],
        };
        let name = self.app(target, &at, found);
        if let Some(app) = found.app(&name).filter(|_| scheme == "grpc") {
            app.protocol = Some(Seen::new("h2c", &at));
        }
        for route in routes {
            let claimed = found.apps.iter().find(|app| app.routes.iter().any(|known| known.value == route));
            match claimed.map(|app| app.name == name) {
                Some(true) => {}
                Some(false) => found.note(&at, format!("`{route}` goes to another app already")),
                None => {
                    if let Some(app) = found.app(&name) {
                        app.routes.push(Seen::new(route, &at));
                    }
                }
            }
        }
    }

    /// The name of the app that the target is: one of the project's own where it is this machine, else a new one.
    fn app(&self, target: &str, at: &str, found: &mut Found) -> String {
        let group = self.groups.iter().find(|group| group.arg(0) == target).copied();
        let in_group = group.into_iter().flat_map(|group| group.find("server"));
        let mut servers: Vec<Seen<Upstream>> =
            in_group.filter(|server| !server.arg(0).starts_with("unix:")).map(|server| self.upstream(server)).collect();
        if servers.is_empty() {
            servers.push(Seen::new(Upstream { to: with_port(target), weight: 1 }, at));
        }
        let host = |upstream: &Seen<Upstream>| upstream.value.to.split(':').next().unwrap_or("").to_owned();
        let balance = group.and_then(|group| {
            let named = |name: &'static str| group.find(name).next().map(|d| Seen::new(name, self.at(d)));
            named("least_conn").or_else(|| named("ip_hash"))
        });
        // A service of the compose file, or an app of the same name.
        if let Some(app) = servers.first().and_then(|first| found.app(&app_name(&host(first)))) {
            app.balance = app.balance.take().or(balance);
            return app.name.clone();
        }
        let here = |upstream: &Seen<Upstream>| matches!(host(upstream).as_str(), "127.0.0.1" | "localhost");
        let count = u32::try_from(servers.len()).unwrap_or(1);
        let is_it = |own: &&mut App| own.upstream_of.as_deref().is_none_or(|known| known == target);
        if servers.iter().all(here)
            && let Some(own) = found.own().filter(is_it)
        {
            own.balance = own.balance.take().or(balance);
            if count > 1 && own.instances.is_none() && own.port == Port::Own {
                own.instances = Some(Seen::new(count, group.map_or(at.to_owned(), |group| self.at(group))));
            }
            own.upstream_of = Some(target.to_owned());
            return own.name.clone();
        }
        let name = match group {
            Some(group) => app_name(group.arg(0)),
            None => app_name(&host(&servers[0]).replace("127.0.0.1", "local")),
        };
        if found.app(&name).is_none() {
            found.apps.push(App { upstreams: servers, balance, ..App::named(&name) });
        }
        name
    }

    fn upstream(&self, server: &Directive) -> Seen<Upstream> {
        let weight = server.args.iter().find_map(|word| word.strip_prefix("weight=")?.parse().ok());
        let weight = weight.filter(|weight| (1..=1000).contains(weight)).unwrap_or(1);
        Seen::new(Upstream { to: with_port(server.arg(0)), weight }, self.at(server))
    }
}

/// What holds of every path is a setting of the edge.
fn everywhere(settings: Vec<(&'static str, Seen<String>)>, found: &mut Found) {
    for (key, value) in settings {
        if key == "body" {
            found.body.get_or_insert(value);
        } else if !found.timeouts.iter().any(|(known, _)| *known == key) {
            found.timeouts.push((key, value));
        }
    }
}

fn with_port(target: &str) -> String {
    let has_port = target.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { target.to_owned() } else { format!("{target}:80") }
}

/// To the same host: what happens unasked.
fn to_https(directive: &Directive, hosts: &[String]) -> bool {
    let is_moved = matches!(directive.arg(0), "301" | "302" | "307" | "308");
    let Some(to) = directive.arg(1).strip_prefix("https://").filter(|_| is_moved) else { return false };
    let end = to.char_indices().skip(1).find(|(_, c)| "$/:".contains(*c)).map_or(to.len(), |(at, _)| at);
    let host = &to[..end];
    matches!(host, "$host" | "$server_name" | "$http_host") || hosts.len() == 1 && hosts[0] == host
}

/// The directive as one would write it.
fn shown(directive: &Directive) -> String {
    let end = if directive.block.is_some() { " { … }" } else { ";" };
    let words: Vec<&str> =
        std::iter::once(directive.name.as_str()).chain(directive.args.iter().map(String::as_str)).collect();
    format!("{}{end}", words.join(" "))
}
