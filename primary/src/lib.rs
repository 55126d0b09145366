//! How a copy leads: executing against committed plus prepared state, who has confirmed what, commit, leases, the start
//! of an epoch, changing the members, feeding learners.
//!
//! A [`Primary`] comes to be in one way only: a replica inherits a [`heirloom_proto::Mandate`], which only a chosen
//! proposal of the view register can make. Its role ends with a higher epoch or with the process.

mod changes;
mod commit;
mod copies;
mod epoch_start;
mod execute;
mod feed;
mod hand_over;
mod lease;
mod members;
mod overlay;
mod primary;
mod reads;

pub use epoch_start::ProofTimes;
pub use feed::Echo;
pub use members::Wanted;
pub use primary::{Primary, Setting};
