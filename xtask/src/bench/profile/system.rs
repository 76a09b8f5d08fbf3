//! System calls as `strace -c` sums them up.

use std::collections::BTreeMap;

/// `None` while the summary is not whole.
pub fn parse(text: &str) -> Option<BTreeMap<String, u64>> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("------")).skip(1);
    let mut calls = BTreeMap::new();
    for line in lines.by_ref() {
        if line.starts_with("------") {
            return Some(calls);
        }
        // time, seconds, microseconds a call, calls, perhaps errors, name
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (count, name) = (fields.get(3)?, fields.last()?);
        calls.insert((*name).to_owned(), count.parse().ok()?);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 23.98    0.676488         177      3812           epoll_wait
  2.98    0.084139          39      2149       698 accept4
------ ----------- ----------- --------- --------- ----------------
100.00    0.204613           4      5961       698 total
";

    #[test]
    fn calls_are_counted_with_and_without_errors() {
        let calls = parse(TEXT).unwrap();
        assert_eq!((calls["epoll_wait"], calls["accept4"], calls.len()), (3812, 2149, 2));
        assert_eq!(parse(&TEXT[..200]), None);
    }
}
