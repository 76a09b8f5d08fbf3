//! Memory and uptime of each app instance for `/health/metrics` (S17): what the app shows, else what the kernel says.
//!
//! Must never trust what it reads: an app's metrics are any bytes at all.

use std::fmt::Write;

/// An exposition of an app is a few hundred KiB at most; the caller reads no further.
pub const SCRAPE_BYTES_MAX: usize = 1024 * 1024;

/// What an app instance shows about itself. None where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    pub heap_total_bytes: Option<f64>,
    pub heap_used_bytes: Option<f64>,
    pub external_bytes: Option<f64>,
    pub uptime_seconds: Option<f64>,
    /// prom-client shows this instead of an uptime.
    pub start_unix_seconds: Option<f64>,
}

/// What the kernel says about the instance's processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub resident_bytes: Option<f64>,
    pub uptime_seconds: Option<f64>,
}

/// One instance at one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    pub app: String,
    /// As in `main.1`.
    pub instance: String,
    /// None where the app has no metrics page.
    pub shown: Option<Shown>,
    pub process: Process,
}

/// Reads a Prometheus exposition. Lines it does not understand are passed over.
pub fn read(text: &[u8]) -> Shown {
    let mut shown = Shown::default();
    let text = &text[..text.len().min(SCRAPE_BYTES_MAX)];
    for line in text.split(|&b| b == b'\n') {
        let Some((name, value)) = std::str::from_utf8(line).ok().and_then(sample) else { continue };
        match name {
            // Several series of one name are workers of one instance: their memory adds up, the oldest counts.
            "nodejs_heap_size_total_bytes" => merge(&mut shown.heap_total_bytes, value, |a, b| a + b),
            "nodejs_heap_size_used_bytes" => merge(&mut shown.heap_used_bytes, value, |a, b| a + b),
            "nodejs_external_memory_bytes" => merge(&mut shown.external_bytes, value, |a, b| a + b),
            "nodejs_process_uptime_seconds" => merge(&mut shown.uptime_seconds, value, f64::max),
            "process_start_time_seconds" => merge(&mut shown.start_unix_seconds, value, f64::min),
            _ => {}
        }
    }
    shown
}

fn merge(slot: &mut Option<f64>, value: f64, with: impl Fn(f64, f64) -> f64) {
    *slot = Some(slot.map_or(value, |had| with(had, value)));
}

/// `name{labels} value [time]`; None for comments, and for a value that is negative or no number.
fn sample(line: &str) -> Option<(&str, f64)> {
    let line = line.trim();
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    let rest = match rest.strip_prefix('{') {
        Some(labels) => after_labels(labels)?,
        None => rest,
    };
    let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((name, value))
}

/// What follows the closing brace; a brace inside a quoted value does not close.
fn after_labels(labels: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in labels.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return labels.get(at + 1..),
            _ => {}
        }
    }
    None
}

type Column = (&'static str, &'static str, fn(&Instance, f64) -> Option<f64>);

const COLUMNS: [Column; 6] = [
    ("nodejs_heap_size_total_bytes", "Process heap size from Node.js in bytes.", |i, _| i.shown?.heap_total_bytes),
    ("nodejs_heap_size_used_bytes", "Process heap size used from Node.js in bytes.", |i, _| i.shown?.heap_used_bytes),
    ("nodejs_external_memory_bytes", "Node.js external memory size in bytes.", |i, _| i.shown?.external_bytes),
    ("nodejs_process_uptime_seconds", "Uptime of the Node.js process in seconds.", node_uptime),
    ("process_resident_memory_bytes", "Resident memory of the instance's processes in bytes.", |i, _| {
        other(i).then_some(i.process.resident_bytes)?
    }),
    ("process_uptime_seconds", "Uptime of the instance in seconds.", |i, _| {
        other(i).then_some(i.process.uptime_seconds)?
    }),
];

/// Prometheus text for all instances, relabelled with `app` and `instance`; empty if there is nothing to say.
pub fn render(instances: &[Instance], now_unix_seconds: f64) -> String {
    let mut text = String::new();
    for (name, help, value) in COLUMNS {
        let mut headed = false;
        for instance in instances {
            let Some(value) = value(instance, now_unix_seconds) else { continue };
            if !headed {
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
                headed = true;
            }
            let (app, label) = (escaped(&instance.app), escaped(&instance.instance));
            let _ = writeln!(text, "{name}{{app=\"{app}\",instance=\"{label}\"}} {value}");
        }
    }
    text
}

/// Not Node.js, or Node.js that does not show its heap.
fn other(instance: &Instance) -> bool {
    !is_node(instance)
}

fn is_node(instance: &Instance) -> bool {
    instance.shown.is_some_and(|s| s.heap_total_bytes.is_some() || s.heap_used_bytes.is_some())
}

/// What it shows, else counted from the start it shows, else what the kernel says.
fn node_uptime(instance: &Instance, now_unix_seconds: f64) -> Option<f64> {
    let shown = instance.shown?;
    let counted = |start: f64| (now_unix_seconds - start).max(0.0);
    let uptime = shown.uptime_seconds.or_else(|| is_node(instance).then(|| shown.start_unix_seconds.map(counted))?);
    uptime.or_else(|| is_node(instance).then_some(instance.process.uptime_seconds)?)
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PROM_CLIENT: &str = r#"
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1704067200
process_resident_memory_bytes 91234304
# TYPE nodejs_heap_size_total_bytes gauge
nodejs_heap_size_total_bytes{service="a } b \" {"} 2.097152e+07
nodejs_heap_size_used_bytes 15728640 1704067260000
nodejs_external_memory_bytes 2363312
nodejs_version_info{version="v20.1.0",major="20"} 1
"#;

    fn node() -> Instance {
        let shown = Some(read(PROM_CLIENT.as_bytes()));
        let process = Process { resident_bytes: Some(1.0), uptime_seconds: Some(2.0) };
        Instance { app: "main".to_owned(), instance: "main.1".to_owned(), shown, process }
    }

    #[test]
    fn s17_prom_clients_page_is_read() {
        let shown = read(PROM_CLIENT.as_bytes());
        assert_eq!(shown.heap_total_bytes, Some(20_971_520.0));
        assert_eq!(shown.heap_used_bytes, Some(15_728_640.0));
        assert_eq!(shown.external_bytes, Some(2_363_312.0));
        assert_eq!((shown.uptime_seconds, shown.start_unix_seconds), (None, Some(1_704_067_200.0)));
    }

    #[test]
    fn s17_the_guides_names_come_out_with_app_and_instance() {
        let plain = Process { resident_bytes: Some(4096.0), uptime_seconds: Some(7.5) };
        let other = Instance { app: "w\"x".to_owned(), instance: "w.1".to_owned(), shown: None, process: plain };
        let text = render(&[node(), other], 1_704_067_260.0);
        let values: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(
            values,
            [
                r#"nodejs_heap_size_total_bytes{app="main",instance="main.1"} 20971520"#,
                r#"nodejs_heap_size_used_bytes{app="main",instance="main.1"} 15728640"#,
                r#"nodejs_external_memory_bytes{app="main",instance="main.1"} 2363312"#,
                r#"nodejs_process_uptime_seconds{app="main",instance="main.1"} 60"#,
                r#"process_resident_memory_bytes{app="w\"x",instance="w.1"} 4096"#,
                r#"process_uptime_seconds{app="w\"x",instance="w.1"} 7.5"#,
            ]
        );
        assert_eq!(text.matches("# TYPE").count(), 6);
        assert_eq!(render(&[], 0.0), "");
    }

    #[test]
    fn an_uptime_that_is_shown_wins_and_workers_add_up() {
        let text = b"nodejs_process_uptime_seconds 5\nprocess_start_time_seconds 1\n\
            nodejs_heap_size_used_bytes{pid=\"1\"} 2\nnodejs_heap_size_used_bytes{pid=\"2\"} 3\n";
        let instance = Instance { shown: Some(read(text)), ..node() };
        assert_eq!(node_uptime(&instance, 100.0), Some(5.0));
        assert_eq!(instance.shown.and_then(|s| s.heap_used_bytes), Some(5.0));
    }

    #[test]
    fn a_page_that_is_not_node_gets_process_numbers_only() {
        let shown = Some(read(b"process_start_time_seconds 1\n"));
        let text = render(&[Instance { shown, ..node() }], 10.0);
        assert!(!text.contains("nodejs_"), "{text}");
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
    }

    #[test]
    fn what_is_not_a_measure_is_passed_over() {
        for line in [
            "nodejs_heap_size_used_bytes",
            "nodejs_heap_size_used_bytes NaN",
            "nodejs_heap_size_used_bytes +Inf",
            "nodejs_heap_size_used_bytes -1",
            "nodejs_heap_size_used_bytes{a=\"b 5",
            "nodejs_heap_size_used_bytes{a=\"b\"}",
            "nodejs_heap_size_used_bytes_sum 5",
            "# nodejs_heap_size_used_bytes 5",
        ] {
            assert_eq!(read(line.as_bytes()), Shown::default(), "{line}");
        }
        let long = [vec![b'x'; SCRAPE_BYTES_MAX], b"\nnodejs_heap_size_used_bytes 5\n".to_vec()].concat();
        assert_eq!(read(&long), Shown::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            read(&bytes);
        }

        #[test]
        fn any_text_near_the_format_is_read(tail in "[{}\"\\\\=, 0-9eE.+\\-a-zé\n]{0,60}") {
            let shown = read(format!("nodejs_heap_size_used_bytes{tail}").as_bytes());
            prop_assert!(shown.heap_used_bytes.is_none_or(|v| v.is_finite() && v >= 0.0));
            render(&[Instance { shown: Some(shown), ..Instance::default() }], 1.0);
        }
    }
}
