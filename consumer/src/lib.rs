//! Placeholder.

pub mod dev;
