//! When enough voters have answered.

use std::collections::BTreeSet;

use crate::config::{Constants, QuorumRule};
use crate::ids::ServerId;

/// Whether those who `answered` are a quorum; `excused` are the voters proven dead, which only the rule
/// [`QuorumRule::Survivors`] takes into account.
pub fn reached(constants: &Constants, answered: &BTreeSet<ServerId>, excused: &BTreeSet<ServerId>) -> bool {
    let voters = constants.voters.len();
    match constants.quorum {
        QuorumRule::Majority => constants.servers().filter(|server| answered.contains(server)).count() * 2 > voters,
        QuorumRule::Survivors => {
            constants.servers().all(|server| answered.contains(&server) || excused.contains(&server))
        }
    }
}
