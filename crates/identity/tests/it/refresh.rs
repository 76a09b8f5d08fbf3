//! Refresh tokens: good once, and what becomes of whoever copies one.

use crate::place::{House, Login, PASSWORD, each, refused};
use http::StatusCode;
use mainstay_identity::TokenFault;
use serde_json::json;

async fn exchanged(house: &House, refresh: &str) -> Login {
    let answer = house.post("refresh", json!({ "refreshToken": refresh })).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", crate::place::text(&answer));
    Login::of(&answer)
}

#[test]
fn i2_a_refresh_token_is_exchanged_and_one_that_comes_twice_ends_the_login() {
    each("", async |house: &House| {
        let first = house.joined("jo@example.com").await;
        let other = Login::of(&house.login("jo@example.com", PASSWORD).await);
        let second = exchanged(house, &first.refresh).await;
        assert_ne!(second.refresh, first.refresh);
        assert!(house.who(&second.access).is_ok());
        let third = exchanged(house, &second.refresh).await;
        // A thief comes with the one from before: he gets nothing, and it is over for both.
        refused(&house.post("refresh", json!({ "refreshToken": first.refresh })).await, 401, "refresh_invalid");
        for stolen in [&first, &second, &third] {
            refused(&house.post("refresh", json!({ "refreshToken": stolen.refresh })).await, 401, "refresh_invalid");
            assert_eq!(house.who(&stolen.access), Err(TokenFault::Revoked));
        }
        // The other device has nothing to do with it.
        assert!(house.who(&other.access).is_ok());
        exchanged(house, &other.refresh).await;
        let journal = house.journal().await;
        assert_eq!(journal.iter().filter(|what| *what == "refresh_reused").count(), 1, "{journal:?}");
    });
}

/// An answer that was lost on its way costs nobody his login; the token that was in it is worth nothing then.
#[test]
fn i2_a_lost_answer_is_given_again_and_the_lost_token_is_a_thiefs() {
    each("", async |house: &House| {
        let first = house.joined("jo@example.com").await;
        let lost = exchanged(house, &first.refresh).await;
        let again = exchanged(house, &first.refresh).await;
        assert_ne!(lost.refresh, again.refresh);
        exchanged(house, &again.refresh).await;
        refused(&house.post("refresh", json!({ "refreshToken": lost.refresh })).await, 401, "refresh_invalid");
        assert_eq!(house.who(&again.access), Err(TokenFault::Revoked), "whoever had it had copied it");
    });
}

/// Many at once with one token, as tabs of one browser: at any time one token of the login is good, never two.
#[test]
fn i2_of_many_at_once_one_token_is_good() {
    each("", async |house: &House| {
        let first = house.joined("jo@example.com").await;
        let asking: Vec<_> = (0..16).map(|_| house.post("refresh", json!({ "refreshToken": first.refresh }))).collect();
        let answers = futures_util::future::join_all(asking).await;
        assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
        let unused = "SELECT count(*) FROM mainstay.refresh_tokens WHERE used_us IS NULL";
        assert_eq!(house.number(unused).await, 1);
    });
}

#[test]
fn i2_another_secret_ends_every_login() {
    let secret = "refresh_secret = \"aP6cM4jG1fH8dYs5BnT7rZ2wLq9Xv3Uk0z\"";
    for place in crate::place::Place::all() {
        let mut refresh = String::new();
        place.with(secret, async |house: &House| refresh = house.joined("jo@example.com").await.refresh);
        place.with(secret, async |house: &House| refresh = exchanged(house, &refresh).await.refresh);
        place.with("", async |house: &House| {
            refused(&house.post("refresh", json!({ "refreshToken": refresh })).await, 401, "refresh_invalid");
        });
    }
}

/// A script that logs in for ever costs no more rows than fifty devices.
#[test]
fn i2_logins_of_one_account_are_bounded() {
    each("", async |house: &House| {
        let first = house.joined("jo@example.com").await;
        let account = house.accounts().look_up(&first.user).await.expect("found").expect("Jo");
        let asked = crate::place::asked(http::Method::POST, "login", http::HeaderMap::new(), "".into(), None);
        let who = house.accounts().by_provider("p", "s", Some("x@example.com"), true, None, 1).await.expect("new");
        for _ in 0..60 {
            assert_eq!(house.accounts().grant(&who, &asked).await.status, StatusCode::OK);
        }
        let of = |user: &str| format!("SELECT count(*) FROM mainstay.login_families WHERE account = '{user}'");
        assert_eq!(house.number(&of(&who.user)).await, 50);
        assert_eq!(house.number(&of(&account.id)).await, 1);
    });
}
