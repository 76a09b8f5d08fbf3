//! Pages for operators: what they show, as HTML, of what the blocks say of themselves as JSON. No scripts, but for the
//! one that follows a link that lets in.
//!
//! Pure: must never own data or rules, ask a block, read a clock. What it is given is escaped, whoever wrote it.

pub mod console;
mod html;
pub mod queues;

pub use html::{NO_SCRIPTS, goes_on, refused, span};

/// The one style sheet, at `style.css` below the pages.
pub const STYLE: &str = include_str!("style.css");
