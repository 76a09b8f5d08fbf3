//! What `cargo xtask dist` packs, as it is installed: the Debian package's files, and the npm packages from their own
//! tarballs, without a network. (`cargo xtask dist --prove` goes further: a fresh Debian, for root.)

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(60);

const SERVER: &str = "require('http').createServer((_, answer) => answer.end(`app ${process.pid}`))\
                      .listen(process.env.PORT, process.env.HOST);\n";

/// A folder that goes when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("mainstay-packages-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Packages of one kind, made from the binary as it ships.
fn packages(kind: &str) -> Folder {
    let binary = std::env::var_os("MAINSTAY_DIST_BIN");
    let binary = binary.expect("MAINSTAY_DIST_BIN names no dist build; type: cargo xtask test");
    let out = Folder::new(&format!("{kind}-out"));
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
    run(xtask.args(["dist", "--only", kind, "--out"]).arg(&out.0).env("MAINSTAY_DIST_BIN", binary));
    out
}

/// The next look at a condition.
fn pause() {
    const STEP: Duration = Duration::from_millis(10);
    std::thread::park_timeout(STEP);
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

fn packed(packages: &Folder, suffix: &str) -> PathBuf {
    let entries = std::fs::read_dir(&packages.0).unwrap().flatten();
    let found = entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(suffix));
    found.unwrap_or_else(|| panic!("no package that ends in {suffix}"))
}

#[test]
fn the_debian_package_has_what_debian_and_an_operator_look_for() {
    let packages = packages("debian");
    let deb = packed(&packages, "_amd64.deb");
    let control = run(Command::new("dpkg-deb").arg("-f").arg(&deb));
    for line in ["Package: mainstay", "Architecture: amd64", "Depends: libc6 (>= 2.34), libgcc-s1, passwd"] {
        assert!(control.lines().any(|known| known == line), "no {line} in\n{control}");
    }
    let list = run(Command::new("dpkg-deb").arg("-c").arg(&deb));
    for line in list.lines() {
        assert!(line.contains(" root/root "), "not root's: {line}");
        assert!(!line[..10].contains('s') && line.as_bytes()[8] != b'w', "others may change it: {line}");
    }
    let folder = Folder::new("deb-files");
    run(Command::new("dpkg-deb").arg("-R").arg(&deb).arg(&folder.0));
    let read = |name: &str| std::fs::read_to_string(folder.0.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(read("DEBIAN/conffiles"), "/etc/mainstay/mainstay.toml\n");
    for script in ["postinst", "prerm", "postrm"] {
        run(Command::new("sh").arg("-n").arg(folder.0.join("DEBIAN").join(script)));
    }
    let unit = read("usr/lib/systemd/system/mainstay.service");
    for line in ["ExecStart=/usr/bin/mainstay run --file /etc/mainstay/mainstay.toml", "User=mainstay"] {
        assert!(unit.lines().any(|known| known == line), "no {line} in\n{unit}");
    }
    let _: serde_json::Value = serde_json::from_str(&read("usr/share/mainstay/mainstay.schema.json")).unwrap();
    run(Command::new("md5sum").args(["--quiet", "-c", "DEBIAN/md5sums"]).current_dir(&folder.0));
    let binary = folder.0.join("usr/bin/mainstay");
    let checked =
        Command::new(&binary).args(["check", "--file", "etc/mainstay/mainstay.toml"]).current_dir(&folder.0).status();
    assert!(checked.unwrap().success(), "the conffile has a fault");

    let manual = run(Command::new("gzip").arg("-dc").arg(folder.0.join("usr/share/man/man1/mainstay.1.gz")));
    let help = run(Command::new(&binary).arg("--help"));
    let verbs = help.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("verbs");
    // Further lines of a verb's own words begin far to the right.
    let begins = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
    for verb in verbs.lines().filter(begins).filter_map(|line| line.split_whitespace().next()) {
        assert!(
            manual.contains(&format!(".B {verb}\n")) || manual.contains(&format!(" {verb} ")) || {
                manual.contains(&format!(".BR {verb} ")) || manual.contains(&format!(" {verb}\n"))
            },
            "the man page does not know {verb}"
        );
    }
}

/// What the package does about a service that runs: in place, else a restart; and nothing at a first installation.
#[test]
fn the_debian_package_upgrades_a_running_service_in_place_and_else_restarts_it() {
    let folder = Folder::new("postinst");
    let at = |name: &str| folder.0.join(name);
    std::fs::create_dir_all(at("run/systemd/system")).unwrap();
    std::fs::create_dir_all(at("bin")).unwrap();
    // Each says that it was called, and ends as a file of its name says: 0 where there is none.
    let fake = |name: &str, key: &str| {
        let log = at("log").display().to_string();
        let codes = folder.0.display();
        let text =
            format!("#!/bin/sh\necho {name} \"$@\" >> {log}\nexit $(cat {codes}/{name}-{key} 2>/dev/null || echo 0)\n");
        std::fs::write(at("bin").join(name), text).unwrap();
        run(Command::new("chmod").arg("755").arg(at("bin").join(name)));
    };
    fake("systemctl", "$1");
    fake("mainstay", "$1");
    fake("getent", "$1");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/deb/postinst");
    let configured = |version: &str, codes: &[(&str, u32)]| {
        let _ = std::fs::remove_file(at("log"));
        for (name, code) in codes {
            std::fs::write(at(name), code.to_string()).unwrap();
        }
        let path = format!("{}:/usr/bin:/bin", at("bin").display());
        let mut command = Command::new("/bin/sh");
        command.arg(&script).args(["configure", version]).env_clear().env("PATH", path).env("DPKG_ROOT", &folder.0);
        run(command.env("MAINSTAY_DATA", "/somewhere/else"));
        for (name, _) in codes {
            std::fs::remove_file(at(name)).unwrap();
        }
        let calls = std::fs::read_to_string(at("log")).unwrap();
        calls.lines().filter(|line| !line.starts_with("getent")).map(str::to_owned).collect::<Vec<_>>()
    };
    let (reload, active) = ("systemctl daemon-reload", "systemctl is-active --quiet mainstay.service");
    let upgrade = "mainstay upgrade --file /etc/mainstay/mainstay.toml --data /var/lib/mainstay/mainstay";
    let restart = "systemctl try-restart mainstay.service";
    assert_eq!(configured("0.0.9", &[]), [reload, active, upgrade]);
    assert_eq!(configured("0.0.9", &[("mainstay-upgrade", 1)]), [reload, active, upgrade, restart]);
    // One that does not run is not started; and a restart that fails does not leave the package half installed.
    assert_eq!(configured("", &[("systemctl-is-active", 3)]), [reload, active]);
    let failing = [("mainstay-upgrade", 2), ("systemctl-try-restart", 1)];
    assert_eq!(configured("0.0.9", &failing), [reload, active, upgrade, restart]);
    std::fs::remove_dir_all(at("run")).unwrap();
    assert!(!at("log").exists() || std::fs::remove_file(at("log")).is_ok());
    let path = format!("{}:/usr/bin:/bin", at("bin").display());
    let mut without = Command::new("/bin/sh");
    without.arg(&script).args(["configure", "0.0.9"]).env_clear().env("PATH", path).env("DPKG_ROOT", &folder.0);
    run(&mut without);
    let calls = std::fs::read_to_string(at("log")).unwrap();
    assert!(!calls.contains("systemctl"), "no systemd, and yet: {calls}");
}

/// A project with an app, and both npm packages installed from their tarballs.
fn project() -> Folder {
    let (packages, folder) = (packages("npm"), Folder::new("shop"));
    let write = |file: &str, text: &str| std::fs::write(folder.0.join(file), text).unwrap();
    write("package.json", r#"{"name":"shop","private":true,"scripts":{"start":"node server.js"}}"#);
    write("server.js", SERVER);
    let version = env!("CARGO_PKG_VERSION");
    let mut npm = Command::new("npm");
    npm.args(["install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts"]);
    npm.arg(packed(&packages, &format!("/mainstay-{version}.tgz")))
        .arg(packed(&packages, &format!("linux-x64-{version}.tgz")));
    run(npm.current_dir(&folder.0));
    folder
}

/// What was started, and everything below it, ends with the test.
struct Running {
    child: Child,
    port: u16,
    output: PathBuf,
}

impl Running {
    fn start(folder: &Path, command: &[&str]) -> Running {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let output = folder.join(format!("output-{port}"));
        let file = std::fs::File::create(&output).unwrap();
        let mut started = Command::new(command[0]);
        started.args(&command[1..]).current_dir(folder).env("PORT", port.to_string());
        started.env("PATH", format!("{}/node_modules/.bin:{}", folder.display(), std::env::var("PATH").unwrap()));
        started.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        Running { child: started.spawn().unwrap(), port, output }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// What the app answers through the edge.
    fn answer(&mut self) -> String {
        let start = Instant::now();
        loop {
            if let Some(body) = get(self.port) {
                return body;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("it ended with {status}:\n{}", self.said());
            }
            assert!(start.elapsed() < BOUND, "no answer:\n{}", self.said());
            pause();
        }
    }

    fn signal(&self, signal: &str) {
        run(Command::new("kill").args([signal, &self.child.id().to_string()]));
    }

    fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < BOUND, "it does not end:\n{}", self.said());
            pause();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its whole group: under npx the binary is a grandchild, and ends its own instances when it is told to.
        let _ =
            Command::new("kill").args(["-TERM", "--", &format!("-{}", self.child.id())]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(BOUND)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.starts_with("HTTP/1.1 200").then(|| text.rsplit("\r\n").next().unwrap_or_default().to_owned())
}

#[track_caller]
fn is_gone(pid: &str) {
    let start = Instant::now();
    while Path::new("/proc").join(pid).exists() {
        assert!(start.elapsed() < BOUND, "process {pid} lives on");
        pause();
    }
}

/// One test, as packing and installing takes longer than everything that is looked at.
#[test]
fn npx_mainstay_run_npm_start_works_from_the_packed_tarballs() {
    let folder = project();
    npx_serves_and_drains(&folder);
    signals_exit_codes_and_deaths_are_passed_on(&folder);
}

fn npx_serves_and_drains(folder: &Folder) {
    let mut running = Running::start(&folder.0, &["npx", "--offline", "mainstay", "run", "--", "npm", "start"]);
    let answer = running.answer();
    let app = answer.strip_prefix("app ").expect("the app's own answer").to_owned();
    running.signal("-TERM");
    running.end();
    is_gone(&app);
    assert!(get(running.port).is_none(), "the edge goes on:\n{}", running.said());
    let schema = folder.0.join("node_modules/mainstay/mainstay.schema.json");
    let _: serde_json::Value = serde_json::from_slice(&std::fs::read(schema).unwrap()).unwrap();
    let init = run(Command::new("npx").args(["--offline", "mainstay", "init", "--print"]).current_dir(&folder.0));
    assert!(init.starts_with("#:schema ./node_modules/mainstay/mainstay.schema.json\n"), "{init}");
}

fn signals_exit_codes_and_deaths_are_passed_on(folder: &Folder) {
    let shim = folder.0.join("node_modules/.bin/mainstay");
    let code = |words: &[&str]| Command::new(&shim).args(words).current_dir(&folder.0).output().unwrap().status.code();
    assert_eq!(code(&["--version"]), Some(0));
    assert_eq!(code(&["check", "--file", "gone.toml"]), Some(78));
    assert_eq!(code(&["frobnicate"]), Some(2));
    for signal in ["-TERM", "-INT"] {
        let mut running = Running::start(&folder.0, &["mainstay", "run", "--", "node", "server.js"]);
        let app = running.answer();
        running.signal(signal);
        assert_eq!(running.end().code(), Some(0), "{}", running.said());
        is_gone(&app["app ".len()..]);
    }
    let mut running = Running::start(&folder.0, &["mainstay", "run", "--", "node", "server.js"]);
    let app = running.answer();
    let children = format!("/proc/{0}/task/{0}/children", running.child.id());
    let binary = std::fs::read_to_string(children).unwrap().trim().to_owned();
    run(Command::new("kill").args(["-KILL", &binary]));
    assert_eq!(running.end().signal(), Some(9), "{}", running.said());
    is_gone(&app["app ".len()..]);
}
