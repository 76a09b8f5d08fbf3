//! Unmodified apps, bare and behind Mainstay without a file: the same conversation, line for line.

use mainstay_e2e::fixtures::{self, node_client, python};
use mainstay_e2e::ports::Port;
use mainstay_e2e::transcript::{Transcript, received, same};
use mainstay_e2e::{BOUND, Mainstay, Setup, curl, get, wait_until};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Flask takes the order of its `Allow` header from a set.
const SEED: &str = "0";

/// The app started as its readme says, with nothing in front.
struct Bare {
    child: Child,
    port: Port,
    folder: TempDir,
}

impl Bare {
    /// `PORT` stands for the app's port, in the words of the command too.
    fn start(command: &[&str], copy: impl Fn(&Path)) -> Bare {
        let folder = tempfile::tempdir().expect("a folder");
        copy(folder.path());
        let port = Port::free();
        let words: Vec<String> = command.iter().map(|word| word.replace("PORT", &port.number.to_string())).collect();
        let child = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(folder.path())
            .env("PORT", port.number.to_string())
            .env("PYTHONHASHSEED", SEED)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the app");
        let bare = Bare { child, port, folder };
        wait_until("the bare app to listen", || get(&bare.url("/")).status != 0);
        bare
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What every starter is asked: a page, a POST, a 50 MB upload, a 503, what headers it received, nothing there.
fn conversation(base: &str, folder: &Path) -> Transcript {
    let mut transcript = Transcript::default();
    let upload = folder.join("fifty-megabytes");
    if !upload.exists() {
        std::fs::write(&upload, vec![b'u'; 50_000_000]).expect("write");
    }
    let data = format!("@{}", upload.display());
    transcript.ask(base, "page", "/", &[]);
    transcript.ask(base, "head", "/", &["-I"]);
    transcript.ask(base, "post", "/echo", &["-H", "Content-Type: application/json", "-d", r#"{"a":[1,"ü"]}"#]);
    transcript.ask(base, "broken post", "/echo", &["-H", "Content-Type: application/json", "-d", "{nonsense"]);
    let kind = "Content-Type: application/octet-stream";
    transcript.ask(base, "upload", "/upload", &["-H", kind, "-H", "Expect:", "--data-binary", &data]);
    transcript.ask(base, "503", "/unavailable", &[]);
    transcript.ask(base, "nothing there", "/no/such/page?x=%2F&y=%C3%BC", &[]);
    transcript.ask(base, "another method", "/", &["-X", "DELETE"]);
    let host = "Host: shop.example.com";
    let answer = curl(&["-H", host, "-H", "X-Odd: a, b", "-H", "Cookie: a=1; b=2", &format!("{base}/headers")]);
    transcript.note("received headers", &received(&answer).join("\n"));
    transcript
}

/// Has the conversation with both and compares; gives Mainstay back for what else is to be seen.
fn compared(bare: &Bare, behind: Mainstay) -> Mainstay {
    let left = conversation(&bare.url(""), bare.folder.path());
    let right = conversation(&behind.url(""), bare.folder.path());
    same(&left, &right);
    behind
}

#[test]
fn express_with_socketio_behaves_the_same() {
    let bare = Bare::start(&["node", "index.js"], |to| fixtures::node_app("express", to));
    let behind = compared(&bare, Setup::command(&["npm", "start"]).node_app("express").ready("/"));
    for base in [bare.url(""), behind.url("")] {
        let said = node_client("socketio.js", &[&base, "polling,websocket", "2"]);
        assert_eq!(said.lines().count(), 2, "{said}");
    }
    let events = |base: &str| curl(&["-N", &format!("{base}/stream")]).text();
    assert_eq!(events(&bare.url("")), events(&behind.url("")));
}

#[test]
fn fastify_behaves_the_same() {
    let bare = Bare::start(&["node", "server.js"], |to| fixtures::node_app("fastify", to));
    let behind = compared(&bare, Setup::command(&["npm", "start"]).node_app("fastify").ready("/"));
    for base in [bare.url("/ws"), behind.url("/ws")] {
        let said = node_client("ws_transcript.js", &[&base.replace("http", "ws")]);
        assert_eq!(said, "message hello\nclose 1000\n");
    }
}

#[test]
fn flask_behaves_the_same_by_its_own_server_and_by_gunicorn() {
    let python = python();
    let path = python.to_str().expect("a path");
    let command = [path, "-m", "flask", "--app", "app", "run", "--port", "PORT"];
    let bare = Bare::start(&command, |to| fixtures::python_app("flask", to));
    // The child's own PORT is taken by the shell, as the line in a Procfile is.
    let line = format!("{path} -m flask --app app run --port $PORT");
    let behind = Setup::command(&["sh", "-c", &line]).python_app("flask").env("PYTHONHASHSEED", SEED).ready("/");
    compared(&bare, behind);

    let command = [path, "-m", "gunicorn", "app:app"];
    let bare = Bare::start(&command, |to| fixtures::python_app("flask", to));
    compared(&bare, Setup::command(&command).python_app("flask").env("PYTHONHASHSEED", SEED).ready("/"));
}

#[test]
fn an_asgi_app_behaves_the_same() {
    let python = python();
    let path = python.to_str().expect("a path");
    let command = [path, "-m", "uvicorn", "main:app", "--port", "PORT"];
    let bare = Bare::start(&command, |to| fixtures::python_app("asgi", to));
    let line = format!("{path} -m uvicorn main:app --port $PORT");
    let behind = Setup::command(&["sh", "-c", &line]).python_app("asgi").env("PYTHONHASHSEED", SEED).ready("/");
    let behind = compared(&bare, behind);
    for base in [bare.url("/ws"), behind.url("/ws")] {
        let said = node_client("ws_transcript.js", &[&base.replace("http", "ws")]);
        assert_eq!(said, "message hello\nclose 1000\n");
    }
}

#[test]
fn a_static_binary_behaves_the_same() {
    let app = fixtures::static_app();
    let command = [app.to_str().expect("a path")];
    let bare = Bare::start(&command, |_| {});
    let behind = Setup::command(&command).ready("/");
    let mut transcripts = [bare.url(""), behind.url("")].map(|base| {
        let mut transcript = Transcript::default();
        transcript.ask(&base, "page", "/", &[]);
        transcript.ask(&base, "echo", "/echo", &["-d", "some body"]);
        transcript.ask(&base, "status", "/status/503", &[]);
        transcript.ask(&base, "none", "/nothing", &[]);
        transcript.text().lines().filter(|line| !line.starts_with("x-pid")).collect::<Vec<_>>().join("\n")
    });
    transcripts.sort();
    assert_eq!(transcripts[0], transcripts[1]);
}

#[test]
fn an_app_with_its_port_in_the_program_behaves_the_same() {
    let bare = Bare::start(&["node", "hard_coded.js", "PORT"], |to| fixtures::node_app("awkward", to));
    let port = Port::free();
    let number = port.number.to_string();
    let behind = Setup::command(&["node", "hard_coded.js", &number]).node_app("awkward").ready("/");
    let mut one = Transcript::default();
    let mut two = Transcript::default();
    one.ask(&bare.url(""), "page", "/", &[]);
    two.ask(&behind.url(""), "page", "/", &[]);
    same(&one, &two);
}

#[test]
fn vite_in_development_works_with_its_hmr_socket() {
    let behind = Setup::command(&["npm", "run", "dev"]).node_app("vite").ready("/");
    let page = get(&behind.url("/"));
    assert!(page.text().contains("/@vite/client"), "{}", page.text());
    let file = behind.path().join("src/main.js");
    let said = node_client("vite_hmr.js", &[&behind.url(""), file.to_str().expect("a path")]);
    assert!(said.starts_with("connected") && said.contains("update"), "{said}");
    wait_until("the changed module", || get(&behind.url("/src/main.js")).text().contains("second text"));
}

#[test]
fn nodemon_restarts_the_app_on_a_change_and_is_not_taken_for_crashed() {
    let behind = Setup::command(&["npm", "run", "dev"]).node_app("nodemon").ready("/");
    assert_eq!(get(&behind.url("/")).text(), "version one");
    let instances = crate::support::pids(&behind);
    let file = behind.path().join("index.js");
    let text = std::fs::read_to_string(&file).expect("read").replace("version one", "version two");
    std::fs::write(&file, text).expect("write");
    // In between the app is away for a moment: requests are held, never refused.
    wait_until("the new version", || {
        let answer = get(&behind.url("/"));
        assert_eq!(answer.status, 200, "{answer:?} {}\n{}", answer.text(), behind.said());
        answer.text() == "version two"
    });
    assert_eq!(crate::support::pids(&behind), instances, "nodemon itself was restarted");
}

/// E22: without a file there is no limit on the time an answer takes; four kinds of app at once, ninety seconds each.
#[test]
fn an_answer_may_take_ninety_seconds_without_a_file() {
    let python = python();
    let path = python.to_str().expect("a path");
    let flask = format!("{path} -m flask --app app run --port $PORT");
    let asgi = format!("{path} -m uvicorn main:app --port $PORT");
    let all = [
        Setup::command(&["npm", "start"]).node_app("express").ready("/"),
        Setup::command(&["npm", "start"]).node_app("fastify").ready("/"),
        Setup::command(&["sh", "-c", &flask]).python_app("flask").ready("/"),
        Setup::command(&["sh", "-c", &asgi]).python_app("asgi").ready("/"),
    ];
    let start = Instant::now();
    let waiting = all.iter().map(|mainstay| {
        let url = mainstay.url("/slow?ms=90000");
        std::thread::spawn(move || curl(&["--max-time", "150", &url]))
    });
    for thread in waiting.collect::<Vec<_>>() {
        let answer = thread.join().expect("a thread");
        assert_eq!((answer.status, answer.text().as_str()), (200, "slow done"), "{answer:?}");
    }
    assert!(start.elapsed() >= Duration::from_secs(90) && start.elapsed() < Duration::from_secs(90) + BOUND);
}
