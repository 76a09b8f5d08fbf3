//! HTTP/1, written here: heads by `httparse`, framing, buffers and the connection of a client by us.
//!
//! Invariant: what was read is passed on only after it was understood and written anew; no byte of a head, and no
//! framing of a body, goes from one side to the other as it came.

pub mod body;
pub mod buffer;
pub mod client;
pub mod framing;
pub mod head;
pub mod stream;
