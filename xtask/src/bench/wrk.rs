//! One run of wrk and what it printed.

use anyhow::{Context, Result, bail};
use std::process::Command;

/// What one run says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    pub requests: u64,
    pub requests_per_second: f64,
    pub p99_ms: f64,
    /// Timeouts and cut connections; the run counts nevertheless and the report says how many there were.
    pub errors: u64,
}

/// What is asked, and how.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    pub url: &'a str,
    pub connections: u32,
    pub seconds: u32,
    /// A connection of its own for each request.
    pub close: bool,
    /// Said with each.
    pub header: Option<&'a str>,
}

pub fn run(load: Load<'_>) -> Result<Run> {
    answered(load, false)
}

/// Refusals are what is measured.
pub fn run_whatever_is_answered(load: Load<'_>) -> Result<Run> {
    answered(load, true)
}

fn answered(load: Load<'_>, any: bool) -> Result<Run> {
    let Load { url, connections, seconds, close, header } = load;
    let (connections, duration) = (format!("-c{connections}"), format!("-d{seconds}s"));
    let mut wrk = Command::new("timeout");
    wrk.args([super::PATIENCE_SECONDS, "wrk", "-t1", &connections, &duration, "--latency", url]);
    if close {
        wrk.args(["-H", "Connection: close"]);
    }
    if let Some(header) = header {
        wrk.args(["-H", header]);
    }
    let output = wrk.output().context("wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("wrk {url}: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let text: String =
        text.lines().filter(|line| !any || !line.contains("Non-2xx")).map(|l| format!("{l}\n")).collect();
    parse(&text).with_context(|| format!("wrk {url} printed:\n{text}"))
}

fn parse(text: &str) -> Result<Run> {
    if let Some(line) = text.lines().find(|line| line.contains("Non-2xx")) {
        bail!("answers other than 2xx: {}", line.trim());
    }
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let requests = text.lines().find(|line| line.contains(" requests in ")).and_then(first).context("no total")?;
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("no rate")?;
    let p99 = text.lines().find_map(|line| line.trim().strip_prefix("99%")).context("no 99th percentile")?;
    let errors = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors:")).unwrap_or("");
    let errors = errors.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum();
    Ok(Run { requests: requests.parse()?, requests_per_second: rate.trim().parse()?, p99_ms: millis(p99)?, errors })
}

fn millis(text: &str) -> Result<f64> {
    let text = text.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).context("a time without a unit")?;
    let factor = match &text[split..] {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1_000.0,
        unit => bail!("unknown unit `{unit}`"),
    };
    Ok(text[..split].parse::<f64>()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Running 2s test @ http://127.0.0.1:1/s
  Latency Distribution
     50%    1.20ms
     99%  812.00us
  45678 requests in 2.00s, 12.00MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
Requests/sec:  22839.12
";

    #[test]
    fn a_report_is_read_and_wrong_answers_spoil_it() {
        let run = parse(TEXT).unwrap();
        assert_eq!(run, Run { requests: 45678, requests_per_second: 22839.12, p99_ms: 0.812, errors: 3 });
        assert!(parse(&format!("{TEXT}  Non-2xx or 3xx responses: 4\n")).is_err());
        assert!(parse("").is_err());
    }
}
