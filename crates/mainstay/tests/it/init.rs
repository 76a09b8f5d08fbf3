//! C7, R4: `init` writes a file that `check` takes, with what the project's files say, and tells what it left out.

use crate::{Project, Said, has};

/// `init`, then `check`: the file's text, and what `init` said.
#[track_caller]
fn written(project: &Project) -> (String, Said) {
    let said = project.mainstay(&["init"]);
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{}", said.err);
    let text = std::fs::read_to_string(project.path().join("mainstay.toml")).expect("the file");
    let check = project.mainstay(&["check"]);
    assert_eq!(check.code, Some(0), "{}\n{text}", check.err);
    (text, said)
}

/// What `mainstay config` makes of it: `key value origin`, without quotes and with spaces folded.
#[track_caller]
fn settings(project: &Project) -> String {
    let said = project.mainstay(&["config"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let plain = said.out.replace(['"', '\\'], "");
    plain.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[test]
fn an_empty_folder_gets_a_file_that_is_read_and_says_what_to_fill_in() {
    let (text, said) = written(&Project::new(&[]));
    has(&text, &["#:schema ./mainstay.schema.json\n", "# run = \"npm start\"", "[edge]"]);
    has(&said.err, &["no file it knows", "next: mainstay check"]);
}

#[test]
fn package_json_gives_the_start_command_and_what_to_look_at() {
    let package = r#"{
  "name": "shop",
  "scripts": { "dev": "nodemon .", "start": "node dist/index.js" },
  "dependencies": {
    "express": "^4",
    "express-session": "1",
    "node-cron": "3",
    "socket.io": "^4"
  }
}"#;
    let project = Project::new(&[("package.json", package), ("pnpm-lock.yaml", "")]);
    let (text, _) = written(&project);
    has(&text, &["run = \"pnpm start\"", "package.json:3", "Express, Socket.IO (package.json:5)", "instances = 1"]);
    has(&text, &["no adapter", "package.json:8", "no store", "node-cron would run in every instance (package.json:7)"]);
    has(&settings(&project), &["app.main.run pnpm start mainstay.toml:"]);
    let lines = text.lines().count();
    assert!((15..=40).contains(&lines), "{lines} lines:\n{text}");

    let project =
        Project::new(&[("package.json", r#"{"scripts":{"start":"next start -p 3000"},"dependencies":{"next":"15"}}"#)]);
    let (text, said) = written(&project);
    has(&text, &["run = \"npm start\"", "port = 3000", "Next.js"]);
    has(&said.err, &["package.json:1: scripts.start fixes port 3000"]);
    assert!(!text.contains("\ninstances"), "{text}");

    let project = Project::new(&[("package.json", r#"{"scripts":{"start":"node ."},"dependencies":{"fastify":"5"}}"#)]);
    has(&written(&project).0, &["instances = 2", "sessions, Socket.IO, cron, pool"]);
}

#[test]
fn a_procfile_gives_an_app_for_each_process_type() {
    let procfile =
        "web: gunicorn app:app -b 0.0.0.0:$PORT\nworker: python \"jobs.py\" ${QUEUE}\nrelease: ./migrate\nwhat\n";
    let project = Project::new(&[("Procfile", procfile)]);
    let (text, said) = written(&project);
    has(&text, &["[app.web]", "[app.worker]", "port = false", "Procfile:2"]);
    let settings = settings(&project);
    has(&settings, &["app.web.run gunicorn app:app -b 0.0.0.0:$PORT mainstay.toml:", "app.worker.port false"]);
    has(&settings, &["app.worker.run python jobs.py ${QUEUE} mainstay.toml:"]);
    has(&said.err, &["Procfile:3: release is not carried over", "Procfile:4: not understood: what"]);
}

#[test]
fn env_gives_names_and_no_value_and_an_example_of_names() {
    let env = "PORT=3000\nDATABASE_URL=postgres://u:hushhush@db/x\n\
               JWT_SECRET=neversayitneversayitneversayitnever1\n=x\nREDIS_URL=redis://r\n";
    let project = Project::new(&[(".env", env), ("Procfile", "web: node .\n")]);
    let said = project.mainstay(&["init"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let text = std::fs::read_to_string(project.path().join("mainstay.toml")).expect("the file");
    has(&text, &["required = [\"DATABASE_URL\", \"JWT_SECRET\", \"REDIS_URL\"]", "mainstay run --env-file .env"]);
    has(&said.err, &[".env:1: PORT names the edge's address", ".env:4: not understood", "wrote .env.example"]);
    let example = std::fs::read_to_string(project.path().join(".env.example")).expect("the example");
    has(&example, &["\nDATABASE_URL=\n", "\nJWT_SECRET=\n", "\nPORT=\n"]);
    for shown in [&text, &said.err, &example] {
        assert!(!shown.contains("hushhush") && !shown.contains("neversayit"), "{shown}");
    }
    // The bad line is `check`'s to refuse as well, and the values are read where they stand.
    std::fs::write(project.path().join(".env"), env.replace("=x\n", "")).expect("write");
    assert_eq!(project.mainstay(&["check"]).code, Some(0));
}

const NGINX: &str = r#"
user www-data;
events { worker_connections 1024; }
http {
    include mime.types;
    limit_req_zone $binary_remote_addr zone=one:10m rate=10r/s;
    set_real_ip_from 10.0.0.0/8;
    client_max_body_size 25m;
    upstream api_pool {
        least_conn;
        server 10.0.0.1:3000 weight=2;
        server 10.0.0.2:3000 max_fails=3 fail_timeout=30s;
        server 10.0.0.3:3000 backup;
    }
    server {
        listen 80;
        server_name shop.example www.shop.example;
        return 301 https://$host$request_uri;
    }
    server {
        listen 443 ssl http2;
        listen [::]:443 ssl;
        server_name shop.example www.shop.example;
        ssl_certificate /nowhere/fullchain.pem;
        ssl_certificate_key /nowhere/privkey.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        location /api/ {
            limit_req zone=one burst=20;
            proxy_pass http://api_pool;
            proxy_read_timeout 300s;
            proxy_set_header Host $host;
            proxy_set_header X-Secret-Sauce 1;
        }
        location /api/uploads { proxy_pass http://api_pool; client_max_body_size 200m; }
        location ~ \.php$ { fastcgi_pass unix:/run/php.sock; }
        location / { proxy_pass http://127.0.0.1:4000; frobnicate on; }
    }
}
"#;

#[test]
fn nginx_conf_gives_apps_routes_limits_and_says_what_has_no_key() {
    let package = ("package.json", r#"{"scripts":{"start":"node ."}}"#);
    let project = Project::new(&[("nginx.conf", NGINX), package]);
    let (text, said) = written(&project);
    has(&text, &["[app.main]", "routes = [\"/*\"]", "[app.api_pool]", "routes = [\"/api/*\", \"/api/uploads/*\"]"]);
    has(&text, &["{ to = \"10.0.0.1:3000\", weight = 2 }", "balance = \"least_conn\"", "body = \"25MiB\""]);
    has(&text, &["trusted_proxies = [\"10.0.0.0/8\"]", "match = \"/api/uploads/*\"", "body = \"200MiB\""]);
    has(&text, &["match = \"/api/*\"", "response = \"5m\""]);
    // The certificate is not on this machine: nothing of the server's is in force.
    has(&text, &["# listen = [\":80\", \":443\"]", "# domains = [\"shop.example\", \"www.shop.example\"]"]);
    has(&text, &["# [tls.\"shop.example\"]", "# cert = \"/nowhere/fullchain.pem\""]);
    has(
        &said.err,
        &[
            "nginx.conf:6: limit_req_zone is not carried over",
            "nginx.conf:28: limit_req is not carried over: write [limits]",
            "nginx.conf:13: `backup` of an upstream is not carried over",
            "nginx.conf:32: proxy_set_header X-Secret-Sauce is not carried over",
            "nginx.conf:35: location ~ \\.php$ is not carried over",
            "nginx.conf:36: not understood: frobnicate on;",
        ],
    );
    assert_eq!(said.err.matches("nginx.conf:").count(), 6, "{}", said.err);
    let settings = settings(&project);
    has(&settings, &["edge.limits.body 25MiB mainstay.toml:", "app.api_pool.balance least_conn"]);
}

#[test]
fn nginx_conf_of_a_site_alone_with_its_certificate_here_is_the_server() {
    let key = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).expect("a certificate");
    let project = Project::new(&[("full.pem", &key.cert.pem()), ("key.pem", &key.signing_key.serialize_pem())]);
    let at = |name: &str| project.path().join(name).display().to_string();
    let site = format!(
        "server {{ listen 80; listen 8443 ssl; server_name shop.example;\n\
         ssl_certificate {};\nssl_certificate_key {};\n\
         location / {{ proxy_pass http://10.9.9.9; }} }}\n",
        at("full.pem"),
        at("key.pem"),
    );
    std::fs::write(project.path().join("shop"), site).expect("write");
    let said = project.mainstay(&["init", "--from", "shop"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let text = std::fs::read_to_string(project.path().join("mainstay.toml")).expect("the file");
    has(&text, &["\nlisten = [\":80\", { at = \":8443\", tls = true }]", "\ndomains = [\"shop.example\"]"]);
    has(&text, &["\n[tls.\"shop.example\"]", "upstreams = [\"10.9.9.9:80\"]"]);
    let check = project.mainstay(&["check"]);
    assert_eq!(check.code, Some(0), "{}\n{text}", check.err);
    has(&check.err, &["production"]);
}

const COMPOSE: &str = r#"
x-common: &common
  restart: always
  environment:
    LOG_STYLE: compact
services:
  web:
    <<: *common
    build: .
    ports: ["80:3000"]
    deploy: { replicas: 3, resources: { limits: { memory: 512M } } }
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost:3000/healthz"]
    volumes: ["./uploads:/app/uploads"]
  worker:
    build: .
    command: ["node", "worker.js", "two words"]
    environment:
      - QUEUE=mail
      - STRIPE_API_KEY=sk_live_donotshow
      - DATABASE_URL=postgres://app:donotshow@db:5432/app
      - REDIS_HOST=redis
  billing:
    image: registry.example/billing:3
    ports: ["127.0.0.1:9000:80"]
  db:
    image: postgres:15-alpine
    environment: { POSTGRES_PASSWORD: donotshow }
  redis: { image: "redis:7" }
  proxy: { image: "nginx:alpine", ports: ["443:443"] }
"#;

#[test]
fn compose_gives_the_projects_own_services_and_leaves_the_rest() {
    let project =
        Project::new(&[("docker-compose.yml", COMPOSE), ("Dockerfile", "FROM node\nCMD [\"node\", \"server.js\"]\n")]);
    let (text, said) = written(&project);
    has(&text, &["[app.web]", "run = \"node server.js\"", "Dockerfile:2", "instances = 3", "docker-compose.yml:11"]);
    has(&text, &["health = { path = \"/healthz\" }", "memory_limit = \"512MiB\"", "LOG_STYLE = \"compact\""]);
    has(&text, &["[app.worker]", "run = \"node worker.js 'two words'\"", "port = false", "QUEUE = \"mail\""]);
    has(&text, &["[app.billing]", "upstreams = [\"127.0.0.1:9000\"]", "# listen = [\":80\"]"]);
    has(
        &said.err,
        &[
            "docker-compose.yml:14: volumes of web is not carried over",
            "docker-compose.yml:20: STRIPE_API_KEY is not copied: it holds a secret",
            "docker-compose.yml:21: DATABASE_URL is not copied: `db` is a name of the compose network",
            "docker-compose.yml:22: REDIS_HOST is not copied: `redis` is a name",
            "db (postgres) goes on running where it runs",
            "proxy (nginx): Mainstay takes its place",
        ],
    );
    assert!(!text.contains("donotshow") && !said.err.contains("donotshow"), "{}", said.err);

    // With a package.json, the service built here is the same app.
    let project = Project::new(&[("compose.yaml", COMPOSE), ("package.json", r#"{"scripts":{"start":"node ."}}"#)]);
    let (text, _) = written(&project);
    has(&text, &["[app.main]", "run = \"npm start\"", "instances = 3", "[app.worker]"]);
    assert!(!text.contains("[app.web]"), "{text}");
}

#[test]
fn what_is_no_file_of_its_kind_is_said_with_its_line_and_the_rest_is_read() {
    let files = [
        ("package.json", "{\n \"scripts\": nope\n}"),
        ("docker-compose.yml", "services:\n  a: [\n"),
        ("nginx.conf", "http {\n server {\n"),
        ("Procfile", "web: node .\n"),
    ];
    let (text, said) = written(&Project::new(&files));
    has(&text, &["[app.web]", "run = \"node .\""]);
    has(&said.err, &["package.json:2: not understood", "docker-compose.yml:3: not understood"]);
    has(&said.err, &["nginx.conf:2: not understood: `server {` is never closed"]);
}

#[test]
fn a_file_that_is_there_stays_unless_forced_and_print_writes_none() {
    let project = Project::new(&[("mainstay.toml", "# mine\n"), ("Procfile", "web: node .\n")]);
    let said = project.mainstay(&["init"]);
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    has(&said.err, &["mainstay.toml is there already", "--print", "--force"]);
    let said = project.mainstay(&["init", "--print"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    has(&said.out, &["[app.web]"]);
    let file = || std::fs::read_to_string(project.path().join("mainstay.toml")).expect("the file");
    assert_eq!(file(), "# mine\n");
    assert_eq!(project.mainstay(&["init", "--force"]).code, Some(0));
    has(&file(), &["[app.web]"]);
    assert_eq!(project.mainstay(&["init", "--from", "gone.conf"]).code, Some(2));
}
