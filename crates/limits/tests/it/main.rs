//! Limits against a server that counts them: a private Redis.

mod redis;
mod suite;
