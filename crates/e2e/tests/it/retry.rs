//! DESIGN §4 "Repeating": what is repeated, what never is, and that `why` tells it.

use crate::support::{in_front_of, judged_answer};
use mainstay_e2e::peer::{Then, answer};
use mainstay_e2e::{Answer, Mainstay, Peer, Setup, curl};

/// An upstream that answers `/` and the probes, and fails `/try…` in its way.
fn failing(how: impl Fn(&mut std::net::TcpStream) -> Then + Send + Sync + 'static) -> Peer {
    Peer::with(move |ask, out| if ask.path().starts_with("/try") { how(out) } else { answer(out, 200, &[], b"fine") })
}

/// Asks until the failing upstream has been met, and gives the answer of that request.
fn meeting(mainstay: &Mainstay, bad: &Peer, marker: &str, arguments: &[&str]) -> Answer {
    for round in 0..20 {
        let path = format!("/try-{marker}-{round}-");
        let url = mainstay.url(&path);
        let mut all = arguments.to_vec();
        all.push(&url);
        let answer = curl(&all);
        if !bad.holding(&path).is_empty() {
            return answer;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    panic!("the failing upstream was never asked");
}

fn pair(bad: &Peer, good: &Peer, more: &str) -> Mainstay {
    Setup::file(&format!("{}max_fails = 0\n{more}", in_front_of(&[bad, good]))).ready("/")
}

#[test]
fn e3_a_safe_request_is_repeated_on_the_next_upstream_on_error_502_503_and_504() {
    let good = Peer::labelled("good");
    let closing = failing(|_| Then::Close);
    let mainstay = pair(&closing, &good, "");
    for (marker, arguments) in [
        ("get", vec![]),
        ("head", vec!["-I"]),
        ("options", vec!["-X", "OPTIONS"]),
        ("put", vec!["-X", "PUT", "-d", "small body"]),
        ("delete", vec!["-X", "DELETE"]),
    ] {
        let answer = meeting(&mainstay, &closing, marker, &arguments);
        assert_eq!(answer.status, 200, "{marker}: {answer:?} {}", answer.text());
        let why = mainstay.why(&answer.id());
        assert!(why.contains(&closing.address.to_string()), "{marker}: `why` hides the first try:\n{why}");
        assert!(why.contains(&good.address.to_string()), "{marker}: `why` hides who answered:\n{why}");
    }
    for status in [502, 503, 504] {
        let bad = failing(move |out| answer(out, status, &[], b"not now"));
        let mainstay = pair(&bad, &good, "");
        let answer = meeting(&mainstay, &bad, &status.to_string(), &[]);
        assert_eq!((answer.status, answer.text().as_str()), (200, "good"), "{status}");
    }
    for status in [500, 501, 429, 404] {
        let bad = failing(move |out| answer(out, status, &[], b"final"));
        let mainstay = pair(&bad, &good, "");
        assert_eq!(meeting(&mainstay, &bad, &status.to_string(), &[]).status, status, "an answer is an answer");
    }
}

#[test]
fn e3_a_repeated_put_carries_its_whole_body_again() {
    let good = Peer::mirror();
    let closing = failing(|_| Then::Close);
    let mainstay = pair(&closing, &good, "");
    let body = "b".repeat(60 * 1024);
    let answer = meeting(&mainstay, &closing, "body", &["-X", "PUT", "-d", &body]);
    assert_eq!(answer.json()["length"], 60 * 1024, "{}", answer.text());
}

#[test]
fn e3_what_is_not_safe_to_repeat_is_never_sent_twice() {
    let good = Peer::labelled("good");
    let closing = failing(|_| Then::Close);
    let mainstay = pair(&closing, &good, "");
    for (marker, arguments) in [
        ("post", vec!["-X", "POST", "-d", "pay once"]),
        ("patch", vec!["-X", "PATCH", "-d", "x"]),
        ("keyed", vec!["-X", "POST", "-d", "x", "-H", "Idempotency-Key: k1"]),
    ] {
        let answer = meeting(&mainstay, &closing, marker, &arguments);
        judged_answer(&mainstay, marker, &answer, 502, "upstream_closed");
        let marker = format!("/try-{marker}-");
        let asked = closing.holding(&marker).len();
        assert_eq!(asked, 1, "{marker} was sent {asked} times to the failing one");
    }
    let bad = failing(|out| answer(out, 503, &[], b"not now"));
    let mainstay = pair(&bad, &good, "");
    let answer = meeting(&mainstay, &bad, "post-503", &["-X", "POST", "-d", "x"]);
    assert_eq!((answer.status, answer.text().as_str()), (503, "not now"));
}

#[test]
fn e3_a_body_too_large_to_keep_is_not_repeated() {
    let good = Peer::labelled("good");
    let closing = failing(|_| Then::Close);
    let mainstay = pair(&closing, &good, "");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body");
    std::fs::write(&file, vec![b'x'; 200 * 1024]).expect("write");
    let data = format!("@{}", file.display());
    let answer = meeting(&mainstay, &closing, "large", &["-X", "PUT", "--data-binary", &data]);
    judged_answer(&mainstay, "large put", &answer, 502, "upstream_closed");
}

#[test]
fn e3_with_a_key_and_a_route_that_allows_it_a_post_is_repeated() {
    let good = Peer::labelled("good");
    let closing = failing(|_| Then::Close);
    let mainstay = pair(&closing, &good, "[[route]]\nmatch = \"POST /*\"\nretry = true\n");
    let answer = meeting(&mainstay, &closing, "key", &["-X", "POST", "-d", "x", "-H", "Idempotency-Key: k1"]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "good"));
    let answer = meeting(&mainstay, &closing, "nokey", &["-X", "POST", "-d", "x"]);
    assert_eq!(answer.status, 502, "without a key it is not");
}

#[test]
fn e3_any_method_is_repeated_when_the_connect_failed() {
    let good = Peer::labelled("good");
    let gone = Peer::labelled("gone");
    let mainstay = pair(&gone, &good, "");
    gone.stop();
    let address = gone.address;
    drop(gone);
    let mut repeated = false;
    for _ in 0..10 {
        let answer = curl(&["-X", "POST", "-d", "x", &mainstay.url("/post")]);
        assert_eq!((answer.status, answer.text().as_str()), (200, "good"), "{answer:?}");
        let why = mainstay.verb(&["why", &answer.id()]);
        repeated |= why.all().contains(&address.to_string());
    }
    assert!(repeated, "no trail tells of the refused connect");
}

#[test]
fn e3_a_route_may_forbid_every_repeat() {
    let good = Peer::labelled("good");
    let closing = failing(|_| Then::Close);
    let mainstay = pair(&closing, &good, "[[route]]\nmatch = \"/*\"\nretry = false\n");
    assert_eq!(meeting(&mainstay, &closing, "never", &[]).status, 502);
}

#[test]
fn e3_repeats_are_bounded_when_everything_fails() {
    let bad: Vec<Peer> = (0..6).map(|_| failing(|_| Then::Close)).collect();
    let all: Vec<&Peer> = bad.iter().collect();
    let mainstay = Setup::file(&format!("{}max_fails = 0\n", in_front_of(&all))).ready("/");
    let answer = mainstay_e2e::get(&mainstay.url("/try-all"));
    assert_eq!(answer.status, 502);
    let tries: usize = bad.iter().map(|peer| peer.holding("/try-all").len()).sum();
    assert_eq!(tries, 3, "one try and at most two more");
}
