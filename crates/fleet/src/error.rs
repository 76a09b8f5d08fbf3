//! What can go wrong with a wish: restart, reload.

use crate::event::{Trouble, Who};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no app {name:?} that runs here; there is {known}")]
    NoSuchApp { name: String, known: String },
    #[error("{app} has no instance {number}; it has 1 to {count}")]
    NoSuchInstance { app: String, number: u32, count: u32 },
    #[error("an instance's number needs its app: mainstay restart APP NUMBER")]
    NumberWithoutApp,
    #[error("{waiting} changes are waiting already; try again when they are done (mainstay status)")]
    Busy { waiting: usize },
    #[error("{who} was not replaced: {trouble}")]
    NotReplaced { who: Who, trouble: Box<Trouble> },
    #[error("{0}")]
    NotSwapped(String),
    #[error("everything is being stopped")]
    Stopping,
}
