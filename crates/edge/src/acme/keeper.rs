//! What is held of each wanted certificate, where it lies, and how it gets into the table.

use super::authority::{self, Authority};
use super::challenge::Challenges;
use super::failure::Failure;
use super::leaf::{self, Leaf};
use super::ocsp::Staple;
use super::options::{Options, Wanted, name_of};
use super::report::{Entry, Outlook, date};
use super::schedule::{self, Progress, Step, Validity};
use super::store::{Store, plain};
use crate::tls::{self, Certificates};
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// In the store: authorities that said "too many", and until when.
const STALLED: &str = "stalled.json";

/// What the service is built from.
#[derive(Debug)]
pub struct Setup {
    pub options: Options,
    pub certificates: Certificates,
    /// The data folder.
    pub data: PathBuf,
    /// No other server orders and keeps certificates in that folder.
    pub is_owner: bool,
}

/// One wanted certificate.
#[derive(Debug, Clone)]
pub struct Held {
    pub wanted: Wanted,
    /// `None`: a stand-in is served.
    pub leaf: Option<Leaf>,
    pub key: Arc<CertifiedKey>,
    pub progress: Progress,
    /// Pin of the spare key.
    pub spare: Option<String>,
}

impl Held {
    /// What is in force was revoked.
    pub fn is_revoked(&self) -> bool {
        let serial = self.leaf.as_ref().map(|leaf| &leaf.serial);
        serial.is_some() && serial == self.progress.revoked.as_ref()
    }

    /// Of what may stay in force; `None`: another one is due.
    pub fn validity(&self) -> Option<Validity> {
        self.leaf.as_ref().filter(|_| !self.is_revoked()).map(|leaf| leaf.validity)
    }

    pub fn step(&self, now_s: u64) -> Step {
        schedule::next(now_s, self.validity(), &self.progress)
    }
}

pub struct Keeper {
    pub options: RefCell<Options>,
    pub certificates: Certificates,
    pub store: Store,
    pub challenges: Challenges,
    pub held: RefCell<Vec<Held>>,
    authority: RefCell<Option<Authority>>,
    /// By directory: not before this second.
    stalled: RefCell<BTreeMap<String, u64>>,
    /// By certificate: the answer, or why there is none, and when to ask again.
    pub staples: RefCell<HashMap<CertificateDer<'static>, Stapling>>,
    /// One order at a time: several would share an authority's patience.
    pub ordering: tokio::sync::Mutex<()>,
    pub wake: Notify,
    /// This server may order and write: a store has one owner, and during an upgrade there are two servers.
    owner: watch::Sender<bool>,
}

#[derive(Debug, Clone)]
pub struct Stapling {
    pub answer: Result<Staple, String>,
    pub again_s: u64,
}

impl Keeper {
    /// Takes up what is stored, so that the first handshake after a restart has it.
    pub fn new(setup: Setup, now_s: u64) -> Keeper {
        let store = Store::new(&setup.data);
        let keeper = Keeper {
            options: RefCell::default(),
            challenges: Challenges::new(setup.certificates.clone()),
            certificates: setup.certificates,
            held: RefCell::default(),
            authority: RefCell::default(),
            stalled: RefCell::new(read_stalled(&store)),
            store,
            staples: RefCell::default(),
            ordering: tokio::sync::Mutex::new(()),
            wake: Notify::new(),
            owner: watch::Sender::new(setup.is_owner),
        };
        keeper.adopt(setup.options, now_s);
        keeper
    }

    pub fn is_owner(&self) -> bool {
        *self.owner.borrow()
    }

    /// Resolves once this server owns the store.
    pub async fn owned(&self) {
        let _ = self.owner.subscribe().wait_for(|owner| *owner).await;
    }

    /// Resolves once this server does not own the store.
    pub async fn let_go(&self) {
        let _ = self.owner.subscribe().wait_for(|owner| !*owner).await;
    }

    /// Nothing is ordered or written from here on; comes back when nothing is any more.
    pub async fn release(&self) {
        self.owner.send_replace(false);
        drop(self.ordering.lock().await);
    }

    /// The server before this one has let go: what it got meanwhile is taken up, and work begins.
    pub fn take_over(&self, now_s: u64) {
        if self.is_owner() {
            return;
        }
        self.stalled.replace(read_stalled(&self.store));
        self.held.borrow_mut().retain(|held| held.wanted.local);
        let options = self.options.borrow().clone();
        self.adopt(options, now_s);
        self.owner.send_replace(true);
    }

    /// Puts other options in force; what is held already stays.
    pub fn adopt(&self, options: Options, now_s: u64) {
        let mut wanted = options.wanted.clone();
        if options.localhost {
            // No wildcard: clients take none over a whole suffix.
            let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
            wanted.push(Wanted { names, local: true, at: "edge.tls.local".to_owned() });
        }
        let old = self.held.take();
        let all = wanted.into_iter().filter_map(|wanted| {
            let known = old.iter().find(|held| held.wanted.names == wanted.names && held.wanted.local == wanted.local);
            match known {
                Some(held) => Some(Held { wanted, ..held.clone() }),
                None => self.take_up(wanted, now_s),
            }
        });
        let all: Vec<Held> = all.collect();
        self.held.replace(all);
        let before = self.options.replace(options);
        self.try_anew(&before);
        self.publish();
        self.wake.notify_one();
    }

    /// Whoever changed where or how it is ordered has mended something: what has failed is tried now. A limit an
    /// authority named stays.
    fn try_anew(&self, before: &Options) {
        let now = self.options.borrow();
        let about = |options: &Options| (options.directories.clone(), options.challenge, options.root.clone());
        if before.directories.is_empty() || about(before) == about(&now) {
            return;
        }
        let all = self.held.borrow().clone();
        for held in all.iter().filter(|held| held.progress.last_error.is_some()) {
            self.remember(held.wanted.name(), &Progress { next_s: 0, ..held.progress.clone() });
        }
    }

    fn take_up(&self, wanted: Wanted, now_s: u64) -> Option<Held> {
        if wanted.local {
            return match self.local(&wanted.names, now_s) {
                Ok(key) => Some(held(wanted, key, Progress::default())),
                Err(failure) => {
                    tracing::error!(names = %wanted.names.join(" "), why = %failure, "no certificate of the local \
                        authority");
                    None
                }
            };
        }
        let progress = self.progress(wanted.name());
        let stored = self.stored(&wanted);
        let spare = self.spare(wanted.name()).map(|key| leaf::pin(&key.subject_public_key_info()));
        match stored {
            Some(key) => Some(Held { spare, ..held(wanted, key, progress) }),
            None => match authority::stand_in(&wanted.names) {
                Ok(key) => Some(Held { wanted, leaf: None, key: Arc::new(key), progress, spare }),
                Err(failure) => {
                    tracing::error!(names = %wanted.names.join(" "), why = %failure, "no stand-in");
                    None
                }
            },
        }
    }

    fn local(&self, names: &[String], now_s: u64) -> Result<CertifiedKey, Failure> {
        let mut authority = self.authority.borrow_mut();
        if authority.is_none() {
            *authority = Some(Authority::open(&self.store, now_s)?);
        }
        match authority.as_ref() {
            Some(authority) => authority.leaf(names, now_s),
            None => Err(Failure::new("no local authority")),
        }
    }

    /// A new certificate of the local authority for what has come to two thirds of its life.
    pub fn renew_local(&self, name: &str, now_s: u64) -> Result<(), Failure> {
        let Some(found) = self.find(name) else { return Ok(()) };
        // The root may be near its end too.
        self.authority.replace(None);
        let key = self.local(&found.wanted.names, now_s)?;
        self.replace(held(found.wanted, key, Progress::default()));
        Ok(())
    }

    /// The chain and key that lie in the store, if they are for these names. One that has expired still serves: it
    /// says more than a stand-in.
    fn stored(&self, wanted: &Wanted) -> Option<CertifiedKey> {
        let text = match self.store.get(&issued(wanted.name())) {
            Ok(text) => text?,
            Err(error) => {
                tracing::error!(%error, "a stored certificate cannot be read; it will be ordered again");
                return None;
            }
        };
        let key = read_pair(&text).ok()?;
        let leaf = Leaf::read(key.cert.first()?)?;
        wanted.names.iter().all(|name| leaf.covers(name)).then_some(key)
    }

    /// The key a renewal is made with.
    pub fn key_for(&self, name: &str, new_key: bool) -> Result<KeyPair, Failure> {
        let made = || KeyPair::generate().map_err(|error| Failure::new(format!("a key could not be made: {error}")));
        if !self.options.borrow().pins {
            return made();
        }
        let spare = || self.spare(name).map_or_else(made, Ok);
        if new_key {
            return spare();
        }
        match self.store.get(&issued(name)).ok().flatten().and_then(|text| KeyPair::from_pem(&text).ok()) {
            Some(key) => Ok(key),
            None => made(),
        }
    }

    fn spare(&self, name: &str) -> Option<KeyPair> {
        let text = self.store.get(&spare(name)).ok().flatten()?;
        KeyPair::from_pem(&text).ok()
    }

    /// Keeps what an authority gave and puts it in force; nothing is taken that does not prove itself.
    pub fn install(&self, name: &str, key: &KeyPair, chain: &str, ca: &str, now_s: u64) -> Result<Leaf, Failure> {
        let found = self.find(name).ok_or_else(|| Failure::new(format!("{name} is no longer wanted")))?;
        let text = format!("{}{chain}", key.serialize_pem());
        let pair = read_pair(&text)?;
        let got = pair.cert.first().and_then(|der| Leaf::read(der));
        let got = got.ok_or_else(|| Failure::new("the authority sent a certificate that cannot be read"))?;
        if let Some(missing) = found.wanted.names.iter().find(|name| !got.covers(name)) {
            return Err(Failure::new(format!("the authority's certificate lacks {missing}")));
        }
        let kept = |error: std::io::Error| Failure::new(format!("the certificate cannot be kept: {error}"));
        if !self.is_owner() {
            return Err(Failure::new("another server takes over"));
        }
        self.store.put(&issued(name), &text).map_err(kept)?;
        let progress = found.progress.done(now_s, ca, got.validity);
        self.remember(name, &progress);
        let spare = self.next_spare(name, key);
        self.replace(Held { spare, ..held(found.wanted, pair, progress) });
        Ok(got)
    }

    /// Where keys are pinned one lies ready; it is another than the one in use.
    fn next_spare(&self, name: &str, used: &KeyPair) -> Option<String> {
        if !self.options.borrow().pins {
            return None;
        }
        let pin = |key: &KeyPair| leaf::pin(&key.subject_public_key_info());
        if let Some(key) = self.spare(name).filter(|key| pin(key) != pin(used)) {
            return Some(pin(&key));
        }
        let key = KeyPair::generate().ok()?;
        match self.store.put(&spare(name), &key.serialize_pem()) {
            Ok(()) => Some(pin(&key)),
            Err(error) => {
                tracing::error!(%error, name, "the spare key cannot be kept");
                None
            }
        }
    }

    /// It is asked for anew.
    pub fn forget_staple(&self, key: &CertifiedKey) {
        if let Some(leaf) = key.cert.first() {
            self.staples.borrow_mut().remove(leaf);
        }
        self.wake.notify_one();
    }

    pub fn find(&self, name: &str) -> Option<Held> {
        self.held.borrow().iter().find(|held| held.wanted.name() == name).cloned()
    }

    fn replace(&self, new: Held) {
        if let Some(held) = self.held.borrow_mut().iter_mut().find(|held| held.wanted.names == new.wanted.names) {
            *held = new;
        }
        self.publish();
    }

    /// In force from now on.
    fn publish(&self) {
        let all = self.held.borrow();
        let kept = all.iter().map(|held| tls::Kept {
            names: held.wanted.names.clone(),
            key: held.key.clone(),
            is_public: held.leaf.is_some() && !held.wanted.local,
        });
        // Pairs that are believed come first: one of them answers who names nobody.
        let (good, rest): (Vec<_>, Vec<_>) = kept.collect::<Vec<_>>().into_iter().partition(|kept| kept.is_public);
        self.certificates.set_kept(good.into_iter().chain(rest).collect());
    }

    fn progress(&self, name: &str) -> Progress {
        let text = self.store.get(&state(name)).ok().flatten();
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    pub fn set_progress(&self, name: &str, progress: Progress) -> Result<(), Failure> {
        let kept = self.store.put(&state(name), &serde_json::to_string(&progress).unwrap_or_default());
        if let Some(held) = self.held.borrow_mut().iter_mut().find(|held| held.wanted.name() == name) {
            held.progress = progress;
        }
        kept.map_err(|error| Failure::new(format!("what was tried cannot be written down: {error}")))
    }

    /// Where nothing depends on its being written.
    pub fn remember(&self, name: &str, progress: &Progress) {
        if let Err(failure) = self.set_progress(name, progress.clone()) {
            tracing::error!(name, why = %failure, "certificates");
        }
    }

    pub fn stalled_until_s(&self, directory: &str, now_s: u64) -> Option<u64> {
        let until_s = *self.stalled.borrow().get(directory)?;
        // Further away than we ever wait: the clock was set back.
        (until_s > now_s && until_s <= now_s + 2 * schedule::LIMITED_MAX_S).then_some(until_s)
    }

    pub fn stall(&self, directory: &str, until_s: u64) {
        self.stalled.borrow_mut().insert(directory.to_owned(), until_s);
        let text = serde_json::to_string(&*self.stalled.borrow()).unwrap_or_default();
        if let Err(error) = self.store.put(STALLED, &text) {
            tracing::error!(%error, "an authority's limit cannot be written down");
        }
    }

    /// Every certificate there is: files first.
    pub fn entries(&self, now_s: u64) -> Vec<Entry> {
        let stapled = |key: &CertifiedKey| {
            let answer = key.cert.first().and_then(|leaf| self.staples.borrow().get(leaf).map(|s| s.answer.is_ok()));
            answer == Some(true)
        };
        let given = self.certificates.given().into_iter().map(|given| {
            let leaf = given.key.cert.first().and_then(|der| Leaf::read(der)).filter(|_| !given.is_stand_in);
            let at = format!("{} ({})", given.file.cert.display(), given.file.at);
            let entry = Entry::new(vec![given.file.host.clone()], "file", &at, leaf.as_ref(), now_s);
            Entry { is_stapled: stapled(&given.key), ..entry }
        });
        let held =
            self.held.borrow().iter().map(|held| self.entry(held, stapled(&held.key), now_s)).collect::<Vec<_>>();
        given.chain(held).collect()
    }

    fn entry(&self, held: &Held, is_stapled: bool, now_s: u64) -> Entry {
        let source = match (&held.progress.ca, held.wanted.local) {
            (_, true) => "local",
            (Some(ca), false) => name_of(ca),
            (None, false) => "none yet",
        };
        let entry = Entry::new(held.wanted.names.clone(), source, &held.wanted.at, held.leaf.as_ref(), now_s)
            .with_progress(&held.progress, now_s);
        let renews = held.validity().and_then(|validity| date(schedule::renewal_s(validity, &held.progress)));
        let pins = entry.pins.iter().cloned().chain(held.spare.clone()).collect();
        let outlook = if held.is_revoked() { Outlook::Revoked } else { entry.outlook };
        Entry { outlook, renews, pins, is_stapled, ..entry }
    }
}

fn held(wanted: Wanted, key: CertifiedKey, progress: Progress) -> Held {
    let leaf = key.cert.first().and_then(|der| Leaf::read(der));
    Held { wanted, leaf, key: Arc::new(key), progress, spare: None }
}

/// Key and chain in one text, so that no crash parts them.
fn read_pair(text: &str) -> Result<CertifiedKey, Failure> {
    let unreadable = |error: rustls::pki_types::pem::Error| Failure::new(format!("not PEM: {error}"));
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(unreadable)?;
    let chain = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    tls::pair(chain, &key).map_err(|error| Failure::new(error.to_string()))
}

fn read_stalled(store: &Store) -> BTreeMap<String, u64> {
    let text = store.get(STALLED).ok().flatten();
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn issued(name: &str) -> String {
    format!("issued/{}.pem", plain(name))
}

fn spare(name: &str) -> String {
    format!("issued/{}.spare", plain(name))
}

fn state(name: &str) -> String {
    format!("issued/{}.json", plain(name))
}
