//! What holds of the binary as it ships: DESIGN's two counts, which do not depend on how busy the machine is, and
//! the C library it asks for.

use std::path::PathBuf;
use std::process::Command;

/// Debian 12 and Ubuntu 22.04 have it.
const GLIBC_MINOR_MAX: u32 = 34;

fn binary() -> PathBuf {
    let path = std::env::var_os("MAINSTAY_DIST_BIN");
    path.expect("MAINSTAY_DIST_BIN names no dist build; type: cargo xtask test").into()
}

#[test]
fn instructions_and_allocations_a_request_stay_within_their_bounds() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).arg("count").env("MAINSTAY_DIST_BIN", binary()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "{out}{err}");
}

#[test]
fn the_binary_runs_on_the_oldest_system_we_name() {
    let bytes = std::fs::read(binary()).unwrap();
    let newest = glibc_minors(&bytes).into_iter().max().expect("a binary that asks for glibc");
    assert!(newest <= GLIBC_MINOR_MAX, "it asks for GLIBC_2.{newest}, at most 2.{GLIBC_MINOR_MAX}");
}

/// Every `GLIBC_2.N` that stands in the file's table of strings, where the loader looks for them.
fn glibc_minors(bytes: &[u8]) -> Vec<u32> {
    const NAME: &[u8] = b"\0GLIBC_2.";
    let starts = bytes.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    let number = |(at, _): (usize, &[u8])| {
        let digits = bytes[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    };
    starts.map(number).collect()
}

#[test]
fn a_version_is_found_between_other_strings() {
    assert_eq!(glibc_minors(b"x\0GLIBC_2.2.5\0y\0GLIBC_2.34\0GLIBC_PRIVATE\0"), [2, 34]);
}
