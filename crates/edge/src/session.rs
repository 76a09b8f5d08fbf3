//! Who asks, by the cookie of his session; and the cookie of the answer, so that a session in use does not end.
//!
//! A token in `Authorization` decides alone: then the cookie is not looked at. The app never sees the cookie.

use crate::core::Core;
use crate::fields::{Fields, Name};
use crate::identity::has_token;
use crate::message::ResponseHead;
use crate::proxy::Refusal;
use crate::redis::Allowance;
use crate::sticky;
use mainstay_identity::operators::COOKIE as OPERATOR;
use mainstay_identity::sessions::{Carried, Id, Policy, Session, Sessions, Who};
use mainstay_telemetry::Verdict;
use std::sync::Arc;
use std::time::Duration;

/// A store that is away may be here again so soon.
const AGAIN_S: u32 = 1;

/// A session in force.
#[derive(Debug)]
pub struct Seen {
    pub id: Id,
    pub session: Arc<Session>,
    /// `Set-Cookie`, where the browser is to be told that it lives on.
    renewed: Option<String>,
}

/// The session a request belongs to. Looking for it takes of what the request may wait for shared state.
///
/// # Errors
/// 503 where it carries one of ours and nobody can say whose: taken for nobody's, it would log somebody out.
pub async fn of(core: &Core, fields: &Fields, allowance: &mut Allowance) -> Result<Option<Box<Seen>>, Refusal> {
    if !fields.has(Name::Cookie) {
        return Ok(None);
    }
    let sessions = &core.shared.sessions;
    let Some(policy) = sessions.policy() else { return Ok(None) };
    let Carried::Id(id) = Sessions::carried(&policy, fields.all(Name::Cookie)) else { return Ok(None) };
    if has_token(fields) {
        return Ok(None);
    }
    let (now_us, now_ms) = (core.now_us(), core.now_ms());
    let now_s = core.unix_us(now_us) / 1_000_000;
    let hash = id.hash();
    let who = match sessions.at_once(&policy, hash, now_s, now_ms) {
        Some(who) => who,
        None => {
            let who = Box::pin(sessions.recognise(&policy, hash, allowance.left(), (now_s, now_ms))).await;
            allowance.spend(Duration::from_micros(core.now_us().saturating_sub(now_us)));
            who
        }
    };
    match who {
        Who::User { session, renew } => {
            let renewed = renew.then(|| Sessions::renewed(&policy, &id, &session, now_s));
            Ok(Some(Box::new(Seen { id, session, renewed })))
        }
        Who::Nobody => Ok(None),
        Who::Unsaid => Err(Refusal { retry_after: Some(AGAIN_S), ..Verdict::ServiceBusy.into() }),
    }
}

impl Seen {
    pub fn take_renewed(&mut self) -> Option<String> {
        self.renewed.take()
    }
}

/// Takes the cookie out of what the app gets, and that of an operator; the others stay as they are.
pub fn hide(core: &Core, fields: &mut Fields) {
    if !fields.has(Name::Cookie) {
        return;
    }
    if let Some(policy) = core.shared.sessions.policy() {
        sticky::take(fields, &policy.cookie);
    }
    // A browser sends a cookie to every port of a host, and the console is one of this machine.
    let of_operator = |line: &[u8]| line.windows(OPERATOR.len()).any(|part| part == OPERATOR.as_bytes());
    if fields.all(Name::Cookie).any(of_operator) {
        sticky::take(fields, OPERATOR);
    }
}

/// No app sets what an operator's browser is known by.
pub fn keep_apart(fields: &mut Fields) {
    let is_operators = |line: &[u8]| {
        let name = line.split(|&byte| byte == b'=').next().unwrap_or_default();
        name.trim_ascii() == OPERATOR.as_bytes()
    };
    if fields.has(Name::SetCookie) && fields.all(Name::SetCookie).any(is_operators) {
        let others = fields.all(Name::SetCookie).filter(|line| !is_operators(line)).map(<[u8]>::to_vec);
        let others: Vec<Vec<u8>> = others.collect();
        fields.remove(Name::SetCookie);
        others.iter().for_each(|line| fields.add(Name::SetCookie, line));
    }
}

/// Tells the browser. Not in an answer that a cache on the way may give to others, nor beside a word of the service
/// itself.
pub fn renew(cookie: Option<&str>, head: &mut ResponseHead) {
    let Some(cookie) = cookie else { return };
    let for_all = ["public", "s-maxage"];
    let is_for_all = |part: &[u8]| {
        let name = part.split(|&b| b == b'=').next().unwrap_or_default();
        for_all.iter().any(|word| name.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    };
    let name = cookie.split_inclusive('=').next().unwrap_or_default().as_bytes();
    let is_set = head.fields.all(Name::SetCookie).any(|own| own.starts_with(name));
    if head.status != 101 && !is_set && !head.fields.tokens(Name::CacheControl).any(is_for_all) {
        head.fields.push(b"Set-Cookie", cookie.as_bytes());
    }
}

/// Where CSRF is judged by it.
pub fn policy(core: &Core) -> Option<Arc<Policy>> {
    core.shared.sessions.policy()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_app_sets_what_an_operator_is_known_by() {
        let mut fields = Fields::default();
        for line in ["a=1", "mainstay_operator=x; Path=/", " mainstay_operator = y", "mainstay_operators=2"] {
            fields.push(b"Set-Cookie", line.as_bytes());
        }
        keep_apart(&mut fields);
        let left: Vec<&[u8]> = fields.all(Name::SetCookie).collect();
        assert_eq!(left, [&b"a=1"[..], b"mainstay_operators=2"]);
    }

    #[test]
    fn no_cookie_goes_into_an_answer_for_everybody() {
        for (control, told) in [
            (None, true),
            (Some("private, max-age=60"), true),
            (Some("no-store"), true),
            (Some("max-age=60"), true),
            (Some("Public, max-age=60"), false),
            (Some("max-age=0, s-maxage=60"), false),
        ] {
            let mut head = ResponseHead::new(200);
            if let Some(control) = control {
                head.fields.add(Name::CacheControl, control.as_bytes());
            }
            renew(Some("a=b"), &mut head);
            assert_eq!(head.fields.has(Name::SetCookie), told, "{control:?}");
        }
        let mut head = ResponseHead::new(200);
        renew(None, &mut head);
        assert!(!head.fields.has(Name::SetCookie));
        head.fields.add(Name::SetCookie, b"a=c");
        renew(Some("a=b"), &mut head);
        assert_eq!(head.fields.count(Name::SetCookie), 1, "a login has begun another");
        renew(Some("aa=b"), &mut head);
        assert_eq!(head.fields.count(Name::SetCookie), 2);
    }
}
