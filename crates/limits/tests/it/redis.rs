//! `admit.lua` decides as `window.rs` does: thousands of random sequences, on a Redis of the test's own.

use mainstay_limits::redis::{SCRIPT, Subject, ask, give_back, key, read};
use mainstay_limits::window::{Decision, Limit, State, admit};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(30);

/// A Redis in a folder of its own, on a socket in it; ended with the test.
struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of RESP, as much as is needed here.
struct Client {
    stream: BufReader<UnixStream>,
    sha: String,
}

#[derive(Debug, PartialEq)]
enum Reply {
    Text(String),
    Integer(i64),
    List(Vec<Reply>),
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::tempdir().expect("folder");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", "redis.sock"])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is not installed: apt install redis-server");
        Server { child, folder }
    }

    fn client(&self) -> Client {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(self.folder.path().join("redis.sock")) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < BOUND, "redis-server does not listen: {error}"),
            }
            std::thread::yield_now();
        };
        stream.set_read_timeout(Some(BOUND)).expect("timeout");
        let mut client = Client { stream: BufReader::new(stream), sha: String::new() };
        let Reply::Text(sha) = client.call(&["SCRIPT", "LOAD", SCRIPT]) else { panic!("no hash of the script") };
        client.sha = sha;
        client
    }
}

impl Client {
    fn call(&mut self, words: &[&str]) -> Reply {
        let mut text = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| text.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.stream.get_mut().write_all(text.as_bytes()).expect("write");
        self.reply()
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("read");
        let rest = line[1..].trim_end();
        match line.as_bytes()[0] {
            b'+' => Reply::Text(rest.to_owned()),
            b':' => Reply::Integer(rest.parse().expect("integer")),
            b'$' => {
                let mut bytes = vec![0; rest.parse::<usize>().expect("length") + 2];
                self.stream.read_exact(&mut bytes).expect("read");
                bytes.truncate(bytes.len() - 2);
                Reply::Text(String::from_utf8(bytes).expect("text"))
            }
            b'*' => Reply::List((0..rest.parse().expect("length")).map(|_| self.reply()).collect()),
            _ => panic!("redis says: {line}"),
        }
    }

    fn eval(&mut self, key: &str, arguments: &[String; 5]) -> Reply {
        let sha = self.sha.clone();
        let mut words = vec!["EVALSHA", &sha, "1", key];
        words.extend(arguments.iter().map(String::as_str));
        self.call(&words)
    }

    fn admit(&mut self, key: &str, limit: &Limit, now_us: Option<u64>) -> Decision {
        let Reply::List(list) = self.eval(key, &ask(limit, now_us)) else { panic!("no list") };
        let number = |reply: &Reply| if let Reply::Integer(n) = reply { *n } else { panic!("{reply:?}") };
        read(&list.iter().map(number).collect::<Vec<_>>()).expect("an answer")
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So much later one comes.
    Ask(u64),
    /// The last one that was admitted is given back.
    Back,
    /// The limit has other numbers from now on.
    Change(u32, u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0u64..8_000).prop_map(Step::Ask),
        12 => (0u64..80).prop_map(Step::Ask),
        1 => (0u64..4_000_000).prop_map(Step::Ask),
        3 => Just(Step::Back),
        1 => (0u32..400, 1u32..1500).prop_map(|(count, window)| Step::Change(count, window)),
    ];
    prop::collection::vec(step, 1..300)
}

/// Of the same kind as the one before: another kind begins anew in Redis.
fn changed(limit: Limit, count: u32, window_ms: u32) -> Limit {
    match limit.count <= 128 || limit.smooth {
        // Stamps of a window that was shorter are gone.
        true => Limit { count: count % 128 + 1, ..limit },
        false => Limit { count: count + 129, window_ms, ..limit },
    }
}

#[test]
fn the_script_decides_as_we_do_over_thousands_of_sequences() {
    let server = Server::start();
    let client = RefCell::new((server.client(), 0u64));
    let mut runner = TestRunner::new(Config { cases: 2000, failure_persistence: None, ..Config::default() });
    let first = (prop_oneof![1u32..=128, 129u32..300], 1u32..1500, prop::bool::weighted(0.2));
    let result = runner.run(&(first, steps()), |((count, window_ms, smooth), steps)| {
        let (client, n) = &mut *client.borrow_mut();
        *n += 1;
        let mut limit = Limit { count, window_ms, smooth };
        let name = key(&n.to_string(), Subject::Name("client"), &limit);
        let (mut state, mut now, mut admitted) = (State::new(&limit), 1_769_947_200_000_000u64, Vec::new());
        for step in steps {
            match step {
                Step::Ask(gap) => {
                    now += gap;
                    let ours = admit(now, &mut state, &limit);
                    let theirs = client.admit(&name, &limit, Some(now));
                    prop_assert_eq!(ours, theirs, "at {} with {:?}", now, limit);
                    admitted.extend(ours.allowed.then_some(ours.mark_us));
                }
                Step::Back => {
                    let Some(mark) = admitted.pop() else { continue };
                    mainstay_limits::window::give_back(mark, &mut state, &limit);
                    client.eval(&name, &give_back(&limit, mark));
                }
                Step::Change(count, window_ms) => limit = changed(limit, count, window_ms),
            }
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn as_in_production_the_servers_clock_counts_and_nothing_stays_for_ever() {
    let server = Server::start();
    let (mut one, mut other) = (server.client(), server.client());
    for limit in [
        Limit { count: 100, window_ms: 60_000, smooth: false },
        Limit { count: 300, window_ms: 60_000, smooth: false },
        Limit { count: 1, window_ms: 60_000, smooth: true },
    ] {
        let name = key("both", Subject::Name("client"), &limit);
        // Two clients in turn, as two Mainstays: together they get what one would.
        let asked = limit.count * 2;
        let decisions: Vec<Decision> = (0..asked)
            .map(|i| if i % 2 == 0 { one.admit(&name, &limit, None) } else { other.admit(&name, &limit, None) })
            .collect();
        let admitted = decisions.iter().filter(|decision| decision.allowed).count();
        assert_eq!(admitted as u32, limit.count, "{limit:?}");
        assert!(decisions.iter().all(|d| d.reset_s() <= 62 && d.mark_us > 1_700_000_000_000_000), "{decisions:?}");
        let Reply::Integer(left) = one.call(&["PTTL", &name]) else { panic!("no time to live") };
        assert!((50_000..=63_000).contains(&left), "{limit:?}: {left} ms");
        one.eval(&name, &give_back(&limit, decisions[0].mark_us));
        assert!(other.admit(&name, &limit, None).allowed, "{limit:?}: what was given back is free");
    }
}
