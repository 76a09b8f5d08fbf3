//! The edge.
pub mod upstream;
