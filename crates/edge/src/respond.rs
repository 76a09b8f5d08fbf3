//! What is done to every answer, the app's and our own, in one place: headers, CORS, the sticky cookie, compression.
//!
//! Must never touch an answer that no file asks to be touched, nor a header the app set: where CORS is on, its headers
//! are ours alone, and that is the one exception.

pub mod accept;
pub mod compress;
pub mod cors;
pub mod edits;
pub mod encoder;
pub mod secure;

use crate::body::Answer;
use crate::core::Core;
use crate::fields::{Fields, Name};
use crate::headers::Peer;
use crate::http1::framing::Framing;
use crate::message::{RequestHead, ResponseHead, Version};
use crate::path::Pattern;
use accept::{Coding, acceptable};
use cors::{Cors, Said};
use edits::Edit;
use encoder::Encoder;
use http::Method;
use mainstay_config::{Reader, Table};
use secure::Secure;

/// `[edge.headers]` and `[edge.cors]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub secure: Secure,
    pub cors: Option<Cors>,
    /// Codings, our favourite first; none: off.
    pub compress: Vec<Coding>,
}

/// The same of one `[[route]]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RouteOptions {
    pub edits: Vec<Edit>,
    /// `Some(None)`: off here.
    pub cors: Option<Option<Cors>>,
    pub compress: Option<Vec<Coding>>,
}

impl Options {
    pub fn read(reader: &Reader) -> Options {
        let edge = reader.table("edge");
        let compress = compress::read(&edge).unwrap_or_default();
        Options { secure: secure::read(&edge, reader), cors: cors::read(&edge, reader), compress }
    }
}

impl RouteOptions {
    pub fn read(table: &Table, production: bool) -> RouteOptions {
        let cors = cors::read_route(table, production);
        RouteOptions { edits: edits::read(table), cors, compress: compress::read(table) }
    }

    fn is_nothing(&self) -> bool {
        *self == RouteOptions::default()
    }
}

/// What holds for all answers, and for those of some routes.
#[derive(Debug, Default)]
pub struct Rules {
    all: Options,
    /// Most specific first, and only those that say something about answers.
    routes: Vec<(Pattern, RouteOptions)>,
    idle: bool,
}

impl Rules {
    /// `routes`: most specific first.
    pub fn new<'a>(all: &Options, routes: impl Iterator<Item = (&'a Pattern, &'a RouteOptions)>) -> Rules {
        let routes: Vec<_> = routes.filter(|(_, r)| !r.is_nothing()).map(|(p, r)| (p.clone(), r.clone())).collect();
        let idle = routes.is_empty() && *all == Options::default();
        Rules { all: all.clone(), routes, idle }
    }

    /// `[edge.headers]` says what becomes of HSTS.
    pub fn decides_hsts(&self) -> bool {
        self.all.secure.decides_hsts()
    }

    /// Which routes speak about this request's answer, most specific first.
    pub fn matching(&self, method: &str, host: &str, path: &str) -> Vec<u16> {
        if self.routes.is_empty() {
            return Vec::new();
        }
        let all = self.routes.iter().enumerate();
        all.filter(|(_, (p, _))| p.matches(method, host, path)).filter_map(|(i, _)| u16::try_from(i).ok()).collect()
    }
}

/// What will be done to one request's answer, decided while the request's head was still there.
#[derive(Debug, Default)]
pub struct Plan {
    active: bool,
    /// The client's side of the connection is encrypted, here or at a proxy we believe.
    https: bool,
    matched: Vec<u16>,
    cors: Said,
    /// Answers worth it are compressed; the coding for this client, if it takes one.
    compress: Option<Option<Coding>>,
    to_head: bool,
}

impl Plan {
    /// What holds for every answer, before it is known where the request goes.
    pub fn new(rules: &Rules, peer: &Peer, head: &RequestHead) -> Plan {
        if rules.idle {
            return Plan::default();
        }
        Plan { active: true, https: is_https(peer, &head.fields), ..Plan::default() }
    }

    /// Takes in what these routes say. The answer, if it is the edge's to give: that of a CORS preflight.
    ///
    /// `pages`: these are operators', which no other origin reads, whatever CORS says of the app.
    pub fn route(
        &mut self,
        rules: &Rules,
        matched: Vec<u16>,
        head: &RequestHead,
        pages: bool,
    ) -> Option<Box<ResponseHead>> {
        if !self.active {
            return None;
        }
        self.matched = matched;
        self.to_head = head.method == Method::HEAD;
        let codings = self.options(rules).find_map(|o| o.compress.as_ref()).unwrap_or(&rules.all.compress);
        if !codings.is_empty() {
            // HTTP/1.0 knows no chunks, and what is compressed has no length.
            let offered = if head.version == Version::Http10 { &[][..] } else { codings };
            let best = acceptable(head.fields.tokens(Name::AcceptEncoding), offered).first().copied();
            self.compress = Some(best);
        }
        let named = self.options(rules).find_map(|o| o.cors.as_ref());
        let cors = named.map_or(rules.all.cors.as_ref(), Option::as_ref).filter(|_| !pages)?;
        if let Some(answer) = cors.preflight(head) {
            return Some(answer);
        }
        self.cors = cors.answer(&head.fields);
        None
    }

    /// CORS lets the page that asks come with cookies.
    pub fn trusts_page(&self) -> bool {
        matches!(self.cors, Said::Allowed { credentials: true, .. })
    }

    fn options<'a>(&'a self, rules: &'a Rules) -> impl Iterator<Item = &'a RouteOptions> {
        self.matched.iter().filter_map(|&i| rules.routes.get(usize::from(i))).map(|(_, options)| options)
    }

    /// Does it. `ours`: the answer is not the app's.
    pub fn apply(&mut self, core: &Core, rules: &Rules, answer: &mut Answer, ours: bool) {
        if !self.active || answer.is_tunnel() {
            return;
        }
        let fields = &mut answer.head.fields;
        self.cors.write(fields);
        let edits = || self.options(rules).flat_map(|o| &o.edits);
        // The most specific comes first, and who comes first has the word.
        for (i, edit) in edits().enumerate() {
            if !edits().take(i).any(|earlier| earlier.name.eq_ignore_ascii_case(&edit.name)) {
                edit.apply(fields);
            }
        }
        let named = |name: &str| edits().any(|edit| edit.name.eq_ignore_ascii_case(name));
        for (name, value) in rules.all.secure.lines(self.https, ours) {
            if !fields.has_named(name.as_bytes()) && !named(name) {
                fields.push(name.as_bytes(), value.as_bytes());
            }
        }
        self.encode(core, answer);
    }

    fn encode(&self, core: &Core, answer: &mut Answer) {
        let Some(choice) = self.compress else { return };
        let has_body = self.to_head || answer.framing() != Framing::Absent;
        if !compress::is_worthwhile(&answer.head, has_body) {
            return;
        }
        compress::depends(&mut answer.head.fields);
        let Some(coding) = choice else { return };
        if self.to_head {
            compress::mark(&mut answer.head.fields, coding);
        } else if let Some(encoder) = Encoder::new(coding, &core.encoders) {
            compress::mark(&mut answer.head.fields, coding);
            answer.encode(encoder);
        }
    }
}

/// The client speaks TLS: to us, or to a proxy we believe.
pub fn is_https(peer: &Peer, fields: &Fields) -> bool {
    peer.tls || peer.is_trusted && fields.get(Name::ForwardedProto) == Some(b"https")
}

/// Says that the answer depends on this header of the request.
pub fn vary(fields: &mut Fields, name: &str) {
    if fields.has_token(Name::Vary, name) || fields.has_token(Name::Vary, "*") {
        return;
    }
    let mut all: Vec<u8> = fields.tokens(Name::Vary).collect::<Vec<_>>().join(&b", "[..]);
    if !all.is_empty() {
        all.extend_from_slice(b", ");
    }
    all.extend_from_slice(name.as_bytes());
    fields.set(Name::Vary, &all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vary_is_one_list_without_doubles() {
        let mut fields = Fields::default();
        vary(&mut fields, "Origin");
        fields.push(b"Vary", b"Cookie,");
        vary(&mut fields, "Accept-Encoding");
        vary(&mut fields, "origin");
        assert_eq!(fields.text_of(Name::Vary), Some("Origin, Cookie, Accept-Encoding"));
        assert_eq!(fields.count(Name::Vary), 1);
        let mut fields = Fields::default();
        fields.push(b"Vary", b"*");
        vary(&mut fields, "Origin");
        assert_eq!(fields.text_of(Name::Vary), Some("*"));
    }
}
