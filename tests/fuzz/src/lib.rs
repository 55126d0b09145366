//! What comes from outside may be anything at all. Each reader of such bytes is a [`Target`] here, which says of every
//! input what must hold: no panic, no more believed than was written, and what was understood is said again alike.
//!
//! `tests/targets.rs` makes a test of each target, for `cargo test` and for `cargo bolero`; the bench `search` lets
//! `cargo bolero` search for long. What an input means is in [`input`].

pub mod encodings;
pub mod input;
pub mod log;
pub mod messages;
pub mod records;
pub mod snapshot;
mod store;
pub mod watched;

// `cargo bolero` builds this crate's own tests too, and its eyes in them need its engine.
#[cfg(test)]
use bolero as _;

/// One reader of bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Inputs to begin with, made of what is really written and sent.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input.
    ///
    /// **Panics if** what must hold of every input does not hold of this one.
    pub check: fn(&[u8]),
}

/// Hands all targets to a macro, each by a name and the [`Target`]. To add one: its line here, then
/// `HEIRLOOM_WRITE_PAGES=1 cargo test -p heirloom-fuzz`, which writes its seeds.
#[macro_export]
macro_rules! with_targets {
    ($make:ident) => {
        $make! {
            log => $crate::log::LOG;
            records => $crate::records::RECORDS;
            snapshot => $crate::snapshot::SNAPSHOT;
            encodings => $crate::encodings::ENCODINGS;
            links => $crate::messages::LINKS;
            requests => $crate::messages::REQUESTS;
            answers => $crate::messages::ANSWERS;
            watched => $crate::watched::WATCHED;
        }
    };
}

macro_rules! list {
    ($($name:ident => $target:path;)*) => {
        /// All targets by their names.
        pub const TARGETS: &[(&str, Target)] = &[$((stringify!($name), $target)),*];
    };
}
with_targets!(list);
