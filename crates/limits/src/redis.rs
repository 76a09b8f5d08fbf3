//! Limits shared through Redis: what is asked of `admit.lua`, and how its answer is read. Opens no connection: whoever
//! has one sends `EVALSHA` with what `ask` gives, one call a key.

use crate::Network;
use crate::window::{Decision, Kind, Limit};
use aws_lc_rs::digest::{SHA256, digest};

/// Decides like `window::admit`, by the server's own clock.
pub const SCRIPT: &str = include_str!("admit.lua");

/// Longest name that stands in a key as it is; of a longer one its hash does.
const NAME_BYTES_MAX: usize = 128;

/// Who is counted, as every Mainstay names it alike.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    Network(Network),
    /// A user or a tenant.
    Name(&'a str),
    /// A header's value: never in a key.
    Secret(&'a [u8]),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the script's answer is not four numbers: {0:?}")]
pub struct NotAnAnswer(pub Vec<i64>);

/// Every key that something of this subject may be counted under, whatever the numbers of the rule are or were.
pub fn keys(rule: &str, subject: Subject<'_>) -> [String; 3] {
    [Kind::Stamps, Kind::Parts, Kind::Smooth].map(|kind| named(rule, subject, kind))
}

/// The key of a count. In a cluster all of one subject under one rule lies in one slot. A limit that is counted in
/// another way than before (above 128, or `smooth`) begins anew; with other numbers it goes on.
pub fn key(rule: &str, subject: Subject<'_>, limit: &Limit) -> String {
    named(rule, subject, limit.kind())
}

fn named(rule: &str, subject: Subject<'_>, kind: Kind) -> String {
    let subject = match subject {
        Subject::Network(network) => network.to_string(),
        Subject::Name(name) if name.len() <= NAME_BYTES_MAX => escaped(name),
        Subject::Name(name) => format!("sha256-{}", hash(name.as_bytes())),
        Subject::Secret(value) => format!("sha256-{}", hash(value)),
    };
    format!("mainstay:limit:{{{}|{subject}}}:{}", escaped(rule), word(kind))
}

/// The arguments of one call. `now_us` only in tests: the server's clock is everybody's.
pub fn ask(limit: &Limit, now_us: Option<u64>) -> [String; 5] {
    arguments(limit, String::new(), now_us)
}

/// Takes back what was admitted with this mark.
pub fn give_back(limit: &Limit, mark_us: u64) -> [String; 5] {
    arguments(limit, mark_us.to_string(), None)
}

fn arguments(limit: &Limit, back: String, now_us: Option<u64>) -> [String; 5] {
    let now = now_us.map_or_else(String::new, |now| now.to_string());
    [word(limit.kind()).to_owned(), limit.count.to_string(), limit.window_ms.to_string(), back, now]
}

/// # Errors
/// Where it is no answer of the script.
pub fn read(answer: &[i64]) -> Result<Decision, NotAnAnswer> {
    let wrong = || NotAnAnswer(answer.to_vec());
    let [allowed @ 0..=1, remaining, reset, mark] = *answer else { return Err(wrong()) };
    Ok(Decision {
        allowed: allowed == 1,
        remaining: u32::try_from(remaining).map_err(|_| wrong())?,
        reset_us: u64::try_from(reset).map_err(|_| wrong())?,
        mark_us: u64::try_from(mark).map_err(|_| wrong())?,
    })
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Stamps => "stamps",
        Kind::Parts => "parts",
        Kind::Smooth => "smooth",
    }
}

/// Braces would move the key to another slot, the rest would make it hard to type.
fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:*@,+".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02x}") }).collect()
}

fn hash(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { count: 5, window_ms: 60_000, smooth: false };

    #[test]
    fn a_key_can_be_typed_and_holds_no_secret() {
        let of = |subject| key("route POST /a/{b} per ip", subject, &LIMIT);
        let network = Network::parse("2001:db8::1").expect("network");
        let typed = "mainstay:limit:{route%20POST%20/a/%7bb%7d%20per%20ip|2001:db8::/64}:stamps";
        assert_eq!(of(Subject::Network(network)), typed);
        assert!(keys("route POST /a/{b} per ip", Subject::Network(network)).contains(&typed.to_owned()));
        assert!(of(Subject::Name("a b|c")).ends_with("|a%20b%7cc}:stamps"));
        assert!(!of(Subject::Secret(b"sk_live_1")).contains("sk_live"));
        assert!(of(Subject::Name(&"x".repeat(1000))).len() < 200);
    }

    #[test]
    fn an_answer_is_four_numbers_or_none() {
        let decision = read(&[1, 4, 60_000_000, 17]).expect("answer");
        assert!(decision.allowed && decision.remaining == 4 && decision.reset_s() == 60 && decision.mark_us == 17);
        for wrong in [&[][..], &[1, 4, 60], &[2, 4, 60, 1], &[1, -4, 60, 1], &[1, 4, 60, 1, 1]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
