//! One run of h2load, the load generator for HTTP/2, and what it printed and wrote down.

use super::wrk::{Load, Run};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::process::Command;

/// `streams` at a time on each connection. `log`: a file for the time of each request, which h2load prints no
/// percentiles of.
pub fn run(load: Load<'_>, streams: u32, log: &Path) -> Result<Run> {
    let Load { url, connections, seconds, .. } = load;
    let _ = fs::remove_file(log);
    let mut h2load = Command::new("timeout");
    h2load.args([super::PATIENCE_SECONDS, "h2load", "-t1", "--warm-up-time=0"]);
    h2load.args([format!("-c{connections}"), format!("-m{streams}"), format!("-D{seconds}")]);
    let output = h2load.arg("--log-file").arg(log).arg(url).output().context("h2load")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("h2load {url}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let times = fs::read_to_string(log).context("h2load wrote no log")?;
    parse(&text, &times).with_context(|| format!("h2load {url} printed:\n{text}"))
}

fn parse(text: &str, times: &str) -> Result<Run> {
    let line = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
    let count = |line: &str, label: &str| -> u64 {
        let piece = line.split(',').find_map(|piece| piece.trim().strip_suffix(label));
        piece.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    };
    if line("Application protocol:") != Some("h2") {
        bail!("HTTP/2 was not spoken");
    }
    let codes = line("status codes:").context("no status codes")?;
    let requests = count(codes, " 2xx");
    if requests == 0 || [" 3xx", " 4xx", " 5xx"].iter().any(|class| count(codes, class) > 0) {
        bail!("answers other than 2xx: {codes}");
    }
    let totals = line("requests:").context("no totals")?;
    let errors = [" failed", " timeout"].iter().map(|label| count(totals, label)).sum();
    let rate = line("finished in").and_then(|line| line.split(',').nth(1)).context("no rate")?;
    let rate = rate.trim().strip_suffix(" req/s").context("no rate")?.parse()?;
    Ok(Run { requests, requests_per_second: rate, p99_ms: p99_ms(times), errors })
}

/// From lines of: when it began, the status, how many microseconds it took.
fn p99_ms(times: &str) -> f64 {
    let mut micros: Vec<u64> = times.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect();
    micros.sort_unstable();
    micros.get(micros.len() * 99 / 100).map_or(0.0, |micros| *micros as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Application protocol: h2

finished in 1.01s, 15444.00 req/s, 5.88MB/s
requests: 15444 total, 15572 started, 15444 done, 15443 succeeded, 1 failed, 0 errored, 0 timeout
status codes: 15444 2xx, 0 3xx, 0 4xx, 0 5xx
";

    #[test]
    fn a_report_is_read_and_wrong_answers_spoil_it() {
        let times: String = (1..=100).map(|i| format!("1795295237539376\t200\t{}\n", i * 1_000)).collect();
        let run = parse(TEXT, &times).unwrap();
        assert_eq!(run, Run { requests: 15444, requests_per_second: 15444.0, p99_ms: 100.0, errors: 1 });
        assert!(parse(&TEXT.replace("0 5xx", "2 5xx"), "").is_err());
        assert!(parse(&TEXT.replace(": h2", ": http/1.1"), "").is_err());
        assert!(parse("", "").is_err());
    }
}
