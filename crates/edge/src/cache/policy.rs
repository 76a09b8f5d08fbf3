//! What a shared cache may store, for how long, and when it may use it (RFC 9111, RFC 5861). Pure: of what was said,
//! what was configured, and the time.

use super::control::{Said, Wanted, seconds};
use crate::date;
use crate::fields::{Fields, Name};

/// Statuses whose meaning is understood, so that an answer of one may be stored (§3). No 5xx: an outage is not kept.
const UNDERSTOOD: &[u16] = &[200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414];
/// Those that a configured freshness is taken for, where the app says nothing.
const ASSUMED: &[u16] = &[200, 203, 204, 300, 301, 308, 404, 410];

/// What a route gives where the app says nothing, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    pub fresh_s: Option<u32>,
    pub stale_while_revalidate_s: u32,
    pub stale_if_error_s: u32,
}

/// What was read of a request that decides whether its answer may be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub get: bool,
    pub authorized: bool,
    pub cookie: bool,
    pub no_store: bool,
}

/// When an answer came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// On the process clock.
    pub now_ms: u64,
    pub unix_s: u64,
    /// From sending the request to the head of the answer.
    pub delay_s: u32,
}

/// Why an answer is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Not {
    Method,
    Status,
    NoStore,
    Private,
    Authorized,
    SetCookie,
    /// The app says nothing, and no freshness is configured.
    Unsaid,
    /// The app says nothing, and the request carried a cookie: it may be somebody's own page.
    Cookie,
    /// Stale at once, and nothing to validate it by.
    NoValidator,
    /// It has no end.
    Stream,
}

/// How long an answer may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    pub stored_ms: u64,
    pub initial_age_s: u32,
    pub lifetime_s: u32,
    pub stale_while_revalidate_s: u32,
    pub stale_if_error_s: u32,
    /// Never used stale, whatever the client or the route says.
    pub must_revalidate: bool,
    /// Never used without asking.
    pub no_cache: bool,
    /// By configuration, not by a word of the app: not for requests with a cookie.
    pub assumed: bool,
}

/// How a stored answer may be used now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Fresh,
    /// The client takes it stale.
    Stale,
    /// As it is, while it is asked for anew.
    StaleWhileRevalidate,
    /// Not before the app was asked.
    Validate,
}

/// Whether this answer may be stored (§3), and for how long it may be used.
pub fn judge(asked: Asked, status: u16, fields: &Fields, defaults: Defaults, came: Came) -> Result<Meta, Not> {
    let said = Said::of(fields);
    if !asked.get {
        return Err(Not::Method);
    }
    if !UNDERSTOOD.contains(&status) {
        return Err(Not::Status);
    }
    if fields.get(Name::ContentType).is_some_and(is_stream) {
        return Err(Not::Stream);
    }
    // §5.2.2.3: one that understands the status passes over `no-store`.
    if asked.no_store || said.no_store && !said.must_understand {
        return Err(Not::NoStore);
    }
    if said.private {
        return Err(Not::Private);
    }
    // §3.5
    if asked.authorized && !(said.public || said.origin_revalidate || said.s_maxage.is_some()) {
        return Err(Not::Authorized);
    }
    if fields.has(Name::SetCookie) && !said.withheld.iter().any(|name| name == b"set-cookie") {
        return Err(Not::SetCookie);
    }
    let (lifetime_s, assumed) = match explicit(&said, fields, came.unix_s) {
        Some(lifetime) => (lifetime, false),
        None if said.no_cache => (0, false),
        None => match defaults.fresh_s.filter(|_| ASSUMED.contains(&status)) {
            Some(fresh) => (fresh, !said.public),
            None => return Err(Not::Unsaid),
        },
    };
    if assumed && asked.cookie {
        return Err(Not::Cookie);
    }
    if (lifetime_s == 0 || said.no_cache) && !fields.has_any(&[Name::Etag, Name::LastModified]) {
        return Err(Not::NoValidator);
    }
    Ok(Meta {
        stored_ms: came.now_ms,
        initial_age_s: initial_age(fields, came),
        lifetime_s,
        stale_while_revalidate_s: said.stale_while_revalidate.unwrap_or(defaults.stale_while_revalidate_s),
        stale_if_error_s: said.stale_if_error.unwrap_or(defaults.stale_if_error_s),
        // §5.2.2.10: `s-maxage` says what `proxy-revalidate` says, unless the app itself allows more beside it.
        must_revalidate: said.must_revalidate
            || said.s_maxage.is_some() && said.stale_while_revalidate.is_none() && said.stale_if_error.is_none(),
        no_cache: said.no_cache,
        assumed,
    })
}

/// Server-sent events: whoever waited for the end of them would wait for ever.
fn is_stream(content_type: &[u8]) -> bool {
    const STREAM: &[u8] = b"text/event-stream";
    content_type.get(..STREAM.len()).is_some_and(|start| start.eq_ignore_ascii_case(STREAM))
}

/// §4.2.1: what the answer itself says.
fn explicit(said: &Said, fields: &Fields, unix_s: u64) -> Option<u32> {
    if let Some(lifetime) = said.s_maxage.or(said.max_age) {
        return Some(lifetime);
    }
    let expires = fields.get(Name::Expires)?;
    // What is no date has passed (§5.3).
    let Some(expires) = date::read(expires) else { return Some(0) };
    let from = fields.get(Name::Date).and_then(date::read).unwrap_or(unix_s);
    Some(u32::try_from(expires.saturating_sub(from)).unwrap_or(u32::MAX))
}

/// §4.2.3
fn initial_age(fields: &Fields, came: Came) -> u32 {
    let said = fields.tokens(Name::Age).next().filter(|v| v.iter().all(u8::is_ascii_digit));
    let corrected = said.map_or(0, |v| seconds(Some(v))).saturating_add(came.delay_s);
    let apparent = fields.get(Name::Date).and_then(date::read).map_or(0, |date| came.unix_s.saturating_sub(date));
    corrected.max(u32::try_from(apparent).unwrap_or(u32::MAX))
}

impl Meta {
    pub fn age_s(&self, now_ms: u64) -> u32 {
        let resident = u32::try_from(now_ms.saturating_sub(self.stored_ms) / 1000).unwrap_or(u32::MAX);
        self.initial_age_s.saturating_add(resident)
    }

    /// Seconds it stays fresh; negative once it is stale.
    pub fn ttl_s(&self, now_ms: u64) -> i64 {
        i64::from(self.lifetime_s) - i64::from(self.age_s(now_ms))
    }

    /// §4.2.4 and §5.2.1
    pub fn may_be_used(&self, wanted: &Wanted, now_ms: u64) -> Use {
        let (age, ttl) = (self.age_s(now_ms), self.ttl_s(now_ms));
        let too_old = wanted.max_age.is_some_and(|max| age > max || max == 0);
        let too_short = wanted.min_fresh.is_some_and(|min| ttl < i64::from(min));
        if self.no_cache || wanted.no_cache || too_old || too_short {
            return Use::Validate;
        }
        let stale = -ttl;
        match () {
            () if ttl > 0 => Use::Fresh,
            () if self.must_revalidate => Use::Validate,
            () if wanted.max_stale.is_some_and(|max| stale <= i64::from(max)) => Use::Stale,
            () if stale < i64::from(self.stale_while_revalidate_s) => Use::StaleWhileRevalidate,
            () => Use::Validate,
        }
    }

    /// RFC 5861 §4
    pub fn may_be_used_on_error(&self, now_ms: u64) -> bool {
        let ttl = self.ttl_s(now_ms);
        ttl > 0 && !self.no_cache || !self.no_cache && !self.must_revalidate && -ttl < i64::from(self.stale_if_error_s)
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
