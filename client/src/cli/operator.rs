//! What operators ask of servers one by one, over the service `Cluster`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heirloom_proto::wire::v1::cluster_client::ClusterClient;
use heirloom_proto::wire::v1::{StatusRequest, StatusResponse};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::transport;
use heirloom_proto::Address;

/// How long one server's status is waited for at most: it answers at once or is in trouble.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// One server as an operator sees it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Its id, where it or another one told it.
    pub(crate) id: Option<u32>,
    /// Where it was asked.
    pub(crate) address: Address,
    /// What it said, or why it said nothing.
    pub(crate) status: Result<StatusResponse, String>,
}

/// Connects to one server.
///
/// **Errors:** why not, for people.
pub(crate) async fn connect(address: &Address) -> Result<ClusterClient<Channel>, String> {
    transport::connect(address).await.map(ClusterClient::new)
}

/// The status of all servers of a cluster, of which some are named and the others are learnt; by id.
///
/// It takes no longer than this, though the others are asked after the named ones.
pub(crate) async fn look(named: &[Address], timeout: Duration) -> Vec<Seen> {
    let timeout = timeout / 2;
    let mut seen = ask_all(named.iter().map(|address| (None, address.clone())), timeout).await;
    let mut known: BTreeMap<u32, Address> = BTreeMap::new();
    for status in seen.iter().filter_map(|seen| seen.status.as_ref().ok()) {
        for server in &status.servers {
            if let Ok(address) = server.address.parse() {
                known.entry(server.id).or_insert(address);
            }
        }
    }
    // A dead server can't tell its id, but the others know its address.
    for silent in seen.iter_mut().filter(|seen| seen.id.is_none()) {
        silent.id = known.iter().find(|(_, address)| **address == silent.address).map(|(id, _)| *id);
    }
    known.retain(|id, _| !seen.iter().any(|seen| seen.id == Some(*id)));
    let others = known.into_iter().map(|(id, address)| (Some(id), address));
    seen.extend(ask_all(others, timeout).await);
    // Of one server under two addresses the one that answered is shown.
    seen.sort_by_cached_key(|seen| (seen.id.is_none(), seen.id, seen.status.is_err(), seen.address.clone()));
    seen.dedup_by(|later, first| later.id.is_some() && later.id == first.id);
    seen
}

/// The status of these servers, asked all at once, in no order.
pub(crate) async fn ask_all(servers: impl Iterator<Item = (Option<u32>, Address)>, timeout: Duration) -> Vec<Seen> {
    let mut tasks = JoinSet::new();
    for (id, address) in servers {
        tasks.spawn(async move {
            let status = ask(&address, timeout.min(STATUS_TIMEOUT)).await;
            let id = status.as_ref().map_or(id, |status| Some(status.server));
            Seen { id, address, status }
        });
    }
    tasks.join_all().await
}

async fn ask(address: &Address, timeout: Duration) -> Result<StatusResponse, String> {
    let asking = async {
        let mut cluster = connect(address).await?;
        let response = cluster.status(StatusRequest {}).await.map_err(|status| transport::describe(&status))?;
        Ok(response.into_inner())
    };
    tokio::time::timeout(timeout, asking)
        .await
        .unwrap_or_else(|_| Err(format!("there was no answer within {timeout:?}")))
}

/// Whether it is a witness, whatever its role is at the moment.
pub(crate) fn is_witness(status: &StatusResponse) -> bool {
    status.role == "witness" || status.servers.iter().any(|server| server.id == status.server && server.witness)
}

/// Lines that say what each of these servers waits for, where one does and can be reached in this time.
pub(crate) async fn waits(addresses: Vec<Address>, timeout: Duration) -> String {
    let addresses: BTreeSet<Address> = addresses.into_iter().collect();
    let seen = ask_all(addresses.into_iter().map(|address| (None, address)), timeout).await;
    let waiting: BTreeMap<u32, String> = seen
        .into_iter()
        .filter_map(|seen| seen.status.ok())
        .filter(|status| !status.waits_for.is_empty())
        .map(|status| (status.server, status.waits_for))
        .collect();
    waiting.into_iter().map(|(id, waits_for)| format!("\nserver {id} waits: {waits_for}")).collect()
}

/// Lines that say why each server gave no status.
pub(crate) fn troubles(seen: &[Seen]) -> String {
    let silent = seen.iter().filter_map(|seen| seen.status.as_ref().err().map(|why| (&seen.address, why)));
    silent.map(|(address, why)| format!("\n  {address}: {why}")).collect()
}
