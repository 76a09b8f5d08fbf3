//! testssl.sh against the edge, with a certificate by ACME and with one that is given as files: what it finds is
//! either mended or is what a test authority cannot have.

use crate::certificates::House;
use mainstay_e2e::peer::answer;
use mainstay_e2e::ports::Port;
use mainstay_e2e::{Manner, Peer, Setup, wait_until};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// A whole run takes a minute or two, and several where others work on the same machine.
const LIMIT_S: &str = "540";

/// So often it looks again for tickets.
const LOOKS_AT_TICKETS_MAX: u32 = 5;

/// What testssl.sh says of itself, whatever it looks at.
const ITSELF: &[(&str, &str)] = &[("engine_problem", "Debian's openssl has no GOST, which nothing here needs")];
/// What pebble's certificates cannot have.
const PEBBLE: &[(&str, &str)] =
    &[("cert_revocation", "pebble names neither a list of revoked certificates nor a responder")];

/// An app that answers as apps do: a page that may be compressed, and a date.
fn app() -> Peer {
    Peer::with(|_, out| {
        let fields = [("content-type", "text/html"), ("date", "Sat, 21 Nov 2026 12:00:00 GMT")];
        answer(out, 200, &fields, "<p>hello</p>".repeat(500).as_bytes())
    })
}

/// Everything of medium severity or worse, and everything it could not look at.
///
/// `sections`: what it looks at; all there is if none is named.
fn findings(folder: &Path, port: u16, root: &Path, sections: &[&str]) -> Vec<Value> {
    let (said, mut found) = look(folder, port, root, sections);
    assert!(said.contains("Testing vulnerabilities") && said.contains("TLS 1.3"), "it did not look at all:\n{said}");
    for _ in 0..LOOKS_AT_TICKETS_MAX {
        if !found.iter().any(left_before_the_ticket) {
            break;
        }
        found.retain(|one| !left_before_the_ticket(one));
        let (_, again) = look(folder, port, root, &["-S"]);
        found.extend(again.into_iter().filter(left_before_the_ticket));
    }
    found
}

/// Its openssl has nothing to say and goes as soon as it has been let in, in one of some hundred times before the
/// ticket has come, which with TLS 1.3 follows the handshake. Then there is nothing to come back with.
fn left_before_the_ticket(one: &Value) -> bool {
    one["id"] == "sessionresumption_ticket" && one["finding"] == "check failed because of connect problem"
}

/// What it says, and what it reports.
fn look(folder: &Path, port: u16, root: &Path, sections: &[&str]) -> (String, Vec<Value>) {
    let report = folder.join("testssl.json");
    // It would not write where something is.
    let _ = std::fs::remove_file(&report);
    let output = Command::new("timeout")
        .args(["-k", "5", LIMIT_S, "testssl", "--severity", "MEDIUM", "--warnings", "off", "--color", "0", "--quiet"])
        // No name is looked up, nobody elsewhere is asked.
        .args(["--nodns", "none", "--ip", "127.0.0.1", "--add-ca"])
        .arg(root)
        .arg("--jsonfile")
        .arg(&report)
        .args(sections)
        .arg(format!("https://api.example.com:{port}/"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("run testssl");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(" Done 20"), "it did not come to its end:\n{said}");
    let text = std::fs::read_to_string(&report).expect("its report");
    let found = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    (said, found)
}

#[track_caller]
fn nothing_but(found: &[Value], known: &[&[(&str, &str)]]) {
    let known: Vec<&(&str, &str)> = known.iter().flat_map(|list| list.iter()).collect();
    let told = |one: &&Value| known.iter().any(|(id, _)| one["id"] == *id);
    let (expected, rest): (Vec<&Value>, Vec<&Value>) = found.iter().partition(told);
    for one in expected {
        let reason = known.iter().find(|(id, _)| one["id"] == *id).map_or("", |(_, reason)| reason);
        println!("{}: {} ({reason})", one["id"], one["finding"]);
    }
    assert!(rest.is_empty(), "testssl.sh found: {rest:#?}");
}

/// An authority as public ones are: RSA, and a leaf that says where revoked ones are listed.
const FILES: &str = "set -e
openssl req -x509 -newkey rsa:2048 -nodes -days 300 -subj '/O=test/CN=test root' -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=api.example.com -keyout leaf.key -out leaf.csr
printf 'subjectAltName=DNS:api.example.com\\nextendedKeyUsage=serverAuth\\nbasicConstraints=CA:FALSE\\n' > leaf.ext
printf 'keyUsage=digitalSignature\\ncrlDistributionPoints=URI:http://crl.example.com/a.crl\\n' >> leaf.ext
openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 0x4711081547110815471108154711 -sha256 \\
  -days 89 -extfile leaf.ext -out leaf.pem
cat leaf.pem ca.pem > chain.pem
";

/// E7: with a certificate by ACME (ECDSA), everything; with given files (RSA), what differs.
#[test]
fn e7_testssl_finds_nothing_but_what_a_test_authority_cannot_have() {
    std::thread::scope(|scope| {
        let ordered = scope.spawn(|| {
            let house = House { peer: app(), ..House::new() };
            let pebble = house.pebble(&Manner::default());
            let acme = format!("{}\n[edge.headers]\nsecure = true\n", pebble.lines());
            let mainstay = house.started("domains = [\"api.example.com\"]\nhsts = \"365d\"", &acme);
            let root = pebble.root();
            wait_until("the certificate", || house.over_tls("api.example.com", &root, &[]).status == 200);
            findings(mainstay.path(), house.tls.number, &root, &[])
        });
        let given = scope.spawn(|| {
            let (peer, tls) = (app(), Port::free());
            let text = format!(
                "{}[edge]\nlisten = [{{ at = \"127.0.0.1:{}\", tls = true }}]\nhsts = \"365d\"\n\
                 [edge.headers]\nsecure = true\n[tls.\"api.example.com\"]\ncert = \"chain.pem\"\nkey = \"leaf.key\"\n",
                crate::support::in_front_of(&[&peer]),
                tls.number
            );
            let setup = Setup::file(&text).without_port();
            let made = Command::new("sh").arg("-c").arg(FILES).current_dir(setup.path()).output().expect("a shell");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let mainstay = setup.spawn();
            wait_until("the TLS listener", || std::net::TcpStream::connect(("127.0.0.1", tls.number)).is_ok());
            // What depends on the certificate, and the vulnerabilities.
            let sections = ["-p", "-s", "-f", "-P", "-S", "-U"];
            findings(mainstay.path(), tls.number, &mainstay.path().join("ca.pem"), &sections)
        });
        let ordered = ordered.join().expect("the first run");
        nothing_but(&given.join().expect("the second run"), &[ITSELF]);
        nothing_but(&ordered, &[ITSELF, PEBBLE]);
    });
}
