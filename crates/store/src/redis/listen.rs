//! Messages that instances send each other: subscribed, and subscribed again after a restart or a failover.
//!
//! Redis keeps no message for whom was away: a gap is told, so that who holds a copy of something drops it.

use super::dial::Dialer;
use super::error::Error;
use super::options::Options;
use ::redis::Msg;
use ::redis::aio::PubSub;
use futures_util::{Stream, StreamExt};
use mainstay_runtime::Shutdown;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Messages that wait to be taken; what comes on top is a gap.
pub const QUEUE_MAX: usize = 1024;
/// A connection that says nothing for this long is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_LIMIT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Message {
        channel: String,
        payload: Vec<u8>,
    },
    /// From here on everything is heard; before it, messages may have been missed. Also the first of all.
    Gap,
}

#[must_use = "nothing is heard while the listener does not run"]
pub struct Listener {
    dialer: Dialer,
    channels: Vec<String>,
    queue: mpsc::Sender<Heard>,
    /// Something was lost, and nobody was told yet.
    owes_gap: bool,
}

/// Reads files of certificates, connects nothing yet.
///
/// # Errors
/// When a file cannot be read or used.
pub fn listen(options: &Options, channels: &[&str]) -> Result<(mpsc::Receiver<Heard>, Listener), Error> {
    let (queue, heard) = mpsc::channel(QUEUE_MAX);
    let channels = channels.iter().map(|channel| (*channel).to_owned()).collect();
    Ok((heard, Listener { dialer: Dialer::new(options)?, channels, queue, owes_gap: true }))
}

impl Listener {
    /// Until the end is asked for or nobody listens any more.
    pub async fn run(mut self, shutdown: Shutdown) {
        tokio::select! {
            () = shutdown.requested() => {}
            () = self.hear() => {}
        }
    }

    async fn hear(&mut self) {
        while !self.queue.is_closed() {
            if let Ok(pubsub) = self.connect().await {
                self.owes_gap = true;
                self.pass_on(pubsub).await;
            }
            sleep(self.dialer.options.retry_delay).await;
        }
    }

    async fn connect(&self) -> Result<PubSub, Error> {
        let (mut pubsub, _) = self.dialer.listen(self.dialer.options.connect).await?;
        let subscribing = pubsub.subscribe(&self.channels);
        timeout(self.dialer.options.command, subscribing).await.map_err(|_| Error::Late)?.map_err(Error::answered)?;
        Ok(pubsub)
    }

    /// Comes back when the connection is gone or nobody listens any more.
    async fn pass_on(&mut self, pubsub: PubSub) {
        let (mut sink, mut messages) = pubsub.split();
        loop {
            // Told before the next message, as soon as there is room.
            if self.owes_gap && self.queue.try_send(Heard::Gap).is_ok() {
                self.owes_gap = false;
            }
            match timeout(PING_EVERY, self.next(&mut messages)).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => {
                    let alive = timeout(PING_LIMIT, sink.ping::<::redis::Value>()).await;
                    if !matches!(alive, Ok(Ok(_))) {
                        return;
                    }
                }
            }
        }
    }

    async fn next(&mut self, messages: &mut (impl Stream<Item = Msg> + Unpin)) -> bool {
        tokio::select! {
            () = self.queue.closed() => false,
            message = messages.next() => {
                let Some(message) = message else { return false };
                let payload = message.get_payload_bytes().to_vec();
                let heard = Heard::Message { channel: message.get_channel_name().to_owned(), payload };
                if self.owes_gap || self.queue.try_send(heard).is_err() {
                    self.owes_gap = true;
                }
                true
            }
        }
    }
}
