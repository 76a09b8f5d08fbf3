//! The life of an account.

use crate::place::{House, Login, PASSWORD, Place, each, json, on_a_core, refused, text, until};
use http::{Method, StatusCode};
use mainstay_identity::accounts::Import;
use mainstay_identity::{Signer, TokenFault};
use mainstay_store::Durable;
use serde_json::{Value, json};
use std::sync::Arc;

const OTHER: &str = "another horse entirely";

#[test]
fn i1_somebody_registers_logs_in_and_is_told_who_he_is() {
    each("", async |house: &House| {
        // Nobody gives himself a role.
        let roles = json!(["admin"]);
        let body = json!({ "email": " Jo@Example.COM", "password": PASSWORD, "name": "Jo", "roles": roles });
        let joined = house.post("register", body).await;
        assert_eq!(joined.status, StatusCode::CREATED, "{}", text(&joined));
        assert_eq!(json(&joined)["user"]["email"], "jo@example.com");
        assert_eq!(json(&joined)["expiresIn"], 900);
        assert!(!String::from_utf8_lossy(&joined.body).contains(PASSWORD));
        let login = Login::of(&joined);
        assert_eq!(house.who(&login.access), Ok(login.user.clone()));
        let again = house.login("JO@example.com", PASSWORD).await;
        assert_eq!(Login::of(&again).user, login.user);
        let me = house.call(Method::GET, "me", Value::Null, Some(&login.access)).await;
        assert_eq!((&json(&me)["id"], &json(&me)["roles"]), (&json!(login.user), &json!(["user"])));
        refused(
            &house.post("register", json!({ "email": "jo@example.com", "password": OTHER })).await,
            409,
            "account_exists",
        );
        let journal = house.journal().await;
        assert_eq!(journal, ["registered", "logged_in", "logged_in", "register_refused"]);
    });
}

/// ASVS 2.1, 2.2, 3.2.2: by wording nobody learns who is here.
#[test]
fn i1_a_stranger_and_a_wrong_password_get_one_answer() {
    each("", async |house: &House| {
        house.joined("jo@example.com").await;
        let wrong = house.login("jo@example.com", "wrong horse battery").await;
        let stranger = house.login("eve@example.com", PASSWORD).await;
        let nonsense = house.login("eve", PASSWORD).await;
        refused(&wrong, 401, "login_failed");
        assert_eq!(wrong, stranger);
        assert_eq!(wrong, nonsense);
        let long = house.login("jo@example.com", &"x".repeat(2000)).await;
        assert_eq!(wrong, long);
        assert!(house.journal().await.contains(&"refused".to_owned()));
    });
}

#[test]
fn i1_what_is_no_address_no_password_or_no_json_is_refused_by_name() {
    each("characters = 12", async |house: &House| {
        for (body, code) in [
            (json!({ "email": "jo", "password": PASSWORD }), "address_invalid"),
            (json!({ "email": "jo@example.com", "password": "short horse" }), "password_refused"),
            (json!({ "email": "jo@example.com", "password": "password1234" }), "password_refused"),
            (json!({ "email": "jo.smith@example.com", "password": "jo.smith@example.com" }), "password_refused"),
            (json!({ "email": "jo@example.com", "password": "é€".repeat(64) + "x" }), "password_refused"),
            (json!({ "email": "jo@example.com" }), "body_invalid"),
            (json!({ "email": ["jo@example.com"], "password": PASSWORD }), "body_invalid"),
            (json!([]), "body_invalid"),
        ] {
            refused(&house.post("register", body).await, 400, code);
        }
        refused(&house.post("nothing", json!({})).await, 404, "not_found");
        let get = house.call(Method::GET, "login", Value::Null, None).await;
        refused(&get, 405, "method_not_allowed");
        assert_eq!(get.headers["allow"], "POST");
        let form = crate::place::asked(Method::POST, "login", http::HeaderMap::new(), "email=a".into(), None);
        refused(&house.service.answer(form).await, 415, "not_json");
        refused(&house.call(Method::GET, "me", Value::Null, None).await, 401, "login_required");
        assert_eq!(house.number("SELECT count(*) FROM mainstay.accounts").await, 0);
    });
}

/// ASVS 2.1.3, 2.1.4, 2.1.9: any letter will do, none is asked for, and none is cut off.
#[test]
fn i1_a_password_is_taken_whole_whatever_its_letters() {
    // 128 characters: the longest there may be.
    let long = format!("{}!?", "correct horse ".repeat(9));
    let passwords = ["korrektespferd", "  blanks at both ends  ", "🐎🔋🧷🐴🔌🧲🐎🔋", "пароль из слов", &long];
    each("", async |house: &House| {
        for (number, password) in passwords.into_iter().enumerate() {
            let email = format!("u{number}@example.com");
            let joined = house.post("register", json!({ "email": email, "password": password })).await;
            assert_eq!(joined.status, StatusCode::CREATED, "{password}: {}", text(&joined));
            assert_eq!(house.login(&email, password).await.status, StatusCode::OK, "{password}");
            let (last, _) = password.char_indices().next_back().expect("letters");
            refused(&house.login(&email, &password[..last]).await, 401, "login_failed");
        }
    });
}

/// Logged out here, the other device stays in; everywhere, nobody does. At once, and for good.
#[test]
fn i2_logged_out_is_out_at_once_here_or_everywhere() {
    each("", async |house: &House| {
        let phone = house.joined("jo@example.com").await;
        let laptop = Login::of(&house.login("jo@example.com", PASSWORD).await);
        let eve = house.joined("eve@example.com").await;
        let out = house.call(Method::POST, "logout", json!({}), Some(&phone.access)).await;
        assert_eq!(out.status, StatusCode::NO_CONTENT);
        assert_eq!(house.who(&phone.access), Err(TokenFault::Revoked));
        refused(&house.post("refresh", json!({ "refreshToken": phone.refresh })).await, 401, "refresh_invalid");
        assert_eq!(house.who(&laptop.access), Ok(laptop.user.clone()));
        // By the refresh token alone, as a client does whose access token has expired.
        let tablet = Login::of(&house.login("jo@example.com", PASSWORD).await);
        let out = house.post("logout", json!({ "refreshToken": tablet.refresh })).await;
        assert_eq!(out.status, StatusCode::NO_CONTENT);
        assert_eq!(house.who(&tablet.access), Err(TokenFault::Revoked));

        let out = house.call(Method::POST, "logout-all", json!({}), Some(&laptop.access)).await;
        assert_eq!(out.status, StatusCode::NO_CONTENT);
        assert_eq!(house.who(&laptop.access), Err(TokenFault::Revoked));
        refused(&house.post("refresh", json!({ "refreshToken": laptop.refresh })).await, 401, "refresh_invalid");
        // In the same second he is in again, and nobody else was out.
        let again = Login::of(&house.login("jo@example.com", PASSWORD).await);
        assert!(house.who(&again.access).is_ok() && house.who(&eve.access).is_ok());
        refused(&house.post("logout", json!({})).await, 401, "login_required");
        // Nobody logs out another by a token that is not his.
        let forged = house.call(Method::POST, "logout", json!({ "refreshToken": "x" }), Some(&eve.access)).await;
        assert_eq!(forged.status, StatusCode::NO_CONTENT);
        assert!(house.who(&again.access).is_ok());
    });
}

#[test]
fn i1_a_changed_password_ends_every_login_but_the_one_that_changed_it() {
    each("", async |house: &House| {
        let phone = house.joined("jo@example.com").await;
        let laptop = Login::of(&house.login("jo@example.com", PASSWORD).await);
        let change = |current: &str, new: &str| json!({ "currentPassword": current, "newPassword": new });
        let token = Some(laptop.access.as_str());
        let wrong = house.call(Method::POST, "change-password", change("wrong horse", OTHER), token).await;
        refused(&wrong, 403, "password_wrong");
        let weak = house.call(Method::POST, "change-password", change(PASSWORD, "12345678"), token).await;
        refused(&weak, 400, "password_refused");
        let changed = house.call(Method::POST, "change-password", change(PASSWORD, OTHER), token).await;
        let changed = Login::of(&changed);
        assert!(house.who(&changed.access).is_ok());
        for old in [&phone, &laptop] {
            assert_eq!(house.who(&old.access), Err(TokenFault::Revoked));
            refused(&house.post("refresh", json!({ "refreshToken": old.refresh })).await, 401, "refresh_invalid");
        }
        refused(&house.login("jo@example.com", PASSWORD).await, 401, "login_failed");
        assert_eq!(house.login("jo@example.com", OTHER).await.status, StatusCode::OK);
    });
}

#[test]
fn i1_a_deleted_account_is_gone_with_everything_of_it() {
    each("", async |house: &House| {
        let jo = house.joined("jo@example.com").await;
        let wrong = json!({ "password": "wrong horse" });
        refused(&house.call(Method::DELETE, "me", wrong, Some(&jo.access)).await, 403, "password_wrong");
        let gone = house.call(Method::DELETE, "me", json!({ "password": PASSWORD }), Some(&jo.access)).await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
        assert_eq!(house.who(&jo.access), Err(TokenFault::Revoked));
        refused(&house.post("refresh", json!({ "refreshToken": jo.refresh })).await, 401, "refresh_invalid");
        refused(&house.login("jo@example.com", PASSWORD).await, 401, "login_failed");
        for table in ["accounts", "login_families", "refresh_tokens", "mailed_tokens"] {
            assert_eq!(house.number(&format!("SELECT count(*) FROM mainstay.{table}")).await, 0, "{table}");
        }
        // The address is free, and who takes it is somebody else.
        assert_ne!(house.joined("jo@example.com").await.user, jo.user);
        assert!(house.journal().await.contains(&"deleted".to_owned()));
    });
}

#[test]
fn i1_an_address_is_proven_and_a_password_replaced_by_mail() {
    let lines = "deliver = \"POST /mail\"\nverified = \"required\"\npages = \"https://app.example.com/\"";
    each(lines, async |house: &House| {
        let join = json!({ "email": "jo@example.com", "password": PASSWORD });
        let first = house.post("register", join.clone()).await;
        assert_eq!(first.status, StatusCode::ACCEPTED, "{}", text(&first));
        let mail = house.mail().await;
        assert_eq!((&mail["kind"], &mail["email"]), (&json!("verify_address"), &json!("jo@example.com")));
        let token = mail["token"].as_str().expect("a token").to_owned();
        assert_eq!(mail["url"], format!("https://app.example.com/verify-email?token={token}"));
        refused(&house.login("jo@example.com", PASSWORD).await, 403, "address_unverified");
        refused(&house.login("jo@example.com", "wrong horse").await, 401, "login_failed");
        // A second one is told the same, and he whose address it is hears of it.
        let second = house.post("register", join.clone()).await;
        assert_eq!(first, second);
        assert_eq!(house.mail().await["kind"], "already_registered");
        // Once an hour: the next mail below is another.
        assert_eq!(house.post("register", join).await, first);
        refused(&house.post("verify-email", json!({ "token": "x" })).await, 400, "link_invalid");
        // Of one kind, it is worth nothing for another.
        let reset = json!({ "token": token, "password": OTHER });
        refused(&house.post("reset-password", reset).await, 400, "link_invalid");
        assert_eq!(house.post("verify-email", json!({ "token": token })).await.status, StatusCode::NO_CONTENT);
        refused(&house.post("verify-email", json!({ "token": token })).await, 400, "link_invalid");
        let jo = Login::of(&house.login("jo@example.com", PASSWORD).await);

        let known = house.post("forgot-password", json!({ "email": "jo@example.com" })).await;
        let mail = house.mail().await;
        assert_eq!(mail["kind"], "reset_password");
        let unknown = house.post("forgot-password", json!({ "email": "eve@example.com" })).await;
        assert_eq!((known.status, &known), (StatusCode::ACCEPTED, &unknown));
        // Asked for again at once, there is no second mail: nobody floods a mailbox through us.
        house.post("forgot-password", json!({ "email": "jo@example.com" })).await;
        let token = mail["token"].as_str().expect("a token");
        refused(
            &house.post("reset-password", json!({ "token": token, "password": "short" })).await,
            400,
            "password_refused",
        );
        let reset = json!({ "token": token, "password": OTHER });
        let done = house.post("reset-password", reset.clone()).await;
        assert_eq!(done.status, StatusCode::NO_CONTENT, "{}", text(&done));
        // From now on this browser is not counted with strangers who guess.
        assert!(done.headers["set-cookie"].to_str().is_ok_and(|line| line.starts_with("__Secure-mainstay-device=")));
        refused(&house.post("reset-password", reset).await, 400, "link_invalid");
        assert_eq!(house.mail().await["kind"], "password_changed");
        assert!(house.no_mail().await);
        assert_eq!(house.who(&jo.access), Err(TokenFault::Revoked));
        refused(&house.login("jo@example.com", PASSWORD).await, 401, "login_failed");
        assert_eq!(house.login("jo@example.com", OTHER).await.status, StatusCode::OK);
    });
}

/// ASVS 2.1.10, 2.2.3, 2.5.5: whoever has the mailbox hears of another password; one of before may come back.
#[test]
fn i1_another_password_is_told_by_mail_and_an_old_one_may_come_back() {
    each("deliver = \"POST /mail\"", async |house: &House| {
        let mut token = house.joined("jo@example.com").await.access;
        assert_eq!(house.mail().await["kind"], "verify_address");
        for (current, new) in [(PASSWORD, OTHER), (OTHER, PASSWORD)] {
            let change = json!({ "currentPassword": current, "newPassword": new });
            let changed = house.call(Method::POST, "change-password", change, Some(&token)).await;
            token = Login::of(&changed).access;
            let mail = house.mail().await;
            assert_eq!((&mail["kind"], &mail["email"]), (&json!("password_changed"), &json!("jo@example.com")));
            assert!(mail.get("token").is_none() && mail.get("url").is_none(), "{mail}");
        }
    });
}

/// ASVS 2.3.1, 2.7: what a mail holds cannot be guessed, is kept as a hash alone, and is over at its time.
#[test]
fn i1_a_token_in_a_mail_is_random_kept_hashed_and_over_at_its_time() {
    each("deliver = \"POST /mail\"", async |house: &House| {
        house.joined("jo@example.com").await;
        let verify = house.mail().await;
        house.post("forgot-password", json!({ "email": "jo@example.com" })).await;
        let reset = house.mail().await;
        assert_eq!((&verify["kind"], &reset["kind"]), (&json!("verify_address"), &json!("reset_password")));
        assert_ne!(verify["token"], reset["token"]);
        for (mail, minutes) in [(&verify, 24 * 60), (&reset, 30)] {
            let token = mail["token"].as_str().expect("a token");
            assert_eq!(token.len(), 43, "256 bits");
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
            let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
            let hex = match &house.durable {
                Durable::Sqlite(_) => "hex(token)",
                Durable::Postgres(_) => "upper(encode(token, 'hex'))",
            };
            let life = format!("SELECT expires_us - made_us FROM mainstay.mailed_tokens WHERE {hex} = '{hash}'");
            assert_eq!(house.number(&life).await, minutes * 60 * 1_000_000);
        }
        house.change("UPDATE mainstay.mailed_tokens SET expires_us = 1").await;
        let late = json!({ "token": reset["token"], "password": OTHER });
        refused(&house.post("reset-password", late).await, 400, "link_invalid");
        refused(&house.post("verify-email", json!({ "token": verify["token"] })).await, 400, "link_invalid");
        assert_eq!(house.login("jo@example.com", PASSWORD).await.status, StatusCode::OK);
    });
}

/// B, N: accounts of another system move over with their bcrypt hashes, which nobody sees again after the first login.
#[test]
fn i1_imported_bcrypt_hashes_are_accepted_and_replaced_at_login() {
    // "secret password", cost 4, as Node, PHP and Python write it.
    let hash = bcrypt::hash("secret password", 4).expect("a hash");
    each("", async |house: &House| {
        let import = |id: Option<&str>, email: &str, hash: Option<&str>| Import {
            id: id.map(str::to_owned),
            email: email.to_owned(),
            password_hash: hash.map(str::to_owned),
            roles: Some(vec!["admin".to_owned()]),
            ..Import::default()
        };
        let imports = vec![
            import(Some("42"), "Jo@example.com", Some(&hash.replacen("$2b$", "$2y$", 1))),
            import(None, "eve@example.com", Some("$2b$31$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW")),
            import(Some("42"), "other@example.com", Some(&hash)),
            import(None, "ann@example.com", Some("md5")),
            import(None, "no address", None),
        ];
        let outcome = house.accounts().import(imports, 1).await.expect("an import");
        assert_eq!((outcome.taken, outcome.known), (1, vec!["other@example.com".to_owned()]));
        let refused_ones: Vec<&str> = outcome.refused.iter().map(|(email, _)| email.as_str()).collect();
        assert_eq!(refused_ones, ["eve@example.com", "ann@example.com", "no address"]);
        refused(&house.login("jo@example.com", "wrong password").await, 401, "login_failed");
        let bcrypts = "SELECT count(*) FROM mainstay.accounts WHERE is_bcrypt = 1";
        assert_eq!(house.number(bcrypts).await, 1);
        let login = Login::of(&house.login("jo@example.com", "secret password").await);
        assert_eq!(login.user, "42");
        assert_eq!(house.number(bcrypts).await, 0);
        let modern = "SELECT count(*) FROM mainstay.accounts WHERE password LIKE '$argon2id$v=19$m=19456,t=2,p=1$%'";
        assert_eq!(house.number(modern).await, 1);
        assert_eq!(house.login("jo@example.com", "secret password").await.status, StatusCode::OK);
        // An operator's hand: roles change with the next token, and everybody is out when he says so.
        assert!(house.accounts().set_roles("42", vec!["user".to_owned()], now_us()).await.expect("set"));
        assert_eq!(house.who(&login.access), Err(TokenFault::Revoked));
        let next = house.post("refresh", json!({ "refreshToken": login.refresh })).await;
        assert_eq!(next.status, StatusCode::OK, "{}", text(&next));
        let next = Login::of(&next);
        let me = house.call(Method::GET, "me", Value::Null, Some(&next.access)).await;
        assert_eq!(json(&me)["roles"], json!(["user"]));
        let jo = house.accounts().look_up("JO@example.com").await.expect("found").expect("Jo");
        assert_eq!(jo.id, "42");
        assert!(house.accounts().revoke_by_operator("42", now_us()).await.expect("revoked"));
        assert_eq!(house.who(&next.access), Err(TokenFault::Revoked));
        assert!(house.accounts().delete_by_operator("42", now_us()).await.expect("deleted"));
        assert!(house.accounts().list("", 10).await.expect("a list").is_empty());
    });
}

/// ASVS 2.1.7: nobody chooses a breached password, and whoever came with one is told at the login.
#[test]
fn i1_a_breached_password_is_refused_where_it_is_chosen_and_told_at_a_login() {
    let hash = bcrypt::hash("Sunshine1", 4).expect("a hash");
    each("", async |house: &House| {
        let import =
            Import { email: "jo@example.com".to_owned(), password_hash: Some(hash.clone()), ..Import::default() };
        assert_eq!(house.accounts().import(vec![import], 1).await.expect("an import").taken, 1);
        for breached in ["sunshine1", "Trustno1", "QWERTY123", "mailcreated5240"] {
            let body = json!({ "email": "eve@example.com", "password": breached });
            refused(&house.post("register", body).await, 400, "password_refused");
        }
        let login = house.login("jo@example.com", "Sunshine1").await;
        assert_eq!((login.status, &json(&login)["passwordBreached"]), (StatusCode::OK, &json!(true)));
        let token = Login::of(&login).access;
        let change = |new: &str| json!({ "currentPassword": "Sunshine1", "newPassword": new });
        let again = house.call(Method::POST, "change-password", change("sunshine1"), Some(&token)).await;
        refused(&again, 400, "password_refused");
        let better = house.call(Method::POST, "change-password", change(OTHER), Some(&token)).await;
        assert_eq!(better.status, StatusCode::OK, "{}", text(&better));
        let login = house.login("jo@example.com", OTHER).await;
        assert_eq!((login.status, json(&login).get("passwordBreached")), (StatusCode::OK, None));
    });
}

fn now_us() -> i64 {
    i64::try_from(mainstay_runtime::Clock::unix_micros()).expect("a time")
}

/// What was acknowledged is there for the next process: accounts, and what was taken back.
#[test]
fn i2_the_next_process_knows_who_is_here_and_what_was_revoked() {
    for place in Place::all() {
        let signer = Arc::new(Signer::unkept().expect("a key"));
        let mut out = None;
        on_a_core(async {
            let house = House::new(&place, "", signer.clone()).await;
            let jo = house.joined("jo@example.com").await;
            // Nothing of ours is believed before it is known what was taken back.
            assert_eq!(house.who(&jo.access), Err(TokenFault::NotKnown));
            house.revoked.loaded();
            let stays = Login::of(&house.login("jo@example.com", PASSWORD).await);
            house.call(Method::POST, "logout", json!({ "refreshToken": jo.refresh }), None).await;
            house.durable.close().await;
            out = Some((jo, stays));
        });
        let (jo, stays) = out.expect("logins");
        on_a_core(async {
            let house = House::new(&place, "", signer).await;
            let judging = async {
                house.loaded().await;
                assert_eq!(house.who(&jo.access), Err(TokenFault::Revoked));
                assert!(house.who(&stays.access).is_ok());
                let next = house.post("refresh", json!({ "refreshToken": stays.refresh })).await;
                assert_eq!(next.status, StatusCode::OK);
            };
            tokio::select! { () = house.service.upkeep() => {}, () = judging => {} }
            house.durable.close().await;
        });
    }
}

/// Q: a revoked token is refused by every instance; here by those that share Postgres and nothing else.
#[test]
fn i2_another_node_hears_of_it_from_the_store() {
    let [_, place, _] = Place::all();
    let signer = Arc::new(Signer::unkept().expect("a key"));
    on_a_core(async {
        let (here, there) = (House::new(&place, "", signer.clone()).await, House::new(&place, "", signer).await);
        let judging = async {
            here.loaded().await;
            there.loaded().await;
            let jo = here.joined("jo@example.com").await;
            assert!(there.who(&jo.access).is_ok());
            here.call(Method::POST, "logout-all", json!({}), Some(&jo.access)).await;
            assert_eq!(here.who(&jo.access), Err(TokenFault::Revoked));
            until(|| there.who(&jo.access) == Err(TokenFault::Revoked)).await;
        };
        tokio::select! { () = here.service.upkeep() => {}, () = there.service.upkeep() => {}, () = judging => {} }
    });
}

/// N: HS256 by JWT_SECRET, so that an app that verifies with it goes on as it did.
#[test]
fn i1_tokens_are_signed_with_the_apps_secret_where_it_asks_for_that() {
    each("sign = \"jwt_secret\"\naccess = \"7d\"", async |house: &House| {
        let jo = house.joined("jo@example.com").await;
        let header = jsonwebtoken::decode_header(&jo.access).expect("a token");
        assert_eq!(header.alg, jsonwebtoken::Algorithm::HS256);
        assert!(house.who(&jo.access).is_ok());
        house.call(Method::POST, "logout", json!({}), Some(&jo.access)).await;
        assert_eq!(house.who(&jo.access), Err(TokenFault::Revoked));
    });
}

/// I5: a login gives the browser a session too, and whatever ends logins ends it.
#[test]
fn i5_a_login_begins_a_session_and_what_ends_logins_ends_it() {
    each("[identity.sessions]\n", async |house: &House| {
        let jo = house.joined("jo@example.com").await;
        let now_s = mainstay_runtime::Clock::unix_micros() / 1_000_000;
        let living = async || house.sessions.list(&jo.user, now_s).await.expect("a list").len();
        let answer = house.login("jo@example.com", PASSWORD).await;
        let cookie = answer.headers.get("set-cookie").and_then(|value| value.to_str().ok()).expect("a cookie");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite"), "{cookie}");
        assert_eq!(living().await, 2);
        house.call(Method::POST, "logout-all", json!({}), Some(&jo.access)).await;
        assert_eq!(living().await, 0);
        let again = Login::of(&house.login("jo@example.com", PASSWORD).await);
        let change = json!({ "currentPassword": PASSWORD, "newPassword": OTHER });
        house.call(Method::POST, "change-password", change, Some(&again.access)).await;
        assert_eq!(living().await, 1, "the one that changed it");
        house.accounts().set_roles(&jo.user, vec!["admin".to_owned()], now_us()).await.expect("set");
        assert_eq!(living().await, 0, "his session would have the roles of before");
    });
}
