//! Certificates that are given as files, and those of the local authority.

use crate::certificates::{House, listed};
use crate::http2::certificate;
use crate::support::in_front_of;
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Peer, Setup, curl, get, processes, wait_until};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file that is gone when a server is replaced takes its own host down and no other.
#[test]
fn e16_a_lost_certificate_file_keeps_no_new_server_from_serving_the_others() {
    let (peer, tls) = (Peer::labelled("app"), Port::free());
    let file = format!(
        "{}[edge]\nlisten = [{{ at = \"127.0.0.1:{}\", tls = true }}]\n\
         [tls.\"a.example.com\"]\ncert = \"a.pem\"\nkey = \"a.key\"\n\
         [tls.\"b.example.com\"]\ncert = \"b.pem\"\nkey = \"b.key\"\n",
        in_front_of(&[&peer]),
        tls.number
    );
    let setup = Setup::file(&file).without_port();
    certificate(setup.path(), "a", "a.example.com");
    certificate(setup.path(), "b", "b.example.com");
    let mainstay = setup.spawn();
    let get = |name: &str| {
        let host = format!("{name}.example.com");
        let root = mainstay.path().join(format!("{name}.pem"));
        let resolve = format!("{host}:{}:127.0.0.1", tls.number);
        let url = format!("https://{host}:{}/", tls.number);
        curl(&["--cacert", root.to_str().expect("a path"), "--resolve", &resolve, &url])
    };
    wait_until("both hosts", || get("a").status == 200 && get("b").status == 200);
    let kept = std::fs::read(mainstay.path().join("a.pem")).expect("read");
    let server = mainstay.server();
    std::fs::remove_file(mainstay.path().join("a.pem")).expect("remove");
    processes::signal(server, Signal::SIGKILL);
    wait_until("a new server", || mainstay.find_server().is_some_and(|pid| pid != server));
    wait_until("the other host", || get("b").status == 200);
    mainstay.says("its host gets a stand-in");
    assert!(mainstay.said().contains("mainstay.toml:5"), "{}", mainstay.said());
    std::fs::write(mainstay.path().join("a.pem"), kept).expect("write");
    wait_until("the host whose file is back", || get("a").status == 200);
    assert_eq!(get("b").status, 200);
}

/// E7: local names get a certificate of the local authority, which vouches for nothing else.
#[test]
fn e7_local_names_are_served_by_the_local_authority() {
    let house = House::new();
    let mainstay = house.started("domains = [\"shop.test app.localhost\"]\n[edge.tls]\nlocal = true", "");
    let told = mainstay.verb(&["certificates", "trust"]).ok();
    let root = mainstay.path().join(".mainstay/certificates/local/root.pem");
    assert!(told.contains("certificates/local/root.pem") && root.exists(), "{told}");
    for host in ["shop.test", "localhost", "app.localhost"] {
        assert_eq!(house.over_tls(host, &root, &[]).text(), "app", "{host}");
    }
    let bare = format!("https://127.0.0.1:{}/", house.tls.number);
    let root_path = root.to_str().expect("a path");
    assert_eq!(curl(&["--cacert", root_path, &bare]).text(), "app");
    assert_eq!(house.plainly("shop.test", "/x", &[]).text(), "app", "local names are not sent to HTTPS");
    assert!(listed(&mainstay).iter().all(|one| one["source"] == "local" && one["outlook"] == "good"));
    mainstay.verb(&["certificates", "renew", "shop.test"]).ok();
    assert_eq!(house.over_tls("shop.test", &root, &[]).text(), "app", "the root must stay");
}

#[test]
fn e7_an_ocsp_answer_is_stapled_where_the_certificate_names_a_responder() {
    let (peer, tls, port) = (Peer::labelled("app"), Port::free(), Port::free());
    let file = format!(
        "{}[edge]\nlisten = [{{ at = \"127.0.0.1:{}\", tls = true }}]\n\
         [tls.\"a.example.com\"]\ncert = \"chain.pem\"\nkey = \"leaf.key\"\n",
        in_front_of(&[&peer]),
        tls.number
    );
    let setup = Setup::file(&file).without_port();
    let _responder = Responder::new(setup.path(), port.number);
    let mainstay = setup.spawn();
    let stapled = || {
        let text = s_client(tls.number, &["-status", "-servername", "a.example.com"]);
        text.contains("OCSP Response Status: successful") && text.contains("Cert Status: good")
    };
    wait_until("an answer in the handshake", stapled);
    assert_eq!(listed(&mainstay)[0]["is_stapled"], true);
    let check = mainstay.verb(&["certificates", "check"]).ok();
    assert!(check.contains("stapling") && check.contains("is stapled"), "{check}");
}

/// E8: the end of a certificate is told of in time, also where somebody else renews it.
#[test]
fn e8_a_certificate_near_its_end_is_warned_of() {
    let (peer, tls, plain) = (Peer::labelled("app"), Port::free(), Port::free());
    let file = format!(
        "{}[edge]\nlisten = [\"127.0.0.1:{}\", {{ at = \"127.0.0.1:{}\", tls = true }}]\n\
         [tls.\"a.example.com\"]\ncert = \"a.pem\"\nkey = \"a.key\"\n",
        in_front_of(&[&peer]),
        plain.number,
        tls.number
    );
    let setup = Setup::file(&file).without_port();
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec!["a.example.com".to_owned()]).expect("a name");
    let day = Duration::from_secs(24 * 3600);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    (params.not_before, params.not_after) = (epoch + (now - day * 80), epoch + (now + day * 10 + day / 2));
    std::fs::write(setup.path().join("a.pem"), params.self_signed(&key).expect("signed").pem()).expect("write");
    std::fs::write(setup.path().join("a.key"), key.serialize_pem()).expect("write");
    let mainstay = setup.spawn();
    mainstay.says("a certificate expires soon");
    let list = listed(&mainstay);
    assert!(list[0]["outlook"] == "expires_soon" && list[0]["days_left"] == 10, "{list:?}");
    let health = mainstay.verb(&["health"]);
    assert_eq!(health.code, Some(1), "{}", health.all());
    assert!(health.all().contains("the next expires in 10 days"), "{}", health.all());
    let detailed = get(&format!("http://127.0.0.1:{}/.mainstay/health/detailed", plain.number)).json();
    assert_eq!(detailed["certificates"], serde_json::json!({ "status": "degraded", "count": 1, "expiresInDays": 10 }));
}

/// `openssl s_client`, everything it prints.
fn s_client(port: u16, more: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("run openssl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// openssl's own responder, for a leaf that names it.
struct Responder(Child);

impl Responder {
    fn new(folder: &Path, port: u16) -> Responder {
        let script = format!(
            "set -e\n\
             openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=test-root \
             -keyout ca.key -out ca.pem\n\
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=a.example.com -keyout leaf.key \
             -out leaf.csr\n\
             printf 'subjectAltName=DNS:a.example.com\\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:{port}\\n' \
             > leaf.ext\n\
             openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 4711 -days 20 -extfile leaf.ext \
             -out leaf.pem\n\
             cat leaf.pem ca.pem > chain.pem\n\
             printf 'V\\t400101000000Z\\t\\t1267\\tunknown\\t/CN=a.example.com\\n' > index.txt\n"
        );
        let made = Command::new("sh").arg("-c").arg(script).current_dir(folder).output().expect("run a shell");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log =
            || std::fs::File::options().create(true).append(true).open(folder.join("responder.log")).expect("a log");
        let child = Command::new("openssl")
            .args(["ocsp", "-index", "index.txt", "-port", &port.to_string(), "-rsigner", "ca.pem", "-rkey", "ca.key"])
            .args(["-CA", "ca.pem", "-nmin", "60"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .spawn()
            .expect("openssl's responder");
        // It takes one connection at a time and waits for ever for a question: none may be made to see it there.
        let said = || std::fs::read_to_string(folder.join("responder.log")).unwrap_or_default();
        wait_until("the responder", || said().contains("waiting for"));
        Responder(child)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
