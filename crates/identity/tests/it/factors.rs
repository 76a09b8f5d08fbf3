//! The second factor: an authenticator app, its codes, recovery codes, and what a login waits for. ASVS 4.0.3, 2.5 to
//! 2.8 and 4.3.

use crate::place::{House, Login, PASSWORD, Place, each, json, refused, text};
use aws_lc_rs::hmac;
use http::{Method, StatusCode};
use mainstay_identity::TokenFault;
use mainstay_identity::exchange::Answer;
use mainstay_runtime::Clock;
use serde_json::{Value, json};

const OTHER: &str = "another horse entirely";

/// An authenticator app that scanned this address: written anew here, so that ours is not held against itself.
struct App {
    secret: Vec<u8>,
    /// Of the moment it was made: a step that ends in the middle of a test changes nothing.
    step: i64,
}

impl App {
    fn of(uri: &str) -> App {
        let (_, query) = uri.split_once("?secret=").expect("a secret");
        let secret = query.split('&').next().expect("a secret");
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let letters = secret.chars().map(|letter| alphabet.find(letter).expect("base32"));
        let bits: String = letters.map(|value| format!("{value:05b}")).collect();
        let byte = |at: usize| u8::from_str_radix(&bits[at..at + 8], 2).expect("bits");
        let step = i64::try_from(Clock::unix_micros() / 30_000_000).expect("a step");
        App { secret: (0..bits.len() / 8).map(|at| byte(at * 8)).collect(), step }
    }

    /// So many steps later.
    fn code(&self, steps: i64) -> String {
        let step = self.step + steps;
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.secret);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let at = usize::from(tag.as_ref()[19] & 15);
        let number = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().expect("four bytes"));
        format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
    }
}

/// Time goes on: a code of now is one that was not shown yet.
async fn later(house: &House) {
    house.change("UPDATE mainstay.second_factors SET step = 1").await;
}

pub struct Enrolled {
    app: App,
    login: Login,
    pub codes: Vec<String>,
}

pub async fn enrolled(house: &House, token: &str, proof: Value) -> Enrolled {
    let begun = house.call(Method::POST, "second-factor", proof, Some(token)).await;
    assert_eq!(begun.status, StatusCode::OK, "{}", text(&begun));
    let app = App::of(json(&begun)["uri"].as_str().expect("an address"));
    let code = json!({ "code": app.code(0) });
    let done = house.call(Method::POST, "second-factor/confirm", code, Some(token)).await;
    assert_eq!(done.status, StatusCode::OK, "{}", text(&done));
    let codes = json(&done)["recoveryCodes"].as_array().expect("codes").clone();
    let codes = codes.iter().map(|code| code.as_str().expect("a text").to_owned()).collect();
    Enrolled { app, login: Login::of(&done), codes }
}

/// The password was right, and nobody is in.
#[track_caller]
fn waits(answer: &Answer) -> String {
    refused(answer, 403, "second_factor_required");
    let body = json(answer);
    assert!(body.get("accessToken").is_none() && !answer.headers.contains_key("set-cookie"), "{body}");
    assert_eq!(body["expiresIn"], 300);
    body["ticket"].as_str().expect("a ticket").to_owned()
}

async fn finish(house: &House, ticket: &str, code: &str) -> Answer {
    house.post("login/code", json!({ "ticket": ticket, "code": code })).await
}

/// Added with the password and confirmed by a code; then nobody is in before the code, and his token says so.
#[test]
fn i1_2_3_2_an_app_is_added_and_its_code_asked_for_from_then_on() {
    each("deliver = \"POST /mail\"", async |house: &House| {
        let phone = house.joined("jo@example.com").await;
        assert_eq!(house.mail().await["kind"], "verify_address");
        let laptop = Login::of(&house.login("jo@example.com", PASSWORD).await);
        let token = Some(laptop.access.as_str());
        assert!(!house.has_two_factors(&laptop.access));
        refused(&house.post("second-factor", json!({})).await, 401, "login_required");
        refused(&house.call(Method::POST, "second-factor", json!({}), token).await, 400, "body_invalid");
        let wrong = json!({ "password": "wrong horse" });
        refused(&house.call(Method::POST, "second-factor", wrong, token).await, 403, "password_wrong");
        let code = json!({ "code": "123456" });
        let early = house.call(Method::POST, "second-factor/confirm", code.clone(), token).await;
        refused(&early, 409, "second_factor_not_begun");
        // Begun and not confirmed, it asks nobody for anything.
        let right = json!({ "password": PASSWORD });
        let begun = house.call(Method::POST, "second-factor", right.clone(), token).await;
        let uri = json(&begun)["uri"].as_str().expect("an address").to_owned();
        assert!(uri.starts_with("otpauth://totp/api.example.com:jo@example.com?secret="), "{uri}");
        assert_eq!(house.login("jo@example.com", PASSWORD).await.status, StatusCode::OK);
        let wrong = App::of(&uri).code(7);
        let wrong = house.call(Method::POST, "second-factor/confirm", json!({ "code": wrong }), token).await;
        refused(&wrong, 403, "code_wrong");

        let Enrolled { app, login, codes } = enrolled(house, &laptop.access, json!({ "password": PASSWORD })).await;
        assert_eq!(codes.len(), 10);
        assert!(house.has_two_factors(&login.access));
        assert_eq!(house.mail().await["kind"], "second_factor_on");
        for old in [&phone, &laptop] {
            assert_eq!(house.who(&old.access), Err(TokenFault::Revoked));
            refused(&house.post("refresh", json!({ "refreshToken": old.refresh })).await, 401, "refresh_invalid");
        }
        let again = house.call(Method::POST, "second-factor", right, Some(&login.access)).await;
        refused(&again, 409, "second_factor_exists");
        // What was confirmed is not confirmed again, nor replaced by what a thief begins.
        let again = house.call(Method::POST, "second-factor/confirm", code, Some(&login.access)).await;
        refused(&again, 409, "second_factor_not_begun");

        let ticket = waits(&house.login("jo@example.com", PASSWORD).await);
        refused(&house.login("jo@example.com", "wrong horse").await, 401, "login_failed");
        let me = house.call(Method::GET, "me", Value::Null, Some(&ticket)).await;
        refused(&me, 401, "login_required");
        refused(&house.post("refresh", json!({ "refreshToken": ticket })).await, 401, "refresh_invalid");
        let other = json!({ "ticket": ticket, "newPassword": OTHER });
        refused(&house.post("login/password", other).await, 401, "ticket_invalid");
        let wrong = app.code(9);
        refused(&finish(house, &ticket, &wrong).await, 401, "code_wrong");
        refused(&finish(house, "x", &app.code(1)).await, 401, "ticket_invalid");
        let Login { access, refresh, .. } = Login::of(&finish(house, &ticket, &app.code(1)).await);
        assert!(house.has_two_factors(&access));
        // Its refresh tokens carry it on.
        let next = house.post("refresh", json!({ "refreshToken": refresh })).await;
        assert!(house.has_two_factors(json(&next)["accessToken"].as_str().expect("a token")));
        later(house).await;
        refused(&finish(house, &ticket, &app.code(0)).await, 401, "ticket_invalid");
        let told = house.call(Method::GET, "second-factor", Value::Null, Some(&access)).await;
        assert_eq!((&json(&told)["enabled"], &json(&told)["recoveryCodesLeft"]), (&json!(true), &json!(10)));
    });
}

/// ASVS 2.8.4, 2.8.5.
#[test]
fn i1_2_8_4_a_code_is_good_once_and_a_second_time_is_told() {
    each("deliver = \"POST /mail\"", async |house: &House| {
        let jo = house.joined("jo@example.com").await;
        let Enrolled { app, login, .. } = enrolled(house, &jo.access, json!({ "password": PASSWORD })).await;
        assert_eq!(
            [house.mail().await["kind"].clone(), house.mail().await["kind"].clone()],
            ["verify_address", "second_factor_on"]
        );
        let ticket = waits(&house.login("jo@example.com", PASSWORD).await);
        // The code that confirmed it was spent by that.
        refused(&finish(house, &ticket, &app.code(0)).await, 401, "code_wrong");
        later(house).await;
        let code = app.code(0);
        let one = waits(&house.login("jo@example.com", PASSWORD).await);
        assert_eq!(finish(house, &one, &code).await.status, StatusCode::OK);
        refused(&finish(house, &ticket, &code).await, 401, "code_wrong");
        // For whatever it is shown.
        let body = json!({ "password": PASSWORD, "code": code });
        let removed = house.call(Method::DELETE, "second-factor", body, Some(&login.access)).await;
        refused(&removed, 403, "code_wrong");
        assert_eq!(house.mail().await["kind"], "code_reused");
        assert!(house.no_mail().await, "once an hour");
        assert!(house.journal().await.contains(&"code_reused".to_owned()));
    });
}

/// ASVS 2.6.1, 2.5.7: in place of the app, each once; ten others with password and code.
#[test]
fn i1_2_6_1_a_recovery_code_stands_for_the_phone_once() {
    each("deliver = \"POST /mail\"", async |house: &House| {
        let jo = house.joined("jo@example.com").await;
        let Enrolled { app, login, codes } = enrolled(house, &jo.access, json!({ "password": PASSWORD })).await;
        for kind in ["verify_address", "second_factor_on"] {
            assert_eq!(house.mail().await["kind"], kind);
        }
        let recover = async |code: &str| {
            let ticket = waits(&house.login("jo@example.com", PASSWORD).await);
            house.post("login/code", json!({ "ticket": ticket, "recoveryCode": code })).await
        };
        let lost = Login::of(&recover(&codes[3].to_lowercase().replace('-', " ")).await);
        assert!(house.has_two_factors(&lost.access));
        assert_eq!(house.mail().await["kind"], "recovery_code_used");
        refused(&recover(&codes[3]).await, 401, "code_wrong");
        refused(&recover("AAAA-AAAA-AAAA-AAAA-AAAA-AAAA").await, 401, "code_wrong");
        refused(&recover(&app.code(1)).await, 401, "code_wrong");
        let told = house.call(Method::GET, "second-factor", Value::Null, Some(&lost.access)).await;
        assert_eq!(json(&told)["recoveryCodesLeft"], 9);
        // With the next one the lost phone is taken off: its codes are worth nothing, here or anywhere.
        let renew = json!({ "password": PASSWORD, "recoveryCode": codes[4] });
        let renewed = house.call(Method::POST, "second-factor/recovery-codes", renew, Some(&lost.access)).await;
        assert_eq!(renewed.status, StatusCode::OK, "{}", text(&renewed));
        for kind in ["recovery_code_used", "recovery_codes_renewed"] {
            assert_eq!(house.mail().await["kind"], kind);
        }
        refused(&recover(&codes[5]).await, 401, "code_wrong");
        let new = json(&renewed)["recoveryCodes"][0].as_str().expect("a code").to_owned();
        let remove = json!({ "password": PASSWORD, "recoveryCode": new });
        refused(&house.call(Method::DELETE, "second-factor", remove.clone(), None).await, 401, "login_required");
        let removed = Login::of(&house.call(Method::DELETE, "second-factor", remove, Some(&lost.access)).await);
        assert!(!house.has_two_factors(&removed.access));
        for old in [&lost.access, &login.access] {
            assert_eq!(house.who(old), Err(TokenFault::Revoked), "2.8.6: at once, wherever it was");
        }
        assert_eq!(house.login("jo@example.com", PASSWORD).await.status, StatusCode::OK);
        for table in ["second_factors", "recovery_codes", "login_tickets"] {
            assert_eq!(house.number(&format!("SELECT count(*) FROM mainstay.{table}")).await, 0, "{table}");
        }
        let journal = house.journal().await;
        for what in ["second_factor_on", "recovery_code_used", "recovery_codes_renewed", "second_factor_off"] {
            assert!(journal.contains(&what.to_owned()), "{what} in {journal:?}");
        }
    });
}

/// ASVS 2.2.1: twenty wrong codes an hour, whatever tickets they come with; a right password does not forgive them.
#[test]
fn i1_2_2_1_wrong_codes_are_counted_and_a_right_password_forgives_none() {
    each("", async |house: &House| {
        let jo = house.joined("jo@example.com").await;
        let Enrolled { app, .. } = enrolled(house, &jo.access, json!({ "password": PASSWORD })).await;
        let wrong = app.code(40);
        for _ in 0..20 {
            let ticket = waits(&house.login("jo@example.com", PASSWORD).await);
            refused(&finish(house, &ticket, &wrong).await, 401, "code_wrong");
        }
        let ticket = waits(&house.login("jo@example.com", PASSWORD).await);
        later(house).await;
        let answer = finish(house, &ticket, &app.code(0)).await;
        refused(&answer, 429, "too_many_attempts");
        assert!(answer.headers.contains_key("retry-after"));
        // Ten that wait at most: who begins thousands of logins fills nothing.
        assert_eq!(house.number("SELECT count(*) FROM mainstay.login_tickets").await, 10);
    });
}

/// ASVS 2.5.6: the mailbox alone replaces no password of an account with a second factor.
#[test]
fn i1_2_5_6_a_password_is_not_replaced_by_mail_alone_where_there_is_a_second_factor() {
    each("deliver = \"POST /mail\"", async |house: &House| {
        let jo = house.joined("jo@example.com").await;
        let Enrolled { app, codes, .. } = enrolled(house, &jo.access, json!({ "password": PASSWORD })).await;
        for kind in ["verify_address", "second_factor_on"] {
            assert_eq!(house.mail().await["kind"], kind);
        }
        house.post("forgot-password", json!({ "email": "jo@example.com" })).await;
        let token = house.mail().await["token"].as_str().expect("a token").to_owned();
        let reset = |more: Value| {
            let mut body = json!({ "token": token, "password": OTHER });
            more.as_object().expect("an object").iter().for_each(|(name, value)| body[name] = value.clone());
            house.post("reset-password", body)
        };
        refused(&reset(json!({})).await, 403, "second_factor_required");
        refused(&reset(json!({ "code": app.code(40) })).await, 403, "code_wrong");
        assert_eq!(reset(json!({ "recoveryCode": codes[0] })).await.status, StatusCode::NO_CONTENT);
        // The factor stays.
        waits(&house.login("jo@example.com", OTHER).await);
    });
}

/// What a ticket was given for is over with the password, and after five minutes.
#[test]
fn i1_a_ticket_ends_with_its_time_and_with_the_password() {
    each("", async |house: &House| {
        let jo = house.joined("jo@example.com").await;
        let Enrolled { app, login, .. } = enrolled(house, &jo.access, json!({ "password": PASSWORD })).await;
        let ticket = waits(&house.login("jo@example.com", PASSWORD).await);
        house.change("UPDATE mainstay.login_tickets SET expires_us = 1").await;
        refused(&finish(house, &ticket, &app.code(1)).await, 401, "ticket_invalid");
        let ticket = waits(&house.login("jo@example.com", PASSWORD).await);
        let change = json!({ "currentPassword": PASSWORD, "newPassword": OTHER });
        let changed = house.call(Method::POST, "change-password", change, Some(&login.access)).await;
        // Whoever was in with two factors stays so.
        assert!(house.has_two_factors(&Login::of(&changed).access));
        refused(&finish(house, &ticket, &app.code(1)).await, 401, "ticket_invalid");
        assert_eq!(house.number("SELECT count(*) FROM mainstay.second_factors WHERE secret IS NULL").await, 0);
        // An operator who has made sure who it is takes off what was lost.
        assert!(house.accounts().remove_factor_by_operator(&login.user, 1).await.expect("removed"));
        assert!(!house.accounts().remove_factor_by_operator(&login.user, 1).await.expect("none left"));
        assert_eq!(house.login("jo@example.com", OTHER).await.status, StatusCode::OK);
    });
}

/// ASVS 2.4.5: what was kept without a secret is good once more, then with it; and a copy of the store without it is
/// worth nothing.
#[test]
fn i1_2_4_5_passwords_are_hashed_anew_with_the_secret_and_with_another_one() {
    let secret = |name: &str, value: &str| format!("{name} = \"{value}\"\n");
    let (one, two) = ("wT5rQ8zLk2Vn9XbY3mHc6JfD1sGpA4eU", "Zq7Np3XvK9cR2mWt6LbY8hFs1DjG5aEu");
    for place in Place::all() {
        place.with("", async |house: &House| drop(house.joined("jo@example.com").await));
        let named = async |house: &House| {
            house.number("SELECT count(*) FROM mainstay.accounts WHERE password LIKE '%,keyid=%'").await
        };
        place.with(&secret("password_secret", one), async |house: &House| {
            assert_eq!(named(house).await, 0);
            refused(&house.login("jo@example.com", "wrong horse").await, 401, "login_failed");
            assert_eq!(house.login("jo@example.com", PASSWORD).await.status, StatusCode::OK);
            assert_eq!(named(house).await, 1);
            house.joined("ann@example.com").await;
            assert_eq!(named(house).await, 2);
        });
        place.with("", async |house: &House| {
            refused(&house.login("jo@example.com", PASSWORD).await, 401, "login_failed");
        });
        let both = secret("password_secret", two) + &secret("password_secret_previous", one);
        place.with(&both, async |house: &House| {
            assert_eq!(house.login("jo@example.com", PASSWORD).await.status, StatusCode::OK);
        });
        // Whoever has not come meanwhile asks for another password by mail.
        place.with(&secret("password_secret", two), async |house: &House| {
            assert_eq!(house.login("jo@example.com", PASSWORD).await.status, StatusCode::OK);
            refused(&house.login("ann@example.com", PASSWORD).await, 401, "login_failed");
        });
    }
}

/// ASVS 2.1.7: a login by a breached password gets the right to choose another one, and nothing besides.
#[test]
fn i1_2_1_7_a_breached_password_gets_in_nowhere_but_to_another_one() {
    each("breached = \"refuse\"", async |house: &House| {
        let jo = house.joined("jo@example.com").await;
        // As it came with an import, from before anybody looked.
        let old = bcrypt::hash("password123", 4).expect("a hash");
        house.change(&format!("UPDATE mainstay.accounts SET password = '{old}', is_bcrypt = 1")).await;
        let refusal = house.login("jo@example.com", "password123").await;
        refused(&refusal, 403, "password_breached");
        let body = json(&refusal);
        assert!(body.get("accessToken").is_none() && !refusal.headers.contains_key("set-cookie"), "{body}");
        let ticket = body["ticket"].as_str().expect("a ticket");
        refused(&finish(house, ticket, "123456").await, 401, "ticket_invalid");
        let choose = |new: &str| house.post("login/password", json!({ "ticket": ticket, "newPassword": new }));
        refused(&choose("password123").await, 400, "password_refused");
        refused(&choose("short").await, 400, "password_refused");
        let chosen = choose(OTHER).await;
        assert_eq!(Login::of(&chosen).user, jo.user, "{}", text(&chosen));
        assert_eq!(house.who(&jo.access), Err(TokenFault::Revoked));
        refused(&choose("yet another horse").await, 401, "ticket_invalid");
        assert_eq!(house.login("jo@example.com", OTHER).await.status, StatusCode::OK);
        // With a second factor, it comes before: who has the password alone replaces nothing.
        let login = Login::of(&house.login("jo@example.com", OTHER).await);
        let begun = house.call(Method::POST, "second-factor", json!({ "password": OTHER }), Some(&login.access)).await;
        let app = App::of(json(&begun)["uri"].as_str().expect("an address"));
        let code = json!({ "code": app.code(0) });
        let done = house.call(Method::POST, "second-factor/confirm", code, Some(&login.access)).await;
        assert_eq!(done.status, StatusCode::OK, "{}", text(&done));
        let old = bcrypt::hash("password123", 4).expect("a hash");
        house.change(&format!("UPDATE mainstay.accounts SET password = '{old}', is_bcrypt = 1")).await;
        let ticket = waits(&house.login("jo@example.com", "password123").await);
        let next = finish(house, &ticket, &app.code(1)).await;
        refused(&next, 403, "password_breached");
        let ticket = json(&next)["ticket"].as_str().expect("a ticket").to_owned();
        let chosen = house.post("login/password", json!({ "ticket": ticket, "newPassword": PASSWORD })).await;
        assert!(house.has_two_factors(&Login::of(&chosen).access));
    });
}

/// ASVS 3.3.2: `longest` ends a login by tokens however often they are exchanged; `refresh` one that is not used.
#[test]
fn i2_3_3_2_a_login_ends_at_its_longest_however_often_its_tokens_are_exchanged() {
    each("refresh = \"30m\"\nlongest = \"12h\"", async |house: &House| {
        let mut token = house.joined("jo@example.com").await.refresh;
        let idle = Login::of(&house.login("jo@example.com", PASSWORD).await);
        let ago =
            |hours: i64| i64::try_from(Clock::unix_micros()).expect("a time") - hours * 3_600_000_000 + 60_000_000;
        for hours in [3, 8, 12] {
            house.change(&format!("UPDATE mainstay.login_families SET created_us = {}", ago(hours))).await;
            let next = house.post("refresh", json!({ "refreshToken": token })).await;
            assert_eq!(next.status, StatusCode::OK, "{hours}: {}", text(&next));
            token = json(&next)["refreshToken"].as_str().expect("a token").to_owned();
        }
        let left = house.number("SELECT min(expires_us - created_us) FROM mainstay.login_families").await;
        assert!(left <= 12 * 3_600_000_000, "{left}");
        house.change(&format!("UPDATE mainstay.login_families SET created_us = {}", ago(13))).await;
        refused(&house.post("refresh", json!({ "refreshToken": token })).await, 401, "refresh_invalid");
        house.change(&format!("UPDATE mainstay.login_families SET created_us = {}", ago(1))).await;
        house.change("UPDATE mainstay.refresh_tokens SET expires_us = expires_us - 1800000000").await;
        refused(&house.post("refresh", json!({ "refreshToken": idle.refresh })).await, 401, "refresh_invalid");
    });
}
