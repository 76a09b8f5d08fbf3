//! What several areas need: a file in front of given upstreams, and the one way a refusal is judged.

use mainstay_e2e::{Answer, Mainstay, Peer, Response, Setup, wire};

/// For tests that log in more often than anybody may by default.
pub const OFTEN: &str = "[[route]]\nmatch = \"POST /api/v1/auth/login\"\nlimit = \"10000/min per ip\"\n\
                         [[route]]\nmatch = \"POST /api/v1/auth/login/code\"\nlimit = \"10000/min per ip\"\n\
                         [[route]]\nmatch = \"POST /api/v1/auth/register\"\nlimit = \"10000/min per ip\"\n";

/// `[app.main]` in front of these upstreams; further lines may follow.
pub fn in_front_of(upstreams: &[&Peer]) -> String {
    let list: Vec<String> = upstreams.iter().map(|peer| format!("\"{}\"", peer.address)).collect();
    format!("[app.main]\nupstreams = [{}]\n", list.join(", "))
}

/// Mainstay with a file, before one upstream.
pub fn before(peer: &Peer) -> Mainstay {
    Setup::file(&in_front_of(&[peer])).ready("/")
}

/// `run = "…"` of the static app, with `lines` in its table.
pub fn static_app(lines: &str) -> String {
    // A list and no shell line: the process that `status` shows is the app itself.
    format!("[app.main]\nrun = [\"{}\"]\n{lines}\n", mainstay_e2e::fixtures::static_app().display())
}

/// A refusal is judged by its status, its code, its id, and by what `why` says: never by "some 4xx".
#[track_caller]
pub fn judged(mainstay: &Mainstay, name: &str, response: &Response, status: u16, code: &str) -> String {
    assert_eq!(response.status, status, "{name}: {}{}", response.head, response.text());
    let kind = response.header("content-type").unwrap_or_default();
    assert_eq!(kind, "application/problem+json", "{name}: {}", response.head);
    let problem: serde_json::Value = serde_json::from_slice(&response.body)
        .unwrap_or_else(|e| panic!("{name}: the refusal is not JSON ({e}): {:?}", response.text()));
    judged_problem(mainstay, name, &problem, &response.id(), status, code)
}

/// The same for what curl saw.
#[track_caller]
pub fn judged_answer(mainstay: &Mainstay, name: &str, answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!(answer.status, status, "{name}: {answer:?}\n{}", answer.text());
    judged_problem(mainstay, name, &answer.json(), &answer.id(), status, code)
}

#[track_caller]
fn judged_problem(
    mainstay: &Mainstay,
    name: &str,
    problem: &serde_json::Value,
    id: &str,
    status: u16,
    code: &str,
) -> String {
    assert_eq!(problem["code"], code, "{name}: {problem}");
    assert_eq!(problem["status"], status, "{name}: {problem}");
    assert_eq!(problem["requestId"], id, "{name}: {problem}");
    assert!(problem["error"].as_str().is_some_and(|text| !text.is_empty()), "{name}: {problem}");
    let page = problem["type"].as_str().unwrap_or_default();
    assert_eq!(page, format!("/.mainstay/errors/{code}"), "{name}: {problem}");
    let why = mainstay.why(id);
    assert!(why.contains(code), "{name}: `why` does not name {code}:\n{why}");
    why
}

/// Sends raw bytes, reads the response; none at all is a failed test.
#[track_caller]
pub fn sent(mainstay: &Mainstay, name: &str, bytes: &[u8]) -> Response {
    match wire::exchange(mainstay.edge(), bytes) {
        Ok(response) => response,
        Err(fault) => panic!("{name}: no response: {fault:?}\n{}", mainstay.said()),
    }
}

/// Production asks of root who an app is to run as; a line of its table that says: as we do.
pub fn as_ourselves() -> String {
    format!("user = \"{}\"\n", nix::unistd::geteuid())
}

/// The states of an app's instances in `status --json`.
pub fn instances(mainstay: &Mainstay) -> Vec<serde_json::Value> {
    let status = mainstay.verb(&["status", "--json"]).json();
    let apps = status["apps"].as_array().cloned().unwrap_or_default();
    apps.iter().flat_map(|app| app["instances"].as_array().cloned().unwrap_or_default()).collect()
}

/// Process ids of all instances, as `status` tells them.
pub fn pids(mainstay: &Mainstay) -> Vec<i32> {
    let of = |instance: &serde_json::Value| instance["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    instances(mainstay).iter().filter_map(of).collect()
}

/// Waits until `status` shows that many instances in the state `ready`.
#[track_caller]
pub fn ready_instances(mainstay: &Mainstay, count: usize) -> Vec<serde_json::Value> {
    mainstay_e2e::wait_for(&format!("{count} ready instances"), || {
        let ended = mainstay.verb(&["status", "--json"]);
        if ended.code != Some(0) {
            return None;
        }
        let ready: Vec<_> = instances(mainstay).into_iter().filter(|i| i["state"] == "ready").collect();
        (ready.len() == count).then_some(ready)
    })
}

/// The edge on one core: requests in a row are offered the same connection to the upstream.
#[track_caller]
pub fn on_one_core(text: &str, path: &str) -> Mainstay {
    // The first processor this process may use, as `taskset` counts.
    let status = std::fs::read_to_string("/proc/self/status").expect("our own status");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("0").trim();
    let first = list.split([',', '-']).next().unwrap_or("0");
    let binary = mainstay_e2e::mainstay::binary();
    Setup::file(text).under(&["taskset", "-c", first, binary.to_str().expect("a path")]).ready(path)
}
