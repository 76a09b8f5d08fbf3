//! Queues, jobs of a queue, one job: J6's pages. Their text twin is `mainstay jobs`.

mod job;

pub use crate::html::Place;
pub use job::job;

use crate::html::{Text, button, in_query, page, when};
use serde_json::Value;
use std::fmt::Write;

/// States in the order an operator looks.
pub const STATES: [&str; 7] = ["waiting", "active", "delayed", "waiting_children", "completed", "failed", "dead"];
/// An overview looks again.
const REFRESH_S: u32 = 10;

/// Every queue, and the schedules. What comes in is what `mainstay jobs --json` prints.
pub fn overview(place: &Place<'_>, queues: &[Value], schedules: &[Value]) -> String {
    let mut inner = header(place, "Queues", "");
    if queues.is_empty() {
        inner += "<p>There is no queue: <code>[jobs.NAME]</code> in mainstay.toml makes one.</p>";
    } else {
        inner += "<div class=\"wide\"><table><tr><th>queue</th>";
        inner.extend(STATES.map(|state| format!("<th class=\"n\">{}</th>", shown(state))));
        inner += "<th>at once</th><th>rate</th><th></th></tr>";
        queues.iter().for_each(|queue| inner += &row_of_queue(place, queue));
        inner += "</table></div>";
    }
    if !schedules.is_empty() {
        inner += "<h2>Schedules</h2><div class=\"wide\"><table><tr><th>name</th><th>queue</th><th>when</th>\
                  <th>next</th>\
                  <th>missed ticks</th><th></th></tr>";
        schedules.iter().for_each(|schedule| inner += &row_of_schedule(place, schedule));
        inner += "</table></div>";
    }
    page(place.root, "Queues", Some(REFRESH_S), &inner)
}

/// Title, way back, search.
fn header(place: &Place<'_>, title: &str, queue: &str) -> String {
    let root = Text(place.root);
    let back = match (queue, place.home) {
        ("", None) => String::new(),
        ("", Some(home)) => format!("<a href=\"{}\">Status</a>", Text(home)),
        _ => format!("<a href=\"{root}\">Queues</a>"),
    };
    let hint = if queue.is_empty() { "job id" } else { "id, name, key, group, error" };
    let hidden = match queue {
        "" => String::new(),
        queue => format!("<input type=\"hidden\" name=\"queue\" value=\"{}\">", Text(queue)),
    };
    format!(
        "<header>{back}<h1>{}</h1><form action=\"{root}/find\">{hidden}<input name=\"q\" required \
         aria-label=\"search\" placeholder=\"{hint}\"> <button>Find</button></form></header>",
        Text(title)
    )
}

fn row_of_queue(place: &Place<'_>, queue: &Value) -> String {
    let name = text(queue, "name");
    let mut row = format!("<tr><td>{}", link(place, name, None, name));
    for (is, badge) in [("paused", "paused"), ("short", "wants workers")] {
        if queue[is] == true {
            let _ = write!(row, " <span class=\"badge\">{badge}</span>");
        }
    }
    // J9: by what name BullMQ and its tools know this depth.
    let _ = write!(row, "<br><small><code>bull:{}:wait</code></small></td>", Text(name));
    for state in STATES {
        let count = count(queue, state);
        let class = if count == 0 { "zero" } else { state };
        let shown = link(place, name, Some(state), &count.to_string());
        let _ = write!(row, "<td class=\"n\"><span class=\"{class}\">{shown}</span></td>");
    }
    let at_once = queue["concurrency"].as_u64().map_or("any".to_owned(), |n| n.to_string());
    let rate = Text(queue["rate"].as_str().unwrap_or("–")).to_string();
    let (verb, label) = if queue["paused"] == true { ("resume", "Resume") } else { ("pause", "Pause") };
    let action = button(place, label, false, &[("verb", verb), ("queue", name)]);
    let _ = write!(row, "<td>{at_once}</td><td>{rate}</td><td class=\"a\">{action}</td></tr>");
    row
}

fn row_of_schedule(place: &Place<'_>, schedule: &Value) -> String {
    let (name, queue) = (text(schedule, "name"), text(schedule, "queue"));
    let rule = match schedule["everyMs"].as_u64() {
        Some(every) => format!("every {}", crate::html::span(every)),
        None => format!("<code>{}</code> {}", Text(text(schedule, "cron")), Text(text(schedule, "zone"))),
    };
    let next = schedule["nextMs"].as_u64().map_or("never".to_owned(), |at| when(place.now_ms, at));
    // One of the file would be there again after a restart; what the app made with BullMQ is its own.
    let action = match name.split_once(':') {
        Some(("file", _)) => "<small>in mainstay.toml</small>".to_owned(),
        Some(("app", _)) => "<small>the app's own</small>".to_owned(),
        _ => button(place, "Remove", true, &[("verb", "unschedule"), ("name", name)]),
    };
    format!(
        "<tr><td>{}</td><td>{}</td><td>{rule}</td><td>{next}</td><td>{}</td><td class=\"a\">{action}</td></tr>",
        Text(name),
        link(place, queue, None, queue),
        Text(text(schedule, "catchUp")),
    )
}

/// A part of a queue's jobs.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    pub state: &'a str,
    pub skip: usize,
    /// So many more stand behind these.
    pub left: u64,
    /// A page holds so many.
    pub page: usize,
    /// What they were searched for; then they are of every state.
    pub found: Option<&'a str>,
    /// The search looked at no more than so many.
    pub looked: usize,
}

/// Jobs of one queue in one state, or those that a search found.
pub fn list(place: &Place<'_>, queue: &Value, jobs: &[Value], listed: &Listed<'_>) -> String {
    let name = text(queue, "name");
    let mut inner = header(place, name, name);
    inner += "<nav>";
    for state in STATES {
        let class = if state == listed.state && listed.found.is_none() { "here" } else { "" };
        let shown = link(place, name, Some(state), &format!("{} {}", shown(state), count(queue, state)));
        let _ = write!(inner, "<span class=\"{class}\">{shown}</span>");
    }
    inner += "</nav>";
    match listed.found {
        Some(words) => {
            let _ = write!(
                inner,
                "<p>{} with “{}” among the newest {} of each state</p>",
                jobs.len(),
                Text(words),
                listed.looked
            );
        }
        None => inner += &whole(place, queue, listed.state),
    }
    if jobs.is_empty() {
        inner += "<p class=\"soft\">No job.</p>";
    } else {
        inner += "<div class=\"wide\"><table><tr><th class=\"n\">id</th><th>name</th><th>state</th>\
                  <th class=\"n\">attempts</th><th>when</th><th>last error</th><th></th></tr>";
        jobs.iter().for_each(|job| inner += &row_of_job(place, job));
        inner += "</table></div>";
    }
    inner += &steps(place, name, jobs.len(), listed);
    inner += &adding(place, name);
    page(place.root, name, None, &inner)
}

/// What is done to all in this state.
fn whole(place: &Place<'_>, queue: &Value, state: &str) -> String {
    let name = text(queue, "name");
    if count(queue, state) == 0 {
        return String::new();
    }
    let of = |label: &str, fields: &[(&str, &str)]| {
        let fields: Vec<(&str, &str)> = fields.iter().copied().chain([("queue", name)]).collect();
        button(place, label, true, &fields)
    };
    let all = match state {
        "waiting" => of("Drain: remove all that wait", &[("verb", "drain")]),
        "delayed" => of("Remove all that wait or are put off", &[("verb", "drain"), ("delayed", "1")]),
        "failed" | "dead" => {
            of("Redrive: start all again", &[("verb", "redrive"), ("state", state)])
                + " "
                + &of("Clean: remove all", &[("verb", "clean"), ("state", state)])
        }
        "completed" => of("Clean: remove all", &[("verb", "clean"), ("state", state)]),
        _ => return String::new(),
    };
    format!("<p>{all}</p>")
}

fn row_of_job(place: &Place<'_>, job: &Value) -> String {
    let (id, state) = (id(job), text(job, "state"));
    let at = ["delayUntilMs", "endedMs", "startedMs", "createdMs"].iter().find_map(|at| job[*at].as_u64());
    let error = job["error"].as_str().unwrap_or_default();
    format!(
        "<tr><td class=\"n\"><a href=\"{}/job?id={}\">{}</a></td><td>{}</td><td class=\"{}\">{}</td>\
         <td class=\"n\">{}/{}</td><td>{}</td><td class=\"e\">{}</td><td class=\"a\">{}</td></tr>",
        Text(place.root),
        in_query(&id),
        Text(&id),
        Text(text(job, "name")),
        Text(state),
        Text(state),
        job["attemptsMade"],
        job["attempts"],
        at.map(|at| when(place.now_ms, at)).unwrap_or_default(),
        Text(error),
        actions(place, &id, state),
    )
}

/// A number, or a queue and what BullMQ calls the job.
fn id(job: &Value) -> String {
    job["id"].as_str().map_or_else(|| job["id"].to_string(), str::to_owned)
}

/// What can be done to a job in this state.
fn actions(place: &Place<'_>, id: &str, state: &str) -> String {
    let one = |label, verb, sure| button(place, label, sure, &[("verb", verb), ("id", id)]);
    match state {
        "failed" | "dead" => one("Retry", "retry", false) + " " + &one("Remove", "remove", true),
        "delayed" => one("Start now", "promote", false) + " " + &one("Remove", "remove", true),
        "active" => "<small>a worker has it</small>".to_owned(),
        _ => one("Remove", "remove", true),
    }
}

/// The steps through a list.
fn steps(place: &Place<'_>, queue: &str, shown: usize, listed: &Listed<'_>) -> String {
    let mut nav = String::from("<nav>");
    let step = |skip: usize, label: &str| {
        let (root, state) = (Text(place.root), listed.state);
        format!("<a href=\"{root}/list?queue={}&amp;state={state}&amp;skip={skip}\">{label}</a>", in_query(queue))
    };
    if listed.found.is_none() && listed.skip > 0 {
        nav += &step(listed.skip.saturating_sub(listed.page), "← newer");
    }
    if listed.found.is_none() && listed.left > 0 {
        nav += &step(listed.skip + shown, &format!("{} more →", listed.left));
    }
    nav + "</nav>"
}

fn adding(place: &Place<'_>, queue: &str) -> String {
    format!(
        "<h2>Add a job</h2><form class=\"tall\" method=\"post\" action=\"{root}/do\">\
         <input type=\"hidden\" name=\"verb\" value=\"add\"><input type=\"hidden\" name=\"queue\" value=\"{queue}\">\
         <input type=\"hidden\" name=\"back\" value=\"{back}\">\
         <label for=\"name\">name</label><input id=\"name\" name=\"name\">\
         <label for=\"payload\">data, as JSON</label><textarea id=\"payload\" name=\"payload\">{{}}</textarea>\
         <label for=\"delay\">delay, as 10s</label><input id=\"delay\" name=\"delay\" placeholder=\"0s\">\
         <p><button>Add</button></p></form>",
        root = Text(place.root),
        queue = Text(queue),
        back = Text(place.here),
    )
}

fn link(place: &Place<'_>, queue: &str, state: Option<&str>, shown: &str) -> String {
    let state = state.map(|state| format!("&amp;state={state}")).unwrap_or_default();
    format!("<a href=\"{}/list?queue={}{state}\">{}</a>", Text(place.root), in_query(queue), Text(shown))
}

/// How many of a queue's jobs are in this state.
fn count(queue: &Value, state: &str) -> u64 {
    let name = if state == "waiting_children" { "waitingChildren" } else { state };
    queue[name].as_u64().unwrap_or_default()
}

/// A state as one reads it.
fn shown(state: &str) -> &str {
    if state == "waiting_children" { "with children" } else { state }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PLACE: Place<'static> = Place { root: "/admin/queues", home: None, here: "/admin/queues", now_ms: 100_000 };

    #[test]
    fn nothing_of_a_job_becomes_html() {
        let bad = "<img src=x onerror=alert(1)>\"'";
        let queue = json!({ "name": bad, "waiting": 1, "failed": 2, "paused": true, "rate": bad });
        let job = json!({
            "id": 7, "queue": bad, "name": bad, "state": "failed", "attemptsMade": 1, "attempts": 3, "error": bad,
            "worker": bad, "key": bad, "group": bad, "trace": bad, "createdMs": 1, "payload": { bad: bad },
            "progress": bad, "result": bad, "failures": [{ "attempt": 1, "error": bad, "stack": bad, "worker": bad }],
            "log": [{ "atMs": 5, "line": bad }],
        });
        let schedule = json!({ "name": bad, "queue": bad, "cron": bad, "zone": bad, "catchUp": bad });
        let listed = Listed { state: "failed", skip: 50, left: 9, page: 50, found: Some(bad), looked: 10 };
        for page in [
            overview(&PLACE, std::slice::from_ref(&queue), &[schedule]),
            list(&PLACE, &queue, std::slice::from_ref(&job), &listed),
            super::job(&PLACE, &job),
            crate::refused("/admin/queues", bad),
        ] {
            assert!(!page.contains("<img") && !page.contains("onerror=alert(1)>\""), "{page}");
            assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        }
    }

    #[test]
    fn a_list_steps_in_both_directions_and_offers_what_its_state_allows() {
        let queue = json!({ "name": "a b", "failed": 120 });
        let jobs = vec![json!({ "id": 1, "state": "failed" }); 50];
        let listed = Listed { state: "failed", skip: 50, left: 20, page: 50, found: None, looked: 0 };
        let page = list(&PLACE, &queue, &jobs, &listed);
        assert!(page.contains("list?queue=a%20b&amp;state=failed&amp;skip=0\">← newer"), "{page}");
        assert!(page.contains("skip=100\">20 more"), "{page}");
        assert!(page.contains("value=\"redrive\"") && page.contains("value=\"retry\""));
        assert!(!page.contains("value=\"drain\""));
    }
}
