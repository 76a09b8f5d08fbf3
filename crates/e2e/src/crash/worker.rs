//! What the crash harness runs as processes of their own, so that they can be killed: a worker that pulls, and the app
//! that is pushed to. Both do as a job's data says: `{"key": …, "fail": N, "ms": N}`.

use super::client::Client;
use super::journal::{Journal, Line, What};
use crate::peer::{Ask, Peer, Then, answer};
use crate::wait::pause;
use serde_json::{Value, json};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Before what came to nothing is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// A claim waits so long: short, so that a restarted server is soon asked.
const CLAIM_WAIT_MS: u64 = 1000;

/// Works on these queues until standard input ends.
pub fn pull(edge: SocketAddr, name: &str, journal: &Path, queues: &[&str]) {
    let journal = Arc::new(Journal::open(journal));
    for queue in queues {
        let (name, queue, journal) = (name.to_owned(), (*queue).to_owned(), journal.clone());
        std::thread::spawn(move || lane(&mut Client::new(edge), &name, &queue, &journal));
    }
    let name = name.to_owned();
    std::thread::spawn(move || present(&mut Client::new(edge), &name));
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Holds the stream open that says that this worker lives.
fn present(client: &mut Client, name: &str) {
    loop {
        if let Ok(mut connection) = client.stream(&format!("/v1/workers/{name}/presence")) {
            let mut buffer = [0u8; 1024];
            while connection.stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
        }
        pause(AGAIN);
    }
}

fn lane(client: &mut Client, name: &str, queue: &str, journal: &Journal) {
    let wanted = json!({ "worker": name, "max": 2, "waitMs": CLAIM_WAIT_MS });
    loop {
        let Ok((200, told)) = client.post(&format!("/v1/queues/{queue}/claim"), &wanted) else {
            pause(AGAIN);
            continue;
        };
        let jobs = told["jobs"].as_array().cloned().unwrap_or_default();
        let held = |job: &Value| (job["id"].as_u64().unwrap_or(0), job["token"].as_u64().unwrap_or(0));
        let line = |what, job: &Value| {
            let (id, token) = held(job);
            Line::now(what).queue(queue).job(id, token).who(name)
        };
        jobs.iter().for_each(|job| journal.write(&line(What::Start, job).word(&job["attempt"])));
        for job in &jobs {
            pause(Duration::from_millis(job["data"]["ms"].as_u64().unwrap_or(0)));
            let fails = fails(&job["data"], job["attempt"].as_u64().unwrap_or(0));
            let (id, token) = held(job);
            let end = match fails {
                true => json!({ "id": id, "token": token, "error": "as it was told" }),
                false => json!({ "id": id, "token": token, "result": id }),
            };
            journal.write(&line(What::Ending, job).word(if fails { "fail" } else { "ok" }));
            let word = finish(client, &json!({ "ends": [end] }));
            journal.write(&line(word, job).word(if fails { "fail" } else { "ok" }));
        }
    }
}

fn fails(data: &Value, attempt: u64) -> bool {
    data["fail"].as_u64().unwrap_or(0) >= attempt
}

/// Says it until somebody has heard it.
fn finish(client: &mut Client, ends: &Value) -> What {
    loop {
        match client.post("/v1/jobs/finish", ends) {
            Ok((200, _)) => return What::Ended,
            Ok((404 | 409, _)) => return What::Refused,
            _ => pause(AGAIN),
        }
    }
}

/// Serves at `PORT`: jobs by POST below `/jobs/`, and at `/given` what this instance was given.
pub fn app(port: u16, journal: &Path) {
    let journal = Journal::open(journal);
    let _peer = Peer::at(port, move |ask, out| serve(ask, out, &journal));
    loop {
        std::thread::park();
    }
}

fn serve(ask: &Ask, out: &mut TcpStream, journal: &Journal) -> Then {
    let headers = [("content-type", "application/json")];
    if ask.path() == "/given" {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let told = json!({ "url": variable("MAINSTAY_URL"), "token": variable("MAINSTAY_TOKEN") });
        return answer(out, 200, &headers, told.to_string().as_bytes());
    }
    let Some(queue) = ask.path().strip_prefix("/jobs/") else { return answer(out, 200, &headers, b"{}") };
    let number = |name: &str| ask.header(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let (id, token, attempt) =
        (number("mainstay-job-id"), number("mainstay-job-token"), number("mainstay-job-attempt"));
    let line = |what| Line::now(what).queue(queue).job(id, token).who("app");
    journal.write(&line(What::Start).word(attempt));
    let data: Value = serde_json::from_slice(&ask.body).unwrap_or(Value::Null);
    pause(Duration::from_millis(data["ms"].as_u64().unwrap_or(0)));
    let fails = fails(&data, attempt);
    journal.write(&line(What::Ending).word(if fails { "fail" } else { "ok" }));
    match fails {
        true => answer(out, 500, &headers, br#"{"error":"as it was told"}"#),
        false => answer(out, 200, &headers, id.to_string().as_bytes()),
    }
}
