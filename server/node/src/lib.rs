//! One Heirloom server as a pure value: `step(now, event) -> actions`.
//!
//! A [`Node`] is a voter of the view register and, at a time, one role: a witness, a copy (recovering, learner or
//! backup), or a primary. It does not fail, wait, log, draw a random number or read a clock; the server's runtime, the
//! simulator and the model checker drive the same code.
//!
//! # The protocol in one page
//!
//! *Vote.* A promise of an epoch shuts out every lower one from the moment it is given: the copy takes no entry, the
//! primary commits nothing and holds no lease, heartbeats are not echoed (`voting`).
//!
//! *Propose.* Whoever would propose asks first, which changes nothing, and goes on where a quorum answers and does not
//! hear the primary. Then one epoch, one proposal: own promise to disk, promises, the view derived from the newest one
//! that a quorum showed, own acceptance to disk, acceptances (`proposing`).
//!
//! *Lead.* A chosen proposal gives a mandate, and a mandate makes a copy the primary. It tells every member what to keep
//! of its log, appends its marker, waits until all who may still hold a lease are settled, and commits what every member
//! has confirmed (`heirloom_primary`).
//!
//! *Found.* The first view comes from the lowest data server once every voter has said that it is blank (`founding`).
//!
//! # Caveats
//!
//! - A data directory put back from an old copy is noticed only where another server that remembers it answers in time
//!   (`doubt`, docs/decisions/0015).
//! - Where `--quorum survivors` leaves one server alone and it dies between storing a new view of itself and its marker,
//!   it waits for the other server although it need not.

mod doubt;
mod founding;
mod memory;
mod node;
mod patience;
mod peers;
mod proofs;
mod proposing;
mod receiving;
mod reporting;
mod requests;
mod snapshots;
mod ticking;
mod voting;
mod waiting;

pub use node::Node;
pub use reporting::Applied;
