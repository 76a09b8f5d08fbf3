//! What many logins at once may cost.

use crate::place::{House, Login, PASSWORD, Place, asked, each, json, on_a_core, refused, text, until};
use http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use mainstay_config::{Inputs, Reader};
use mainstay_identity::Signer;
use mainstay_identity::exchange::Answer;
use mainstay_runtime::Shutdown;
use mainstay_servers::postgres::Postgres;
use mainstay_servers::redis::Redis as RedisServer;
use mainstay_store::redis::{self, Redis, State};
use serde_json::{Value, json};
use std::sync::Arc;

const WRONG: &str = "wrong horse battery";

#[test]
fn i1_a_flood_of_logins_is_answered_with_few_hashes_at_a_time() {
    each("", async |house: &House| {
        house.joined("jo@example.com").await;
        let flood: Vec<_> = (0..200).map(|_| house.login("jo@example.com", WRONG)).collect();
        let mut busy = 0;
        for answer in futures_util::future::join_all(flood).await {
            match answer.status {
                StatusCode::SERVICE_UNAVAILABLE => {
                    refused(&answer, 503, "service_busy");
                    assert!(answer.headers.contains_key("retry-after"));
                    busy += 1;
                }
                StatusCode::TOO_MANY_REQUESTS => refused(&answer, 429, "too_many_attempts"),
                _ => refused(&answer, 401, "login_failed"),
            }
        }
        assert!(busy > 0, "nobody was turned away");
        assert_eq!(house.login("jo@example.com", PASSWORD).await.status, StatusCode::OK);
    });
}

/// ASVS 2.2.1: from however many addresses they come, a hundred wrong passwords an hour on one account are enough.
#[test]
fn i1_a_hundred_wrong_passwords_an_hour_are_enough_known_or_not() {
    Place::all()[0].with("", async |house: &House| {
        house.joined("jo@example.com").await;
        for email in ["jo@example.com", "nobody@example.com"] {
            for _ in 0..100 {
                refused(&house.login(email, WRONG).await, 401, "login_failed");
            }
            let answer = house.login(email, PASSWORD).await;
            refused(&answer, 429, "too_many_attempts");
            let body = json(&answer);
            assert!(body["retryAfter"].as_u64().is_some_and(|seconds| seconds > 3000), "{body}");
        }
    });
}

/// The cookie of the browser that this was answered to.
fn device(answer: &Answer) -> String {
    let all = answer.headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut own = all.filter(|line| line.starts_with("__Secure-mainstay-device="));
    let line = own.next().unwrap_or_else(|| panic!("no cookie: {}", text(answer)));
    assert!(line.contains("; Path=/api/v1/auth; HttpOnly; SameSite=Strict; Secure") && own.next().is_none(), "{line}");
    line.split(';').next().unwrap_or_default().to_owned()
}

/// From the browser that holds this cookie.
async fn from(house: &House, cookie: &str, path: &str, body: Value) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(COOKIE, HeaderValue::from_str(cookie).expect("a cookie"));
    house.service.answer(asked(Method::POST, path, headers, body.to_string().into(), None)).await
}

/// ASVS 2.2.1: a browser that was let in before has a count of its own.
#[test]
fn i1_whoever_was_let_in_before_is_not_kept_out_by_strangers_who_guess() {
    Place::all()[0].with("", async |house: &House| {
        let attempt = |password: &str| json!({ "email": "jo@example.com", "password": password });
        let own = device(&house.post("register", attempt(PASSWORD)).await);
        let eve = house.post("register", json!({ "email": "eve@example.com", "password": PASSWORD })).await;
        let eves = device(&eve);
        for _ in 0..100 {
            refused(&house.login("jo@example.com", WRONG).await, 401, "login_failed");
        }
        refused(&house.login("jo@example.com", PASSWORD).await, 429, "too_many_attempts");
        refused(&from(house, &eves, "login", attempt(PASSWORD)).await, 429, "too_many_attempts");
        refused(&from(house, &own, "login", attempt(WRONG)).await, 401, "login_failed");
        let in_again = from(house, &own, "login", attempt(PASSWORD)).await;
        assert_eq!(in_again.status, StatusCode::OK, "{}", text(&in_again));
        let own = device(&in_again);
        refused(&house.login("jo@example.com", PASSWORD).await, 429, "too_many_attempts");

        // That count ends too, whoever has stolen the cookie.
        for _ in 0..20 {
            refused(&from(house, &own, "login", attempt(WRONG)).await, 401, "login_failed");
        }
        refused(&from(house, &own, "login", attempt(PASSWORD)).await, 429, "too_many_attempts");

        // Whoever is in may change what they guess at: their count begins anew, and the old cookie is a stranger's.
        let token = Login::of(&in_again).access;
        let change = json!({ "currentPassword": PASSWORD, "newPassword": "another horse entirely" });
        let changed = house.call(Method::POST, "change-password", change, Some(&token)).await;
        assert_eq!(changed.status, StatusCode::OK, "{}", text(&changed));
        for _ in 0..100 {
            refused(&house.login("jo@example.com", WRONG).await, 401, "login_failed");
        }
        let new = attempt("another horse entirely");
        refused(&from(house, &own, "login", new.clone()).await, 429, "too_many_attempts");
        assert_eq!(from(house, &device(&changed), "login", new).await.status, StatusCode::OK);
    });
}

/// One of two Mainstays: one database, one Redis.
async fn node(place: &Place, server: &RedisServer, shutdown: &Shutdown) -> House {
    let environment = vec![("REDIS_URL".to_owned(), server.url())];
    let reader = Reader::new(&Inputs { environment, ..Inputs::default() });
    let (redis, keeper) = Redis::new(&redis::Options::read(&reader).expect("an address")).expect("a handle");
    tokio::spawn(keeper.run(shutdown.clone()));
    until(|| redis.state() == State::Up).await;
    let signer = Arc::new(Signer::unkept().expect("a key"));
    House::sharing(place, "", signer, Some(redis)).await
}

/// ASVS 2.2.1: through however many nodes they come.
#[test]
fn i1_wrong_passwords_are_counted_by_all_nodes_together_and_by_each_while_redis_is_away() {
    on_a_core(async {
        let (place, mut server) = (Place::Server(Postgres::plain()), RedisServer::plain());
        let (_trigger, shutdown) = Shutdown::new();
        let one = node(&place, &server, &shutdown).await;
        let other = node(&place, &server, &shutdown).await;
        let attempt = |password: &str| json!({ "email": "jo@example.com", "password": password });
        let own = device(&one.post("register", attempt(PASSWORD)).await);
        for email in ["jo@example.com", "nobody@example.com"] {
            for n in 0..100 {
                let house = if n < 60 { &one } else { &other };
                refused(&house.login(email, WRONG).await, 401, "login_failed");
            }
            for house in [&one, &other] {
                let answer = house.login(email, PASSWORD).await;
                refused(&answer, 429, "too_many_attempts");
                let wait_s = json(&answer)["retryAfter"].as_u64().unwrap_or(0);
                assert!((3000..=3600).contains(&wait_s), "{wait_s}");
            }
        }
        // The mark of one node is good at the other.
        assert_eq!(from(&other, &own, "login", attempt(PASSWORD)).await.status, StatusCode::OK);
        // A right password takes nobody's turn.
        one.joined("ann@example.com").await;
        for _ in 0..110 {
            assert_eq!(other.login("ann@example.com", PASSWORD).await.status, StatusCode::OK);
        }

        server.kill();
        for _ in 60..100 {
            refused(&one.login("jo@example.com", WRONG).await, 401, "login_failed");
        }
        refused(&one.login("jo@example.com", PASSWORD).await, 429, "too_many_attempts");
        for house in [&one, &other] {
            house.durable.close().await;
        }
    });
}
