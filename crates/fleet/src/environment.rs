//! The environment of a child: the parent's, what the operator added, and a `PORT` and `HOST` of its own.
//!
//! Must never: print a value.
//! Invariant: `PORT` and `HOST` are the only names ever replaced; what belongs to our own start is not handed on.

use crate::machine::Machine;
use std::collections::BTreeMap;

pub type Variables = Vec<(String, String)>;

/// What the edge passes to an app by default: request headers of one request (C9).
const EDGE_HEADER_BYTES: u64 = 16_384;
const MIB: u64 = 1024 * 1024;

/// Names that tell *us* how we were started. Handed on, a child would answer to our service manager.
const OURS: [&str; 10] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "SYSTEMD_EXEC_PID",
    "MAINPID",
    "FDSTORE",
    // "Your stdout is the journal": a child's is our pipe.
    "JOURNAL_STREAM",
];

fn is_ours(name: &str) -> bool {
    name.starts_with("MAINSTAY_") || OURS.contains(&name)
}

/// Everything but `PORT` and `HOST`. Later sources win, except that `--env-file` only fills gaps, as it ranks
/// below the environment. Sorted, so that the same settings are the same environment.
pub fn base(parent: &[(String, String)], env_file: &[(String, String)], app: &[(String, String)]) -> Variables {
    let mut all = BTreeMap::new();
    for (name, value) in env_file.iter().chain(parent).filter(|(name, _)| !is_ours(name)) {
        all.insert(name.clone(), value.clone());
    }
    all.extend(app.iter().cloned());
    all.remove("PORT");
    all.remove("HOST");
    all.into_iter().filter(|(name, value)| is_possible(name, value)).collect()
}

/// `execve` cannot carry anything else.
fn is_possible(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

/// For one child. Without a port of its own it gets none: ours would be the edge's.
pub fn for_child(base: &[(String, String)], port: Option<u16>) -> Variables {
    let mut all = base.to_vec();
    if let Some(port) = port {
        all.push(("PORT".to_owned(), port.to_string()));
        all.push(("HOST".to_owned(), "127.0.0.1".to_owned()));
    }
    all
}

/// What `NODE_OPTIONS` asks for that this machine or the edge does not give: a sentence, and what to do.
pub fn node_options_warnings(options: &str, instances: u32, machine: &Machine) -> Vec<(String, String)> {
    let mut warnings = Vec::new();
    let heap = number_of(options, "--max-old-space-size").and_then(|mib| mib.checked_mul(MIB));
    if let (Some(heap), Some(memory)) = (heap, machine.memory)
        && heap.saturating_mul(u64::from(instances)) > memory
    {
        let count = if instances == 1 { "1 instance".to_owned() } else { format!("{instances} instances") };
        let (heap, memory) = (heap / MIB, memory / MIB);
        let fits = (memory / heap.max(1)).max(1);
        let fix = if instances > 1 && u64::from(instances) > fits {
            format!("use {fits} of them, or --max-old-space-size={}", memory * 3 / 4 / u64::from(instances))
        } else {
            format!("--max-old-space-size={}", memory * 3 / 4)
        };
        warnings.push((format!("{count} with a heap of {heap} MiB each, and {memory} MiB of memory in all"), fix));
    }
    if let Some(bytes) = number_of(options, "--max-http-header-size")
        && bytes > EDGE_HEADER_BYTES
    {
        let what = format!("the app takes request headers of {bytes} bytes, the edge passes {EDGE_HEADER_BYTES}");
        warnings.push((what, format!("[edge.limits] header = \"{}KiB\"", bytes.div_ceil(1024))));
    }
    warnings
}

/// The last `--name=N` or `--name N` counts; node takes `_` for `-`.
fn number_of(options: &str, name: &str) -> Option<u64> {
    let words: Vec<String> = options.split_whitespace().map(|word| word.replace('_', "-")).collect();
    let mut found = None;
    for (i, word) in words.iter().enumerate() {
        let value = match word.strip_prefix(name) {
            Some("") => words.get(i + 1).map(String::as_str),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        found = value.and_then(|text| text.trim_matches(['"', '\'']).parse().ok()).or(found);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vars(list: &[(&str, &str)]) -> Variables {
        list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn sources_rank_and_our_own_names_stay_here() {
        let parent = vars(&[
            ("PATH", "/bin"),
            ("PORT", "8080"),
            ("HOST", "0.0.0.0"),
            ("NODE_ENV", "production"),
            ("NODE_OPTIONS", "--max-old-space-size=2048"),
            ("NOTIFY_SOCKET", "/run/x"),
            ("LISTEN_FDS", "1"),
            ("SYSTEMD_EXEC_PID", "7"),
            ("MAINSTAY_TOKEN", "outer"),
        ]);
        let file = vars(&[("NODE_ENV", "test"), ("FROM_FILE", "1"), ("PORT", "9")]);
        let app = vars(&[("PATH", "/app/bin"), ("EXTRA", "")]);
        let base = base(&parent, &file, &app);
        let expected = vars(&[
            ("EXTRA", ""),
            ("FROM_FILE", "1"),
            ("NODE_ENV", "production"),
            ("NODE_OPTIONS", "--max-old-space-size=2048"),
            ("PATH", "/app/bin"),
        ]);
        assert_eq!(base, expected);
        let child = for_child(&base, Some(21_000));
        assert!(child.ends_with(&vars(&[("PORT", "21000"), ("HOST", "127.0.0.1")])));
        assert_eq!(for_child(&base, None), base, "a worker has no port and never sees the edge's");
    }

    #[test]
    fn node_options_are_compared_with_the_machine() {
        let machine = Machine { cpus: 4, memory: Some(4096 * MIB), root: false, contained: false };
        let warn = |options: &str, n| node_options_warnings(options, n, &machine);
        assert_eq!(warn("--max-old-space-size=2048", 2), []);
        let two = warn("--inspect --max_old_space_size=2048", 3);
        assert_eq!(two[0].0, "3 instances with a heap of 2048 MiB each, and 4096 MiB of memory in all");
        assert_eq!(two[0].1, "use 2 of them, or --max-old-space-size=1024");
        assert_eq!(warn("--max-old-space-size 8192", 1)[0].1, "--max-old-space-size=3072");
        assert_eq!(warn("--max-http-header-size=16384", 1), []);
        assert_eq!(warn("--max-http-header-size=32768", 1)[0].1, "[edge.limits] header = \"32KiB\"");
        assert_eq!(warn("--max-old-space-size=much", 9), []);
    }

    proptest! {
        #[test]
        fn any_options_are_read_without_a_panic(options in "\\PC*", n in 0u32..5000) {
            let machine = Machine { cpus: 1, memory: Some(1 << 30), root: false, contained: false };
            node_options_warnings(&options, n, &machine);
        }

        #[test]
        fn a_heap_of_any_size_is_compared(mib in any::<u64>(), n in 0u32..5000, memory in any::<u64>()) {
            let machine = Machine { cpus: 1, memory: Some(memory), root: false, contained: false };
            node_options_warnings(&format!("--max-old-space-size={mib}"), n, &machine);
        }
    }
}
