//! J6: the pages of queues, as an operator's browser, a stranger and somebody else's page meet them.

use crate::support::OFTEN;
use mainstay_e2e::{Answer, Mainstay, Setup, curl, fixtures, get, wait_until};
use serde_json::{Value, json};

const SECRET: &str = "kU3vX9qLw2Zr7TnB5sYd8Hf1Gj4Mc6Pa0e";
const PASSWORD: &str = "correct horse battery";
const QUEUES: &str = "[jobs.scan]\nattempts = 1\npush = \"POST /jobs/scan\"\n[jobs.idle]\n[ops.queues]\n\
                      [edge.cors]\norigins = [\"*\"]\n";
const IDENTITY: &str = "[identity]\naccounts = true\n[identity.sessions]\n";

fn with(tables: &str) -> Mainstay {
    let text = format!("[app.main]\nrun = \"node index.js\"\n{QUEUES}{tables}");
    let setup = Setup::file(&text).node_app("jobs").env("JWT_SECRET", SECRET).env("SESSION_SECRET", SECRET);
    let mainstay = setup.ready("/");
    wait_until("jobs to be open", || mainstay.verb(&["jobs"]).all().contains("scan"));
    mainstay
}

/// Adds a job by the verb; gives its id.
#[track_caller]
fn add(mainstay: &Mainstay, queue: &str, payload: &str, more: &[&str]) -> u64 {
    let words = [&["jobs", "add", queue, "--payload", payload, "--json"], more].concat();
    let answer = mainstay.verb(&words).json();
    answer["id"].as_u64().unwrap_or_else(|| panic!("no id: {answer}"))
}

fn state(mainstay: &Mainstay, id: u64) -> String {
    mainstay.verb(&["jobs", "show", &id.to_string(), "--json"]).json()["state"].as_str().unwrap_or_default().to_owned()
}

fn form(mainstay: &Mainstay, fields: &str, more: &[&str]) -> Answer {
    let url = mainstay.url("/admin/queues/do");
    let mut words = vec!["-d", fields];
    words.extend_from_slice(more);
    words.push(&url);
    curl(&words)
}

/// J6: where nobody is recognised they are for this machine alone, and not for pages that got in by another name.
#[test]
fn j6_without_identity_the_pages_are_for_this_machine_alone() {
    let mainstay = with("");
    let id = add(&mainstay, "idle", "{}", &["--name", "<i>deep</i>"]);
    let page = get(&mainstay.url("/admin/queues"));
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.text().contains("bull:idle:wait") && page.text().contains("state=waiting\">1</a>"), "{}", page.text());
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    // What CORS says of the app does not hold for these.
    let foreign = curl(&["-H", "Origin: https://evil.example", &mainstay.url("/admin/queues")]);
    assert_eq!(foreign.header("access-control-allow-origin"), None, "{foreign:?}");
    let list = get(&mainstay.url("/admin/queues/list?queue=idle")).text();
    assert!(list.contains("&lt;i&gt;deep&lt;/i&gt;") && !list.contains("<i>"), "{list}");
    for more in [
        ["-H", "Sec-Fetch-Site: cross-site"],
        ["-H", "Via: 1.1 proxy"],
        ["--http1.0", "-s"],
        ["-H", "Host: evil.example"],
        ["-H", "X-Forwarded-For: 127.0.0.1"],
        ["-H", "Forwarded: for=127.0.0.1"],
    ] {
        let answer = curl(&[more[0], more[1], &mainstay.url("/admin/queues")]);
        assert_eq!(answer.status, 404, "{more:?}: {answer:?}");
    }
    let origin = format!("Origin: http://{}", mainstay.edge());
    let fields = format!("verb=remove&id={id}");
    for (foreign, status) in [
        ("Origin: https://evil.example", 403),
        ("Origin: null", 403),
        ("Sec-Fetch-Site: cross-site", 404),
        ("X-Nothing: 1", 403),
    ] {
        assert_eq!(form(&mainstay, &fields, &["-H", foreign]).status, status, "{foreign}");
    }
    assert_eq!(state(&mainstay, id), "waiting");
    let done = form(&mainstay, &format!("{fields}&back=//evil.example/"), &["-H", &origin]);
    assert_eq!((done.status, done.header("location")), (303, Some("/admin/queues")), "{done:?}");
    assert_eq!(get(&mainstay.url(&format!("/admin/queues/job?id={id}"))).status, 404);
    wait_until("the journal to say it", || {
        let said = mainstay.verb(&["journal", "--audit"]).all();
        said.contains("job removed") && said.contains("this machine")
    });
    // Nobody asked the app for any of it.
    let seen = std::fs::read_to_string(mainstay.path().join("seen.ndjson")).unwrap_or_default();
    assert!(!seen.contains("admin"), "{seen}");
}

/// What is asked for badly is told, and changes nothing.
#[test]
fn j6_a_bad_request_is_told_on_a_page() {
    let mainstay = with("");
    let origin = format!("Origin: http://{}", mainstay.edge());
    for (path, status, why) in [
        ("/admin/queues/job?id=99", 404, "99"),
        ("/admin/queues/job?id=x", 400, "`x` is no number"),
        ("/admin/queues/list?queue=none", 404, "there is no queue `none`"),
        ("/admin/queues/list?queue=idle&state=odd", 409, "there is no state `odd`"),
        ("/admin/queues/list?queue=idle&skip=-1", 400, "`-1` is no number"),
        ("/admin/queues/find?q=", 400, "search for something"),
        ("/admin/queues/burn", 404, "no such page"),
        ("/admin/queues/do", 405, "it takes POST"),
    ] {
        let answer = get(&mainstay.url(path));
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().contains(why), "{path}: {}", answer.text());
    }
    for (fields, status) in [
        ("verb=burn", 400),
        ("verb=retry&id=99", 409),
        ("verb=pause&queue=none", 409),
        ("verb=add&queue=idle&payload=%7B", 400),
        ("verb=clean&queue=idle&state=active", 409),
        ("", 400),
    ] {
        let answer = form(&mainstay, fields, &["-H", &origin]);
        assert_eq!(answer.status, status, "{fields}: {}", answer.text());
    }
    let queues = mainstay.verb(&["jobs", "--json"]).json();
    let all = queues["queues"].as_array().expect("queues");
    assert!(all.iter().all(|queue| queue["waiting"] == 0 && queue["paused"] == false), "{queues:#}");
}

/// J6: an administrator works by clicks; whoever else is logged in, or is not, does not come in by any spelling.
#[test]
fn j6_an_administrator_sees_retries_finds_adds_and_pauses_in_a_browser() {
    let mainstay = with(&format!("{IDENTITY}{OFTEN}"));
    let failed = add(&mainstay, "scan", r#"{"fail":9,"note":"of a page"}"#, &["--name", "needle"]);
    wait_until("the job to fail", || state(&mainstay, failed) == "failed");
    for path in [
        "/admin/queues",
        "/admin/queues/",
        "//admin/queues",
        "/ADMIN/Queues",
        "/admin/queues/list?queue=scan",
        "/x/../admin/queues",
    ] {
        let answer = curl(&["--path-as-is", &mainstay.url(path)]);
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
    }
    let credentials = json!({ "email": "ops@example.com", "password": PASSWORD }).to_string();
    let registered =
        curl(&["-H", "Content-Type: application/json", "-d", &credentials, &mainstay.url("/api/v1/auth/register")]);
    assert_eq!(registered.status, 201, "{}", registered.text());
    let cookie = registered.header("set-cookie").and_then(|cookie| cookie.split(';').next()).expect("a cookie");
    let answer = curl(&["-H", &format!("Cookie: {cookie}"), &mainstay.url("/admin/queues")]);
    assert_eq!(answer.status, 403, "{answer:?}");
    mainstay.verb(&["accounts", "roles", "ops@example.com", "admin"]).ok();
    let asked = json!({
        "app": mainstay.url(""), "email": "ops@example.com", "password": PASSWORD, "failed": failed,
        "folder": std::env::var("PHOTOS").ok(),
    });
    let told = fixtures::node_client("queue_pages.js", &[&asked.to_string()]);
    let told: Value = serde_json::from_str(&told).expect("what queue_pages.js prints");
    assert_eq!(told["status"], 200, "{told:#}");
    let says =
        |name: &str, word: &str| assert!(told[name].as_str().is_some_and(|text| text.contains(word)), "{told:#}");
    says("overview", "bull:scan:wait");
    says("failed", "failed 1");
    says("job", "at work");
    says("job", "of a page");
    says("found", "needle");
    says("paused", "paused");
    assert_eq!(told["complaints"], json!([]), "{told:#}");
    let shown = mainstay.verb(&["jobs", "list", "scan", "--json"]).json();
    let names: Vec<&str> =
        shown["jobs"].as_array().into_iter().flatten().filter_map(|job| job["name"].as_str()).collect();
    assert!(names.contains(&"<b>typed</b>"), "{shown:#}");
    wait_until("the journal to say who", || {
        let said = mainstay.verb(&["journal", "--audit"]).all();
        said.contains("job retried") && said.contains("queue paused") && said.contains("job added")
    });
}
