//! Gate: what changes something on the word of a cookie must come from a page of ours, and prove it by a token.
//!
//! Only where sessions are on, and only for requests that are recognised by the cookie: who brings a token in
//! `Authorization` was not sent by somebody else's page.

use crate::core::Conn;
use crate::fields::{Fields, Name};
use crate::headers::wants_upgrade;
use crate::local::Ours;
use crate::message::RequestHead;
use crate::options::Options;
use crate::path::{Pattern, canonical};
use crate::proxy::Refusal;
use crate::respond;
use crate::service_call::host;
use crate::session::Seen;
use http::Method;
use mainstay_identity::csrf::{HEADERS, Page, Said, brings_its_own_proof, holds, page};
use mainstay_identity::sessions::Policy;
use mainstay_identity::{Csrf, exchange};
use mainstay_telemetry::{Names, Verdict};

/// What routes say of it, the most specific first.
#[derive(Debug, Default)]
pub struct Rules {
    on: bool,
    routes: Vec<(Pattern, Csrf, u32)>,
    /// In `Names`: where sessions are switched on.
    at: u32,
}

/// What is asked of one request, and in `Names` where that stands.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub csrf: Csrf,
    pub at: u32,
}

impl Rules {
    pub fn new(options: &Options, names: &Names) -> Rules {
        let Some(policy) = &options.identity.sessions else { return Rules::default() };
        let routes = options
            .routes
            .iter()
            .filter_map(|route| Some((route.pattern.clone(), route.identity.csrf?, names.intern(&route.at))));
        Rules { on: true, routes: routes.collect(), at: names.intern(&policy.at) }
    }

    /// `None`: nothing.
    pub fn matching(&self, method: &str, host: &str, path: &str) -> Option<Rule> {
        if !self.on {
            return None;
        }
        let own = self.routes.iter().find(|(pattern, ..)| pattern.matches(method, host, path));
        Some(own.map_or(Rule { csrf: Csrf::Token, at: self.at }, |(_, csrf, at)| Rule { csrf: *csrf, at: *at }))
    }
}

/// One request at the gate.
#[derive(Debug)]
pub struct Asked<'a> {
    pub conn: &'a Conn,
    pub head: &'a RequestHead,
    pub ours: Ours,
    /// CORS lets this origin ask with credentials.
    pub allowed: bool,
    pub seen: Option<&'a Seen>,
}

/// # Errors
/// 403: from a page of somebody else's, or without the token.
pub fn gate(rule: Rule, policy: &Policy, asked: &Asked<'_>) -> Result<(), Refusal> {
    let (head, is_service) = (asked.head, asked.ours == Ours::Service);
    let upgrade = wants_upgrade(&head.fields);
    let is_safe = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    if rule.csrf == Csrf::Off || is_safe && !upgrade || asked.seen.is_none() && !is_service {
        return Ok(());
    }
    let refused = |verdict: Verdict| Err(Refusal { rule: rule.at, ..verdict.into() });
    let comes = page(&Said {
        origin: head.fields.get(Name::Origin),
        site: head.fields.find("sec-fetch-site"),
        host: host(asked.conn, head),
        https: respond::is_https(&asked.conn.peer, &head.fields),
        allowed: asked.allowed,
    });
    // Somebody else's page could log its visitor in as somebody else: a login without a cookie is no exception.
    if comes == Page::Foreign {
        return refused(Verdict::CrossSite);
    }
    let Some(seen) = asked.seen else { return Ok(()) };
    // Sockets cannot carry a token, and browsers say where every one of them comes from.
    if upgrade {
        return Ok(());
    }
    if comes == Page::Unsaid {
        return refused(Verdict::CrossSite);
    }
    // Forms of our own pages carry no token: that they are ours is what browsers have just said.
    let is_form = asked.ours == Ours::Pages;
    let is_proof = is_service && brings_its_own_proof(below(&canonical(head.path()).path));
    if rule.csrf == Csrf::Origin || is_form || is_proof || has_token(&head.fields, seen, policy) {
        return Ok(());
    }
    refused(Verdict::CsrfToken)
}

fn below(path: &str) -> &str {
    path.strip_prefix(exchange::ROOT).unwrap_or_default().trim_start_matches('/')
}

fn has_token(fields: &Fields, seen: &Seen, policy: &Policy) -> bool {
    let token = HEADERS.iter().find_map(|name| fields.find(name));
    token.is_some_and(|token| holds(&seen.id, policy.secret.as_deref(), token))
}
