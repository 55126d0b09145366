//! The end of a run: everything is mended, all servers become members and equal, and every key is read once more.

use std::collections::BTreeSet;
use std::time::Instant;

use heirloom::Client;

use crate::clients::ask;
use crate::cluster::Cluster;
use crate::faults::PATIENCE;
use crate::record::{Op, Record};

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

/// Reads every key of the history once more, and adds that to it.
pub(crate) async fn read_all(cluster: &Cluster, begun: Instant, history: &mut Vec<Record>) -> Result<(), String> {
    let now = || u64::try_from(begun.elapsed().as_nanos()).expect("shorter than 500 years");
    let client = Client::connect(&cluster.addresses).await.map_err(|error| error.to_string())?;
    let keys: BTreeSet<String> = history.iter().map(|record| record.key.clone()).collect();
    let name = history.iter().map(|record| record.client).max().map_or(0, |name| name + 1);
    for key in keys {
        let start_ns = now();
        let result = ask(&client, Op::Read, &key, None).await?;
        let end_ns = result.is_some().then(now);
        if !matches!(result, Some(crate::Answer::Found { .. } | crate::Answer::Absent)) {
            return Err(format!("{key} can't be read from a cluster that is whole: {result:?}"));
        }
        history.push(Record { client: name, op: Op::Read, key, value: None, expected: None, start_ns, end_ns, result });
    }
    Ok(())
}
