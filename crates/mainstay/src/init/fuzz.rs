//! Any bytes at all for the files `init` reads, all of them somebody else's: whatever they hold, what is written of
//! them is a file that is read without a fault.
//!
//! Each target is a function of bytes; `cargo bolero test NAME` drives the same ones by coverage.

use super::found::Found;
use super::write::{Surroundings, file};
use super::{Kind, read};
use crate::settings;
use mainstay_config::Inputs;
use std::path::Path;

#[path = "../../../config/tests/it/spelled.rs"]
mod spelled;
use spelled::spelled;

/// For each target, with every `cargo test`; each reads two files whole.
const INPUTS: usize = 1_000;

fn written(kind: Kind, text: &str) -> String {
    let mut found = Found::default();
    read(kind, Path::new("/nowhere"), "the file", text, &mut found);
    file(&found, Surroundings { schema: "./mainstay.schema.json", on_the_server: false })
}

fn is_read(kind: Kind, words: &[&str], start: &str, end: &str) {
    bolero::check!().with_iterations(INPUTS).with_max_len(40).for_each(|bytes: &[u8]| {
        let text = format!("{start}{}{end}", spelled(bytes, words));
        let once = written(kind, &text);
        assert_eq!(once, written(kind, &text), "{text}");
        let (_, report) = settings::read(&Inputs::of_file(once.clone()));
        assert!(report.faults.is_empty(), "{text}\n---\n{once}\n---\n{}", report.render(false));
    });
}

#[test]
fn any_nginx_conf_gives_a_file_that_is_read() {
    let words = [
        "\n",
        ";",
        ";\n",
        "{",
        "}",
        "}\n",
        " ",
        "\"",
        "'",
        "\\",
        "#",
        "$host",
        "http {",
        "server {",
        "upstream app {",
        "server 10.0.0.1:3000 weight=3;",
        "server unix:/x;",
        "listen 443 ssl;",
        "listen [::]:80;",
        "server_name a.example b.example;",
        "server_name *.x _;",
        "location / {",
        "location /api/ {",
        "location ~ \\.php$ {",
        "location = /x {",
        "proxy_pass http://app;",
        "proxy_pass http://127.0.0.1:3000/;",
        "ssl_certificate a.pem;",
        "ssl_certificate_key a.key;",
        "client_max_body_size 10m;",
        "client_max_body_size 0;",
        "proxy_read_timeout 60s;",
        "root /srv;",
        "return 301 https://$host$uri;",
        "limit_req zone=a;",
    ];
    is_read(Kind::Nginx, &words, "http { server {\n", "}}");
}

#[test]
fn any_compose_file_gives_a_file_that_is_read() {
    let words = [
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        "- ",
        ": ",
        "services:",
        "web:",
        "api:",
        "image: postgres",
        "build: .",
        "command: npm start",
        "command: [\"a\", \"b\"]",
        "ports:",
        "- \"80:3000\"",
        "- 3000",
        "- target: 80",
        "environment:",
        "- A=b",
        "A: b",
        "env_file: .env",
        "deploy:",
        "replicas: 3",
        "healthcheck:",
        "test: curl http://localhost/health",
        "&a",
        "*a",
        "<<: *a",
        "expose:",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "|",
        ">",
        "#",
        "!!int 5",
        "~",
    ];
    is_read(Kind::Compose, &words, "services:\n  web:\n    ", "\n");
}

#[test]
fn any_procfile_gives_a_file_that_is_read() {
    let words = [
        "\n",
        "\n",
        ":",
        ": ",
        "web",
        "web: npm start",
        "worker: a",
        "release: b",
        " ",
        "#",
        "\"",
        "\\",
        "$PORT",
        "-",
        "_",
        "\t",
        "\r",
    ];
    is_read(Kind::Procfile, &words, "", "\n");
}

#[test]
fn any_env_file_gives_a_file_that_is_read_and_tells_no_value() {
    let words = [
        "\n",
        "\n",
        "=",
        "A",
        "PORT",
        "JWT_SECRET",
        "DATABASE_URL=",
        "export ",
        "\"",
        "'",
        "#",
        " ",
        "\\",
        "${A}",
        "a b",
        "\r",
        ":",
        "`",
    ];
    is_read(Kind::Env, &words, "", "\n");
    bolero::check!().with_iterations(INPUTS).with_max_len(40).for_each(|bytes: &[u8]| {
        let text = format!("JWT_SECRET=kept-to-itself\n{}\nSENTRY_DSN=kept-to-itself\n", spelled(bytes, &words));
        assert!(!written(Kind::Env, &text).contains("kept-to-itself"), "{text}");
    });
}

#[test]
fn any_package_json_gives_a_file_that_is_read() {
    let words = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"start\"",
        "\"start:prod\"",
        "\"scripts\"",
        "\"node dist/main.js\"",
        "\"name\"",
        "\"main\"",
        "\"PORT=3000 node .\"",
        "\"dependencies\"",
        "\"next\"",
        "\"@nestjs/core\"",
        "\"workspaces\"",
        "null",
        "1",
        "\\u0000",
        " ",
    ];
    is_read(Kind::Package, &words, "{\"scripts\": {\"start\": \"node .\"", "}}");
}
