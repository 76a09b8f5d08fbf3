//! What many logins at once may cost.

use crate::place::{House, each, refused};
use http::StatusCode;

#[test]
fn i1_a_flood_of_logins_is_answered_with_few_hashes_at_a_time() {
    each("", async |house: &House| {
        house.joined("jo@example.com").await;
        let flood: Vec<_> = (0..200).map(|_| house.login("jo@example.com", "wrong horse battery")).collect();
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
        assert_eq!(house.login("jo@example.com", crate::place::PASSWORD).await.status, StatusCode::OK);
    });
}

/// ASVS 2.2.1: from however many addresses they come, a hundred wrong passwords an hour on one account are enough.
#[test]
fn i1_a_hundred_wrong_passwords_an_hour_are_enough_known_or_not() {
    crate::place::Place::all()[0].with("", async |house: &House| {
        house.joined("jo@example.com").await;
        for email in ["jo@example.com", "nobody@example.com"] {
            for _ in 0..100 {
                refused(&house.login(email, "wrong horse battery").await, 401, "login_failed");
            }
            let answer = house.login(email, crate::place::PASSWORD).await;
            refused(&answer, 429, "too_many_attempts");
            let body = crate::place::json(&answer);
            assert!(body["retryAfter"].as_u64().is_some_and(|seconds| seconds > 3000), "{body}");
        }
    });
}
