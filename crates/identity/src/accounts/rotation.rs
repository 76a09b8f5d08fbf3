//! What becomes of a refresh token that is presented. Pure; the stores do what it says within one transaction.
//!
//! Each is good once. One that comes a second time was copied, so the whole login ends. The one exception: within ten
//! seconds, and only while nobody has used the token it was exchanged for, the answer may simply have been lost on its
//! way; then that token is withdrawn and another one made. At any time at most one token of a login is good.

/// A client that got no answer tries again within it.
pub(crate) const GRACE_US: i64 = 10 * 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Presented {
    pub expires_us: i64,
    pub used_us: Option<i64>,
    /// The login it belongs to was ended.
    pub is_revoked: bool,
    /// The token it was exchanged for is there and was not used.
    pub successor_waits: bool,
}

impl Presented {
    /// Its login ends then, however long the token itself would live.
    pub fn until(self, ends_us: i64) -> Presented {
        Presented { expires_us: self.expires_us.min(ends_us), ..self }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The first time: it is exchanged.
    Rotate,
    /// The answer was lost: its successor is withdrawn for another.
    Replace,
    /// It was copied: the login ends.
    Reuse,
    /// Nothing happens: it is over.
    Over,
}

pub(crate) fn decide(now_us: i64, token: Presented) -> Decision {
    if token.is_revoked || now_us >= token.expires_us {
        return Decision::Over;
    }
    match token.used_us {
        None => Decision::Rotate,
        Some(used_us) if token.successor_waits && now_us.saturating_sub(used_us) <= GRACE_US => Decision::Replace,
        Some(_) => Decision::Reuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_once_and_again_only_for_a_lost_answer() {
        let fresh = Presented { expires_us: 100 * 1_000_000, used_us: None, is_revoked: false, successor_waits: false };
        let used = Presented { used_us: Some(5_000_000), successor_waits: true, ..fresh };
        for (now_s, token, decision) in [
            (5, fresh, Decision::Rotate),
            (100, fresh, Decision::Over),
            (5, Presented { is_revoked: true, ..fresh }, Decision::Over),
            (15, used, Decision::Replace),
            (16, used, Decision::Reuse),
            (6, Presented { successor_waits: false, ..used }, Decision::Reuse),
            (6, Presented { is_revoked: true, ..used }, Decision::Over),
            (3, used, Decision::Replace),
            (101, used, Decision::Over),
            (59, fresh.until(60_000_000), Decision::Rotate),
            (60, fresh.until(60_000_000), Decision::Over),
            (100, fresh.until(200_000_000), Decision::Over),
        ] {
            assert_eq!(decide(now_s * 1_000_000, token), decision, "{now_s} {token:?}");
        }
    }
}
