//! The cookie: read out of a request, and written for the browser.

use super::id::Id;
use super::policy::Policy;

/// What a `Cookie` line says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    Nothing,
    /// Two of one name that differ: somebody on a sibling host may have set one of them.
    Several,
    Id(Id),
    /// It is there, and no id of ours.
    Rubbish,
}

/// Of all `Cookie` lines of a request.
pub fn read<'a>(lines: impl Iterator<Item = &'a [u8]>, name: &str) -> Carried {
    let mut found: Option<&[u8]> = None;
    for pair in lines.flat_map(|line| line.split(|&b| b == b';')) {
        let pair = pair.trim_ascii();
        let Some(value) = pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) else { continue };
        if found.is_some_and(|before| before != value) {
            return Carried::Several;
        }
        found = Some(value);
    }
    match found {
        None => Carried::Nothing,
        Some(value) => {
            let id = std::str::from_utf8(value).ok().and_then(Id::parse);
            id.map_or(Carried::Rubbish, Carried::Id)
        }
    }
}

/// `Set-Cookie` of a session that has `left_s` to live; 0 takes it away.
pub fn write(policy: &Policy, value: &str, left_s: u64) -> String {
    let mut text = format!("{}={value}; Max-Age={left_s}; Path=/; HttpOnly; SameSite=Lax", policy.cookie);
    if let Some(domain) = &policy.domain {
        text.push_str("; Domain=");
        text.push_str(domain);
    }
    if policy.secure {
        text.push_str("; Secure");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::policy::plain;
    use super::*;

    #[test]
    fn one_cookie_is_read_from_however_many_lines() {
        let id = Id::random().expect("random bytes");
        let other = Id::random().expect("random bytes");
        let (own, two) = (format!("s={}", id.text()), format!("s={}", other.text()));
        for (lines, expected) in [
            (vec![], Carried::Nothing),
            (vec!["a=1; t=2".to_owned()], Carried::Nothing),
            (vec![format!("a=1;{own}; b=2")], Carried::Id(id.clone())),
            (vec!["a=1".to_owned(), own.clone()], Carried::Id(id.clone())),
            (vec![own.clone(), own.clone()], Carried::Id(id.clone())),
            (vec![format!("{own}; {two}")], Carried::Several),
            (vec!["s=abc".to_owned()], Carried::Rubbish),
            (vec![format!("xs={}; s2={}", id.text(), id.text())], Carried::Nothing),
        ] {
            assert_eq!(read(lines.iter().map(|line| line.as_bytes()), "s"), expected, "{lines:?}");
        }
    }

    #[test]
    fn flags_are_those_of_the_policy() {
        let policy = plain();
        assert_eq!(write(&policy, "x", 9), "mainstay-session=x; Max-Age=9; Path=/; HttpOnly; SameSite=Lax");
        let policy =
            Policy { secure: true, domain: Some("a.example".into()), cookie: "__Secure-session".into(), ..policy };
        assert_eq!(
            write(&policy, "", 0),
            "__Secure-session=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Domain=a.example; Secure"
        );
    }
}
