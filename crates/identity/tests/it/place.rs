//! A service with its store, and the part of the edge that tests need: whom a token speaks of.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use mainstay_config::{Inputs, Reader, Text};
use mainstay_identity::accounts::{Accounts, Kept, MAILS_MAX, MIGRATIONS, Mail};
use mainstay_identity::exchange::{Answer, Asked};
use mainstay_identity::sessions::{self, Sessions};
use mainstay_identity::{Options, Revoked, Service, Setup, Signer, TokenFault, Verified, Verifier};
use mainstay_runtime::Clock;
use mainstay_servers::PgBouncer;
use mainstay_servers::postgres::Postgres as Server;
use mainstay_store::Durable;
use mainstay_store::journal::{self, Journal, Notes, Query};
use mainstay_store::postgres::{self, Postgres};
use mainstay_store::redis::Redis;
use mainstay_store::sqlite::Sqlite;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc;

pub const PASSWORD: &str = "correct horse battery";

/// Where accounts are kept.
pub enum Place {
    File(tempfile::TempDir),
    Server(Server),
    Pooled(PgBouncer),
}

impl Place {
    pub fn all() -> [Place; 3] {
        let file = Place::File(tempfile::tempdir().expect("a folder"));
        [file, Place::Server(Server::plain()), Place::Pooled(PgBouncer::plain())]
    }

    pub async fn open(&self) -> Durable {
        let blocks = [journal::MIGRATIONS, sessions::MIGRATIONS, MIGRATIONS];
        let url = match self {
            Place::File(folder) => {
                return Durable::Sqlite(Sqlite::open(&folder.path().join("x.db"), &blocks).expect("a store"));
            }
            Place::Server(server) => server.url(),
            Place::Pooled(bouncer) => bouncer.url(),
        };
        let environment = vec![("DATABASE_URL".to_owned(), url)];
        let reader = Reader::new(&Inputs { environment, ..Inputs::default() });
        let options = postgres::Options::read(&reader, true).expect("an address");
        Durable::Postgres(Postgres::open(&options, &blocks).await.expect("a store"))
    }

    /// Runs `test` with a service of its own, `lines` beside `accounts = true`.
    pub fn with<F: AsyncFnOnce(&House)>(&self, lines: &str, test: F) {
        on_a_core(async {
            let keys = tempfile::tempdir().expect("a folder");
            let signer = Signer::of(keys.path());
            signer.open().expect("a key");
            let house = House::new(self, lines, Arc::new(signer)).await;
            tokio::select! {
                () = house.service.upkeep() => unreachable!("it never ends"),
                () = async { house.loaded().await; test(&house).await } => {}
            }
            house.durable.close().await;
        });
    }
}

pub fn each<F: AsyncFn(&House)>(lines: &str, test: F) {
    for place in Place::all() {
        place.with(lines, async |house: &House| test(house).await);
    }
}

pub fn on_a_core<T>(work: impl Future<Output = T>) -> T {
    mainstay_runtime::local().expect("a runtime").block_on(work)
}

/// One Mainstay.
pub struct House {
    pub service: Service,
    pub durable: Durable,
    pub revoked: Arc<Revoked>,
    pub sessions: Arc<Sessions>,
    verifier: Verifier,
    verified: std::cell::RefCell<Verified>,
    mails: tokio::sync::Mutex<mpsc::Receiver<Mail>>,
    writer: std::cell::RefCell<Option<journal::Writer>>,
}

impl House {
    pub async fn new(place: &Place, lines: &str, signer: Arc<Signer>) -> House {
        House::sharing(place, lines, signer, None).await
    }

    /// One of several that share a Redis.
    pub async fn sharing(place: &Place, lines: &str, signer: Arc<Signer>, redis: Option<Redis>) -> House {
        let file = Text { path: "mainstay.toml".into(), text: format!("[identity]\naccounts = true\n{lines}") };
        let environment = vec![("JWT_SECRET".to_owned(), "kU3vX9qLw2Zr7TnB5sYd8Hf1Gj4Mc6Pa0e".to_owned())];
        let reader = Reader::new(&Inputs { file: Some(file), environment, ..Inputs::default() });
        let options = Options::read(&reader);
        let faults: Vec<String> = reader.finish().faults.iter().map(|fault| fault.what.clone()).collect();
        assert!(faults.is_empty(), "{faults:?}");
        let (revoked, durable) = (Arc::new(Revoked::default()), place.open().await);
        let verifier = Verifier::new(options.verify.as_ref().expect("tokens"), signer.clone(), revoked.clone());
        let (mail, mails) = mpsc::channel(MAILS_MAX);
        let (notes, writer) = Notes::new();
        let mailed = options.accounts.as_ref().expect("accounts").deliver.is_some();
        // Nothing here asks them so often that it had to be written down in between.
        let (sessions, _) = Sessions::new(options.sessions.clone());
        sessions.open(durable.clone(), None);
        let service = Service::new(Setup {
            options: Arc::new(options),
            durable: durable.clone(),
            notes,
            sessions: sessions.clone(),
            signer,
            revoked: revoked.clone(),
            kept: Kept::default(),
            redis,
            mail: mailed.then_some(mail),
            oauth: None,
            told: None,
        });
        let service = service.expect("a service");
        let (verified, mails) = (Default::default(), tokio::sync::Mutex::new(mails));
        House { service, durable, revoked, sessions, verifier, verified, mails, writer: Some(writer).into() }
    }

    pub async fn loaded(&self) {
        until(|| !matches!(self.who("x"), Err(TokenFault::NotKnown)) && self.is_loaded()).await;
    }

    fn is_loaded(&self) -> bool {
        self.revoked.standing("nobody", &Default::default()) != mainstay_identity::Standing::Unknown
    }

    pub fn accounts(&self) -> &Accounts {
        self.service.accounts().expect("accounts")
    }

    /// What the edge would say of this token.
    pub fn who(&self, token: &str) -> Result<String, TokenFault> {
        let now_s = Clock::unix_micros() / 1_000_000;
        let known = self.verifier.identify(&mut self.verified.borrow_mut(), token, now_s)?;
        Ok(known.identity.user.clone())
    }

    pub async fn call(&self, method: Method, path: &str, body: Value, token: Option<&str>) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
        let mut identity = None;
        if let Some(token) = token {
            headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).expect("a header"));
            let now_s = Clock::unix_micros() / 1_000_000;
            let known = self.verifier.identify(&mut self.verified.borrow_mut(), token, now_s);
            identity = known.ok().map(|known| Arc::new((*known.identity).clone()));
        }
        let asked = asked(method, path, headers, body.to_string().into(), identity);
        self.service.answer(asked).await
    }

    /// Whether the edge would take this token for one of a login with two factors.
    pub fn has_two_factors(&self, token: &str) -> bool {
        let now_s = Clock::unix_micros() / 1_000_000;
        let known = self.verifier.identify(&mut self.verified.borrow_mut(), token, now_s);
        known.is_ok_and(|known| known.identity.second_factor)
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, body, None).await
    }

    /// A new account, logged in.
    pub async fn joined(&self, email: &str) -> Login {
        let answer = self.post("register", json!({ "email": email, "password": PASSWORD })).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", text(&answer));
        Login::of(&answer)
    }

    pub async fn login(&self, email: &str, password: &str) -> Answer {
        self.post("login", json!({ "email": email, "password": password })).await
    }

    pub async fn mail(&self) -> Value {
        let mail = tokio::time::timeout(mainstay_servers::wait::BOUND, async { self.mails.lock().await.recv().await });
        let mail = mail.await.expect("a mail within the bound").expect("a sender");
        serde_json::to_value(&mail).expect("JSON")
    }

    pub async fn no_mail(&self) -> bool {
        self.mails.lock().await.try_recv().is_err()
    }

    /// What the journal says of identity, in its order.
    pub async fn journal(&self) -> Vec<String> {
        if let Some(writer) = self.writer.take() {
            // Notes are written once somebody asks.
            let (trigger, shutdown) = mainstay_runtime::Shutdown::new();
            trigger.request();
            writer.run(Journal::new(self.durable.clone()), shutdown, |error| panic!("{error}")).await;
        }
        let query = Query { kinds: vec!["identity".to_owned()], ..Query::default() };
        let entries = Journal::new(self.durable.clone()).read(&query).await.expect("the journal");
        entries.iter().map(|entry| entry.payload["what"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Written past the service: what only time would do.
    pub async fn change(&self, sql: &str) {
        match &self.durable {
            Durable::Sqlite(store) => {
                let sql = sql.replace("mainstay.", "");
                store.write(move |c| Ok(c.execute(&sql, [])?)).await.expect("a change");
            }
            Durable::Postgres(store) => {
                store.client().await.expect("a connection").execute(sql, &[]).await.expect("a change");
            }
        }
    }

    /// One number out of the store.
    pub async fn number(&self, sql: &str) -> i64 {
        match &self.durable {
            Durable::Sqlite(store) => {
                let sql = sql.replace("mainstay.", "");
                let count = store.read(move |c| Ok(c.query_row(&sql, [], |row| row.get(0))?));
                count.await.expect("a number")
            }
            Durable::Postgres(store) => {
                store.client().await.expect("a connection").query_one(sql, &[]).await.expect("a number").get(0)
            }
        }
    }
}

pub fn asked(
    method: Method,
    path: &str,
    headers: HeaderMap,
    body: Bytes,
    identity: Option<Arc<mainstay_identity::Identity>>,
) -> Asked {
    Asked {
        method,
        path: format!("/api/v1/auth/{path}"),
        query: None,
        headers,
        body,
        client: [192, 0, 2, 7].into(),
        https: true,
        host: "api.example.com".to_owned(),
        request_id: "r_test".to_owned(),
        identity,
        session: None,
    }
}

#[derive(Debug, Clone)]
pub struct Login {
    pub user: String,
    pub access: String,
    pub refresh: String,
}

impl Login {
    pub fn of(answer: &Answer) -> Login {
        let body = json(answer);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let login = Login {
            user: text(&body["user"]["id"]),
            access: text(&body["accessToken"]),
            refresh: text(&body["refreshToken"]),
        };
        assert!(!login.access.is_empty() && !login.refresh.is_empty(), "{body}");
        assert_eq!(body["tokenType"], "Bearer");
        login
    }
}

pub fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

pub fn text(answer: &Answer) -> String {
    format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))
}

/// Status and code of a refusal.
#[track_caller]
pub fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status.as_u16(), json(answer)["code"].as_str()), (status, Some(code)), "{}", text(answer));
    assert_eq!(answer.headers["cache-control"], "no-store");
}

pub async fn until(holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < mainstay_servers::wait::BOUND, "waited in vain");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
