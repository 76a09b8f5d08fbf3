//! Operators at a browser: links that let in once, and the logins they give.
//!
//! Pure: the clock is an argument. In memory and nowhere else, as hashes. There is no password, so none can be guessed,
//! left at its default or forgotten: whoever may ask on the control socket is an operator already.

use super::{hashed, random};
use aws_lc_rs::constant_time;
use serde::{Deserialize, Serialize};

/// By what a browser is known. The edge lets no app see it, or set it.
pub const COOKIE: &str = "mainstay_operator";
/// A link that nobody has followed is worth nothing after ten minutes.
pub const LINK_LIFE_US: u64 = 10 * 60 * 1_000_000;
/// A login ends after twelve hours, however it was used (ASVS 3.3.2).
pub const LOGIN_LIFE_US: u64 = 12 * 3600 * 1_000_000;
/// And after half an hour in which no page was asked for.
pub const IDLE_US: u64 = 30 * 60 * 1_000_000;
/// One too many takes the place of the oldest.
const LINKS_MAX: usize = 8;
const LOGINS_MAX: usize = 64;
const LINK_BYTES: usize = 16;
const LOGIN_BYTES: usize = 32;
/// No secret of ours is longer when it is written.
const SECRET_CHARS_MAX: usize = 64;

/// Links and logins of this server. What is written of it for the server that takes over holds no secret.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Logins {
    #[serde(default)]
    links: Vec<Entry>,
    #[serde(default)]
    logins: Vec<Entry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    /// SHA-256 of what proves it: 128 bits of chance and more need no slower hash.
    hash: Vec<u8>,
    created_us: u64,
    used_us: u64,
}

impl Entry {
    fn new(secret: &str, now_us: u64) -> Entry {
        Entry { hash: hashed(secret), created_us: now_us, used_us: now_us }
    }
}

impl Logins {
    /// What stands in a link: 128 bits. `None` where the kernel gives no random bytes.
    pub fn link(&mut self, now_us: u64) -> Option<String> {
        self.forget_old(now_us);
        let secret = random(LINK_BYTES)?;
        put(&mut self.links, Entry::new(&secret, now_us), LINKS_MAX);
        Some(secret)
    }

    /// Follows a link, once: what its browser proves itself by from now on. `None` for a link that is none, was
    /// followed before, or is too old.
    pub fn enter(&mut self, link: &str, now_us: u64) -> Option<String> {
        self.forget_old(now_us);
        let at = find(&self.links, link)?;
        self.links.remove(at);
        let secret = random(LOGIN_BYTES)?;
        put(&mut self.logins, Entry::new(&secret, now_us), LOGINS_MAX);
        Some(secret)
    }

    /// Whether this is an operator's browser; it is seen to live.
    pub fn knows(&mut self, secret: &str, now_us: u64) -> bool {
        self.forget_old(now_us);
        let Some(at) = find(&self.logins, secret) else { return false };
        self.logins[at].used_us = now_us;
        true
    }

    /// Ends one login.
    pub fn leave(&mut self, secret: &str) {
        if let Some(at) = find(&self.logins, secret) {
            self.logins.remove(at);
        }
    }

    /// Ends all of them, and every link. How many browsers were logged in.
    pub fn end(&mut self, now_us: u64) -> usize {
        self.forget_old(now_us);
        self.links.clear();
        std::mem::take(&mut self.logins).len()
    }

    /// Nobody is logged in, and no link is out.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.logins.is_empty()
    }

    /// A clock that was set back makes nothing live longer than its life from then on.
    fn forget_old(&mut self, now_us: u64) {
        let is_within = |since_us: u64, life_us: u64| now_us.abs_diff(since_us) < life_us;
        self.links.retain(|link| is_within(link.created_us, LINK_LIFE_US));
        self.logins.retain(|login| is_within(login.created_us, LOGIN_LIFE_US) && is_within(login.used_us, IDLE_US));
    }
}

fn put(entries: &mut Vec<Entry>, entry: Entry, most: usize) {
    if entries.len() >= most {
        entries.remove(0);
    }
    entries.push(entry);
}

/// Compared in a time that says nothing about any of them.
fn find(entries: &[Entry], secret: &str) -> Option<usize> {
    if secret.len() > SECRET_CHARS_MAX {
        return None;
    }
    let hash = hashed(secret);
    entries.iter().position(|entry| constant_time::verify_slices_are_equal(&entry.hash, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000_000_000;

    #[test]
    fn a_link_lets_in_once_and_for_ten_minutes() {
        let mut logins = Logins::default();
        let link = logins.link(NOW).expect("random bytes");
        assert!(link.len() >= 22, "128 bits: {}", link.len());
        assert_eq!(logins.enter("", NOW), None);
        assert_eq!(logins.enter(&link[1..], NOW), None);
        let login = logins.enter(&link, NOW + LINK_LIFE_US - 1).expect("a login");
        assert_eq!(logins.enter(&link, NOW + LINK_LIFE_US - 1), None, "twice");
        assert!(logins.knows(&login, NOW + LINK_LIFE_US));
        assert!(!logins.knows(&link, NOW + LINK_LIFE_US), "a link is no login");
        let late = logins.link(NOW).expect("random bytes");
        assert_eq!(logins.enter(&late, NOW + LINK_LIFE_US), None, "too old");
    }

    #[test]
    fn a_login_ends_unused_after_half_an_hour_and_used_after_twelve() {
        let entered = |logins: &mut Logins| {
            let link = logins.link(NOW).expect("random bytes");
            logins.enter(&link, NOW).expect("a login")
        };
        let mut logins = Logins::default();
        let (idle, left) = (entered(&mut logins), entered(&mut logins));
        logins.leave(&left);
        assert!(!logins.knows(&left, NOW + 1));
        assert!(logins.knows(&idle, NOW + IDLE_US - 1));
        assert!(!logins.knows(&idle, NOW + 2 * IDLE_US));
        let used = entered(&mut logins);
        let mut now_us = NOW;
        while now_us + IDLE_US / 2 < NOW + LOGIN_LIFE_US {
            now_us += IDLE_US / 2;
            assert!(logins.knows(&used, now_us), "after {} s", (now_us - NOW) / 1_000_000);
        }
        assert!(!logins.knows(&used, NOW + LOGIN_LIFE_US));
        assert!(logins.is_empty());
    }

    #[test]
    fn it_is_bounded_and_ends_as_a_whole() {
        let mut logins = Logins::default();
        let links: Vec<String> = (0..=LINKS_MAX).map(|_| logins.link(NOW).expect("random bytes")).collect();
        assert_eq!(logins.enter(&links[0], NOW), None, "the oldest made room");
        let login = logins.enter(&links[1], NOW).expect("a login");
        assert_eq!(logins.end(NOW), 1);
        assert!(logins.is_empty() && !logins.knows(&login, NOW));
        assert_eq!(logins.enter(&links[2], NOW), None);
        for _ in 0..2 * LOGINS_MAX {
            let link = logins.link(NOW).expect("random bytes");
            logins.enter(&link, NOW);
        }
        assert_eq!(logins.end(NOW), LOGINS_MAX);
    }

    #[test]
    fn what_is_handed_over_holds_no_secret() {
        let mut logins = Logins::default();
        let link = logins.link(NOW).expect("random bytes");
        let login = logins.enter(&link, NOW).expect("a login");
        let open = logins.link(NOW).expect("random bytes");
        let text = serde_json::to_string(&logins).expect("json");
        assert!(!text.contains(&login) && !text.contains(&open));
        let mut taken: Logins = serde_json::from_str(&text).expect("json");
        assert!(taken.knows(&login, NOW) && taken.enter(&open, NOW).is_some());
    }
}
