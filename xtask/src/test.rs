//! `cargo xtask test`: the one test command. Installs what is missing, then formats, lints, builds and runs
//! everything; a step that fails does not hide the next one's faults.

use crate::arguments::Arguments;
use crate::{tools, workspace};
use anyhow::{Result, bail};
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One floor of the tests.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Floor {
    Unit,
    It,
    E2e,
    Tidy,
}

impl Floor {
    fn parse(word: &str) -> Result<Floor> {
        match word {
            "unit" => Ok(Floor::Unit),
            "it" => Ok(Floor::It),
            "e2e" => Ok(Floor::E2e),
            "tidy" => Ok(Floor::Tidy),
            _ => bail!("`--only {word}`: expected unit, it, e2e or tidy"),
        }
    }

    /// What cargo builds and runs for it. nextest can pick from the build of everything, so that features are
    /// unified once and nothing is built twice.
    fn selection(floor: Option<Floor>, nextest: bool) -> &'static [&'static str] {
        match floor {
            None => &["--workspace", "--all-targets"],
            Some(Floor::Unit) => &["--workspace", "--lib", "--bins"],
            Some(Floor::It) => &["--workspace", "--exclude", "mainstay-e2e", "--test", "it"],
            Some(Floor::E2e) if nextest => &["--workspace", "--all-targets", "--filterset", "package(mainstay-e2e)"],
            Some(Floor::E2e) => &["--package", "mainstay-e2e", "--all-targets"],
            Some(Floor::Tidy) => &["--package", "xtask", "--test", "tidy"],
        }
    }
}

pub fn run(words: &[&str]) -> Result<()> {
    let mut arguments = Arguments::new(words);
    let only = arguments.value("--only")?.map(Floor::parse).transpose()?;
    let filter: Vec<String> = arguments.rest.iter().map(|word| (*word).to_owned()).collect();
    arguments.finish()?;

    let whole = only.is_none();
    if whole || matches!(only, Some(Floor::It | Floor::E2e)) {
        tools::require(&[&tools::REDIS, &tools::POSTGRES, &tools::PGBOUNCER])?;
    }
    if whole || only == Some(Floor::E2e) {
        let clients = [&tools::NODE, &tools::NPM, &tools::PYTHON, &tools::CURL, &tools::OPENSSL, &tools::CHROMIUM];
        let servers = [&tools::PEBBLE, &tools::NGINX, &tools::APACHE];
        let others = [&tools::SYSTEMD_ANALYZE, &tools::H2LOAD, &tools::TESTSSL, &tools::STRACE, &tools::FAKETIME];
        tools::require(&[clients.as_slice(), &servers, &others].concat())?;
    }
    let mut failed = Vec::new();
    if whole {
        tools::require(&[&tools::VALGRIND, &tools::DPKG_DEB])?;
        step("fmt", workspace::cargo().args(["fmt", "--all", "--check"]), &mut failed)?;
        let clippy = ["clippy", "--workspace", "--all-targets", "--profile", "ci", "--", "-D", "warnings"];
        step("clippy", workspace::cargo().args(clippy), &mut failed)?;
    }
    let environment = environment(only)?;
    step("test", &mut runner(only, &filter, &environment), &mut failed)?;
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Builds the binaries the tests drive and tells the tests where they are.
fn environment(only: Option<Floor>) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut environment = Vec::new();
    if !matches!(only, None | Some(Floor::E2e)) {
        return Ok(environment);
    }
    let target = workspace::target()?;
    // The same selection as the runner's, so that features are unified once and nothing is built twice.
    let mut build = workspace::cargo();
    build.args(["build", "--workspace", "--all-targets", "--profile", "ci"]);
    if !build.status()?.success() {
        bail!("the build failed");
    }
    environment.push(("MAINSTAY_BIN", target.join("ci/mainstay")));
    // Beforehand and in sight: a test that had to wait for npm would be taken for one that hangs.
    if !Command::new(target.join("ci/fixtures")).status()?.success() {
        bail!("the packages of the fixtures could not be installed");
    }
    if only.is_none() {
        environment.push(("MAINSTAY_DIST_BIN", workspace::dist_binary()?));
    }
    Ok(environment)
}

fn runner(only: Option<Floor>, filter: &[String], environment: &[(&'static str, PathBuf)]) -> Command {
    let mut command = workspace::cargo();
    let nextest = has_nextest();
    if nextest {
        command.args(["nextest", "run", "--cargo-profile", "ci", "--no-fail-fast", "--no-tests", "warn"]);
    } else {
        command.args(["test", "--profile", "ci", "--no-fail-fast"]);
    }
    command.args(Floor::selection(only, nextest)).args(filter);
    command.envs(environment.iter().map(|(name, path)| (name, path)));
    command
}

fn has_nextest() -> bool {
    let mut command = workspace::cargo();
    command.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a step with its output passed on as it comes, and closes with its own summary lines.
fn step(name: &'static str, command: &mut Command, failed: &mut Vec<&'static str>) -> Result<()> {
    println!("{name:<8} {}", line(command));
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut summary = Vec::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            // nextest writes its summary last and to stderr; libtest has one a binary, scattered over the output.
            if line.starts_with("test result:") {
                summary.push(line);
            }
        }
    }
    let status = child.wait()?;
    summary.iter().for_each(|line| println!("{line}"));
    if !status.success() {
        failed.push(name);
    }
    Ok(())
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once("cargo".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}
