//! Files served at the edge: before the app, with ranges, conditions and compressed forms, and nothing beside them.

use crate::support::in_front_of;
use mainstay_e2e::{Mainstay, Peer, Setup, curl, get, wire};

const LARGE_BYTES: usize = 3 * 1024 * 1024 + 17;

fn site(route: &str) -> (Mainstay, Peer) {
    let peer = Peer::labelled("the app");
    let file =
        format!("{}routes = [\"/*\"]\n[[route]]\nmatch = \"/*\"\nfiles = \"dist\"\n{route}", in_front_of(&[&peer]));
    let setup = Setup::file(&file)
        .write("dist/index.html", "<h1>home</h1>")
        .write("dist/app.js", "plain script")
        .write("dist/app.js.br", "as br")
        .write("dist/app.js.gz", "as gz")
        .write("dist/assets/index-BdH3bPq2.css", "hashed")
        .write("dist/docs/index.html", "docs")
        .write("dist/.env", "SECRET=1")
        .write("dist/.git/config", "secret")
        .write("dist/large.bin", &"0123456789abcdef0".repeat(LARGE_BYTES / 17 + 1)[..LARGE_BYTES])
        .write("outside.txt", "secret");
    std::os::unix::fs::symlink("../outside.txt", setup.path().join("dist/link.txt")).expect("link");
    (setup.ready("/index.html"), peer)
}

#[test]
fn e9_files_come_first_and_the_app_answers_the_rest() {
    let (mainstay, peer) = site("");
    let home = get(&mainstay.url("/"));
    assert_eq!((home.status, home.text().as_str()), (200, "<h1>home</h1>"));
    assert_eq!(home.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(home.header("cache-control"), Some("no-cache"));
    assert!(home.id().starts_with("r_"));
    let script = get(&mainstay.url("/app.js"));
    assert_eq!(script.text(), "plain script");
    assert_eq!(script.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert!(script.header("expires").is_some_and(|e| e.ends_with(" GMT")), "{:?}", script.headers);
    assert!(script.header("date").is_some() && script.header("last-modified").is_some());
    assert!(peer.holding("/app.js").is_empty());
    assert_eq!(get(&mainstay.url("/api/users")).text(), "the app");
    assert_eq!(curl(&["-X", "POST", "-d", "x=1", &mainstay.url("/app.js")]).text(), "the app");
    let folder = get(&mainstay.url("/docs?x=1"));
    assert_eq!((folder.status, folder.header("location")), (308, Some("/docs/?x=1")));
    assert_eq!(get(&mainstay.url("/docs/")).text(), "docs");
    assert_eq!(get(&mainstay.url("/assets/")).text(), "the app", "nothing is listed");
}

#[test]
fn e9_nothing_beside_the_files_is_reached() {
    let (mainstay, _peer) = site("fallback = \"none\"\n");
    for target in [
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/docs/..%5c..%5coutside.txt",
        "/docs/../../outside.txt",
        "/link.txt",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/docs/%00index.html",
        "//etc/passwd",
        "/assets",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let response = wire::exchange(mainstay.edge(), request.as_bytes()).expect("a response");
        assert!(matches!(response.status, 400 | 404), "{target}: {}", response.head);
        assert!(!response.text().to_lowercase().contains("secret"), "{target}: {}", response.text());
    }
}

#[test]
fn e9_what_a_client_has_is_not_sent_again() {
    let (mainstay, _peer) = site("");
    let url = mainstay.url("/app.js");
    let first = get(&url);
    let tag = first.header("etag").expect("a tag").to_owned();
    assert!(tag.starts_with('"'), "{tag}");
    let date = first.header("last-modified").expect("a date").to_owned();
    for condition in [format!("If-None-Match: {tag}"), format!("If-Modified-Since: {date}")] {
        let again = curl(&["-H", &condition, &url]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{condition}");
        assert_eq!(again.header("etag"), Some(tag.as_str()));
        assert!(again.header("cache-control").is_some() && again.header("content-type").is_none());
    }
    assert_eq!(curl(&["-H", "If-Match: \"other\"", &url]).status, 412);
    mainstay.write("dist/app.js", "another script");
    mainstay_e2e::wait_until("the new file to be seen", || {
        let changed = curl(&["-H", &format!("If-None-Match: {tag}"), &url]);
        changed.status == 200 && changed.text() == "another script"
    });
}

#[test]
fn e9_a_part_of_a_file_is_what_was_asked_for() {
    let (mainstay, _peer) = site("");
    let url = mainstay.url("/large.bin");
    let whole = get(&url);
    assert_eq!((whole.status, whole.body.len()), (200, LARGE_BYTES));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    for (range, from, to) in
        [("0-9", 0, 9), ("1000000-2000000", 1_000_000, 2_000_000), ("-5", LARGE_BYTES - 5, LARGE_BYTES - 1)]
    {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let part = curl(&[version, "-r", range, &url]);
            assert_eq!(part.status, 206, "{range}");
            let told = format!("bytes {from}-{to}/{LARGE_BYTES}");
            assert_eq!(part.header("content-range"), Some(told.as_str()));
            assert!(part.body == whole.body[from..=to], "{range}: {} bytes", part.body.len());
        }
    }
    let beyond = curl(&["-r", "99999999-", &url]);
    let told = format!("bytes */{LARGE_BYTES}");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(told.as_str())));
    assert_eq!(curl(&["-r", "0-1,5-6", &url]).body.len(), LARGE_BYTES, "several at once: the whole");
    let tag = whole.header("etag").expect("a tag");
    assert_eq!(curl(&["-r", "0-9", "-H", &format!("If-Range: {tag}"), &url]).status, 206);
    assert_eq!(curl(&["-r", "0-9", "-H", "If-Range: \"old\"", &url]).status, 200);
    let head = curl(&["-I", &url]);
    assert_eq!(head.header("content-length"), Some(LARGE_BYTES.to_string().as_str()));
}

#[test]
fn e9_a_compressed_form_beside_the_file_is_sent_to_who_takes_it() {
    let (mainstay, _peer) = site("");
    let url = mainstay.url("/app.js");
    for (accept, coding, body) in [
        ("gzip, deflate, br, zstd", Some("br"), "as br"),
        ("gzip", Some("gzip"), "as gz"),
        ("br;q=0.1, gzip", Some("gzip"), "as gz"),
        ("zstd", None, "plain script"),
        ("identity", None, "plain script"),
    ] {
        let answer = curl(&["-H", &format!("Accept-Encoding: {accept}"), &url]);
        assert_eq!((answer.header("content-encoding"), answer.text().as_str()), (coding, body), "{accept}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
    }
}

#[test]
fn e9_a_single_page_app_gets_its_index_for_navigations_alone() {
    let (mainstay, _peer) = site("spa = true\nimmutable = \"hashed\"\n");
    let page = curl(&["-H", "Sec-Fetch-Mode: navigate", &mainstay.url("/users/7")]);
    assert_eq!((page.status, page.text().as_str()), (200, "<h1>home</h1>"));
    assert_eq!(page.header("vary"), Some("Accept-Encoding, Sec-Fetch-Mode, Accept"));
    assert_eq!(curl(&["-H", "Accept: text/html,*/*", &mainstay.url("/users/7")]).text(), "<h1>home</h1>");
    let script = curl(&["-H", "Sec-Fetch-Mode: cors", "-H", "Accept: text/html", &mainstay.url("/users/7")]);
    assert_eq!(script.text(), "the app");
    assert_eq!(get(&mainstay.url("/app.js")).header("cache-control"), Some("no-cache"));
    let hashed = get(&mainstay.url("/assets/index-BdH3bPq2.css"));
    assert_eq!(hashed.header("cache-control"), Some("public, max-age=31536000, immutable"));
}

#[test]
fn e9_an_apps_more_specific_route_is_the_apps() {
    let peer = Peer::labelled("the app");
    let file = format!(
        "{}routes = [\"/api/*\"]\n[[route]]\nmatch = \"/*\"\nfiles = \"dist\"\nspa = true\n",
        in_front_of(&[&peer])
    );
    let setup = Setup::file(&file).write("dist/index.html", "home").write("dist/api/x", "a file");
    let mainstay = setup.ready("/");
    assert_eq!(curl(&["-H", "Sec-Fetch-Mode: navigate", &mainstay.url("/api/x")]).text(), "the app");
    assert_eq!(get(&mainstay.url("/nothing")).status, 404);
}

#[test]
fn e9_a_missing_folder_is_a_fault_of_check() {
    let file = "[app.main]\nupstreams = [\"127.0.0.1:9\"]\n[[route]]\nmatch = \"/*\"\nfiles = \"dist\"\n";
    let ended = Setup::file(file).args(&["check"]).ended();
    assert_eq!(ended.code, Some(78), "{}", ended.all());
    assert!(
        ended.all().contains("there is no such folder") && ended.all().contains("mainstay.toml:5"),
        "{}",
        ended.all()
    );
}
