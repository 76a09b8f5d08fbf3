//! `balance = "sticky"`: a signed cookie brings a client back to the instance that served it last.
//!
//! The cookie is the edge's alone: the app never sees it, and what is forged, stale or another app's is as no cookie.

use crate::balance::Balance;
use crate::core::Core;
use crate::fields::{Fields, Name};
use crate::headers::Peer;
use crate::proxy::Sent;
use crate::snapshot::{Served, Snapshot};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use mainstay_store::key_file::{self, Damaged};
use std::io;
use std::path::Path;

/// A cookie's life (E5: 86,400 s).
const LIFE_S: u64 = 86_400;
/// Past half of it the client gets a new one.
const RENEW_AFTER_S: u64 = LIFE_S / 2;
/// Clocks of several hosts behind one name may differ by so much.
const AHEAD_S: u64 = 300;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const FILE: &str = "sticky.key";

/// Signs cookies. Random for each data folder, so that reloads and restarts keep the clients where they are.
#[derive(Clone)]
pub struct Key(hmac::Key);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    pub fn new(secret: &[u8]) -> Key {
        Key(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The data folder's key, made at first need. Only its owner may read it.
    pub fn load(folder: &Path) -> io::Result<Key> {
        Ok(Key::new(&key_file::load(&folder.join(FILE), KEY_BYTES, Damaged::Replaced)?))
    }

    fn tag(&self, app: &str, upstream: u64, issued_s: u64) -> [u8; TAG_BYTES] {
        let mut text = Vec::with_capacity(app.len() + 17);
        text.extend_from_slice(&upstream.to_be_bytes());
        text.extend_from_slice(&issued_s.to_be_bytes());
        text.extend_from_slice(app.as_bytes());
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hmac::sign(&self.0, &text).as_ref()[..TAG_BYTES]);
        tag
    }

    /// Hides which upstream it is: an address hashed alone could be found by trying them all.
    fn mask(&self, tag: &[u8; TAG_BYTES]) -> u64 {
        let mut pad = [0; 8];
        pad.copy_from_slice(&hmac::sign(&self.0, &[&b"mask"[..], tag].concat()).as_ref()[..8]);
        u64::from_be_bytes(pad)
    }

    #[cfg(test)]
    pub(crate) fn holds(&self, app: &str, value: &str, now_s: u64) -> bool {
        self.read(app, value, now_s).is_some()
    }

    fn write(&self, app: &str, upstream: u64, issued_s: u64) -> String {
        let tag = self.tag(app, upstream, issued_s);
        format!("{issued_s:x}.{:016x}.{:032x}", upstream ^ self.mask(&tag), u128::from_be_bytes(tag))
    }

    /// What a cookie says; `None` for one that is not ours, or too old.
    fn read(&self, app: &str, value: &str, now_s: u64) -> Option<Stuck> {
        let mut parts = value.split('.');
        let (issued, hidden, tag) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || issued.len() > 16 || hidden.len() != 16 || tag.len() != 2 * TAG_BYTES {
            return None;
        }
        let issued_s = u64::from_str_radix(issued, 16).ok()?;
        let tag = u128::from_str_radix(tag, 16).ok()?.to_be_bytes();
        let upstream = u64::from_str_radix(hidden, 16).ok()? ^ self.mask(&tag);
        verify_slices_are_equal(&self.tag(app, upstream, issued_s), &tag).ok()?;
        let age_s = now_s.saturating_sub(issued_s);
        (issued_s <= now_s + AHEAD_S && age_s < LIFE_S).then_some(Stuck { upstream, is_old: age_s > RENEW_AFTER_S })
    }
}

/// A cookie that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stuck {
    upstream: u64,
    is_old: bool,
}

/// One request's part in it.
#[derive(Debug)]
pub struct Sticking {
    stuck: Option<Stuck>,
    https: bool,
    now_s: u64,
}

/// The name of an app's cookie: several apps may share a host.
pub fn name(app: &str) -> String {
    let plain = app.chars().map(|c| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' });
    format!("mainstay_{}", plain.collect::<String>())
}

/// Takes the cookie out of the request. `None` where the app is not balanced so.
pub fn begin(core: &Core, snapshot: &Snapshot, served: &Served, peer: &Peer, fields: &mut Fields) -> Option<Sticking> {
    if served.app.balance != Balance::Sticky {
        return None;
    }
    let now_s = core.unix_us(core.now_us()) / 1_000_000;
    let https = crate::respond::is_https(peer, fields);
    let app = &served.app.name;
    let value = take(fields, &name(app));
    let stuck = value.and_then(|v| key(core, snapshot).read(app, &v, now_s));
    Some(Sticking { stuck, https, now_s })
}

fn key<'a>(core: &'a Core, snapshot: &'a Snapshot) -> &'a Key {
    snapshot.sticky.as_ref().unwrap_or(&core.shared.sticky)
}

/// Tells the client who serves it now, where it does not know yet.
pub fn end(sticking: Option<&Sticking>, core: &Core, snapshot: &Snapshot, served: &Served, sent: &mut Sent) {
    if let Some(sticking) = sticking {
        sticking.end(core, snapshot, served, sent);
    }
}

impl Sticking {
    /// The instance the client was served by.
    pub fn slot(&self, served: &Served) -> Option<u32> {
        let stuck = self.stuck?;
        served.group.list().upstreams.iter().find(|u| u.key() == stuck.upstream).map(|u| u.slot)
    }

    fn end(&self, core: &Core, snapshot: &Snapshot, served: &Served, sent: &mut Sent) {
        let upstream = sent.in_flight.upstream().key();
        if self.stuck.is_some_and(|s| s.upstream == upstream && !s.is_old) {
            return;
        }
        let app = &served.app.name;
        let value = key(core, snapshot).write(app, upstream, self.now_s);
        let secure = if self.https { "; Secure" } else { "" };
        let cookie = format!("{}={value}; Max-Age={LIFE_S}; Path=/; HttpOnly; SameSite=Lax{secure}", name(app));
        sent.head.fields.push(b"Set-Cookie", cookie.as_bytes());
    }
}

/// Removes the cookie of this name, in however many lines the cookies came.
pub(crate) fn take(fields: &mut Fields, name: &str) -> Option<String> {
    let mine = |pair: &[u8]| pair.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='));
    let pairs = |line: &[u8]| line.split(|&b| b == b';').map(|p| p.trim_ascii().to_vec()).collect::<Vec<_>>();
    let all: Vec<Vec<u8>> = fields.all(Name::Cookie).flat_map(pairs).filter(|p| !p.is_empty()).collect();
    let found = all.iter().find(|p| mine(p))?;
    let value = String::from_utf8(found[name.len() + 1..].to_vec()).ok();
    let rest: Vec<&[u8]> = all.iter().filter(|p| !mine(p)).map(Vec::as_slice).collect();
    if rest.is_empty() {
        fields.remove(Name::Cookie);
    } else {
        let joined = rest.join(&b"; "[..]);
        fields.set(Name::Cookie, &joined);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const NOW: u64 = 1_795_000_000;

    #[test]
    fn a_cookie_holds_a_day_and_is_renewed_after_half_of_it() {
        let key = Key::new(b"secret");
        let cookie = key.write("main", 7, NOW);
        let read = |now_s| key.read("main", &cookie, now_s);
        assert_eq!(read(NOW), Some(Stuck { upstream: 7, is_old: false }));
        assert_eq!(read(NOW + RENEW_AFTER_S + 1), Some(Stuck { upstream: 7, is_old: true }));
        assert_eq!(read(NOW + LIFE_S), None);
        assert_eq!(read(NOW - AHEAD_S - 1), None, "from the future");
        assert_eq!(key.read("other", &cookie, NOW), None, "another app's");
        assert_eq!(Key::new(b"else").read("main", &cookie, NOW), None, "another key's");
    }

    #[test]
    fn the_cookie_leaves_the_request_and_the_others_stay() {
        for (lines, rest) in [
            (&["a=1; mainstay_main=x; b=2"][..], Some("a=1; b=2")),
            (&["a=1", "mainstay_main=x", "b=2"][..], Some("a=1; b=2")),
            (&["mainstay_main=x"][..], None),
            (&["mainstay_main=x; mainstay_main=y;a=1"][..], Some("a=1")),
        ] {
            let mut fields = Fields::default();
            lines.iter().for_each(|line| fields.push(b"cookie", line.as_bytes()));
            assert_eq!(take(&mut fields, "mainstay_main").as_deref(), Some("x"));
            assert_eq!(fields.text_of(Name::Cookie), rest);
        }
        let mut fields = Fields::default();
        fields.push(b"cookie", b"mainstay_mainly=x;  odd");
        assert_eq!(take(&mut fields, "mainstay_main"), None);
        assert_eq!(fields.text_of(Name::Cookie), Some("mainstay_mainly=x;  odd"), "untouched");
    }

    #[test]
    fn the_key_stays_with_the_data_folder_and_with_its_owner() {
        let folder = tempfile::tempdir().expect("folder");
        let cookie = Key::load(folder.path()).expect("made").write("main", 7, NOW);
        assert!(Key::load(folder.path()).expect("read").read("main", &cookie, NOW).is_some());
        let mode = fs::metadata(folder.path().join(FILE)).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    proptest! {
        /// One changed letter is a forgery; nothing makes it panic.
        #[test]
        fn a_forged_cookie_is_no_cookie(at in 0usize..60, letter in "[0-9a-f.]", rubbish in "\\PC{0,80}") {
            let key = Key::new(b"secret");
            let cookie = key.write("main", 7, NOW);
            let at = at % cookie.len();
            let forged = format!("{}{letter}{}", &cookie[..at], &cookie[at + 1..]);
            prop_assert_eq!(key.read("main", &forged, NOW).is_some(), forged == cookie);
            prop_assert_eq!(key.read("main", &rubbish, NOW), None);
        }
    }
}
