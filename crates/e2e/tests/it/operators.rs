//! Operators' tokens: what lets a scraper or a probe see the inside from elsewhere, and lets nobody do anything else.

use crate::support::static_app;
use mainstay_e2e::processes::signal;
use mainstay_e2e::{Answer, Mainstay, Setup, curl, wait_until};
use nix::sys::signal::Signal;

const INSIDE: [(&str, &str); 3] =
    [("health", "/health/detailed"), ("metrics", "/metrics"), ("metrics", "/api/v1/metrics")];

/// As somebody who comes through a proxy: the peer's address alone proves nothing then.
fn from_far(mainstay: &Mainstay, path: &str, token: &str) -> Answer {
    let authorization = format!("Authorization: Bearer {token}");
    curl(&["-H", "X-Forwarded-For: 198.51.100.1", "-H", &authorization, &mainstay.url(path)])
}

fn create(mainstay: &Mainstay, words: &[&str]) -> String {
    let all: Vec<&str> = ["token", "create"].into_iter().chain(words.iter().copied()).collect();
    mainstay.verb(&all).ok().trim().to_owned()
}

#[test]
fn s5_a_token_opens_what_it_was_made_for_until_it_is_revoked() {
    let mainstay = Setup::file(&static_app("")).ready("/");
    let nobody = mainstay.verb(&["token"]);
    assert!(nobody.out.is_empty() && nobody.err.contains("mainstay token create"), "{}", nobody.all());
    for scope in ["health", "metrics"] {
        let token = create(&mainstay, &[scope, "--scope", scope]);
        for (needed, path) in INSIDE {
            let expected = if needed == scope { 200 } else { 404 };
            assert_eq!(from_far(&mainstay, path, &token).status, expected, "{scope} at {path}");
            let cut = &token[..token.len() - 1];
            assert_eq!(from_far(&mainstay, path, cut).status, 404, "a part of {scope} at {path}");
        }
        // It is a key to documents, and to nothing of the control socket or of the app's users.
        assert_eq!(from_far(&mainstay, "/.mainstay/token", &token).status, 404);
        let shown = mainstay.verb(&["token", "--json"]).ok();
        assert!(shown.contains(&format!("\"name\": \"{scope}\"")) && !shown.contains(&token), "{shown}");
        assert_eq!(mainstay.verb(&["token", "revoke", scope]).code, Some(0));
        for (_, path) in INSIDE {
            assert_eq!(from_far(&mainstay, path, &token).status, 404, "revoked {scope} at {path}");
        }
        let again = mainstay.verb(&["token", "revoke", scope]);
        assert_ne!(again.code, Some(0));
        assert!(again.err.contains("mainstay token"), "{}", again.err);
        let log = mainstay.verb(&["logs"]).all() + &mainstay.verb(&["journal"]).all();
        assert!(!log.contains(&token), "a token stands in a log");
    }
    let journal = mainstay.verb(&["journal"]).ok();
    assert!(journal.contains("token created") && journal.contains("token revoked"), "{journal}");
}

#[test]
fn s5_a_token_outlives_a_server_that_is_killed_and_ends_at_its_time() {
    let mainstay = Setup::file(&static_app("")).ready("/");
    let token = create(&mainstay, &["scraper", "--scope", "health,metrics", "--for", "90d"]);
    let brief = create(&mainstay, &["brief", "--scope", "metrics", "--for", "1s"]);
    signal(mainstay.server(), Signal::SIGKILL);
    wait_until("the new server to know the token", || from_far(&mainstay, "/metrics", &token).status == 200);
    wait_until("the brief one to end", || from_far(&mainstay, "/metrics", &brief).status == 404);
    let listed = mainstay.verb(&["token"]).ok();
    assert!(listed.lines().any(|line| line.starts_with("brief") && line.contains("expired")), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with("scraper") && line.contains("until 20")), "{listed}");
}

#[test]
fn s5_a_token_that_cannot_be_made_says_why() {
    let mainstay = Setup::file(&static_app("")).ready("/");
    create(&mainstay, &["one", "--scope", "metrics"]);
    for (words, says) in [
        (&["one", "--scope", "metrics"][..], "already"),
        (&["a b", "--scope", "metrics"], "letters, digits"),
        (&["two", "--scope", "everything"], "health and metrics"),
        (&["two"], "--scope"),
        (&["two", "--scope", "metrics", "--for", "soon"], "soon"),
    ] {
        let all: Vec<&str> = ["token", "create"].into_iter().chain(words.iter().copied()).collect();
        let refused = mainstay.verb(&all);
        assert_ne!(refused.code, Some(0), "{words:?}: {}", refused.all());
        assert!(refused.err.contains(says) && refused.out.is_empty(), "{words:?}: {}", refused.all());
    }
}
