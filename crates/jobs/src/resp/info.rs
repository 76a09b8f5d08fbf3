//! `INFO`: what clients and monitors look for, of this server.

use super::Port;
use super::commands::REDIS_VERSION;
use super::frame::Reply;
use super::keyspace;

/// Sections in the order of the answer.
const SECTIONS: [&str; 5] = ["server", "clients", "memory", "replication", "keyspace"];

pub async fn answer(asked: &[Vec<u8>], port: &Port) -> Reply {
    let asked: Vec<Vec<u8>> = asked.iter().map(|word| word.to_ascii_lowercase()).collect();
    let is_all = |word: &Vec<u8>| [&b"all"[..], b"default", b"everything"].contains(&word.as_slice());
    let wants = |section: &str| {
        asked.is_empty() || asked.iter().any(|word| is_all(word) || word.as_slice() == section.as_bytes())
    };
    let mut sections = Vec::new();
    for section in SECTIONS.into_iter().filter(|section| wants(section)) {
        let lines = match section {
            "server" => server(port),
            "clients" => format!("connected_clients:{}\r\n", port.connected()),
            "memory" => memory(),
            "replication" => "role:master\r\nconnected_slaves:0\r\n".to_owned(),
            _ => match keyspace::size(port).await {
                Ok(0) => String::new(),
                Ok(keys) => format!("db0:keys={keys},expires=0,avg_ttl=0\r\n"),
                // Only what needs jobs says that they are away.
                Err(_) => String::new(),
            },
        };
        let (initial, rest) = section.split_at(1);
        sections.push(format!("# {}{rest}\r\n{lines}", initial.to_ascii_uppercase()));
    }
    // Clients that wait until a server has loaded look for it among the whole.
    if wants("persistence") {
        let is_loading = u8::from(port.jobs().is_err());
        sections.insert(1.min(sections.len()), format!("# Persistence\r\nloading:{is_loading}\r\n"));
    }
    Reply::bulk(sections.join("\r\n"))
}

fn server(port: &Port) -> String {
    format!(
        "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nserver_name:mainstay\r\nmainstay_version:{}\r\n\
         os:{}\r\narch_bits:{}\r\nprocess_id:{}\r\ntcp_port:{}\r\nuptime_in_seconds:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        usize::BITS,
        std::process::id(),
        port.address.port(),
        port.began.elapsed().as_secs(),
    )
}

/// Of the whole server: jobs are a part of it.
fn memory() -> String {
    let resident = resident_bytes().unwrap_or(0);
    format!("used_memory:{resident}\r\nused_memory_rss:{resident}\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n")
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
