//! Crawlers that are not limited. A core only looks at what is known; looking up is the control thread's, bounded, and
//! until it is done a crawler is a client like any other.

use super::dns;
use crate::core::Core;
use crate::fields::{Fields, Name};
use mainstay_limits::crawlers::{Proofs, Skip, Standing};
use mainstay_runtime::{Clock, Shutdown};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, mpsc};

/// Addresses that wait to be looked up; one more is asked about at its next request.
const WAITING_MAX: usize = 64;
/// Lookups at once.
const LOOKING_UP_MAX: usize = 8;
/// Names of one address that are followed back.
const NAMES_MAX: usize = 4;

/// What the file says of them.
#[derive(Debug, Default)]
pub struct Skipping(Vec<Arc<Skip>>);

/// Someone to be looked up.
#[derive(Debug)]
pub struct Question {
    address: IpAddr,
    skip: Arc<Skip>,
}

/// What is known, and where it is asked for.
#[derive(Debug)]
pub struct Desk {
    proofs: Proofs,
    ask: mpsc::Sender<Question>,
    /// Until somebody answers.
    asked: Mutex<Option<mpsc::Receiver<Question>>>,
}

impl Default for Desk {
    fn default() -> Desk {
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        Desk { proofs: Proofs::default(), ask, asked: Mutex::new(Some(asked)) }
    }
}

impl Skipping {
    pub fn new(skip: &[Skip]) -> Skipping {
        Skipping(skip.iter().cloned().map(Arc::new).collect())
    }

    pub fn spares(&self, core: &Core, client: IpAddr, fields: &Fields) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let agent = fields.get(Name::UserAgent).unwrap_or_default();
        let mut fitting = self.0.iter().filter(|skip| skip.fits(agent));
        fitting.any(|skip| skip.is_from(client) || core.shared.crawlers.proves(client, skip, core.now_us()))
    }
}

impl Desk {
    fn proves(&self, client: IpAddr, skip: &Arc<Skip>, now_us: u64) -> bool {
        if skip.domains.is_empty() {
            return false;
        }
        match self.proofs.standing(client, skip, now_us) {
            Standing::Proven => true,
            Standing::Refuted => false,
            Standing::Unknown => {
                if self.ask.try_send(Question { address: client, skip: skip.clone() }).is_ok() {
                    // Asked about once, not with each of its requests.
                    self.proofs.note(client, skip, false, now_us);
                }
                false
            }
        }
    }
}

/// Looks up who asks to be spared, until shutdown. Must run inside a `LocalSet`. `servers`: what is configured now.
pub async fn run(shared: Arc<crate::core::Shared>, servers: impl Fn() -> Option<SocketAddr>, shutdown: Shutdown) {
    let asked = shared.crawlers.asked.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut asked) = asked else { return };
    let turns = Arc::new(Semaphore::new(LOOKING_UP_MAX));
    loop {
        let question = tokio::select! {
            question = asked.recv() => question,
            () = shutdown.requested() => return,
        };
        let (Some(question), Ok(turn)) = (question, turns.clone().acquire_owned().await) else { return };
        let (shared, servers) = (shared.clone(), servers().map_or_else(dns::of_this_machine, |one| vec![one]));
        tokio::task::spawn_local(async move {
            let Question { address, skip } = question;
            let proven = is_proven(&servers, address, &skip).await;
            shared.crawlers.proofs.note(address, &skip, proven, Clock::micros());
            tracing::debug!(%address, agent = skip.agent, proven, "looked up who calls itself a crawler");
            drop(turn);
        });
    }
}

/// The address has a name of theirs, and that name has the address: the first alone could be said by anybody who has
/// an address, the second alone by nobody else than the owner of the domain.
async fn is_proven(servers: &[SocketAddr], address: IpAddr, skip: &Skip) -> bool {
    let names = dns::names_of(servers, address).await;
    for name in names.iter().filter(|name| skip.owns(name)).take(NAMES_MAX) {
        if dns::addresses_of(servers, name, address.is_ipv4()).await.contains(&address) {
            return true;
        }
    }
    false
}
