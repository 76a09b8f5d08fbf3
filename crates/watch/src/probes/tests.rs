//! Each question against private servers that answer, refuse, hang or talk nonsense.

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A wait that must not end by itself within a test.
const LONG: Duration = Duration::from_secs(30);
/// For servers that never answer: how long is of no matter, that it ends is.
const SHORT: Duration = Duration::from_millis(200);

/// A server on a free port: reads `expects` bytes from each client, answers, and waits for it to leave.
fn server(expects: usize, answer: &'static [u8]) -> Place {
    let (place, _count) = counting_server(expects, answer);
    place
}

fn counting_server(expects: usize, answer: &'static [u8]) -> (Place, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            let mut asked = vec![0; expects];
            if client.read_exact(&mut asked).is_ok() && client.write_all(answer).is_ok() {
                let _ = client.read_to_end(&mut asked);
            }
        }
    });
    (Place::Tcp { host: "127.0.0.1".to_owned(), port }, count)
}

/// A port that refuses: it is held, so that nobody else gets it, and nobody listens.
fn nobody() -> Place {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    std::mem::forget(socket);
    Place::Tcp { host: "127.0.0.1".to_owned(), port }
}

async fn status(question: Question, places: Vec<Place>, within: Duration) -> &'static str {
    let (status, latency) = ask(&Target::Ask(question, places), within).await;
    assert_eq!(latency.is_some(), status == Status::Ok, "a latency where there was an answer, and only there");
    assert!(latency.is_none_or(|ms| ms >= 0.0));
    status.as_str()
}

#[tokio::test]
async fn postgres_is_known_by_its_answer_to_sslrequest() {
    for (answer, expected) in
        [(&b"N"[..], "ok"), (b"E", "unavailable"), (b"H", "unavailable"), (b"HTTP/1.1 400", "unavailable")]
    {
        assert_eq!(status(Question::Postgres, vec![server(8, answer)], LONG).await, expected, "{answer:?}");
    }
    assert_eq!(status(Question::Postgres, vec![nobody()], LONG).await, "unavailable");
    assert_eq!(status(Question::Postgres, vec![server(8, b"")], SHORT).await, "unavailable");
}

#[tokio::test]
async fn postgres_over_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("mainstay-watch-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    std::thread::spawn(move || {
        if let Ok((mut client, _)) = listener.accept() {
            let mut asked = [0; 8];
            let _ = client.read_exact(&mut asked).and_then(|()| client.write_all(b"N"));
        }
    });
    assert_eq!(status(Question::Postgres, vec![Place::Unix(path.clone())], LONG).await, "ok");
    let _ = std::fs::remove_file(&path);
    assert_eq!(status(Question::Postgres, vec![Place::Unix(path)], LONG).await, "unavailable");
}

#[tokio::test]
async fn postgres_with_tls_gets_a_whole_handshake_and_a_close() {
    let (place, ended) = tls_server(Some((8, b"S")), b"");
    assert_eq!(status(Question::Postgres, vec![place], LONG).await, "ok");
    assert_eq!(ended.recv_timeout(LONG).as_deref(), Ok("closed"));
}

#[tokio::test]
async fn redis_answers_ping_with_or_without_a_password() {
    for (answer, expected) in [
        (&b"+PONG\r\n"[..], "ok"),
        (b"-NOAUTH Authentication required.\r\n", "ok"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "unavailable"),
        (b"-DENIED Redis is running in protected mode\r\n", "unavailable"),
        (b"HTTP/1.1 400 Bad Request\r\n", "unavailable"),
        (b"\r\n", "unavailable"),
        (b"\xff\xfe\n", "unavailable"),
    ] {
        assert_eq!(status(Question::Redis, vec![server(6, answer)], LONG).await, expected, "{answer:?}");
    }
    let endless: &'static [u8] = Box::leak(vec![b'x'; 4 * ANSWER_BYTES_MAX].into_boxed_slice());
    assert_eq!(status(Question::Redis, vec![server(6, endless)], LONG).await, "unavailable");
    assert_eq!(status(Question::Redis, vec![nobody()], LONG).await, "unavailable");
    assert_eq!(status(Question::Redis, vec![server(7, b"")], SHORT).await, "unavailable");
}

#[tokio::test]
async fn redis_over_tls_is_asked_inside_it() {
    let (place, _) = tls_server(None, b"+PONG\r\n");
    assert_eq!(status(Question::RedisTls, vec![place], LONG).await, "ok");
    // A handshake alert (40, fatal): it speaks TLS and wants something we do not have.
    let alert = server(1, &[21, 3, 3, 0, 2, 2, 40]);
    assert_eq!(status(Question::RedisTls, vec![alert], LONG).await, "unknown");
    assert_eq!(status(Question::RedisTls, vec![server(1, b"-ERR plain\r\n")], LONG).await, "unavailable");
}

#[tokio::test]
async fn mail_is_known_by_its_greeting() {
    for (answer, expected) in [
        (&b"220 mail.example.com ESMTP\r\n"[..], "ok"),
        (b"220-mail.example.com\r\n220 ready\r\n", "ok"),
        (b"421 too busy\r\n", "unavailable"),
        (b"2200 \r\n", "unavailable"),
    ] {
        assert_eq!(status(Question::Smtp, vec![server(0, answer)], LONG).await, expected, "{answer:?}");
    }
}

#[tokio::test]
async fn of_a_cluster_the_first_that_answers_is_enough() {
    let (last, asked) = counting_server(6, b"+PONG\r\n");
    let silent = server(7, b"");
    assert_eq!(status(Question::Redis, vec![nobody(), last.clone(), silent], LONG).await, "ok");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(status(Question::Redis, vec![nobody(), nobody()], LONG).await, "unavailable");
    assert_eq!(status(Question::Redis, vec![], LONG).await, "unknown");
    let mut many = vec![nobody(); PLACES_MAX];
    many.push(last);
    assert_eq!(status(Question::Redis, many, LONG).await, "unavailable");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unavailable() {
    let place = Place::Tcp { host: "nowhere.invalid".to_owned(), port: 1 };
    assert_eq!(status(Question::Redis, vec![place], LONG).await, "unavailable");
}

#[tokio::test]
async fn what_is_not_asked_says_so() {
    for (target, expected) in [
        (Target::NotConfigured, Status::NotConfigured),
        (Target::Configured, Status::Configured),
        (Target::Opaque, Status::Unknown),
    ] {
        assert_eq!(ask(&target, LONG).await, (expected, None));
    }
}

#[tokio::test]
async fn the_handle_knows_nothing_before_it_asks_and_forgets_at_a_reload() {
    let (place, asked) = counting_server(6, b"+PONG\r\n");
    let options = Options { redis: Target::Ask(Question::Redis, vec![place]), ..Options::default() };
    let (_service, handle) = Service::new(options.clone());
    let redis = |services: Vec<ServiceState>| services[1].status;
    assert_eq!(redis(handle.services()), Status::Unknown);
    assert_eq!(redis(handle.check().await), Status::Ok);
    assert_eq!(redis(handle.services()), Status::Ok);
    handle.reload(options);
    assert_eq!(redis(handle.services()), Status::Ok, "nothing changed");
    handle.reload(Options { redis: Target::Opaque, ..Options::default() });
    assert_eq!(redis(handle.services()), Status::Unknown);
    handle.reload(Options::default());
    assert_eq!(redis(handle.check().await), Status::NotConfigured);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_service_asks_at_once_and_ends_when_told() {
    let (place, _) = counting_server(6, b"+PONG\r\n");
    let options = Options { redis: Target::Ask(Question::Redis, vec![place]), ..Options::default() };
    let (service, handle) = Service::new(options);
    let (trigger, shutdown) = Shutdown::new();
    let watching = async {
        while handle.services()[1].status != Status::Ok {
            tokio::task::yield_now().await;
        }
        trigger.request();
    };
    let both = async { tokio::join!(service.run(shutdown), watching) };
    timeout(LONG, both).await.expect("asked and ended within 30 s");
}

#[test]
fn an_old_answer_is_unknown() {
    let services = vec![
        ServiceState { service: Watched::Database, status: Status::Ok, latency_ms: Some(1.0) },
        ServiceState::new(Watched::Redis, Status::NotConfigured),
        ServiceState::new(Watched::Email, Status::Unavailable),
    ];
    let round = Round { began: Some(Millis(1000)), services: services.clone() };
    assert_eq!(at(Millis(31_000), &round), services);
    let words: Vec<_> = at(Millis(31_001), &round).iter().map(|s| (s.status.as_str(), s.latency_ms)).collect();
    assert_eq!(words, [("unknown", None), ("not_configured", None), ("unknown", None)]);
}

/// A TLS server for one client: first a plain exchange if wanted, then the handshake, then an answer. Reports how it
/// ended: `closed` is a proper close_notify, as Postgres wants it.
fn tls_server(
    first: Option<(usize, &'static [u8])>,
    answer: &'static [u8],
) -> (Place, std::sync::mpsc::Receiver<&'static str>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a server configuration");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, ended) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        if let Some((expects, answer)) = first {
            let mut asked = vec![0; expects];
            client.read_exact(&mut asked).expect("the plain question");
            client.write_all(answer).expect("the plain answer");
        }
        let session = rustls::ServerConnection::new(Arc::new(config)).expect("a session");
        let mut stream = rustls::StreamOwned::new(session, client);
        let _ = stream.write_all(answer);
        let mut rest = Vec::new();
        let _ = tell.send(if stream.read_to_end(&mut rest).is_ok() { "closed" } else { "cut" });
    });
    (Place::Tcp { host: "localhost".to_owned(), port }, ended)
}
