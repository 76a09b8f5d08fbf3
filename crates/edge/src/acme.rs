//! Certificates that Mainstay gets by itself: by ACME from a public authority, or from its own for local names.
//!
//! Runs on the control thread. Must never stand in the way of serving: whatever fails here is told, kept for
//! `mainstay certificates list`, and tried again within the authority's limits, across restarts too.

mod attempt;
mod authority;
mod challenge;
mod client;
mod failure;
mod keeper;
mod leaf;
mod names;
mod ocsp;
mod options;
mod order;
mod probe;
mod report;
mod revoke;
mod schedule;
mod service;
mod store;

pub use authority::{ROOT_FILE, stand_in, trust_command};
pub use client::Http;
pub use keeper::Setup;
pub use options::{ChallengeChoice, Directory, Options, Wanted};
pub use report::{Entry, Finding, Outlook, Renewed, Revoked, Summary};
pub use revoke::Reason;
pub use service::{Handle, Service};
pub use store::FOLDER;

/// What is written correctly and will not work all the same: the root of a private authority.
pub fn prove(options: &Options) -> Option<String> {
    let path = options.root.as_ref()?;
    client::add_roots(&mut rustls::RootCertStore::empty(), path).err().map(|failure| failure.what)
}

/// A renewal that somebody asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Renewal {
    /// By a person: the schedule of our own attempts stays as it was.
    pub is_asked: bool,
    /// The order is made with the authority's staging and thrown away.
    pub dry_run: bool,
    /// With the spare key where pins are kept, else a new one.
    pub new_key: bool,
}
