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

/// A Redis, or something like it, that gives one answer to whatever is asked.
fn redis_like(answer: &'static [u8]) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            std::thread::spawn(move || {
                let mut asked = [0; 4096];
                while client.read(&mut asked).is_ok_and(|read| read > 0) && client.write_all(answer).is_ok() {}
            });
        }
    });
    redis_at(port, "")
}

fn redis_at(port: u16, login: &str) -> Target {
    let environment = vec![("REDIS_URL".to_owned(), format!("redis://{login}127.0.0.1:{port}"))];
    let inputs = mainstay_config::Inputs { environment, ..mainstay_config::Inputs::default() };
    let reader = mainstay_config::Reader::new(&inputs);
    Target::Redis(Box::new(mainstay_store::redis::Options::read(&reader).expect("an address")))
}

async fn asked(target: Target, within: Duration) -> ServiceState {
    let Target::Redis(options) = target else { panic!("{target:?}") };
    redis(Watched::Redis, &options, within).await
}

#[tokio::test]
async fn redis_is_ok_once_it_has_let_us_in_and_answered() {
    for (answer, expected) in [
        (&b"+PONG\r\n"[..], "ok"),
        // We have no password, the app may have one.
        (b"-NOAUTH Authentication required.\r\n", "unknown"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "unavailable"),
        (b"-DENIED Redis is running in protected mode\r\n", "unavailable"),
        (b"HTTP/1.1 400 Bad Request\r\n", "unavailable"),
        (b"\r\n", "unavailable"),
        (b"\xff\xfe\n", "unavailable"),
    ] {
        let state = asked(redis_like(answer), LONG).await;
        assert_eq!(state.status.as_str(), expected, "{answer:?}");
        assert_eq!(state.latency_ms.is_some(), state.status == Status::Ok);
    }
    let Place::Tcp { port, .. } = nobody() else { panic!("an address") };
    assert_eq!(asked(redis_at(port, ""), LONG).await.status, Status::Unavailable);
    let Place::Tcp { port, .. } = server(4096, b"") else { panic!("an address") };
    assert_eq!(asked(redis_at(port, ""), SHORT).await.status, Status::Unavailable);
    // A password that it does not take is nobody's: the app is not let in either.
    let wrong = redis_like(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    let Target::Redis(mut options) = wrong else { panic!("an address") };
    options.password = Some(mainstay_store::redis::Secret("x".to_owned()));
    assert_eq!(asked(Target::Redis(options), LONG).await.status, Status::Unavailable);
}

#[tokio::test]
async fn a_redis_whose_certificate_is_not_believed_is_told_no_password_and_is_unknown() {
    let (place, _) = tls_server(None, b"+PONG\r\n");
    let Place::Tcp { port, .. } = place else { panic!("an address") };
    let environment = vec![("REDIS_URL".to_owned(), format!("rediss://:secret@localhost:{port}"))];
    let inputs = mainstay_config::Inputs { environment, ..mainstay_config::Inputs::default() };
    let options = mainstay_store::redis::Options::read(&mainstay_config::Reader::new(&inputs)).expect("an address");
    assert_eq!(redis(Watched::Redis, &options, LONG).await.status, Status::Unknown);
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
async fn of_several_places_the_first_that_answers_is_enough() {
    let (last, asked) = counting_server(8, b"N");
    let silent = server(9, b"");
    assert_eq!(status(Question::Postgres, vec![nobody(), last.clone(), silent], LONG).await, "ok");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(status(Question::Postgres, vec![nobody(), nobody()], LONG).await, "unavailable");
    assert_eq!(status(Question::Postgres, vec![], LONG).await, "unknown");
    let mut many = vec![nobody(); PLACES_MAX];
    many.push(last);
    assert_eq!(status(Question::Postgres, many, LONG).await, "unavailable");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unavailable() {
    let place = Place::Tcp { host: "nowhere.invalid".to_owned(), port: 1 };
    assert_eq!(status(Question::Postgres, vec![place], LONG).await, "unavailable");
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
    let (place, asked) = counting_server(8, b"N");
    let options = Options { database: Target::Ask(Question::Postgres, vec![place]), ..Options::default() };
    let (_service, handle) = Service::new(options.clone());
    let database = |services: Vec<ServiceState>| services[0].status;
    assert_eq!(database(handle.services()), Status::Unknown);
    assert_eq!(database(handle.check().await), Status::Ok);
    assert_eq!(database(handle.services()), Status::Ok);
    handle.reload(options);
    assert_eq!(database(handle.services()), Status::Ok, "nothing changed");
    handle.reload(Options { database: Target::Opaque, ..Options::default() });
    assert_eq!(database(handle.services()), Status::Unknown);
    handle.reload(Options::default());
    assert_eq!(database(handle.check().await), Status::NotConfigured);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_service_asks_at_once_and_ends_when_told() {
    let (place, _) = counting_server(8, b"N");
    let options = Options { database: Target::Ask(Question::Postgres, vec![place]), ..Options::default() };
    let (service, handle) = Service::new(options);
    let (trigger, shutdown) = Shutdown::new();
    let watching = async {
        while handle.services()[0].status != Status::Ok {
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
        ServiceState { latency_ms: Some(1.0), ..ServiceState::new(Watched::Database, Status::Ok) },
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
