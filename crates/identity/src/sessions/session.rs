//! A session as stores keep it: whose it is and where it began. When it was used last stands beside it.

use super::id::Hash;
use crate::identity::Identity;
use serde_json::{Value, json};
use std::net::IpAddr;

/// Of what a browser calls itself, so much is kept: enough to recognise one's own.
const AGENT_BYTES_MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub hash: Hash,
    /// `expires_s` is the last second it can live.
    pub identity: Identity,
    pub begun_s: u64,
    pub agent: String,
    pub client: IpAddr,
}

/// With when it was used last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub session: Session,
    pub seen_s: u64,
}

impl Session {
    pub(crate) fn new(hash: Hash, identity: Identity, begun_s: u64, agent: &str, client: IpAddr) -> Session {
        let agent: String = agent.chars().filter(|c| !c.is_control()).collect();
        let end =
            agent.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= AGENT_BYTES_MAX).last();
        Session { hash, identity, begun_s, agent: agent[..end.unwrap_or(0)].to_owned(), client }
    }

    /// All but the hash, which is its key.
    pub(crate) fn text(&self) -> String {
        let identity = &self.identity;
        json!({
            "user": identity.user, "roles": identity.roles, "tenant": identity.tenant, "tier": identity.tier,
            "mfa": identity.second_factor, "begun": self.begun_s, "agent": self.agent,
            "client": self.client.to_string(),
        })
        .to_string()
    }

    /// `None` for what no version of ours wrote.
    pub(crate) fn parse(hash: Hash, text: &str, longest_s: u64) -> Option<Session> {
        let value: Value = serde_json::from_str(text).ok()?;
        let own = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let roles: Option<Vec<String>> =
            value.get("roles")?.as_array()?.iter().map(|role| role.as_str().map(str::to_owned)).collect();
        let begun_s = value.get("begun")?.as_u64()?;
        let identity = Identity {
            user: own("user")?,
            roles: roles?,
            tenant: own("tenant"),
            tier: own("tier"),
            second_factor: value.get("mfa").and_then(Value::as_bool).unwrap_or_default(),
            expires_s: begun_s.saturating_add(longest_s),
        };
        Some(Session { hash, identity, begun_s, agent: own("agent")?, client: own("client")?.parse().ok()? })
    }
}

#[cfg(test)]
pub(crate) fn of(user: &str, hash: Hash, begun_s: u64) -> Session {
    let identity = Identity {
        user: user.to_owned(),
        roles: vec!["user".to_owned()],
        tenant: Some("t1".to_owned()),
        tier: None,
        second_factor: user.ends_with('2'),
        expires_s: begun_s + 30 * 86_400,
    };
    Session::new(hash, identity, begun_s, "curl/8", IpAddr::from([127, 0, 0, 1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::id::Id;

    #[test]
    fn a_session_is_read_as_it_was_written_and_rubbish_is_none() {
        let hash = Id::random().expect("random bytes").hash();
        let session = of("u1", hash, 1000);
        assert_eq!(Session::parse(hash, &session.text(), 30 * 86_400).as_ref(), Some(&session));
        assert!(!session.text().contains(&hash.text()));
        let second = of("u2", hash, 1000);
        assert_eq!(Session::parse(hash, &second.text(), 30 * 86_400), Some(second.clone()));
        let before = second.text().replace(r#""mfa":true,"#, "");
        let read = Session::parse(hash, &before, 9).expect("as it was written before");
        assert!(second.identity.second_factor && !read.identity.second_factor);
        for wrong in ["", "{}", "[]", "null", r#"{"user":"u","roles":[1],"begun":1,"agent":"","client":"::1"}"#] {
            assert_eq!(Session::parse(hash, wrong, 9), None, "{wrong}");
        }
    }

    #[test]
    fn an_agent_is_cut_at_a_letter_and_has_no_line_breaks() {
        let hash = Id::random().expect("random bytes").hash();
        let session = of("u1", hash, 1);
        let told = |agent: &str| Session::new(hash, session.identity.clone(), 1, agent, session.client).agent;
        assert_eq!(told("a\r\nb"), "ab");
        assert_eq!(told(&"\u{e4}".repeat(300)).len(), AGENT_BYTES_MAX);
        assert_eq!(told(""), "");
    }
}
