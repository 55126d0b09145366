//! The end of a run: everything is mended, all servers become members and equal, and every key is read once more, with
//! all that was appended.

use std::collections::BTreeSet;
use std::time::Instant;

use heirloom::Client;

use crate::appends;
use crate::ask::{Wish, by_library};
use crate::cluster::Cluster;
use crate::faults::PATIENCE;
use crate::record::{Answer, Mode, Op, Record};

/// What the cluster came to.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// By server: role, version, applied index, digest.
    pub states: Vec<(String, u64, u64, String)>,
    pub version: u64,
}

/// Waits until all servers are equal members.
pub(crate) async fn settle(cluster: &Cluster) -> Result<End, String> {
    let all = cluster.wait(PATIENCE, |all| cluster.is_equal(all)).await;
    let all =
        all.map_err(|told| format!("in the end the servers are not equal members within {PATIENCE:?}: {told}"))?;
    let states: Vec<_> = all
        .iter()
        .flatten()
        .map(|status| (status.role.clone(), status.version, status.applied, status.digest.clone()))
        .collect();
    let version = states.iter().filter(|state| state.0 != "witness").map(|state| state.1).max().unwrap_or(0);
    Ok(End { states, version })
}

/// How far beyond a number that is not there is looked for further ones.
const BEYOND: u64 = 16;

/// Reads every key of the history once more, and what was appended number after number, and adds that to it.
pub(crate) async fn read_all(cluster: &Cluster, begun: Instant, history: &mut Vec<Record>) -> Result<(), String> {
    let client = Client::connect(&cluster.addresses).await.map_err(|error| error.to_string())?;
    let name = history.iter().map(|record| record.client).max().map_or(0, |name| name + 1);
    let mut last = Last { client, name, begun, reads: Vec::new() };
    let named = history.iter().filter(|record| record.op != Op::Append).map(|record| record.key.clone());
    for key in named.collect::<BTreeSet<String>>() {
        last.read(key).await?;
    }
    for prefix in appends::prefixes(history) {
        let told = |record: &Record| match record.result {
            Some(Answer::Appended { number, .. }) if record.key == prefix => Some(number),
            _ => None,
        };
        let told = history.iter().filter_map(told).max().unwrap_or(0);
        let (mut highest, mut number, mut missing) = (told, 1, Vec::new());
        while number <= highest + BEYOND {
            if last.read(appends::key_of(prefix, number)).await? {
                highest = highest.max(number);
            } else {
                missing.push(number);
            }
            number += 1;
        }
        // Once more, now that higher ones are known to be there: this is what a gap is.
        for number in missing.into_iter().filter(|number| *number < highest) {
            last.read(appends::key_of(prefix, number)).await?;
        }
    }
    history.append(&mut last.reads);
    Ok(())
}

/// Who reads at last.
struct Last {
    client: Client,
    name: u64,
    begun: Instant,
    reads: Vec<Record>,
}

impl Last {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).expect("shorter than 500 years")
    }

    /// Reads a key; whether it has a value.
    async fn read(&mut self, key: String) -> Result<bool, String> {
        let start_ns = self.now();
        let result = by_library(&self.client, &Wish::read(key.clone())).await?;
        let end_ns = result.is_some().then(|| self.now());
        let there = match &result {
            Some(Answer::Found { .. }) => true,
            Some(Answer::Absent) => false,
            Some(Answer::Changed { .. } | Answer::Appended { .. } | Answer::NotApplied) | None => {
                return Err(format!("{key} can't be read from a cluster that is whole: {result:?}"));
            }
        };
        let (client, op, mode) = (self.name, Op::Read, Mode::Linearizable);
        let (session, value, expected) = (None, None, None);
        self.reads.push(Record { client, op, mode, session, key, value, expected, start_ns, end_ns, result });
        Ok(there)
    }
}
