//! C7: what `init` makes of the nginx.conf of a real project; each file it writes passes `check`.

use crate::{Project, Said, has};

/// `init`, then `check`: the file's text, and what `init` said.
#[track_caller]
fn written(project: &Project) -> (String, Said) {
    let said = project.mainstay(&["init"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let text = std::fs::read_to_string(project.path().join("mainstay.toml")).expect("the file");
    let check = project.mainstay(&["check"]);
    assert_eq!(check.code, Some(0), "{}\n{text}", check.err);
    (text, said)
}

#[track_caller]
fn has_not(text: &str, unwanted: &[&str]) {
    for part in unwanted {
        assert!(!text.contains(part), "{part:?} in:\n{text}");
    }
}

const NODE: (&str, &str) = ("package.json", r#"{"scripts":{"start":"node server.js"}}"#);

/// As a VPS has it: one Node app, certbot's own lines, a WebSocket map, a cache for one path.
const NODE_APP: &str = r#"
map $http_upgrade $connection_upgrade { default upgrade; '' close; }
proxy_cache_path /var/cache/nginx levels=1:2 keys_zone=shop:10m max_size=1g inactive=60m;
limit_req_zone $binary_remote_addr zone=api:10m rate=10r/s;
limit_conn_zone $binary_remote_addr zone=addr:10m;
upstream shop { server 127.0.0.1:3000; keepalive 64; }
server {
    server_name shop.example;
    client_max_body_size 20m;
    gzip on;
    gzip_types text/css application/json;
    gzip_min_length 1000;
    limit_conn addr 50;
    add_header Strict-Transport-Security "max-age=63072000; includeSubDomains" always;
    add_header X-Frame-Options SAMEORIGIN always;
    add_header X-Trace $request_id;
    location / {
        proxy_pass http://shop;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_redirect off;
        proxy_hide_header X-Powered-By;
    }
    location /api/prices {
        proxy_pass http://shop;
        limit_req zone=api burst=20 nodelay;
        proxy_cache shop;
        proxy_cache_valid 404 1m;
        proxy_cache_valid 200 302 10m;
        proxy_cache_use_stale error timeout updating http_500;
        proxy_cache_lock on;
        proxy_cache_bypass $cookie_session;
    }
    location /downloads/ { proxy_pass http://shop; gzip off; expires 1h; }
    location ~ /\.(?!well-known) { deny all; }
    listen [::]:443 ssl http2; # managed by Certbot
    listen 443 ssl http2; # managed by Certbot
    ssl_certificate /etc/letsencrypt/live/shop.example/fullchain.pem; # managed by Certbot
    ssl_certificate_key /etc/letsencrypt/live/shop.example/privkey.pem; # managed by Certbot
    include /etc/letsencrypt/options-ssl-nginx.conf; # managed by Certbot
    ssl_dhparam /etc/letsencrypt/ssl-dhparams.pem; # managed by Certbot
    ssl_stapling on;
}
server {
    if ($host = shop.example) {
        return 301 https://$host$request_uri;
    } # managed by Certbot
    listen 80;
    server_name shop.example;
    return 404; # managed by Certbot
}
"#;

#[test]
fn the_site_of_a_node_app_is_carried_over_with_cache_headers_and_compression() {
    let project = Project::new(&[("nginx.conf", NODE_APP), NODE]);
    let (text, said) = written(&project);
    has(&text, &["compress = true", "connections_per_client = 50", "body = \"20MiB\""]);
    has(&text, &["[edge.headers]\nhsts = \"max-age=63072000; includeSubDomains\""]);
    has(&text, &["match = \"/*\"", "headers = { \"X-Powered-By\" = false, \"X-Frame-Options\" = \"SAMEORIGIN\" }"]);
    has(&text, &["match = \"/api/prices/*\"", "cache = \"10m\"", "stale_while_revalidate = \"1m\""]);
    has(&text, &["stale_if_error = \"1h\"", "match = \"/downloads/*\"", "compress = false"]);
    has(&text, &["headers = { \"Cache-Control\" = \"max-age=3600\" }", "certbot renews this one"]);
    has(&text, &["# listen = [\":443\", \":80\"]", "# domains = [\"shop.example\"]"]);
    let expected = [
        "nginx.conf:3: proxy_cache_path is not carried over: the cache is memory",
        "nginx.conf:4: limit_req_zone is not carried over: write [limits]",
        "nginx.conf:16: add_header X-Trace is not carried over: its value is a variable",
        "nginx.conf:27: limit_req is not carried over",
        "nginx.conf:33: proxy_cache_bypass is not carried over: Cache-Control decides",
        "nginx.conf:36: location ~ /\\.(?!well-known) is not needed",
    ];
    has(&said.err, &expected);
    assert_eq!(said.err.matches("nginx.conf:").count(), expected.len(), "{}", said.err);
}

/// A frontend from a folder, an API of two languages beside it, and another host for files.
const SPA_AND_API: &str = r#"
http {
    include mime.types;
    sendfile on;
    upstream api { least_conn; server 10.0.0.1:8000; server 10.0.0.2:8000; }
    server {
        listen 80;
        server_name app.example;
        return 301 https://app.example$request_uri;
    }
    server {
        listen 443 ssl proxy_protocol;
        server_name app.example;
        root DIST;
        index index.html;
        location / { try_files $uri $uri/ /index.html; }
        location ~* \.(?:js|css|woff2?|svg)$ { expires 1y; add_header Cache-Control "public"; access_log off; }
        location = /favicon.ico { access_log off; log_not_found off; }
        location /api/ { proxy_pass http://api; proxy_read_timeout 120s; }
        location /chat.Chat/ { grpc_pass grpc://10.0.0.3:50051; }
        location /media/ { alias /srv/nowhere/media/; expires 7d; }
        location /nginx_status { stub_status; allow 127.0.0.1; deny all; }
    }
}
"#;

#[test]
fn a_frontend_beside_an_api_gives_files_with_their_fallback() {
    let project = Project::new(&[("nginx.conf", &SPA_AND_API.replace("DIST", "dist")), ("dist/index.html", "<p>")]);
    let (text, said) = written(&project);
    has(&text, &["[app.api]", "routes = [\"/api/*\"]", "balance = \"least_conn\"", "protocol = \"h2c\""]);
    has(&text, &["{ at = \":443\", proxy_protocol = true }"]);
    has(&text, &["\n[[route]]\nmatch = \"/*\"\nfiles = \"dist\"", "\nspa = true", "\nfallback = \"none\""]);
    has(&text, &["match = \"/api/*\"", "response = \"2m\""]);
    // Not on this machine: nothing of it is in force.
    has(&text, &["# /srv/nowhere/media/ is not on this machine", "# [[route]]\n# match = \"/media/*\""]);
    has(&text, &["# files = \"/srv/nowhere/media\"", "# strip = \"/media\"", "# immutable = \"hashed\""]);
    has_not(&text, &["favicon", "\nimmutable", "nginx_status\""]);
    has(&said.err, &["expires 7d is not carried over: files are asked about each time"]);
    has(&said.err, &["allow is not carried over: no rules by address but allow in [ops]"]);
    has(&said.err, &["stub_status is not carried over: `mainstay status`, and /metrics"]);
    has_not(&said.err, &["redirect", "try_files", "index", "not understood", ".conf:8", ".conf:9:"]);

    // The frontend is built elsewhere: the same, as comments.
    let project = Project::new(&[("nginx.conf", &SPA_AND_API.replace("DIST", "/usr/share/nginx/nowhere"))]);
    let (text, _) = written(&project);
    has(&text, &["# /usr/share/nginx/nowhere is not on this machine: name the folder", "# spa = true"]);
}

/// Files first, then the app, as Rails and Django are often served.
#[test]
fn files_before_the_app_are_files_before_the_app() {
    let conf = "upstream rails { server 127.0.0.1:3000; }\n\
                server { listen 80; server_name shop.example; root public; expires 30d;\n\
                location / { try_files $uri @rails; }\n\
                location @rails { proxy_pass http://rails; proxy_set_header Host $host; }\n\
                location /static/ { alias assets/; } }\n";
    let files = [("nginx.conf", conf), NODE, ("public/404.html", "x"), ("assets/a.css", "x")];
    let (text, said) = written(&Project::new(&files));
    has(&text, &["[app.main]", "match = \"/*\"\nfiles = \"public\"", "files = \"assets\"", "strip = \"/static\""]);
    has_not(&text, &["spa", "\nupstreams"]);
    assert_eq!(text.matches("fallback = \"none\"").count(), 1, "{text}");
    has_not(&said.err, &["nginx.conf:"]);
}

const LARAVEL: &str = r#"
server {
    listen 80;
    server_name blog.example;
    root /var/www/blog/public;
    add_header X-Frame-Options "SAMEORIGIN";
    index index.php;
    charset utf-8;
    location / { try_files $uri $uri/ /index.php?$query_string; }
    location = /robots.txt { access_log off; log_not_found off; }
    error_page 404 /index.php;
    location ~ \.php$ {
        fastcgi_pass unix:/var/run/php/php8.2-fpm.sock;
        fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;
        include fastcgi_params;
    }
    location ~ /\.(?!well-known).* { deny all; }
}
"#;

/// The folder holds the programs: as files it would give out their source.
#[test]
fn php_behind_fpm_is_not_understood_and_its_folder_is_never_served() {
    let project = Project::new(&[("nginx.conf", LARAVEL)]);
    let (text, said) = written(&project);
    has(&text, &["# upstreams = [\"127.0.0.1:3000\"]", "headers = { \"X-Frame-Options\" = \"SAMEORIGIN\" }"]);
    has_not(&text, &["files", "/var/www"]);
    has(&said.err, &["nginx.conf:5: root /var/www/blog/public is not carried over: it holds what PHP runs"]);
    has(&said.err, &["nginx.conf:12: location ~ \\.php$ is not carried over"]);
}

#[test]
fn redirects_to_somewhere_else_are_said_and_nothing_nginx_takes_makes_init_fail() {
    let conf = "server { listen 80; server_name www.shop.example; return 301 https://shop.example$request_uri; }\n\
                server { listen 80; return 301 https://; }\n\
                server { listen 80; return 301 https://é; add_header; add_header Connection x; add_header A é;\n\
                expires; root; alias; limit_conn; gzip; }\n\
                server { server_name a.example; location / { proxy_pass http://10.0.0.1; add_header A b; } }\n\
                server { server_name b.example; location / { proxy_pass http://10.0.0.2; add_header A c; } }\n";
    let project = Project::new(&[("nginx.conf", conf)]);
    let (text, said) = written(&project);
    has(&said.err, &["nginx.conf:1: return https://shop.example$request_uri is not carried over: let the app"]);
    has(&text, &["match = \"a.example/*\"\nheaders = { \"A\" = \"b\" }", "match = \"b.example/*\""]);
}
