//! The server's end of the socket pair to the supervisor.
//!
//! One thread does nothing but read it, so that the supervisor's death is seen even while the control thread is
//! busy: then it is this thread that ends every instance, and the process.

use anyhow::Context;
use mainstay_supervisor::channel::{Receiver, Sender};
use mainstay_supervisor::protocol::{Hello, Listener, ToServer, ToSupervisor};
use mainstay_supervisor::{Channel, orphans};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};

/// Messages between two looks of the control thread; past it the reading thread waits, and the kernel holds the rest.
const INCOMING_MAX: usize = 256;

pub type Incoming = (ToServer, Vec<OwnedFd>);

type Listening = oneshot::Sender<Result<OwnedFd, String>>;

/// Sends to the supervisor. Cheap to clone; lives on the control thread.
#[derive(Debug, Clone)]
pub struct Link {
    sender: Sender,
    /// `Drained` was sent: the supervisor's end is no news any more.
    finished: Arc<AtomicBool>,
    tickets: Rc<Cell<u64>>,
    listening: Rc<RefCell<HashMap<u64, Listening>>>,
}

/// Starts the reading thread.
pub fn start(channel: Channel, hello: &Hello) -> anyhow::Result<(Link, mpsc::Receiver<Incoming>)> {
    let (sender, receiver) = channel.split();
    let (tx, rx) = mpsc::channel(INCOMING_MAX);
    let finished = Arc::new(AtomicBool::new(false));
    let seen = finished.clone();
    let boot = hello.boot.clone();
    let groups = hello.instances.iter().map(|instance| instance.pid).collect();
    std::thread::Builder::new()
        .name("supervisor".to_owned())
        .spawn(move || read(receiver, &tx, &seen, &boot, groups))
        .context("cannot start a thread")?;
    Ok((Link { sender, finished, tickets: Rc::default(), listening: Rc::default() }, rx))
}

/// Ends the process itself when the supervisor is gone: main may be stuck, and nobody waits for its code any more.
#[allow(clippy::disallowed_methods)]
fn read(
    mut receiver: Receiver,
    tx: &mpsc::Sender<Incoming>,
    finished: &AtomicBool,
    boot: &str,
    mut groups: BTreeSet<i32>,
) {
    loop {
        match receiver.recv::<ToServer>() {
            Ok(Some(incoming)) => {
                match &incoming.0 {
                    ToServer::Spawned { instance, .. } | ToServer::Joined { instance } => {
                        groups.insert(instance.pid);
                    }
                    ToServer::GroupEmpty { pid, .. } => drop(groups.remove(pid)),
                    _ => {}
                }
                if tx.blocking_send(incoming).is_err() {
                    return;
                }
            }
            Ok(None) | Err(_) if finished.load(Ordering::SeqCst) => return,
            Ok(None) | Err(_) => {
                eprintln!("error: the supervisor is gone; ending every instance");
                let groups: Vec<i32> = groups.into_iter().collect();
                orphans::end_everything(boot, &groups);
                std::process::exit(70);
            }
        }
    }
}

impl Link {
    /// Fails only when the supervisor is gone, which the reading thread deals with.
    pub fn send(&self, message: &ToSupervisor) {
        let _ = self.sender.send(message, &[]);
    }

    /// Asks for one more listening socket.
    pub async fn listen(&self, listener: Listener) -> Result<OwnedFd, String> {
        let ticket = self.tickets.get() + 1;
        self.tickets.set(ticket);
        let (tx, rx) = oneshot::channel();
        self.listening.borrow_mut().insert(ticket, tx);
        self.send(&ToSupervisor::Listen { ticket, listener });
        rx.await.unwrap_or_else(|_| Err("the supervisor is gone".to_owned()))
    }

    /// Hands an answer to whoever asked with `listen`.
    pub fn answered(&self, ticket: u64, answer: Result<OwnedFd, String>) {
        if let Some(waiting) = self.listening.borrow_mut().remove(&ticket) {
            let _ = waiting.send(answer);
        }
    }

    /// Everything is finished.
    pub fn drained(&self, code: i32) {
        self.finished.store(true, Ordering::SeqCst);
        self.send(&ToSupervisor::Drained { code });
    }
}
