//! The hidden verb `server`: the process that serves. Started by the supervisor alone.

use crate::exit::Failure;
use crate::wiring;
use anyhow::Context;
use mainstay_supervisor::Channel;
use mainstay_supervisor::channel::SERVER_DESCRIPTOR;
use mainstay_supervisor::protocol::{PROTOCOL, ToServer, ToSupervisor};

pub fn run() -> Result<u8, Failure> {
    // One provider for the whole tree, named before anything makes a TLS configuration.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut channel = Channel::from_fd(SERVER_DESCRIPTOR).map_err(|e| Failure::Refused(e.to_string()))?;
    // Before anything is read: an older or newer supervisor must not have to guess what it has started.
    let version = env!("CARGO_PKG_VERSION").to_owned();
    channel.send(&ToSupervisor::Here { protocol: PROTOCOL, version }, &[]).context("cannot greet the supervisor")?;
    let first = channel.recv::<ToServer>().context("no greeting from the supervisor")?;
    let Some((ToServer::Hello(hello), descriptors)) = first else {
        return Err(Failure::Internal(anyhow::anyhow!("the supervisor did not greet")));
    };
    let code = wiring::run(*hello, descriptors, channel)?;
    Ok(u8::try_from(code).unwrap_or(70))
}
