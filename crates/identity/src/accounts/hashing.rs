//! Passwords hashed and compared: argon2id, with bcrypt of imported accounts accepted and replaced at the first login.
//!
//! A hash costs 19 MiB and some 30 ms by design, so whoever sends logins could take all memory and all processors. Few
//! are made at once, few more wait, and the rest is told to come again. Those few have their memory once and keep it:
//! taken anew for each hash, on whichever thread, the allocator would hold on to it many times over (600 MB measured).
//!
//! Whether an account is there must not be seen in the time an answer takes: for every login the same hashes are
//! computed, whoever it is for and however it ends.

use super::Fault;
use super::pepper::Pepper;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// OWASP's first choice of argon2id: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// At once: more would not be faster, and each has its memory.
const AT_ONCE_MAX: usize = 4;
/// Half of what the service works on at a time, so that a flood of logins leaves room for those who are in already;
/// the last of them waits about a second on one processor.
pub(crate) const WAITING_MAX: usize = 32;

/// Of a foreign argon2 hash that is imported: what it asks for is computed at a login, by anybody who tries.
const FOREIGN_MEMORY_KIB_MAX: u32 = 64 * 1024;
const FOREIGN_PASSES_MAX: u32 = 10;
const FOREIGN_LANES_MAX: u32 = 4;
/// The highest cost that the file may allow: a second and a half on one processor.
pub(crate) const BCRYPT_COST_MAX: u32 = 15;
/// A hash of nothing that anybody knows, for those who are not here; its cost is written over with the usual one.
const BCRYPT_OF_NOBODY: &str = "$2b$12$C6UzMDM.H6dfI/f/IKcEeO7Pj/w2fdH1YzTZ8vTxUQ3Zp2dUKdzpy";

/// What was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compared {
    pub matches: bool,
    /// In place of an older hash, where the password was right.
    pub better: Option<String>,
}

/// A login as it is to be compared.
pub(crate) struct Login {
    pub password: String,
    /// `None`: nobody is known by this address, or he has no password.
    pub stored: Option<String>,
    /// Some account still has a bcrypt hash: then everybody's login costs one.
    pub costs_bcrypt: bool,
    pub bcrypt_cost: u32,
    pub pepper: Pepper,
}

/// Cheap to clone; all clones are one pool.
#[derive(Clone)]
pub(crate) struct Hashing(Arc<Pool>);

struct Pool {
    at_once: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// What hashes are computed in; never more than are computed at once.
    rooms: Mutex<Vec<Vec<Block>>>,
    pub counts: Counts,
}

impl Pool {
    /// Room for so many blocks of 1 KiB, kept for the next one where it is of the usual size.
    fn with_room<T>(&self, blocks: usize, work: impl FnOnce(&mut [Block]) -> T) -> T {
        let kept = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut room = kept.unwrap_or_default();
        if room.len() < blocks {
            room.resize(blocks, Block::default());
        }
        let done = work(&mut room);
        if room.len() <= MEMORY_KIB as usize {
            self.rooms.lock().unwrap_or_else(PoisonError::into_inner).push(room);
        }
        done
    }
}

/// How many were computed: what a test can see of time.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub argon2: AtomicU64,
    pub bcrypt: AtomicU64,
    pub turned_away: AtomicU64,
}

impl Default for Hashing {
    fn default() -> Hashing {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Hashing::with(processors.min(AT_ONCE_MAX))
    }
}

impl Hashing {
    fn with(at_once: usize) -> Hashing {
        let at_once = Arc::new(Semaphore::new(at_once));
        Hashing(Arc::new(Pool {
            at_once,
            waiting: AtomicUsize::new(0),
            rooms: Mutex::default(),
            counts: Counts::default(),
        }))
    }

    #[cfg(test)]
    pub fn counted(&self) -> (u64, u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.0.counts.argon2), of(&self.0.counts.bcrypt), of(&self.0.counts.turned_away))
    }

    pub async fn hash(&self, password: String, pepper: Pepper) -> Result<String, Fault> {
        self.run(move |pool| argon2_of(&password, pool, &pepper)).await?
    }

    /// As many hashes for a stranger as for anybody.
    pub async fn compare(&self, login: Login) -> Result<Compared, Fault> {
        self.run(move |pool| compared(&login, pool)).await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Pool) -> T + Send + 'static) -> Result<T, Fault> {
        let place = Place::take(&self.0).ok_or(Fault::Busy)?;
        let permit = self.0.at_once.clone().acquire_owned().await.map_err(|_| Fault::Busy)?;
        drop(place);
        let pool = self.0.clone();
        let working = tokio::task::spawn_blocking(move || {
            // Held by the work: whoever asked may be gone long before it ends.
            let _permit = permit;
            work(&pool)
        });
        working.await.map_err(|_| Fault::Busy)
    }
}

/// A place among those that wait; given back however the wait ends.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(pool: &'a Pool) -> Option<Place<'a>> {
        let taken = pool.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| {
            (waiting < WAITING_MAX).then_some(waiting + 1)
        });
        if taken.is_err() {
            pool.counts.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        taken.ok().map(|_| Place(&pool.waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn compared(login: &Login, pool: &Pool) -> Result<Compared, Fault> {
    let Login { password, stored, costs_bcrypt, bcrypt_cost, pepper } = login;
    let nothing = Compared { matches: false, better: None };
    match stored.as_deref() {
        Some(stored) if is_bcrypt(stored) => {
            let matches = bcrypt_matches(password, stored, pool);
            // What replaces it when the password is right is computed when it is wrong as well.
            let better = argon2_of(password, pool, pepper)?;
            Ok(if matches { Compared { matches, better: Some(better) } } else { nothing })
        }
        stored => {
            let (matches, is_current) = match stored {
                Some(stored) => (argon2_matches(password, stored, pool, pepper), is_current(stored, pepper)),
                None => {
                    argon2_of(password, pool, pepper)?;
                    (false, true)
                }
            };
            if *costs_bcrypt {
                bcrypt_matches(password, &of_nobody(*bcrypt_cost), pool);
            }
            let better = if matches && !is_current { Some(argon2_of(password, pool, pepper)?) } else { None };
            Ok(Compared { matches, better })
        }
    }
}

fn of_nobody(cost: u32) -> String {
    BCRYPT_OF_NOBODY.replacen("$12$", &format!("${:02}$", cost.clamp(4, BCRYPT_COST_MAX)), 1)
}

fn argon2_of(password: &str, pool: &Pool, pepper: &Pepper) -> Result<String, Fault> {
    pool.counts.argon2.fetch_add(1, Ordering::Relaxed);
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| Fault::Hash)?;
    let blocks = params.block_count();
    let argon2 = with_secret(pepper.secret(), Algorithm::Argon2id, Version::V0x13, params)?;
    let (mut salt, mut hash) = ([0; SALT_BYTES], [0; HASH_BYTES]);
    rand::fill(&mut salt).map_err(|_| Fault::Random)?;
    pool.with_room(blocks, |room| argon2.hash_password_into_with_memory(password.as_bytes(), &salt, &mut hash, room))
        .map_err(|_| Fault::Hash)?;
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    Ok(format!("{}{salt}${hash}", current(pepper)))
}

/// ASVS 2.4.5: argon2's own input for a secret that is not in the store.
fn with_secret(
    secret: Option<&[u8]>,
    algorithm: Algorithm,
    version: Version,
    params: Params,
) -> Result<Argon2<'_>, Fault> {
    match secret {
        None => Ok(Argon2::new(algorithm, version, params)),
        Some(secret) => Argon2::new_with_secret(secret, algorithm, version, params).map_err(|_| Fault::Hash),
    }
}

/// With the parameters that the hash itself names. What cannot be read matches nothing.
fn argon2_matches(password: &str, stored: &str, pool: &Pool, pepper: &Pepper) -> bool {
    pool.counts.argon2.fetch_add(1, Ordering::Relaxed);
    let Ok(parsed) = PasswordHash::new(stored) else { return false };
    let (Some(salt), Some(expected)) = (&parsed.salt, &parsed.hash) else { return false };
    let (Ok(params), Ok(algorithm)) = (Params::try_from(&parsed), Algorithm::new(parsed.algorithm.as_str())) else {
        return false;
    };
    let Ok(version) = parsed.version.map_or(Ok(Version::default()), Version::try_from) else { return false };
    let blocks = params.block_count();
    let secret = pepper.named(params.keyid());
    // With a secret that is not here as much is computed, and it matches nothing.
    let Ok(argon2) = with_secret(secret.flatten(), algorithm, version, params) else { return false };
    let mut hash = vec![0; expected.as_bytes().len()];
    let done = pool
        .with_room(blocks, |room| argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut hash, room));
    secret.is_some() && done.is_ok() && verify_slices_are_equal(&hash, expected.as_bytes()).is_ok()
}

fn bcrypt_matches(password: &str, stored: &str, pool: &Pool) -> bool {
    pool.counts.bcrypt.fetch_add(1, Ordering::Relaxed);
    bcrypt::verify(password, stored).unwrap_or(false)
}

/// How a hash of today begins.
fn current(pepper: &Pepper) -> String {
    let name = pepper.name().map(|name| format!(",keyid={name}")).unwrap_or_default();
    format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}{name}$")
}

fn is_current(stored: &str, pepper: &Pepper) -> bool {
    stored.starts_with(&current(pepper))
}

pub(crate) fn is_bcrypt(stored: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| stored.starts_with(prefix))
}

/// Whether a hash made elsewhere can be taken over, and why not: it decides what a login costs.
pub(crate) fn judge_foreign(stored: &str, bcrypt_cost: u32) -> Result<(), String> {
    if is_bcrypt(stored) {
        let parts: bcrypt::HashParts = stored.parse().map_err(|_| "no bcrypt hash".to_owned())?;
        return match parts.get_cost() {
            cost if (4..=bcrypt_cost).contains(&cost) => Ok(()),
            cost => Err(format!("a bcrypt hash of cost {cost}; bcrypt_rounds allows {bcrypt_cost}")),
        };
    }
    if !stored.starts_with("$argon2") {
        return Err("neither a bcrypt hash ($2b$…) nor one of argon2 ($argon2id$…)".to_owned());
    }
    let hash = PasswordHash::new(stored).map_err(|_| "no argon2 hash".to_owned())?;
    let params = Params::try_from(&hash).map_err(|_| "an argon2 hash with strange parameters".to_owned())?;
    let is_bounded = params.m_cost() <= FOREIGN_MEMORY_KIB_MAX
        && params.t_cost() <= FOREIGN_PASSES_MAX
        && params.p_cost() <= FOREIGN_LANES_MAX;
    match is_bounded && hash.hash.is_some() && hash.salt.is_some() {
        true => Ok(()),
        false => Err(format!("an argon2 hash that costs too much; at most m={FOREIGN_MEMORY_KIB_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "correct horse battery", by PHP, Python and Node.
    fn bcrypt_of(password: &str, prefix: &str) -> String {
        bcrypt::hash(password, 4).expect("a hash").replacen("$2b$", prefix, 1)
    }

    fn login(password: &str, stored: Option<&str>, costs_bcrypt: bool) -> Login {
        let (password, stored) = (password.to_owned(), stored.map(str::to_owned));
        Login { password, stored, costs_bcrypt, bcrypt_cost: 4, pepper: Pepper::default() }
    }

    fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
    }

    #[test]
    fn a_stranger_costs_what_a_user_costs_however_it_ends() {
        let hashing = Hashing::default();
        on_a_runtime(async {
            let stored = hashing.hash("correct horse battery".to_owned(), Pepper::default()).await.expect("a hash");
            assert!(is_current(&stored, &Pepper::default()), "{stored}");
            let old = bcrypt_of("correct horse battery", "$2y$");
            for costs_bcrypt in [false, true] {
                let cases = [(Some(&*stored), "correct horse battery", true), (Some(&stored), "wrong", false)];
                for (stored, password, matches) in cases.into_iter().chain([(None, "correct horse battery", false)]) {
                    let before = hashing.counted();
                    let compared = hashing.compare(login(password, stored, costs_bcrypt)).await.expect("room");
                    assert_eq!(compared, Compared { matches, better: None });
                    let after = hashing.counted();
                    assert_eq!((after.0 - before.0, after.1 - before.1), (1, u64::from(costs_bcrypt)), "{password}");
                }
            }
            for (password, matches) in [("correct horse battery", true), ("wrong", false)] {
                let before = hashing.counted();
                let compared = hashing.compare(login(password, Some(&old), true)).await.expect("room");
                let better = compared.better.as_deref().is_some_and(|hash| is_current(hash, &Pepper::default()));
                assert_eq!((compared.matches, better), (matches, matches));
                let after = hashing.counted();
                assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1), "{password}");
            }
        });
    }

    /// ASVS 2.4.2: 32 bits would do.
    #[test]
    fn every_hash_is_argon2id_with_a_salt_of_its_own() {
        let hashing = Hashing::with(1);
        on_a_runtime(async {
            let mut salts = Vec::new();
            for _ in 0..3 {
                let stored = hashing.hash("correct horse battery".to_owned(), Pepper::default()).await.expect("a hash");
                assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
                let salt = stored.split('$').nth(4).map(|salt| STANDARD_NO_PAD.decode(salt).expect("base64"));
                assert_eq!(salt.as_ref().map(Vec::len), Some(16), "{stored}");
                assert!(!salts.contains(&salt), "{stored}");
                salts.push(salt);
            }
        });
    }

    /// ASVS 2.4.5: a copy of the store is worth nothing without the secret; a rotated one is good until the next login.
    #[test]
    fn i1_2_4_5_a_secret_beside_the_salt_is_needed_and_rotated() {
        let hashing = Hashing::with(1);
        let pepper = |current: Option<&str>, previous: Option<&str>| Pepper::new(current, previous);
        let none = Pepper::default();
        let (first, second) = (pepper(Some("one"), None), pepper(Some("two"), Some("one")));
        on_a_runtime(async {
            let hash = async |pepper: &Pepper| hashing.hash("correct horse".to_owned(), pepper.clone()).await;
            let compare = async |stored: &str, password: &str, pepper: &Pepper| {
                let login = Login { pepper: pepper.clone(), ..login(password, Some(stored), false) };
                let before = hashing.counted().0;
                let compared = hashing.compare(login).await.expect("room");
                (compared.matches, compared.better, hashing.counted().0 - before)
            };
            let (plain, peppered) = (hash(&none).await.expect("a hash"), hash(&first).await.expect("a hash"));
            assert!(peppered.starts_with("$argon2id$v=19$m=19456,t=2,p=1,keyid=") && !peppered.contains("one"));
            assert_eq!(compare(&peppered, "correct horse", &first).await, (true, None, 1));
            assert_eq!(compare(&peppered, "wrong", &first).await, (false, None, 1));
            for other in [&none, &pepper(Some("two"), None)] {
                assert_eq!(compare(&peppered, "correct horse", other).await, (false, None, 1), "as dear as any");
            }
            for (stored, pepper) in [(&plain, &first), (&peppered, &second), (&plain, &second)] {
                let (matches, better, _) = compare(stored, "correct horse", pepper).await;
                let better = better.expect("another hash");
                assert!(matches && is_current(&better, pepper), "{better}");
                assert_eq!(compare(&better, "correct horse", pepper).await, (true, None, 1));
            }
            // Nobody makes himself a hash that asks for no secret by leaving out its name.
            let (before, after) = peppered.split_once(",keyid=").expect("a name");
            let unnamed = format!("{before}${}", after.split_once('$').expect("a salt").1);
            assert!(!compare(&unnamed, "correct horse", &first).await.0);
        });
    }

    #[test]
    fn every_spelling_of_bcrypt_is_taken_and_what_costs_too_much_is_not() {
        let hashing = Hashing::default();
        on_a_runtime(async {
            for prefix in ["$2a$", "$2b$", "$2y$"] {
                let stored = bcrypt_of("correct horse battery", prefix);
                assert_eq!(judge_foreign(&stored, 12), Ok(()), "{stored}");
                assert!(
                    hashing.compare(login("correct horse battery", Some(&stored), true)).await.expect("room").matches
                );
            }
        });
        // By npm's bcrypt, and by PHP.
        let known = "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW";
        assert!(judge_foreign(known, 12).is_ok() && judge_foreign(known, 11).is_err());
        assert!(bcrypt::verify("secret", known).expect("a hash"));
        for bad in [
            "",
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "$2b$31$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW",
            "$2b$12$short",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$c29tZWhhc2hzb21laGFzaHNvbWVoYXNoc29tZWhhc2g",
            "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA",
        ] {
            assert!(judge_foreign(bad, 12).is_err(), "{bad}");
        }
        let of_nobody = of_nobody(12);
        assert!(judge_foreign(&of_nobody, 12).is_ok(), "{of_nobody}");
        assert!(bcrypt::verify("x", &of_nobody).is_ok_and(|matches| !matches), "it must cost what a hash costs");
    }

    #[test]
    fn a_flood_is_turned_away_once_the_places_are_taken() {
        let hashing = Hashing::with(1);
        on_a_runtime(async {
            let logins: Vec<_> = (0..200).map(|_| hashing.compare(login("wrong", None, false))).collect();
            let mut turned_away = 0;
            for result in futures_util::future::join_all(logins).await {
                match result {
                    Ok(compared) => assert!(!compared.matches),
                    Err(Fault::Busy) => turned_away += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            // One is computed, and those that wait; all others hold no memory at any time.
            assert_eq!(turned_away, 200 - WAITING_MAX - 1);
            assert_eq!(hashing.counted().0, 1 + WAITING_MAX as u64);
            assert!(hashing.hash("again".to_owned(), Pepper::default()).await.is_ok(), "the places are given back");
            let rooms = hashing.0.rooms.lock().expect("no panic");
            assert_eq!(rooms.iter().map(Vec::capacity).collect::<Vec<_>>(), [MEMORY_KIB as usize], "19 MiB, once");
        });
    }
}
