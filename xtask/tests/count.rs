//! The two counts of DESIGN's speed, held by a test: they do not depend on how busy the machine is.

#[test]
fn instructions_and_allocations_a_request_stay_within_their_bounds() {
    assert!(
        std::env::var_os("MAINSTAY_DIST_BIN").is_some(),
        "MAINSTAY_DIST_BIN names no dist build; type: cargo xtask test"
    );
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_xtask")).arg("count").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "{out}{err}");
}
