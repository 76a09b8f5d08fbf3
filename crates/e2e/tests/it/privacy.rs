//! What supervisor and server know stays in them: a process of the same user cannot look.

use mainstay_e2e::{Mainstay, Setup, fixtures, get, processes, wait_until};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Programs that every user may run: the `PATH` of whoever tests may lead into their home.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// Who is not root and runs no other Mainstay: as root a number of its own for each test, else ourselves.
struct Stranger(Option<String>);

impl Stranger {
    fn new() -> Stranger {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Above the numbers of people and services, below those of containers.
        let number = 61_000 + (std::process::id() * 4 + COUNT.fetch_add(1, Ordering::Relaxed)) % 4_000;
        Stranger(nix::unistd::geteuid().is_root().then(|| number.to_string()))
    }

    fn words(&self, words: &[&str]) -> Vec<String> {
        let become_it = self.0.iter().flat_map(|uid| {
            ["setpriv".to_owned(), format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()]
        });
        become_it.chain(words.iter().map(|word| (*word).to_owned())).collect()
    }

    /// Ends with 0 if this user may do it.
    fn may(&self, words: &[&str]) -> bool {
        let words = self.words(words);
        let output = Command::new(&words[0]).args(&words[1..]).env("PATH", SYSTEM_PATH).output();
        output.unwrap_or_else(|e| panic!("{words:?}: {e}")).status.success()
    }

    fn may_open(&self, pid: i32, file: &str) -> bool {
        self.may(&["sh", "-c", &format!("exec 3< /proc/{pid}/{file}")])
    }

    /// As a debugger and `gcore` begin.
    fn may_attach(&self, pid: i32) -> bool {
        const ATTACH: &str = "import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, int(sys.argv[1]), 0, 0) != 0)";
        assert!(self.may(&["python3", "-c", "import ctypes"]), "this user needs a python3 in {SYSTEM_PATH}");
        self.may(&["python3", "-c", ATTACH, &pid.to_string()])
    }

    /// Binary, app and folder where it may reach them, all of it started by it.
    fn starts(&self) -> Mainstay {
        let setup = Setup::file("[app.main]\nrun = [\"./app\"]\ninstances = 2\n");
        let copy = |from: &Path, name: &str| std::fs::copy(from, setup.path().join(name)).expect("copy a program");
        copy(&fixtures::static_app(), "app");
        copy(&mainstay_e2e::mainstay::binary(), "mainstay");
        std::fs::create_dir(setup.path().join("runtime")).expect("a folder for the socket");
        let folder = setup.path().display().to_string();
        if let Some(uid) = &self.0 {
            let owned = Command::new("chown").args(["-R", &format!("{uid}:{uid}"), &folder]).status();
            assert!(owned.expect("chown").success());
        }
        // All the core file this user may have: what the children are to keep.
        let program = format!("ulimit -S -c \"$(ulimit -H -c)\"; exec {folder}/mainstay \"$@\"");
        let words = self.words(&["sh", "-c", &program, "mainstay"]);
        setup.under(&words.iter().map(String::as_str).collect::<Vec<_>>()).ready("/")
    }
}

/// Soft limit of core files.
fn core_limit(pid: &str) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits of a process");
    let line =
        limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a line about core files");
    line.split_whitespace().next().expect("a soft limit").to_owned()
}

#[test]
fn another_process_of_the_same_user_can_neither_read_nor_trace_supervisor_and_server() {
    let stranger = Stranger::new();
    let mainstay = stranger.starts();
    let instance = crate::support::pids(&mainstay)[0];
    for (name, pid) in [("supervisor", mainstay.supervisor()), ("server", mainstay.server())] {
        for file in ["mem", "environ", "maps", "fd/0"] {
            assert!(!stranger.may_open(pid, file), "{file} of the {name} can be opened");
        }
        assert!(!stranger.may_attach(pid), "the {name} can be traced");
        assert_eq!(core_limit(&pid.to_string()), "0", "{name}");
        // What everybody may know stays known.
        assert!(
            stranger.may_open(pid, "status") && stranger.may_open(pid, "stat") && processes::resident(pid).is_some(),
            "{name}"
        );
    }
    // The same looks at a child succeed, so they mean something; and an app is debugged as ever.
    assert!(
        stranger.may_open(instance, "environ") && stranger.may_open(instance, "maps"),
        "an instance has become hidden"
    );
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if matches!(yama.trim(), "" | "0") {
        assert!(stranger.may_open(instance, "mem") && stranger.may_attach(instance), "an instance has become hidden");
    }
    let hard = std::fs::read_to_string("/proc/self/limits").expect("our limits");
    let hard = hard.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("core");
    assert_eq!(Some(core_limit(&instance.to_string()).as_str()), hard.split_whitespace().nth(1));
}

#[test]
fn hidden_from_its_own_user_it_still_finds_what_it_looks_for_in_proc() {
    let mainstay = Stranger::new().starts();
    let is_measured = |one: &serde_json::Value| one["state"] == "ready" && one["rss_bytes"].as_u64() > Some(0);
    wait_until("two instances that are ready and measured", || {
        let instances = crate::support::instances(&mainstay);
        instances.len() == 2 && instances.iter().all(is_measured)
    });
    // Another one on the same port knows who is in the way, although it may not look at its descriptors.
    let port = format!("127.0.0.1:{}", mainstay.edge().port());
    let other = mainstay.verb(&["run", "--production", "--listen", &port, "--data", "elsewhere"]);
    let pid = mainstay.supervisor();
    assert!(other.err.contains(&format!("another mainstay (pid {pid})")), "{}", other.all());
    // A server that dies is replaced, and everything ends when it is told to.
    let before = crate::support::pids(&mainstay);
    processes::signal(mainstay.server(), nix::sys::signal::Signal::SIGKILL);
    mainstay.answering("/");
    assert_eq!(get(&mainstay.url("/")).status, 200);
    assert_eq!(crate::support::pids(&mainstay), before);
    assert_eq!(mainstay.verb(&["stop"]).code, Some(0));
    wait_until("every process gone", || before.iter().all(|pid| !processes::alive(*pid)));
}

#[test]
fn orphans_of_an_ordinary_user_are_ended_by_the_next_start_although_the_server_hid_its_mark() {
    let mut mainstay = Stranger::new().starts();
    let (server, instances) = (mainstay.server(), crate::support::pids(&mainstay));
    // Both at once: the server first stopped, so that it cannot sweep.
    processes::signal(server, nix::sys::signal::Signal::SIGSTOP);
    processes::signal(mainstay.supervisor(), nix::sys::signal::Signal::SIGKILL);
    mainstay.end();
    let mainstay = mainstay.again();
    mainstay.answering("/");
    assert!(!processes::alive(server), "the hidden server of the boot before still lives");
    assert!(instances.iter().all(|pid| !processes::alive(*pid)), "an instance of the boot before still lives");
}
