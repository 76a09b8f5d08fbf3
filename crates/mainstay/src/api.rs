//! What apps ask Mainstay for, over loopback: HTTP/1 with JSON, a token for each app (`MAINSTAY_URL` and
//! `MAINSTAY_TOKEN`).
//!
//! Must never answer a browser, a foreign `Host` or anything that came over the edge, nor give configuration, secrets
//! or what is an operator's.

mod asked;
mod events;
mod jobs;
mod near;
mod serve;
mod token;

pub use asked::children;
pub use serve::{Open, serve};
pub use token::Tokens;
