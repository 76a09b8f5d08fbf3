//! nginx's directives by what becomes of them, and its units. Pure tables.

/// Read where they stand, or not needed: what they ask for is always so, or is no concern of a proxy that tunes itself.
pub const SILENT: &[&str] = &[
    "access_log",
    "accept_mutex",
    "charset",
    "client_body_buffer_size",
    "client_header_buffer_size",
    "daemon",
    "default_type",
    "error_log",
    "etag",
    "events",
    "grpc_pass",
    "http",
    "http2",
    "ip_hash",
    "keepalive",
    "keepalive_requests",
    "large_client_header_buffers",
    "least_conn",
    "listen",
    "location",
    "log_format",
    "log_not_found",
    "multi_accept",
    "pid",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_http_version",
    "proxy_next_upstream",
    "proxy_next_upstream_timeout",
    "proxy_next_upstream_tries",
    "proxy_pass",
    "proxy_request_buffering",
    "proxy_send_timeout",
    "real_ip_header",
    "real_ip_recursive",
    "resolver",
    "resolver_timeout",
    "sendfile",
    "server",
    "server_name",
    "server_names_hash_bucket_size",
    "server_tokens",
    "ssl",
    "ssl_certificate_key",
    "ssl_ciphers",
    "ssl_dhparam",
    "ssl_ecdh_curve",
    "ssl_prefer_server_ciphers",
    "ssl_protocols",
    "ssl_session_cache",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "ssl_stapling",
    "ssl_stapling_verify",
    "ssl_trusted_certificate",
    "tcp_nodelay",
    "tcp_nopush",
    "types_hash_max_size",
    "underscores_in_headers",
    "upstream",
    "use",
    "user",
    "worker_connections",
    "worker_processes",
    "worker_rlimit_nofile",
    "zone",
];

/// Read by `answers`, wherever they stand.
pub const CARRIED: &[&str] = &[
    "add_header",
    "alias",
    "brotli",
    "expires",
    "gzip",
    "index",
    "limit_conn",
    "proxy_cache",
    "proxy_cache_use_stale",
    "proxy_cache_valid",
    "proxy_hide_header",
    "root",
    "try_files",
];

/// Understood, and without a key in this version.
pub const LATER: &[(&str, &str)] = &[
    ("limit_req", "write [limits] ip = \"100/min\", or limit in a [[route]]"),
    ("limit_req_zone", "write [limits] ip = \"100/min\", or limit in a [[route]]"),
    ("limit_req_status", "the status is 429"),
    ("limit_req_log_level", "`mainstay limits` shows refusals"),
    ("limit_rate", "this version does not slow an answer down"),
    ("more_set_headers", "headers = { NAME = \"…\" } in a [[route]], where the app sets none"),
    ("proxy_cookie_path", "cookies pass as the app sets them"),
    ("proxy_cookie_domain", "cookies pass as the app sets them"),
    ("proxy_redirect", "Location passes as the app sets it"),
    ("proxy_cache_path", "the cache is memory, not disk: size = \"64MiB\" in [edge.cache]"),
    (
        "proxy_cache_bypass",
        "Cache-Control decides; what the app said nothing about is kept for requests without cookies",
    ),
    ("proxy_no_cache", "Cache-Control decides; what the app said nothing about is kept for requests without cookies"),
    ("proxy_cache_key", "the key is scheme, host, path and query; cache_key = [\"query:page\"] in a [[route]]"),
    ("proxy_ignore_headers", "what the app says of caching counts"),
    ("autoindex", "folders are not listed"),
    ("error_page", "errors are the app's own, or a page of each code"),
    ("return", "this version answers nothing by itself but files and redirects to HTTPS"),
    ("rewrite", "paths pass as the client sent them"),
    ("if", "conditions are the app's to check"),
    ("map", "variables of nginx have no place here"),
    ("geo", "variables of nginx have no place here"),
    ("set", "variables of nginx have no place here"),
    ("auth_basic", "this version has no login"),
    ("auth_basic_user_file", "this version has no login"),
    ("auth_request", "this version has no login"),
    ("allow", "no rules by address but allow in [ops], for /metrics and the like; use the firewall"),
    ("deny", "no rules by address but allow in [ops], for /metrics and the like; use the firewall"),
    ("satisfy", "no rules by address but allow in [ops], for /metrics and the like; use the firewall"),
    ("proxy_ssl_verify", "upstreams are spoken to without TLS"),
    ("proxy_bind", "the system chooses the address"),
    ("ssl_client_certificate", "this version asks no client for a certificate"),
    ("ssl_verify_client", "this version asks no client for a certificate"),
    ("fastcgi_pass", "upstreams speak HTTP: put a server that does in front of PHP-FPM, and name it in upstreams"),
    ("uwsgi_pass", "upstreams speak HTTP: start uwsgi with --http-socket, and name that in upstreams"),
    ("scgi_pass", "upstreams speak HTTP"),
    ("stream", "only HTTP is served"),
    ("mail", "only HTTP is served"),
    ("load_module", "modules of nginx have no place here"),
    ("stub_status", "`mainstay status`, and /metrics"),
    ("internal", "every route is reached from outside"),
    ("mirror", "requests are sent once"),
    ("sub_filter", "bodies pass as the app wrote them"),
    ("http3", "HTTP/1.1 and HTTP/2 are served"),
];

/// Whole families that go with their head.
pub const FAMILIES: &[(&str, &str)] = &[
    ("gzip_", "gzip"),
    ("brotli_", "brotli"),
    ("proxy_cache_", "proxy_cache"),
    ("limit_conn_", "limit_conn"),
    ("fastcgi_", "fastcgi_pass"),
    ("uwsgi_", "uwsgi_pass"),
    ("scgi_", "scgi_pass"),
    ("autoindex_", "autoindex"),
    ("open_file_cache", "sendfile"),
];

/// Headers every proxied request carries here, or that mean the connection and not the request.
pub const OWN_HEADERS: &[&str] = &[
    "host",
    "upgrade",
    "connection",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-request-id",
    "accept-encoding",
];

/// `includes` that hold no meaning of the site's own.
pub const STOCK_INCLUDES: &[&str] = &[
    "mime.types",
    "proxy_params",
    "fastcgi_params",
    "fastcgi.conf",
    "snippets/fastcgi-php.conf",
    "modules-enabled/*.conf",
    // certbot's: versions and ciphers of TLS.
    "options-ssl-nginx.conf",
];

/// `60`, `60s`, `1m`, `1h 30m` as one word, `500ms`; seconds where no unit stands.
pub fn duration(text: &str) -> Option<String> {
    let mut total_ms: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let ms: u64 = match &rest[digits..unit_end] {
            "ms" => 1,
            "" | "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total_ms = total_ms.checked_add(number.checked_mul(ms)?)?;
        rest = &rest[unit_end..];
    }
    match total_ms {
        0 => None,
        ms if ms % 1000 != 0 => Some(format!("{ms}ms")),
        ms if ms % 60_000 == 0 && ms > 60_000 => Some(format!("{}m", ms / 60_000)),
        ms => Some(format!("{}s", ms / 1000)),
    }
}

/// `10m`, `512k`, `1g`, bytes; nginx counts in powers of two. `0` is no limit, and no size.
pub fn size(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok().filter(|number| *number > 0)?;
    match &text[end..] {
        "k" => Some(format!("{number}KiB")),
        "m" => Some(format!("{number}MiB")),
        "g" => Some(format!("{number}GiB")),
        "" => Some(format!("{}KiB", number.div_ceil(1024))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_nginxs_and_come_out_as_ours() {
        for (text, ours) in [
            ("60", Some("60s")),
            ("300s", Some("5m")),
            ("1h30m", Some("90m")),
            ("500ms", Some("500ms")),
            ("0", None),
            ("5y", None),
            ("99999999999999999999", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(duration(text).as_deref(), ours, "{text}");
        }
        for (text, ours) in
            [("10m", Some("10MiB")), ("1G", Some("1GiB")), ("1500", Some("2KiB")), ("0", None), ("1t", None)]
        {
            assert_eq!(size(text).as_deref(), ours, "{text}");
        }
    }

    #[test]
    fn a_directive_has_one_fate() {
        for (name, _) in LATER {
            assert!(!SILENT.contains(name) && !CARRIED.contains(name), "{name}");
        }
        assert!(CARRIED.iter().all(|name| !SILENT.contains(name)));
        for (_, head) in FAMILIES {
            let known = SILENT.contains(head) || CARRIED.contains(head) || LATER.iter().any(|(known, _)| known == head);
            assert!(known, "{head}");
        }
    }
}
