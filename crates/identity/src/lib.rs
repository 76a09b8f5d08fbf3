//! Who asks, and what they may: tokens verified, roles decided in one place, and the statement the app gets of it.
//!
//! Everything here is a pure function of a token, keys and the time. Must never see a socket, read a clock or decide
//! about a request that no file asked to be guarded.

mod claims;
mod guard;
mod headers;
mod identity;
mod keys;
mod options;
mod refresh;
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
pub use options::{Options, RouteOptions, Source, Verify};
pub use refresh::Refresh;
pub use signer::{Signer, SignerFault};
pub use token::{TOKEN_BYTES_MAX, TokenFault};
pub use verified::Verified;
pub use verifier::{Known, Verifier};
