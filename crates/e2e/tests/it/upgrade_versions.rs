//! Upgrades between two different versions: a copy of the binary whose version is another one, byte for byte the same
//! otherwise.

use crate::support::pids;
use crate::upgrade::{servers, started};
use mainstay_e2e::processes::signal;
use mainstay_e2e::strict::{Load, Mix};
use mainstay_e2e::{Mainstay, wait_until};
use nix::sys::signal::Signal;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `mainstay 0.1.0` → `0.1.0`.
fn version(binary: &Path) -> String {
    let output = Command::new(binary).arg("--version").output().expect("run a binary");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().strip_prefix("mainstay ").unwrap_or_else(|| panic!("no version: {text:?}")).to_owned()
}

/// The executable parts of an ELF file of 64 bits.
fn code(bytes: &[u8]) -> Vec<Range<usize>> {
    const PT_LOAD: u64 = 1;
    const PF_X: u64 = 1;
    let number = |at: usize, width: usize| {
        let field = &bytes[at..at + width];
        field.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (table, width, count) = (number(32, 8) as usize, number(54, 2) as usize, number(56, 2) as usize);
    let headers = (0..count).map(|index| table + index * width);
    let loaded = headers.filter(|at| number(*at, 4) == PT_LOAD && number(*at + 4, 4) & PF_X != 0);
    loaded.map(|at| number(at + 8, 8) as usize..(number(at + 8, 8) + number(at + 32, 8)) as usize).collect()
}

/// A copy of the binary under test that says it is the next minor version. Short strings stand in the code itself, four
/// bytes at a time; names of crates (`name-0.1.0/src`) are left alone.
fn next_version(mainstay: &Mainstay) -> (PathBuf, String) {
    let mut bytes = std::fs::read(mainstay_e2e::mainstay::binary()).expect("the binary");
    let old = version(&mainstay_e2e::mainstay::binary());
    let new = old.replacen(".1.", ".2.", 1);
    assert_ne!(old, new, "this test changes 1 to 2 in the middle");
    let code = code(&bytes);
    let head = &old.as_bytes()[..4];
    let found = bytes.windows(old.len()).enumerate().filter(|(at, window)| {
        let in_code = code.iter().any(|range| range.contains(at));
        let begins = if in_code { window.starts_with(head) } else { *window == old.as_bytes() };
        begins && *at > 0 && bytes[at - 1] != b'-'
    });
    for at in found.map(|(at, _)| at).collect::<Vec<_>>() {
        bytes[at..at + 4].copy_from_slice(&new.as_bytes()[..4]);
    }
    let path = mainstay.path().join("next");
    std::fs::write(&path, bytes).expect("write a binary");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    assert_eq!(version(&path), new, "the copy is not what this test needs");
    (path, new)
}

#[track_caller]
fn running(mainstay: &Mainstay) -> String {
    mainstay.verb(&["status", "--json"]).json()["version"].as_str().expect("a version").to_owned()
}

#[track_caller]
fn to(mainstay: &Mainstay, binary: &Path, version: &str) {
    mainstay.replace_binary(binary);
    let ended = mainstay.verb(&["upgrade"]);
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    let said = format!("upgraded to mainstay {version}   pid {} as before", mainstay.supervisor());
    assert!(ended.err.contains(&said), "no {said:?} in {}", ended.all());
    wait_until("the version to be shown", || running(mainstay) == version);
    assert!(mainstay.verb(&["status"]).ok().contains(version), "status shows it");
}

#[test]
fn r_upgrade_to_another_version_and_back() {
    let mainstay = started("10s");
    let (next, new) = next_version(&mainstay);
    let old = version(&mainstay_e2e::mainstay::binary());
    assert_eq!(running(&mainstay), old);
    let before = pids(&mainstay);
    under_load(&mainstay, || to(&mainstay, &next, &new));
    // A server that dies is replaced by the new version's, because the supervisor is the new version's by now.
    let server = mainstay.server();
    signal(server, Signal::SIGKILL);
    wait_until("another server", || servers(&mainstay).iter().any(|pid| *pid != server));
    wait_until("the version to be shown", || mainstay.verb(&["status"]).code == Some(0));
    assert_eq!(running(&mainstay), new);
    mainstay.answering("/");
    under_load(&mainstay, || to(&mainstay, &mainstay_e2e::mainstay::binary(), &old));
    assert_eq!(pids(&mainstay), before, "instances run on");
}

fn under_load(mainstay: &Mainstay, change: impl FnOnce()) {
    let load = Load::http1(mainstay.edge(), 20, Mix::Both);
    load.goes_on(20);
    change();
    load.goes_on(20);
    load.finish().all_answered();
}
