//! Any bytes at all for what decides about answers, files and whose request it is: `Accept-Encoding`, names of files,
//! ranges, conditions, sticky cookies, `Forwarded`, the PROXY protocol.

use crate::address::Trusted;
use crate::fields::Fields;
use crate::files::condition::{State, decide, range_counts};
use crate::files::name::{file_of, folder_path};
use crate::fuzz::spelled::spelled;
use crate::range::{Part, part};
use crate::respond::accept::{Coding, acceptable};
use crate::{forwarded, proxy_protocol};
use mainstay_config::units::range;
use std::net::IpAddr;

/// For each target, with every `cargo test`.
const INPUTS: usize = 10_000;

#[test]
fn a_coding_that_was_refused_is_never_chosen() {
    let words =
        ["gzip", "br", "zstd", "*", "identity", ";q=0", ";q=1", ";q=0.5", ";q=0.001", ",", ",", " ", ";", "q", "="];
    bolero::check!().with_iterations(INPUTS).with_max_len(16).for_each(|bytes: &[u8]| {
        let text = format!("{},zstd;q=0", spelled(bytes, &words));
        let elements = text.split(',').map(|e| e.trim().as_bytes());
        let all = acceptable(elements, &Coding::ALL);
        assert!(!all.contains(&Coding::Zstd), "{text:?}: {all:?}");
        assert!(all.is_empty() || all.len() <= 2 && all.first() != all.get(1), "{text:?}: {all:?}");
    });
}

#[test]
fn no_path_names_a_file_outside_or_hidden() {
    let words =
        ["/", "/", "..", ".", "%2e", "%2f", "%5c", "\\", "%00", "%", "a", ".env", "~", "é", "%c3%a9", "%ff", "//"];
    bolero::check!().with_iterations(INPUTS).with_max_len(20).for_each(|bytes: &[u8]| {
        let path = format!("/{}", spelled(bytes, &words));
        if let Some(name) = file_of(&path, None, false) {
            assert!(!name.starts_with('/') && !name.contains(['\0', '\\']), "{path:?}: {name:?}");
            let inside = std::path::Path::new(&name).components();
            let plain = |c| matches!(c, std::path::Component::Normal(n) if !n.to_string_lossy().starts_with('.'));
            assert!(inside.into_iter().all(plain), "{path:?}: {name:?}");
        }
        let to = folder_path(&path);
        assert!(to.starts_with('/') && !to.starts_with("//") && !to.contains(['\\', '\r', '\n']), "{path:?}: {to:?}");
    });
}

#[test]
fn a_range_lies_within_its_file() {
    let words = ["bytes=", "bytes", "=", "-", "-", ",", "0", "1", "9", "99999999999999999999", " ", "+"];
    bolero::check!().with_iterations(INPUTS).with_max_len(12).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &words);
        for size in [0, 1, 10, u64::MAX] {
            if let Part::Some { from, size: length } = part(Some(text.as_bytes()), size) {
                assert!(length > 0 && from < size && length <= size - from, "{text:?} of {size}");
            }
        }
    });
}

#[test]
fn conditions_are_read_without_harm() {
    let state = State { size: 16, inode: 7, modified_s: 784_111_777, modified_ns: 5 };
    let tag = state.tag();
    let words = ["W/", "\"", ",", "*", &tag, "Sun, 06 Nov 1994 08:49:37 GMT", " ", "99999999999", "GMT"];
    let names = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"];
    bolero::check!().with_iterations(INPUTS).with_max_len(12).for_each(|bytes: &[u8]| {
        let Some((first, rest)) = bytes.split_first() else { return };
        let mut fields = Fields::default();
        let text = spelled(rest, &words);
        fields.push(names[usize::from(*first) % names.len()].as_bytes(), text.as_bytes());
        let (before, counts) = (decide(&fields, &state), range_counts(&fields, &state));
        // Whatever it says, it says it again.
        assert_eq!((before, counts), (decide(&fields, &state), range_counts(&fields, &state)), "{text:?}");
    });
}

#[test]
fn nobody_chooses_its_own_address_by_forwarded() {
    let trusted = Trusted::new(vec![(range("10.0.0.0/8").expect("a range"), String::new())]);
    let proxy: IpAddr = "10.0.0.9".parse().expect("an address");
    let words = [
        "for=",
        "for=1.2.3.4",
        "for=10.0.0.2",
        "\"[2001:db8::1]:80\"",
        ";",
        ",",
        ",",
        "proto=https",
        "host=a",
        "\"",
        "\\",
        "=",
    ];
    bolero::check!().with_iterations(INPUTS).with_max_len(16).for_each(|bytes: &[u8]| {
        let text = spelled(bytes, &words);
        let found = forwarded::client(proxy, &trusted, std::iter::once(text.as_str())).client;
        if trusted.contains(found) {
            return;
        }
        // The first stranger from the right: a line before it changes nothing.
        let claimed = forwarded::client(proxy, &trusted, ["for=6.6.6.6", &text].into_iter()).client;
        assert_eq!(claimed, found, "{text:?}");
    });
}

#[test]
fn the_proxy_protocol_takes_its_own_bytes_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
    bolero::check!().with_iterations(INPUTS).with_max_len(200).for_each(|bytes: &[u8]| {
        for start in [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n", b"PROXY ", b""] {
            let all = [start, bytes].concat();
            let mut from = &all[..];
            let told = runtime.block_on(proxy_protocol::read(&mut from));
            let taken = &all[..all.len() - from.len()];
            let line = taken.starts_with(b"PROXY ") && taken.ends_with(b"\r\n");
            let length = |t: &[u8]| 16 + usize::from(u16::from_be_bytes([t[14], t[15]]));
            assert!(told.is_err() || line || taken.len() == length(taken), "{all:?}: {told:?}");
        }
    });
}
