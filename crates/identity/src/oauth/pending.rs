//! A login that was begun and is not finished: sealed, it lies in the browser that began it, and nowhere else.
//!
//! That binds a state to its browser, and leaves nothing on the server that an attacker could make grow. State, nonce
//! and the verifier of the challenge are made from one random seed; only whoever can open the seal can.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mainstay_store::key_file::{self, Damaged};
use std::io;
use std::path::Path;

/// As long as somebody may take at the provider's.
pub(crate) const LIFE_S: u64 = 600;
/// Clocks of several nodes may differ by so much.
const AHEAD_S: u64 = 60;
/// Logins one browser may have begun at a time, in several tabs; a further one takes the oldest's place. Three of the
/// longest stay below the 4096 bytes that a browser keeps of a cookie.
const PENDING_MAX: usize = 3;
const SEED_BYTES: usize = 32;
const SECRET_BYTES: usize = 32;
const FILE: &str = "oauth.key";

/// Seals what lies in browsers.
pub struct Seal(LessSafeKey);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub provider: String,
    pub issued_s: u64,
    seed: [u8; SEED_BYTES],
    /// A page of our own.
    pub return_to: Option<String>,
    /// Whoever began it is in already, and links the provider to his account.
    pub link: Option<Linking>,
}

/// Whose account a provider is to let into. Another password meanwhile makes it worthless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linking {
    pub account: String,
    pub generation: i64,
}

/// What is sealed, so that a login is never taken for a link.
const LOGIN: &[u8] = b"pending";
const LINK: &[u8] = b"link";

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// Of a secret that all nodes share (`SESSION_SECRET`), so that a login begun at one may end at another.
    pub fn of(secret: &[u8]) -> io::Result<Seal> {
        let key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"mainstay oauth pending 1");
        let key = UnboundKey::new(&AES_256_GCM_SIV, key.as_ref()).map_err(|_| io::Error::other("no key"))?;
        Ok(Seal(LessSafeKey::new(key)))
    }

    /// The data folder's own, made at first need. Only its owner may read it.
    pub fn load(folder: &Path) -> io::Result<Seal> {
        // What is sealed with it lives for minutes.
        Seal::of(&key_file::load(&folder.join(FILE), SECRET_BYTES, Damaged::Replaced)?)
    }

    fn close(&self, pending: &Pending) -> io::Result<String> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut bytes = pending.bytes();
        let aad = Aad::from(if pending.link.is_some() { LINK } else { LOGIN });
        let told = Nonce::assume_unique_for_key(nonce);
        self.0.seal_in_place_append_tag(told, aad, &mut bytes).map_err(|_| io::Error::other("cannot be sealed"))?;
        Ok(URL_SAFE_NO_PAD.encode([&nonce[..], &bytes].concat()))
    }

    fn open(&self, text: &str) -> Option<Pending> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        self.opened(bytes.clone(), LOGIN).or_else(|| self.opened(bytes, LINK))
    }

    fn opened(&self, mut bytes: Vec<u8>, what: &'static [u8]) -> Option<Pending> {
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.0.open_in_place(nonce, Aad::from(what), sealed).ok()?;
        if what == LOGIN {
            return Pending::read(plain);
        }
        let (link, rest) = Linking::read(plain)?;
        Some(Pending { link: Some(link), ..Pending::read(rest)? })
    }

    /// What the cookie holds once `pending` has begun; `before` is what the browser brought.
    pub(crate) fn with(&self, before: &[Pending], pending: &Pending, now_s: u64) -> io::Result<String> {
        let mut all: Vec<&Pending> = before.iter().filter(|other| other.is_fresh(now_s)).collect();
        all.push(pending);
        let kept = all.split_off(all.len().saturating_sub(PENDING_MAX));
        self.value(&kept)
    }

    /// What it holds once `ended` has: `None` for nothing.
    pub(crate) fn without(&self, before: &[Pending], ended: &Pending, now_s: u64) -> io::Result<Option<String>> {
        let left: Vec<&Pending> = before.iter().filter(|other| *other != ended && other.is_fresh(now_s)).collect();
        if left.is_empty() { Ok(None) } else { self.value(&left).map(Some) }
    }

    fn value(&self, all: &[&Pending]) -> io::Result<String> {
        let sealed: Vec<String> = all.iter().map(|pending| self.close(pending)).collect::<io::Result<_>>()?;
        Ok(sealed.join("."))
    }

    /// What a browser brings; what cannot be opened is somebody else's.
    pub(crate) fn all(&self, value: &str) -> Vec<Pending> {
        value.split('.').take(PENDING_MAX).filter_map(|text| self.open(text)).collect()
    }
}

impl Pending {
    pub fn begin(provider: &str, return_to: Option<&str>, now_s: u64) -> io::Result<Pending> {
        let (provider, return_to) = (provider.to_owned(), return_to.map(str::to_owned));
        Ok(Pending { provider, issued_s: now_s, seed: random()?, return_to, link: None })
    }

    pub fn linking(self, link: Option<Linking>) -> Pending {
        Pending { link, ..self }
    }

    pub fn state(&self) -> String {
        self.derived(b"state")
    }

    pub fn nonce(&self) -> String {
        self.derived(b"nonce")
    }

    /// Of the challenge (RFC 7636).
    pub fn verifier(&self) -> String {
        self.derived(b"verifier")
    }

    pub fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier().as_bytes()).as_ref())
    }

    pub fn has_state(&self, state: &str) -> bool {
        verify_slices_are_equal(self.state().as_bytes(), state.as_bytes()).is_ok()
    }

    pub fn is_fresh(&self, now_s: u64) -> bool {
        self.issued_s <= now_s.saturating_add(AHEAD_S) && now_s < self.issued_s.saturating_add(LIFE_S)
    }

    fn derived(&self, what: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.seed);
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, what).as_ref())
    }

    /// When, the seed, the length of the provider's name, the name, and the page.
    fn bytes(&self) -> Vec<u8> {
        let length = u8::try_from(self.provider.len()).unwrap_or(u8::MAX);
        let name = &self.provider.as_bytes()[..usize::from(length)];
        let page = self.return_to.as_deref().unwrap_or_default().as_bytes();
        let link = self.link.as_ref().map(Linking::bytes).unwrap_or_default();
        [&link, &self.issued_s.to_be_bytes()[..], &self.seed, &[length][..], name, page].concat()
    }

    fn read(bytes: &[u8]) -> Option<Pending> {
        let (issued, rest) = bytes.split_first_chunk::<8>()?;
        let (seed, rest) = rest.split_first_chunk::<SEED_BYTES>()?;
        let (length, rest) = rest.split_first()?;
        let (name, page) = rest.split_at_checked(usize::from(*length))?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let return_to = if page.is_empty() { None } else { Some(text(page)?) };
        Some(Pending {
            provider: text(name)?,
            issued_s: u64::from_be_bytes(*issued),
            seed: *seed,
            return_to,
            link: None,
        })
    }
}

impl Linking {
    /// The generation, the length of the account's id, and the id.
    fn bytes(&self) -> Vec<u8> {
        let length = u16::try_from(self.account.len()).unwrap_or(u16::MAX);
        let name = &self.account.as_bytes()[..usize::from(length)];
        [&self.generation.to_be_bytes()[..], &length.to_be_bytes(), name].concat()
    }

    fn read(bytes: &[u8]) -> Option<(Linking, &[u8])> {
        let (generation, rest) = bytes.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let account = String::from_utf8(name.to_vec()).ok()?;
        Some((Linking { account, generation: i64::from_be_bytes(*generation) }, rest))
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("this machine gives no random bytes"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::address::RETURN_BYTES_MAX;
    use std::fs;

    fn seal() -> Seal {
        Seal::of(b"0123456789abcdef0123456789abcdef").expect("a seal")
    }

    fn begun(provider: &str, now_s: u64) -> Pending {
        Pending::begin(provider, Some("/app?x=1"), now_s).expect("random bytes")
    }

    #[test]
    fn i4_a_link_is_read_as_it_was_written_and_is_never_a_login() {
        let login = begun("google", 1000);
        let link = Linking { account: "u_1".into(), generation: 7 };
        let link = Pending { link: Some(link), ..begun("google", 1000) };
        let value = seal().with(std::slice::from_ref(&login), &link, 1000).expect("sealed");
        assert_eq!(seal().all(&value), [login, link]);
        // The longest id that an import may bring: three of them still fit.
        let long = Linking { account: "a".repeat(256), generation: i64::MAX };
        let page = format!("/{}", "a".repeat(RETURN_BYTES_MAX - 1));
        let long = Pending { link: Some(long), ..Pending::begin(&"p".repeat(32), Some(&page), 1).expect("random") };
        let value = seal().with(&[long.clone(), long.clone()], &long, 1).expect("sealed");
        assert!(value.len() + 200 < 4096, "{}", value.len());
        assert_eq!(seal().all(&value), [long.clone(), long.clone(), long]);
    }

    #[test]
    fn what_was_sealed_is_opened_by_the_same_secret_alone_and_unchanged_alone() {
        let pending = begun("google", 1000);
        let value = seal().with(&[], &pending, 1000).expect("sealed");
        assert_eq!(seal().all(&value), std::slice::from_ref(&pending));
        assert!(Seal::of(b"another secret").expect("a seal").all(&value).is_empty());
        for at in 0..value.len() {
            let mut changed = value.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let opened = seal().all(&String::from_utf8(changed).expect("ascii"));
            // The last letter of base64 holds bits that nobody reads.
            assert!(opened.is_empty() || (at + 1 == value.len() && opened == [pending.clone()]), "{at}");
        }
        for rubbish in ["", ".", "..", "AAAA", "%", &"A".repeat(9000)] {
            assert!(seal().all(rubbish).is_empty(), "{rubbish}");
        }
    }

    #[test]
    fn a_browser_holds_three_and_the_longest_three_fit_into_a_cookie() {
        let page = format!("/{}", "a".repeat(RETURN_BYTES_MAX - 1));
        let mut value = String::new();
        let mut last = Vec::new();
        for number in 0..5 {
            let name = format!("{number}{}", "p".repeat(31));
            let pending = Pending::begin(&name, Some(&page), 1000 + number).expect("random bytes");
            value = seal().with(&seal().all(&value), &pending, 1000 + number).expect("sealed");
            last.push(pending);
        }
        assert_eq!(seal().all(&value), last[2..]);
        assert!(value.len() + 200 < 4096, "{}", value.len());
        let left = seal().without(&seal().all(&value), &last[3], 1004).expect("sealed").expect("two are left");
        assert_eq!(seal().all(&left), [last[2].clone(), last[4].clone()]);
        assert_eq!(seal().without(&[last[2].clone()], &last[2], 1004).expect("sealed"), None);
        let later = seal().with(&seal().all(&value), &begun("x", 9000), 9000).expect("sealed");
        assert_eq!(seal().all(&later).len(), 1, "the old ones are over");
    }

    #[test]
    fn state_nonce_and_verifier_tell_nothing_of_each_other_and_end_after_ten_minutes() {
        let pending = begun("google", 1000);
        let all = [pending.state(), pending.nonce(), pending.verifier(), pending.challenge()];
        for (at, one) in all.iter().enumerate() {
            // RFC 7636 §4.1 asks for 43 at least.
            assert_eq!(one.len(), 43);
            assert!(all.iter().skip(at + 1).all(|other| other != one));
        }
        assert!(pending.has_state(&pending.state()) && !pending.has_state(&begun("google", 1000).state()));
        assert!(!pending.has_state("") && !pending.has_state(&pending.state()[..42]));
        for (now_s, fresh) in [(939, false), (940, true), (1000, true), (1599, true), (1600, false)] {
            assert_eq!(pending.is_fresh(now_s), fresh, "{now_s}");
        }
    }

    #[test]
    fn the_key_stays_over_starts_and_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let pending = begun("google", 1000);
        let value = Seal::load(folder.path()).expect("a key").with(&[], &pending, 1000).expect("sealed");
        assert_eq!(Seal::load(folder.path()).expect("the same").all(&value), [pending]);
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"half").expect("to break it");
        assert!(Seal::load(folder.path()).expect("a new one").all(&value).is_empty());
    }
}
