//! The guides' own client: `curl`, with its answer in parts.

use std::process::Command;

/// What curl received.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// 0 if there was no response.
    pub status: u16,
    /// "1.1" or "2".
    pub version: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// curl's own exit code.
    pub exit: i32,
    /// What curl said on stderr.
    pub said: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::wire::find(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The id Mainstay gave this request.
    pub fn id(&self) -> String {
        self.header("mainstay-request-id").unwrap_or_default().to_string()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(e) => panic!("not JSON ({e}): status {} {:?} {}", self.status, self.headers, self.text()),
        }
    }
}

/// Runs curl with these arguments; nothing is repeated, no redirect followed unless the arguments say so.
pub fn curl(arguments: &[&str]) -> Answer {
    let folder = tempfile::tempdir().expect("a folder for curl");
    let (head, body) = (folder.path().join("head"), folder.path().join("body"));
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "120", "-w", "%{http_code} %{http_version}", "-D"])
        .arg(&head)
        .arg("-o")
        .arg(&body)
        .args(arguments)
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .output()
        .expect("run curl");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let (status, version) = told.split_once(' ').unwrap_or(("0", ""));
    Answer {
        status: status.parse().unwrap_or(0),
        version: version.to_string(),
        headers: last_head(&std::fs::read_to_string(&head).unwrap_or_default()),
        // With -I curl writes the headers where the body would stand.
        body: if arguments.contains(&"-I") { Vec::new() } else { std::fs::read(&body).unwrap_or_default() },
        exit: output.status.code().unwrap_or(-1),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Headers of the last response in curl's dump (a 100 may stand before it).
fn last_head(dump: &str) -> Vec<(String, String)> {
    let last = dump.split("\r\n\r\n").filter(|part| part.starts_with("HTTP/")).last().unwrap_or_default();
    let lines = last.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_lowercase(), value.trim().to_string())).collect()
}

/// `curl URL`.
pub fn get(url: &str) -> Answer {
    curl(&[url])
}
