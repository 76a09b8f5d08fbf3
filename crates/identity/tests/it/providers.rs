//! Whom a provider vouches for, and whose account that is.

use crate::place::{House, each, refused};
use http::StatusCode;
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
