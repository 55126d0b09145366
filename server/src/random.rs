//! Random numbers for identities: runs, clusters.

use crate::failure::Failure;

/// A random number.
///
/// **Errors:** the system has no randomness to give; without it two runs could bear one name.
pub(crate) fn number() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| Failure::Machine(format!("no random numbers to be had: {error}")))
}
