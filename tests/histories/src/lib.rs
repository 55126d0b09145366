//! Histories from real processes: real servers, real faults, real clients, and whether what the clients were told can
//! have happened.
//!
//! ```text
//!  seed ──▶ faults ──▶ cluster of processes ◀── clients (library, command line)
//!                            │                        │
//!                        finale: healed, equal     records ──▶ JSON lines ──▶ other people's checkers
//!                            └───────▶ verdict ◀──────┘
//! ```
//!
//! The seed gives the plan: which faults in which order, for how long, and which calls. What comes of it is up to the
//! machine; the verdict must not be.
//!
//! What doesn't belong here: worlds that can be replayed to the byte (`tests/sim/`).

mod appends;
mod ask;
mod check;
mod clients;
mod cluster;
pub mod disk;
mod faults;
mod finale;
mod hosts;
mod reads;
mod record;
mod run;
mod shrink;
mod stop;
mod summary;
mod weak;

pub use check::{Judged, Law, Violation, judge};
pub use cluster::{Executable, Shape, Told};
pub use faults::{Fault, FaultSet};
pub use hosts::{Network, obstacle};
pub use reads::{Reads, Series, reads};
pub use record::{Answer, Looked, Mode, Op, Record, read_lines, write_lines};
pub use run::{Demands, Options, run};
pub use summary::Report;
