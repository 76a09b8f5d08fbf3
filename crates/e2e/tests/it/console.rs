//! Operators at a browser: a realm apart, entered by a link that lets in once, and by nothing else.

use mainstay_e2e::processes::signal;
use mainstay_e2e::{Answer, Mainstay, Setup, curl, fixtures, get, wait_until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// An app that says which cookies it was sent, and tries to set an operator's.
const APP: &str = r"
require('node:http').createServer((request, response) => {
  response.setHeader('Set-Cookie', ['mainstay_operator=mine; Path=/', 'own=1']);
  response.end(JSON.stringify(request.headers.cookie || null));
}).listen(process.env.PORT);
";

fn with(tables: &str) -> Mainstay {
    let text = format!("[app.main]\nrun = \"node index.js\"\n{tables}");
    Setup::file(&text).write("index.js", APP).ready("/")
}

/// Asks for a link: where the console is, and what stands behind the `#`.
#[track_caller]
fn link(mainstay: &Mainstay) -> (String, String) {
    let printed = mainstay.verb(&["console"]).ok();
    let (login, key) = printed.trim().split_once('#').unwrap_or_else(|| panic!("no link: {printed}"));
    let root = login.strip_suffix("/login").unwrap_or_else(|| panic!("no link: {printed}"));
    (root.to_owned(), key.to_owned())
}

fn enter(root: &str, key: &str, origin: &str) -> Answer {
    curl(&["-H", &format!("Origin: {origin}"), "-d", &format!("key={key}"), &format!("{root}/login")])
}

/// The cookie of a browser that has just followed this link.
#[track_caller]
fn entered(root: &str, key: &str) -> String {
    let answer = enter(root, key, root);
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{answer:?}");
    let cookie = answer.header("set-cookie").expect("a cookie");
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains("Domain"), "{cookie}");
    cookie.split(';').next().expect("a pair").to_owned()
}

fn home(root: &str, cookie: &str) -> Answer {
    curl(&["-H", &format!("Cookie: {cookie}"), root])
}

#[test]
fn operators_a_link_lets_in_once_and_nothing_else_lets_in() {
    let mainstay = with("[jobs.scan]\n");
    let (root, key) = link(&mainstay);
    for path in ["/", "/queues", "/queues/list?queue=scan", "/anything"] {
        let answer = get(&format!("{root}{path}"));
        assert_eq!((answer.status, answer.header("location")), (303, Some("/login")), "{path}: {answer:?}");
    }
    assert!(get(&format!("{root}/login")).text().contains("mainstay console"));
    // By the page itself, and under its own name alone.
    for origin in ["https://evil.example", "null", &mainstay.url("")] {
        assert_eq!(enter(&root, &key, origin).status, 403, "{origin}");
    }
    let named = |host: &str| curl(&["-H", &format!("Host: {host}"), &format!("{root}/login")]).status;
    assert_eq!([named("evil.example:4700"), named("127.0.0.1"), named(&root["http://".len()..])], [421, 421, 200]);
    for wrong in ["", "x", &key[1..], &format!("{key}x")] {
        let answer = enter(&root, wrong, &root);
        assert_eq!(answer.status, 403, "{wrong:?}: {answer:?}");
        assert_eq!(answer.header("set-cookie"), None);
    }
    let cookie = entered(&root, &key);
    assert_eq!(enter(&root, &key, &root).status, 403, "twice");
    let page = home(&root, &cookie);
    assert_eq!(page.status, 200, "{page:?}");
    assert!(page.text().contains("main.1") && page.text().contains("/queues"), "{}", page.text());
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("default-src 'none'") && !policy.contains("script-src"), "{policy}");
    let with_cookie = |more: &[&str]| curl(&[&["-H", &format!("Cookie: {cookie}")], more].concat());
    assert!(with_cookie(&[&format!("{root}/queues")]).text().contains("bull:scan:wait"));
    // What a user or a machine proves itself by opens nothing here.
    let token = mainstay.verb(&["token", "create", "a", "--scope", "health,metrics"]).ok();
    for foreign in [&format!("Authorization: Bearer {}", token.trim()), "Cookie: mainstay_operator=x", "X-User-Id: 1"] {
        assert_eq!(curl(&["-H", foreign, &root]).status, 303, "{foreign}");
    }
    // And an operator's cookie opens nothing of the edge: the app neither sees it nor sets it.
    let through = with_cookie(&["-H", "Cookie: a=1", &mainstay.url("/")]);
    assert_eq!(through.text(), "\"a=1\"", "{through:?}");
    assert!(through.header("set-cookie").is_some_and(|cookie| cookie == "own=1"), "{through:?}");
    let paused =
        with_cookie(&["-H", &format!("Origin: {root}"), "-d", "verb=pause&queue=scan", &format!("{root}/queues/do")]);
    assert_eq!(paused.status, 303, "{paused:?}");
    let foreign = ["-H", "Origin: https://evil.example", "-d", "verb=resume&queue=scan", &format!("{root}/queues/do")];
    assert_eq!(with_cookie(&foreign).status, 403);
    let left = with_cookie(&["-H", &format!("Origin: {root}"), "-X", "POST", &format!("{root}/logout")]);
    assert_eq!(left.status, 303, "{left:?}");
    assert_eq!(home(&root, &cookie).status, 303, "logged out");
    wait_until("the journal to say it", || {
        let said = mainstay.verb(&["journal", "--audit"]).all();
        ["console link made", "console entered", "queue paused", "console left"].iter().all(|what| said.contains(what))
    });
    let told = mainstay.verb(&["logs"]).all() + &mainstay.verb(&["journal"]).all() + &mainstay.said();
    let secret = cookie.split_once('=').expect("a pair").1;
    assert!(!told.contains(&key) && !told.contains(secret), "a secret was told");
}

#[test]
fn operators_stay_logged_in_through_an_upgrade_and_until_the_console_is_ended() {
    let setup = Setup::file("[app.main]\nrun = \"node index.js\"\n").write("index.js", APP).own_binary();
    let mainstay = setup.ready("/");
    assert!(mainstay.verb(&["console", "--end"]).ok().contains("was not open"));
    let (root, key) = link(&mainstay);
    let cookie = entered(&root, &key);
    let (_, open) = link(&mainstay);
    let before = mainstay.server();
    mainstay.verb(&["upgrade"]).ok();
    wait_until("the new server to know the operator", || {
        mainstay.find_server().is_some_and(|pid| pid != before) && home(&root, &cookie).status == 200
    });
    let other = entered(&root, &open);
    let ended = mainstay.verb(&["console", "--end"]).ok();
    assert!(ended.contains("2 logged out"), "{ended}");
    wait_until("the port to be closed", || std::net::TcpStream::connect(&root["http://".len()..]).is_err());
    // Of a server that has died nobody is known any more: there is another link for who may ask for one.
    let (root, key) = link(&mainstay);
    let cookie = [cookie, other, entered(&root, &key)];
    assert_eq!(cookie.each_ref().map(|cookie| home(&root, cookie).status), [303, 303, 200]);
    signal(mainstay.server(), Signal::SIGKILL);
    mainstay.answering("/");
    let mut again = None;
    wait_until("the next server to give a link", || {
        let asked = mainstay.verb(&["console", "--json"]);
        again = (asked.code == Some(0)).then(|| asked.json());
        again.is_some()
    });
    let link = again.as_ref().and_then(|link| link["link"].as_str()).expect("a link");
    let root = link.split("/login").next().expect("its root");
    assert_eq!(home(root, &cookie[2]).status, 303);
}

#[test]
fn operators_two_servers_of_one_machine_each_have_a_console() {
    let (one, other) = (with(""), with(""));
    let ((root, key), (second, foreign)) = (link(&one), link(&other));
    assert_ne!(root, second);
    assert_eq!(enter(&root, &foreign, &root).status, 403, "another server's link");
    let cookie = entered(&root, &key);
    assert_eq!(home(&second, &cookie).status, 303);
}

#[test]
fn operators_follow_the_link_and_work_in_a_browser() {
    let mainstay = with("[jobs.scan]\n");
    wait_until("jobs to be open", || mainstay.verb(&["jobs"]).all().contains("scan"));
    let link = mainstay.verb(&["console"]).ok();
    let asked = json!({ "link": link.trim(), "folder": std::env::var("PHOTOS").ok() });
    let told = fixtures::node_client("console.js", &[&asked.to_string()]);
    let told: Value = serde_json::from_str(&told).expect("what console.js prints");
    let says =
        |name: &str, word: &str| assert!(told[name].as_str().is_some_and(|text| text.contains(word)), "{told:#}");
    says("home", "main.1");
    says("home", "ready");
    says("queues", "bull:scan:wait");
    says("paused", "paused");
    says("back", "main.1");
    says("left", "mainstay console");
    says("again", "followed before");
    assert!(told["address"].as_str().is_some_and(|address| !address.contains('#')), "{told:#}");
    assert_eq!(told["complaints"], json!([]), "{told:#}");
}
