//! Several nodes on one Postgres: those that stand by ask the one that decides, by way of tables that both can reach.
//! So an app asks its own node wherever that is, and each node's instances are given their share of what is pushed.
//!
//! Invariants: a call is taken out of its table before it is begun, so it is done once at most, as one over a
//! connection that may break. What is answered was committed by who decided. A call that is not answered in its time is
//! told as one of which it is not known what became of it.

mod answering;
mod asking;
mod calls;
mod words;

pub(crate) use answering::{Heard, answering};
pub(crate) use asking::{Elsewhere, Far, asking};
pub(crate) use words::{Asked, Told};
