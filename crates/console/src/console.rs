//! What operators see first: how the apps are, and the way in. Its text twins are `mainstay status`, `mainstay health`.

use crate::html::{Text, page, span};
use serde_json::Value;
use std::fmt::Write;

/// Follows a link that was opened in a browser.
pub const LOGIN_SCRIPT: &str = include_str!("login.js");
/// The policy of the one page with a script, which comes from us.
pub const OWN_SCRIPT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
                              form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// It looks again.
const REFRESH_S: u32 = 10;

/// Apps, their instances, services. `status` and `health` are what `mainstay status --json` and `mainstay health` say.
pub fn overview(status: &Value, health: &[String], has_queues: bool) -> String {
    let version = text(status, "version");
    let mut inner = format!("<header><h1>mainstay {}</h1>", Text(version));
    if has_queues {
        inner += "<a href=\"/queues\">Queues</a>";
    }
    inner += "<form method=\"post\" action=\"/logout\"><button>Log out</button></form></header><dl>";
    let environment = format!("{} ({})", text(status, "environment"), text(status, "environment_why"));
    let listening: Vec<&str> = items(status, "listening").iter().filter_map(Value::as_str).collect();
    let up = span(status["uptime_s"].as_u64().unwrap_or_default().saturating_mul(1000));
    let file = status["file"].as_str().unwrap_or("none: built-in defaults");
    for (name, value) in [
        ("environment", environment.as_str()),
        ("up", &up),
        ("open", &listening.join(" ")),
        ("connections", &status["connections"].to_string()),
        ("file", file),
        ("data", text(status, "data")),
    ] {
        let _ = write!(inner, "<dt>{name}</dt><dd>{}</dd>", Text(value));
    }
    if let crashes @ 1.. = status["server_crashes"].as_u64().unwrap_or_default() {
        let _ = write!(inner, "<dt>server died</dt><dd class=\"failed\">{crashes} times, and was replaced</dd>");
    }
    inner += "</dl>";
    inner += &apps(status);
    let _ = write!(inner, "<h2>Health</h2><pre>{}</pre>", Text(&health.join("\n")));
    page("", &format!("mainstay {version}"), Some(REFRESH_S), &inner)
}

fn apps(status: &Value) -> String {
    let (own, elsewhere) = (items(status, "apps"), items(status, "elsewhere"));
    if own.is_empty() && elsewhere.is_empty() {
        return "<p>No app runs.</p>".to_owned();
    }
    let mut table = "<h2>Apps</h2><div class=\"wide\"><table><tr><th>instance</th><th>state</th><th>up</th>\
                     <th class=\"n\">memory</th><th class=\"n\">CPU</th><th class=\"n\">in flight</th>\
                     <th class=\"n\">restarts</th><th></th></tr>"
        .to_owned();
    for instance in own.iter().flat_map(|app| items(app, "instances")) {
        table += &row_of_instance(instance);
    }
    for upstream in elsewhere {
        let state = match (upstream["draining"] == true, upstream["available"] == true) {
            (true, _) => "drains",
            (false, true) => "available",
            (false, false) => "away",
        };
        let class = if state == "away" { "failed" } else { "" };
        let _ = write!(
            table,
            "<tr><td>{} {}</td><td class=\"{class}\">{state}</td><td></td><td></td><td></td><td class=\"n\">{}</td>\
             <td></td><td></td></tr>",
            Text(text(upstream, "app")),
            Text(text(upstream, "address")),
            upstream["in_flight"]
        );
    }
    table + "</table></div>"
}

fn row_of_instance(instance: &Value) -> String {
    let state = text(instance, "state");
    let class = match state {
        "ready" => "completed",
        "down" | "crash_loop" => "failed",
        _ => "",
    };
    let memory = instance["rss_bytes"].as_u64().map(|bytes| format!("{} MiB", bytes >> 20)).unwrap_or_default();
    let cpu = instance["cpu_percent"].as_f64().map(|percent| format!("{percent:.0} %")).unwrap_or_default();
    let why = ["why_not_ready", "last_exit"].iter().find_map(|name| instance[*name].as_str()).unwrap_or_default();
    format!(
        "<tr><td>{}</td><td class=\"{class}\">{}</td><td>{}</td><td class=\"n\">{memory}</td><td class=\"n\">{cpu}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"e\">{}</td></tr>",
        Text(text(instance, "label")),
        Text(&state.replace('_', " ")),
        span(instance["uptime_ms"].as_u64().unwrap_or_default()),
        instance["in_flight"],
        instance["restarts"],
        Text(why),
    )
}

/// The way in. `why`: what was wrong with the last try.
pub fn login(why: Option<&str>) -> String {
    let why = why.map(|why| format!("<p class=\"failed\">{}</p>", Text(why))).unwrap_or_default();
    let inner = format!(
        "<header><h1>mainstay</h1></header>{why}<p>On the machine where it runs, type <code>mainstay console</code> \
         and open the link it prints: it lets you in once, within ten minutes.</p>\
         <form method=\"post\" action=\"/login\"><label>Or what stands in it behind the <code>#</code>: \
         <input name=\"key\" type=\"password\" autocomplete=\"off\" required></label> <button>Log in</button></form>\
         <script src=\"/login.js\"></script>"
    );
    page("", "mainstay", None, &inner)
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_an_app_is_called_is_text() {
        let status = json!({
            "version": "0.1", "environment": "production", "environment_why": "<b>", "listening": ["127.0.0.1:80"],
            "connections": 3, "uptime_s": 61, "server_crashes": 2,
            "apps": [{ "instances": [{
                "label": "<i>.1", "state": "crash_loop", "uptime_ms": 5, "in_flight": 1, "restarts": 4,
                "last_exit": "status <1>",
            }]}],
            "elsewhere": [{ "app": "b", "address": "192.0.2.1:80", "available": false, "in_flight": 0 }],
        });
        let page = overview(&status, &["database  <ok>".to_owned()], true);
        for part in ["&lt;i&gt;.1", "crash loop", "status &lt;1&gt;", "&lt;ok&gt;", "1m 1s", "away", "href=\"/queues\""]
        {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("<i>") && !page.contains("<b>"), "{page}");
        assert!(!overview(&json!({}), &[], false).contains("/queues"));
        assert!(login(Some("<no>")).contains("&lt;no&gt;"));
    }
}
