//! package.json: how the app is started, and what it is made of.
//!
//! serde_json keeps no positions; a key's line is found in the text, which is exact enough for a person.

use super::found::{App, Found, Port, Seen};
use serde_json::{Map, Value};
use std::path::Path;

/// What a dependency tells a person about the app.
const MADE_OF: [(&str, &str); 18] = [
    ("next", "Next.js"),
    ("nuxt", "Nuxt"),
    ("@remix-run/node", "Remix"),
    ("@nestjs/core", "NestJS"),
    ("express", "Express"),
    ("fastify", "Fastify"),
    ("koa", "Koa"),
    ("@hapi/hapi", "hapi"),
    ("hono", "Hono"),
    ("@trpc/server", "tRPC"),
    ("@apollo/server", "Apollo"),
    ("socket.io", "Socket.IO"),
    ("ws", "ws"),
    ("bullmq", "BullMQ"),
    ("@prisma/client", "Prisma"),
    ("pg", "pg"),
    ("mongoose", "Mongoose"),
    ("ioredis", "ioredis"),
];

/// A dependency that stops a second instance from being the same as the first, unless one of the others is there.
const BEFORE_TWO: [(&str, &[&str], &str); 8] = [
    (
        "socket.io",
        &[
            "@socket.io/redis-adapter",
            "@socket.io/redis-streams-adapter",
            "@socket.io/postgres-adapter",
            "@socket.io/mongo-adapter",
            "@socket.io/cluster-adapter",
            "socket.io-redis",
        ],
        "Socket.IO has no adapter: a broadcast reaches the clients of one instance alone",
    ),
    (
        "express-session",
        &["connect-redis", "connect-pg-simple", "connect-mongo", "connect-session-sequelize", "session-file-store"],
        "express-session has no store: a session is known to one instance alone",
    ),
    ("node-cron", &[], "node-cron would run in every instance"),
    ("cron", &[], "cron would run in every instance"),
    ("node-schedule", &[], "node-schedule would run in every instance"),
    ("@nestjs/schedule", &[], "@nestjs/schedule would run in every instance"),
    ("toad-scheduler", &[], "toad-scheduler would run in every instance"),
    ("node-cache", &[], "node-cache is a cache of each instance: what one forgets another still has"),
];

/// They read `.env` themselves.
const READ_ENV: [&str; 6] = ["dotenv", "dotenv-flow", "next", "nuxt", "@nestjs/config", "@dotenvx/dotenvx"];

pub fn read(dir: &Path, file: &str, text: &str, found: &mut Found) {
    let document: Map<String, Value> = match serde_json::from_str(text) {
        Ok(document) => document,
        Err(error) => return found.not_understood(format!("{file}:{}", error.line()), &error.to_string()),
    };
    let scripts = document.get("scripts").and_then(Value::as_object);
    let script = |name: &str| scripts.and_then(|all| all.get(name)).and_then(Value::as_str);
    let at = |path: &[&str]| format!("{file}:{}", line_of(text, path));
    let mut app = App::named("main");
    if let Some(start) = script("start") {
        let place = at(&["scripts", "start"]);
        if let Some(port) = fixed_port(start) {
            let what =
                format!("scripts.start fixes port {port}: one instance; take it out and let it read PORT for more");
            found.note(&place, what);
            app.port = Port::Fixed(Seen::new(port, &place));
        }
        app.run = Some(Seen::new(start_command(dir, &document).to_owned(), place));
    } else if let Some(main) = document.get("main").and_then(Value::as_str).filter(|main| dir.join(main).exists()) {
        app.run = Some(Seen::new(format!("node {main}"), at(&["main"])));
    } else if script("dev").is_some() {
        found.note(at(&["scripts", "dev"]), "scripts.dev is for development; add scripts.start, or run = \"…\"");
    }
    describe(&document, file, text, &mut app);
    let reads_env = READ_ENV.iter().any(|name| dependency(&document, name).is_some())
        || script("start").is_some_and(|line| line.contains("--env-file"));
    if reads_env {
        found.env_file = None;
    }
    adopt(app, found);
}

/// A Procfile says better how it is started; then package.json only says what it is made of.
fn adopt(app: App, found: &mut Found) {
    match found.own() {
        Some(own) => {
            own.made_of = app.made_of;
            own.before_two = app.before_two;
        }
        None if app.run.is_some() => found.apps.insert(0, app),
        None => {}
    }
}

fn describe(document: &Map<String, Value>, file: &str, text: &str, app: &mut App) {
    let place = |section: &str, name: &str| format!("{file}:{}", line_of(text, &[section, name]));
    let mut names = Vec::new();
    let mut first = None;
    for (package, word) in MADE_OF {
        if let Some(section) = dependency(document, package) {
            names.push(word);
            first.get_or_insert_with(|| place(section, package));
        }
    }
    app.made_of = first.map(|at| Seen::new(names.join(", "), at));
    for (package, unless, what) in BEFORE_TWO {
        if let Some(section) = dependency(document, package)
            && !unless.iter().any(|other| dependency(document, other).is_some())
        {
            app.before_two.push(Seen::new(what.to_owned(), place(section, package)));
        }
    }
}

/// The section that names it; development's own are not the app's.
fn dependency(document: &Map<String, Value>, name: &str) -> Option<&'static str> {
    ["dependencies", "optionalDependencies"]
        .into_iter()
        .find(|section| document.get(*section).and_then(Value::as_object).is_some_and(|all| all.contains_key(name)))
}

/// By `packageManager`, else by the lock file.
fn start_command(dir: &Path, document: &Map<String, Value>) -> &'static str {
    let named = document.get("packageManager").and_then(Value::as_str).unwrap_or("");
    let has = |file: &str| dir.join(file).exists();
    match named.split('@').next().unwrap_or("") {
        "pnpm" => "pnpm start",
        "yarn" => "yarn start",
        "bun" => "bun run start",
        "npm" => "npm start",
        _ if has("pnpm-lock.yaml") => "pnpm start",
        _ if has("yarn.lock") => "yarn start",
        _ if has("bun.lock") || has("bun.lockb") => "bun run start",
        _ => "npm start",
    }
}

/// `-p 3000`, `--port 3000`, `--port=3000`, `PORT=3000 …`; not `--port $PORT`.
pub fn fixed_port(line: &str) -> Option<u16> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |text: &str| text.trim_matches(['"', '\'']).parse::<u16>().ok().filter(|port| *port > 0);
    words.iter().enumerate().find_map(|(i, word)| {
        if ["-p", "--port"].contains(word) {
            return words.get(i + 1).and_then(|next| number(next));
        }
        ["--port=", "PORT="].iter().find_map(|prefix| word.strip_prefix(prefix).and_then(number))
    })
}

/// The line of a key below other keys, counted from 1; the last one found, if the path is not in the text.
fn line_of(text: &str, path: &[&str]) -> usize {
    let mut from = 0;
    for key in path {
        let quoted = format!("\"{key}\"");
        let is_key = |at: usize| text[at + quoted.len()..].trim_start().starts_with(':');
        let Some(at) = text[from..].match_indices(&quoted).map(|(at, _)| from + at).find(|at| is_key(*at)) else {
            break;
        };
        from = at;
    }
    text[..from].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_a_start_line_is_seen_and_a_variable_is_none() {
        for (line, port) in [
            ("next start -p 3000", Some(3000)),
            ("vite preview --port=4173", Some(4173)),
            ("PORT=5000 node .", Some(5000)),
            ("serve --port $PORT", None),
            ("node server.js -p", None),
            ("node --port 99999", None),
        ] {
            assert_eq!(fixed_port(line), port, "{line}");
        }
    }

    #[test]
    fn a_key_is_found_below_its_parent() {
        let text = "{\n \"start\": 1,\n \"note\": \"scripts\",\n \"scripts\": {\n  \"start\": \"x\"\n }\n}\n";
        assert_eq!(line_of(text, &["scripts", "start"]), 5);
        assert_eq!(line_of(text, &["none"]), 1);
    }
}
