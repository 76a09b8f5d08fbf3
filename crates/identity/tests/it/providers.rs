//! Whom a provider vouches for, and whose account that is.

use crate::place::{House, Login, asked, each, json, refused};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mainstay_identity::accounts::LinkFault;
use serde_json::json;

#[test]
fn i4_an_account_is_linked_by_a_proven_address_alone() {
    each("deliver = \"POST /mail\"", async |house: &House| {
        let accounts = house.accounts();
        // New, and the next time the same.
        let ann =
            accounts.by_provider("google", "1", Some("Ann@example.com"), true, Some("Ann"), 1).await.expect("new");
        let again = accounts.by_provider("google", "1", Some("else@example.com"), true, None, 2).await.expect("known");
        assert_eq!((&ann.user, &ann.identity.roles), (&again.user, &vec!["user".to_owned()]));
        // Of another provider with the same proven address: linked, since ours is proven too.
        let github = accounts.by_provider("github", "7", Some("ann@example.com"), true, None, 3).await.expect("linked");
        assert_eq!(github.user, ann.user);
        let mail = house.mail().await;
        assert_eq!((&mail["kind"], &mail["email"]), (&json!("provider_linked"), &json!("ann@example.com")));
        // Somebody registered Jo's address and never proved it: it is not given to Jo, nor Jo to him.
        let squatter = house.joined("jo@example.com").await;
        let jo = accounts.by_provider("google", "2", Some("jo@example.com"), true, None, 4).await;
        assert!(matches!(jo, Err(LinkFault::AddressTaken)), "{jo:?}");
        let token = house.mail().await["token"].as_str().expect("a token").to_owned();
        assert_eq!(house.post("verify-email", json!({ "token": token })).await.status, StatusCode::NO_CONTENT);
        let jo = accounts.by_provider("google", "2", Some("jo@example.com"), true, None, 5).await.expect("linked");
        assert_eq!(jo.user, squatter.user);
        // What the provider does not vouch for is not looked at: another account, without an address.
        let eve = accounts.by_provider("linkedin", "9", Some("ann@example.com"), false, None, 6).await.expect("new");
        assert_ne!(eve.user, ann.user);
        let stored = accounts.look_up(&eve.user).await.expect("found").expect("Eve");
        assert_eq!((stored.address, stored.password), (None, None));
        // Without a password nobody logs in with one.
        refused(&house.login("ann@example.com", "").await, 401, "login_failed");
    });
}

#[test]
fn i4_nobody_new_comes_where_nobody_may_register() {
    each("register = false", async |house: &House| {
        let new = house.accounts().by_provider("google", "1", Some("ann@example.com"), true, None, 1).await;
        assert!(matches!(new, Err(LinkFault::Closed)));
        let body = json!({ "email": "jo@example.com", "password": crate::place::PASSWORD });
        refused(&house.post("register", body).await, 403, "registration_closed");
    });
}

/// A provider is one factor: the account's own is asked for after it, by a ticket that the browser keeps.
#[test]
fn i4_a_second_factor_is_asked_for_after_a_provider_too() {
    each("", async |house: &House| {
        let accounts = house.accounts();
        let come = async || accounts.by_provider("google", "1", Some("ann@example.com"), true, None, 1).await;
        let get = asked(Method::GET, "oauth/google/callback", HeaderMap::new(), Bytes::new(), None);
        let login = Login::of(&accounts.grant(&come().await.expect("new"), &get).await);
        let codes = crate::factors::enrolled(house, &login.access, json!({})).await.codes;
        let waits = accounts.grant(&come().await.expect("known"), &get).await;
        refused(&waits, 403, "second_factor_required");
        let line = waits.headers["set-cookie"].to_str().expect("a cookie");
        assert!(line.starts_with("__Secure-mainstay-ticket=") && line.contains("; HttpOnly; SameSite=Strict; Secure"));
        let (cookie, _) = line.split_once(';').expect("a pair");
        let post = async |cookie: &str, code: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", "application/json".parse().expect("a header"));
            headers.insert("cookie", cookie.parse().expect("a header"));
            let body = json!({ "recoveryCode": code }).to_string().into();
            house.service.answer(asked(Method::POST, "login/code", headers, body, None)).await
        };
        refused(&post("a=b", &codes[0]).await, 401, "ticket_invalid");
        let second = Login::of(&post(cookie, &codes[0]).await);
        assert!(house.has_two_factors(&second.access));
        refused(&post(cookie, &codes[1]).await, 401, "ticket_invalid");
    });
}

/// ASVS 3.7.1: where others give their password again, who has none needs a login of a moment ago.
#[test]
fn i4_3_7_1_who_has_no_password_logs_in_again_before_what_matters() {
    each("", async |house: &House| {
        let accounts = house.accounts();
        let ann = accounts.by_provider("google", "1", Some("ann@example.com"), true, None, 1).await.expect("new");
        let get = asked(Method::GET, "oauth/google/callback", HeaderMap::new(), Bytes::new(), None);
        let login = Login::of(&accounts.grant(&ann, &get).await);
        let call = async |method: Method, path: &str| house.call(method, path, json!({}), Some(&login.access)).await;
        assert_eq!(call(Method::POST, "second-factor").await.status, StatusCode::OK);
        let hour_ago = mainstay_runtime::Clock::unix_micros() - 3_600_000_000;
        house.change(&format!("UPDATE mainstay.login_families SET created_us = {hour_ago}")).await;
        // A fresh access token makes the login no younger.
        let next = house.post("refresh", json!({ "refreshToken": login.refresh })).await;
        let next = json(&next)["accessToken"].as_str().expect("a token").to_owned();
        for (method, path) in [(Method::POST, "second-factor"), (Method::DELETE, "me"), (Method::DELETE, "logins/f_x")]
        {
            refused(&call(method.clone(), path).await, 403, "login_again");
            refused(&house.call(method, path, json!({}), Some(&next)).await, 403, "login_again");
        }
        let again = Login::of(&accounts.grant(&ann, &get).await);
        let gone = house.call(Method::DELETE, "me", json!({}), Some(&again.access)).await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
    });
}
