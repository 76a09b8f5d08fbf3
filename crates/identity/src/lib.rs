//! Who asks, and what they may: tokens verified, roles decided in one place, and the statement the app gets of it. And,
//! where the file says so, the users themselves: their accounts and logins.
//!
//! What judges a request is a pure function of it, keys, what was taken back, and the time; what keeps something runs
//! on the service runtime. Must never see a socket, or decide about a request that no file asked to be guarded.

pub mod accounts;
mod claims;
pub mod csrf;
pub mod exchange;
mod guard;
mod headers;
mod identity;
mod keys;
pub mod oauth;
pub mod operators;
mod options;
mod refresh;
mod revoked;
mod service;
pub mod sessions;
mod signer;
mod token;
mod verified;
mod verifier;

#[cfg(test)]
mod forgery_tests;
#[cfg(test)]
mod fuzz;

pub use claims::Names;
pub use guard::{Decision, Guard, decide};
pub use headers::{IDENTITY, ROLES, TENANT, USER, is_identity_header};
pub use identity::Identity;
pub use keys::{Keys, KeysFault};
pub use options::{Csrf, Options, RouteOptions, Source, Verify};
pub use refresh::Refresh;
pub use revoked::{REVOKED_MAX, Revocation, Revoked, Stamp, Standing};
pub use service::{Service, ServiceFault, Setup};
pub use signer::{Signer, SignerFault};
pub use token::{TOKEN_BYTES_MAX, TokenFault};
pub use verified::Verified;
pub use verifier::{Known, Verifier};
