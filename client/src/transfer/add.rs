//! Adding the keys of a batch: as one change set, or one by one where that can't be.

use bytes::Bytes;
use heirloom_proto::{Refusal, Version};
use tokio::task::JoinSet;

use super::import::Batch;
use crate::answer::Conditional;
use crate::changes::ChangeSet;
use crate::client::Client;
use crate::error::Error;

/// How many keys of one batch are under way where they are added one by one.
const SINGLE_UNDER_WAY_MAX: usize = 32;

/// What came of keys that were to be added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Added {
    /// So many were added or replaced.
    pub(crate) keys: u64,
    /// So many had a value and were left as they are.
    pub(crate) left_alone: u64,
    /// The newest version that came of it, or at which a key was left alone.
    pub(crate) version: Version,
}

impl Added {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            keys: self.keys + other.keys,
            left_alone: self.left_alone + other.left_alone,
            version: self.version.max(other.version),
        }
    }
}

/// Adds all keys of a batch; with `if_absent`, those that have no value.
///
/// **Errors:** of the keys that could not be added; the others may have been.
pub(crate) async fn add(client: &Client, batch: &Batch, if_absent: bool) -> Result<Added, Error> {
    let keys = &batch.keys;
    let mut set = ChangeSet::new();
    for (key, value) in keys {
        set = if if_absent { set.if_absent(key) } else { set }.add(key, value.clone());
    }
    match client.change_set(set).await {
        Ok(Conditional::Done(changed)) => {
            Ok(Added { keys: keys.len() as u64, left_alone: 0, version: changed.version })
        }
        // One of them is there, so each has to be asked for by itself.
        Ok(Conditional::NotMet(_)) => one_by_one(client, keys, if_absent).await,
        // All values together are more than these servers let one be, and each by itself may be less.
        Err(error @ Error::NotApplied(_))
            if keys.len() > 1 && matches!(error.refusal(), Some(Refusal::BadValue { .. })) =>
        {
            one_by_one(client, keys, if_absent).await
        }
        Err(error) => Err(error),
    }
    .map_err(|error| error.about(&format!(" (lines {} to {})", batch.first_line, batch.next_line - 1)))
}

async fn one_by_one(client: &Client, keys: &[(Bytes, Bytes)], if_absent: bool) -> Result<Added, Error> {
    let mut sum = Added::default();
    for some in keys.chunks(SINGLE_UNDER_WAY_MAX) {
        let mut tasks = JoinSet::new();
        for (key, value) in some.iter().cloned() {
            let client = client.clone();
            tasks.spawn(async move {
                match if_absent {
                    true => client.add_if_absent(key, value).await,
                    false => client.add(key, value).await.map(Conditional::Done),
                }
            });
        }
        let mut failure: Option<Error> = None;
        for answer in tasks.join_all().await {
            let (keys, left_alone, version) = match answer {
                Ok(Conditional::Done(changed)) => (1, 0, changed.version),
                Ok(Conditional::NotMet(not_met)) => (0, 1, not_met.version),
                Err(error) => {
                    failure = Some(graver(failure, error));
                    continue;
                }
            };
            sum = sum.and(Added { keys, left_alone, version });
        }
        if let Some(error) = failure {
            return Err(error);
        }
    }
    Ok(sum)
}

/// Of two errors the one that must be told: an outcome that is unknown must not be hidden.
pub(crate) fn graver(first: Option<Error>, second: Error) -> Error {
    match first {
        Some(first) if first.is_outcome_unknown() || !second.is_outcome_unknown() => first,
        Some(_) | None => second,
    }
}
