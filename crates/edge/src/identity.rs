//! Gate: who asks, and whether the routes that match let him come.
//!
//! Only where a file has `[identity]`. Then no client's word about itself reaches an app: the headers that name a user
//! are removed as they come in and written anew from what was verified. Credentials stay where they are.

use crate::core::{Core, Finish};
use crate::fields::{Fields, Name};
use crate::local::Ours;
use crate::message::RequestHead;
use crate::method_override::override_of;
use crate::options::{Options, Pages};
use crate::path::Pattern;
use crate::proxy::Refusal;
use crate::readings::{self, Readings};
use crate::session::Seen;
use arc_swap::ArcSwapOption;
use mainstay_identity::{
    Decision, Guard, IDENTITY, Known, ROLES, Revoked, Signer, SignerFault, TENANT, TokenFault, USER, Verifier, Verify,
    decide, is_identity_header,
};
use mainstay_telemetry::{Names, Verdict};
use std::cell::OnceCell;
use std::sync::Arc;

/// A client whose keys are not here yet may come again so soon.
const KEYS_AWAITED_S: u32 = 2;

/// What verifies tokens, kept from one configuration to the next where nothing changed about it.
#[derive(Debug)]
pub struct Identities {
    signer: Arc<Signer>,
    revoked: Arc<Revoked>,
    current: ArcSwapOption<(Verify, Arc<Verifier>)>,
}

impl Identities {
    pub fn new(signer: Arc<Signer>, revoked: Arc<Revoked>) -> Identities {
        Identities { signer, revoked, current: ArcSwapOption::empty() }
    }

    /// Reads or makes the key that signs what apps are told, where somebody is to be recognised.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(&self, options: Option<&Verify>) -> Result<(), SignerFault> {
        options.map_or(Ok(()), |_| self.signer.open())
    }

    /// The verifier for these options, once it is open for them; changes nothing yet.
    pub fn prepare(&self, options: Option<&Verify>) -> Option<Arc<Verifier>> {
        let options = options?;
        let current = self.current.load();
        if let Some((known, verifier)) = current.as_deref()
            && known == options
        {
            return Some(verifier.clone());
        }
        let verifier = Verifier::new(options, self.signer.clone(), self.revoked.clone());
        if let Some((known, old)) = current.as_deref()
            && known.source == options.source
        {
            verifier.replace_keys(old.keys());
        }
        Some(Arc::new(verifier))
    }

    pub fn commit(&self, options: Option<&Verify>, verifier: Option<&Arc<Verifier>>) {
        let both = options.zip(verifier).map(|(options, verifier)| Arc::new((options.clone(), verifier.clone())));
        self.current.store(both);
    }

    /// Where keys are fetched from, and for whom.
    pub fn current(&self) -> Option<Arc<(Verify, Arc<Verifier>)>> {
        self.current.load_full()
    }
}

/// What the gate goes by, of one configuration.
#[derive(Debug, Default)]
pub struct Rules {
    pub verifier: Option<Arc<Verifier>>,
    guards: Vec<Guarded>,
    is_on: bool,
}

#[derive(Debug)]
struct Guarded {
    pattern: Pattern,
    /// The same, for `Readings::Many`.
    folded: Pattern,
    guard: Guard,
    /// In `Names`.
    rule: u32,
}

/// The pages of operators, as a route of that match and these roles would be.
fn guarded_pages(pages: &Pages, names: &Names) -> Vec<Guarded> {
    let guard = Guard { roles: pages.roles.clone(), second_factor: false, at: pages.at.clone() };
    let patterns = [Pattern::parse(&pages.path), Pattern::parse(&format!("{}/*", pages.path))];
    let guarded = |pattern: Pattern| {
        let (folded, rule) = (pattern.folded(), names.intern(&pages.at));
        Guarded { pattern, folded, guard: guard.clone(), rule }
    };
    patterns.into_iter().flatten().map(guarded).collect()
}

impl Rules {
    pub fn new(options: &Options, names: &Names, verifier: Option<Arc<Verifier>>) -> Rules {
        let guarded = options.routes.iter().filter_map(|route| {
            let guard = route.identity.guard.clone()?;
            let (pattern, folded) = (route.pattern.clone(), route.pattern.folded());
            Some(Guarded { pattern, folded, guard, rule: names.intern(&route.at) })
        });
        let mut guards: Vec<Guarded> = guarded.collect();
        if options.identity.is_on() {
            guards.extend(options.pages.iter().flat_map(|pages| guarded_pages(pages, names)));
        }
        Rules { verifier, guards, is_on: options.identity.is_on() }
    }

    /// Users are recognised.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// What has to be read before a token of this request can be judged.
    pub fn unopened(&self, fields: &Fields) -> Option<&Revoked> {
        self.verifier.as_ref()?.unopened().filter(|_| has_token(fields))
    }

    /// The guards of what is asked for, however the app may read its path and its method. Documents and services of
    /// ours are no part of the app, and an authority's challenge carries no token.
    pub fn matching(&self, head: &RequestHead, host: &str, path: &str, ours: Ours) -> Vec<u16> {
        if self.guards.is_empty() || matches!(ours, Ours::Alone | Ours::Service) {
            return Vec::new();
        }
        let readings = readings::every(head.path());
        if ours == Ours::Token && readings == Readings::One {
            return Vec::new();
        }
        let claimed = OnceCell::new();
        let covering = self.guards.iter().enumerate().filter(|(_, guarded)| {
            let by_path = match &readings {
                Readings::One => guarded.pattern.covers_path(host, path),
                Readings::Many(all) => all.iter().any(|reading| guarded.folded.covers_path(host, reading)),
                Readings::Anything => true,
            };
            by_path && guarded.covers_method(head, &claimed)
        });
        covering.filter_map(|(index, _)| u16::try_from(index).ok()).collect()
    }

    /// Guards add up: each must let the client come. Gives whoever was recognised.
    ///
    /// # Errors
    /// 401 where nobody known asks, 403 where somebody asks who may not.
    pub fn gate(
        &self,
        core: &Core,
        guards: &[u16],
        fields: &mut Fields,
        seen: Option<&Seen>,
        finish: &mut Finish,
    ) -> Result<Option<Known>, Refusal> {
        let Some(verifier) = &self.verifier else {
            // No file that `check` lets pass has guards and nobody to recognise users; then nobody is recognised.
            let rule = guards.iter().find_map(|index| self.guards.get(usize::from(*index))).map(|guarded| guarded.rule);
            return rule.map_or(Ok(None), |rule| Err(Refusal { rule, ..Verdict::LoginRequired.into() }));
        };
        fields.remove_where(is_identity_header);
        let now_s = core.unix_us(core.now_us()) / 1_000_000;
        let found = match bearer(fields) {
            Credentials::None => match seen {
                Some(seen) => Ok(verifier.of_session(&mut core.verified.borrow_mut(), &seen.session, now_s)),
                None => Err(None),
            },
            Credentials::Several => Err(Some(TokenFault::Malformed)),
            Credentials::Bearer(token) => {
                verifier.identify(&mut core.verified.borrow_mut(), token, now_s).map_err(Some)
            }
        };
        if let Err(Some(TokenFault::NotKnown)) = found {
            // One of ours, and nobody can say yet whether it was taken back: taken for nobody's, it would log him out.
            return Err(Refusal { retry_after: Some(KEYS_AWAITED_S), ..Verdict::ServiceBusy.into() });
        }
        if let Some(tenant) = found.as_ref().ok().and_then(|known| known.identity.tenant.as_deref()) {
            core.with_metrics(|metrics| finish.note(|record| record.tenant = metrics.tenant(tenant)));
        }
        for guarded in guards.iter().filter_map(|index| self.guards.get(usize::from(*index))) {
            let identity = found.as_ref().ok().map(|known| &*known.identity);
            let verdict = match decide(&guarded.guard, identity) {
                Decision::Allow => continue,
                Decision::Forbid => Verdict::RoleMissing,
                Decision::SecondFactor => Verdict::SecondFactorRequired,
                Decision::LogIn => match &found {
                    Err(Some(TokenFault::UnknownKey)) if !verifier.has_keys() => {
                        let retry_after = Some(KEYS_AWAITED_S);
                        return Err(Refusal { rule: guarded.rule, retry_after, ..Verdict::ServiceBusy.into() });
                    }
                    Err(Some(TokenFault::Expired)) => Verdict::TokenExpired,
                    Err(Some(_)) => Verdict::TokenInvalid,
                    _ => Verdict::LoginRequired,
                },
            };
            return Err(Refusal { rule: guarded.rule, ..verdict.into() });
        }
        Ok(found.ok())
    }

    /// Tells the app who asks.
    pub fn tell(&self, core: &Core, known: Option<&Known>, app: &str, fields: &mut Fields) {
        let (Some(verifier), Some(known)) = (&self.verifier, known) else { return };
        let identity = &known.identity;
        fields.push(USER.as_bytes(), identity.user.as_bytes());
        fields.push(ROLES.as_bytes(), identity.roles.join(",").as_bytes());
        if let Some(tenant) = &identity.tenant {
            fields.push(TENANT.as_bytes(), tenant.as_bytes());
        }
        let now_s = core.unix_us(core.now_us()) / 1_000_000;
        if let Some(statement) = verifier.statement(&mut core.verified.borrow_mut(), known, app, now_s) {
            fields.push(IDENTITY.as_bytes(), statement.as_bytes());
        }
    }
}

/// It brings a token, or what should be one: nothing else is looked at.
pub fn has_token(fields: &Fields) -> bool {
    !matches!(bearer(fields), Credentials::None)
}

impl Guarded {
    /// Middleware of many frameworks lets a client name another method than the one it uses.
    fn covers_method(&self, head: &RequestHead, claimed: &OnceCell<Vec<String>>) -> bool {
        let covers = |method: &str| self.pattern.covers_method(method);
        covers(head.method.as_str()) || claimed.get_or_init(|| override_of(head)).iter().any(|method| covers(method))
    }
}

enum Credentials<'a> {
    /// None, or of another scheme: the app's matter.
    None,
    /// Two servers could take two different ones.
    Several,
    Bearer(&'a str),
}

fn bearer(fields: &Fields) -> Credentials<'_> {
    match fields.count(Name::Authorization) {
        0 => return Credentials::None,
        1 => {}
        _ => return Credentials::Several,
    }
    let Some((scheme, token)) = fields.text_of(Name::Authorization).and_then(|text| text.trim().split_once(' ')) else {
        return Credentials::None;
    };
    if scheme.eq_ignore_ascii_case("bearer") { Credentials::Bearer(token.trim_start()) } else { Credentials::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_follows_bearer_and_there_is_one() {
        let read = |lines: &[&str]| {
            let lines: Vec<(&str, &str)> = lines.iter().map(|value| ("Authorization", *value)).collect();
            match bearer(&Fields::of(&lines)) {
                Credentials::None => "none".to_owned(),
                Credentials::Several => "several".to_owned(),
                Credentials::Bearer(token) => token.to_owned(),
            }
        };
        for (lines, expected) in [
            (&[][..], "none"),
            (&["Bearer a.b.c"], "a.b.c"),
            (&["bearer  a.b.c "], "a.b.c"),
            (&["Basic dTpw"], "none"),
            (&["Bearer"], "none"),
            (&["Bearer a.b.c", "Bearer d.e.f"], "several"),
        ] {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }
}
