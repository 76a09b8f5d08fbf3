//! Debian's pebble, the test authority of Let's Encrypt, with its own names server: every name leads to 127.0.0.1.

use crate::curl;
use crate::ports::Port;
use crate::wait::wait_until;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// How it is to behave.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Percent of good nonces it refuses.
    pub bad_nonces: u32,
    /// Life of what it issues.
    pub life_s: u64,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner { bad_nonces: 0, life_s: 90 * 24 * 3600 }
    }
}

/// A running authority; it ends when dropped, and forgets everything.
#[derive(Debug)]
pub struct Pebble {
    folder: TempDir,
    children: Vec<Child>,
    port: Port,
    management: Port,
    http: u16,
    tls: u16,
    names: Port,
    names_management: Port,
}

impl Pebble {
    /// Ports are chosen, its own certificate is made, nothing runs yet. It will look for answers on these two ports.
    pub fn prepared(http: u16, tls: u16) -> Pebble {
        let folder = tempfile::tempdir().expect("a folder for pebble");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("make a certificate");
        std::fs::write(folder.path().join("own.pem"), made.cert.pem()).expect("write");
        std::fs::write(folder.path().join("own.key"), made.signing_key.serialize_pem()).expect("write");
        let [port, management, names, names_management] = [(); 4].map(|()| Port::free());
        Pebble { folder, children: Vec::new(), port, management, http, tls, names, names_management }
    }

    pub fn started(http: u16, tls: u16, manner: &Manner) -> Pebble {
        let mut pebble = Pebble::prepared(http, tls);
        pebble.start(manner);
        pebble
    }

    pub fn start(&mut self, manner: &Manner) {
        let path = |name: &str| self.folder.path().join(name);
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.port.number),
            "managementListenAddress": format!("127.0.0.1:{}", self.management.number),
            "certificate": path("own.pem"), "privateKey": path("own.key"),
            "httpPort": self.http, "tlsPort": self.tls, "certificateValidityPeriod": manner.life_s,
        }});
        std::fs::write(path("pebble.json"), config.to_string()).expect("write");
        let log = std::fs::File::options().create(true).append(true).open(path("log")).expect("a log");
        let names = format!("127.0.0.1:{}", self.names.number);
        let mut server = Command::new("pebble-challtestsrv");
        server.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "", "-dns01", &names]);
        server.args(["-management", &format!("127.0.0.1:{}", self.names_management.number)]);
        let mut authority = Command::new("pebble");
        authority.arg("-config").arg(path("pebble.json")).args(["-dnsserver", &names]);
        authority.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        authority.env("PEBBLE_WFE_NONCEREJECT", manner.bad_nonces.to_string());
        for mut command in [server, authority] {
            let log = || Stdio::from(log.try_clone().expect("the log twice"));
            command.stdin(Stdio::null()).stdout(log()).stderr(log());
            self.children.push(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")));
        }
        wait_until("pebble to answer", || curl(&["-k", &self.directory()]).status == 200);
    }

    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port.number)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port.number))
    }

    /// Lines of `[edge.acme]` that lead here.
    pub fn lines(&self) -> String {
        format!("directory = [\"{}\"]\nca = \"{}\"\n", self.directory(), self.own_root().display())
    }

    /// What its own server is to be believed by.
    pub fn own_root(&self) -> PathBuf {
        self.folder.path().join("own.pem")
    }

    /// The root of what it issues, as a file.
    pub fn root(&self) -> PathBuf {
        let answer = curl(&["-k", &format!("https://127.0.0.1:{}/roots/0", self.management.number)]);
        assert_eq!(answer.status, 200, "{answer:?}");
        let path = self.folder.path().join("root.pem");
        std::fs::write(&path, &answer.body).expect("write");
        path
    }

    /// What it knows of a certificate: `Status`, and `Reason` where it was revoked. `serial` as `list` prints it.
    pub fn status(&self, serial: &str) -> serde_json::Value {
        let serial = serial.replace(':', "");
        let url = format!("https://127.0.0.1:{}/cert-status-by-serial/{serial}", self.management.number);
        let answer = curl(&["-k", &url]);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// It is away, and has forgotten everything when it is started again.
    pub fn stop(&mut self) {
        for mut child in self.children.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Orders that were asked for.
    pub fn orders(&self) -> usize {
        self.log().matches("POST /order-plz").count()
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what pebble said ---\n{}", self.log());
        }
        self.stop();
    }
}
