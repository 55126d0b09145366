//! The copies that can be compared, and the servers that are left out; and what the copies say of their states.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heirloom_proto::wire::epoch_from_wire;
use heirloom_proto::wire::v1::StatusResponse;
use heirloom_proto::{Address, ClusterId, Epoch, LogIndex, ServerId, Version};
use tokio::time::Instant;

use crate::cli::operator::{self, Seen, is_witness};
use crate::verify::{At, Digests, State};

/// How often servers are asked for their digests at most, until they are seen at one index. Servers that are written to pass
/// each other, and those that stand still meet at once.
const POLLS_MAX: u32 = 36;
/// The pause between two of these questions.
const POLL_PAUSE: Duration = Duration::from_millis(25);

/// A server whose copy can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    pub(super) id: ServerId,
    pub(super) address: Address,
    pub(super) role: String,
    pub(super) epoch: Epoch,
    /// Its index and state, as it told them last.
    pub(super) applied: LogIndex,
    pub(super) state: State,
    /// Why it tells no more of them, where it does not.
    pub(super) silence: Option<String>,
}

/// A server whose copy can't be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Its id, where it is known.
    pub(super) id: Option<u32>,
    pub(super) address: Address,
    pub(super) why: Why,
}

/// Why a server is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It keeps no data, so nothing is missing.
    Witness,
    /// It should have a copy, and that is not seen.
    NotSeen(String),
}

/// What a cluster has.
#[derive(Debug)]
pub(super) struct Copies {
    /// The cluster that all of them belong to; `None` where there is no copy.
    pub(super) cluster: Option<ClusterId>,
    pub(super) copies: Vec<Replica>,
    pub(super) left_out: Vec<LeftOut>,
    pub(super) digests: Digests,
}

impl Copies {
    /// Sorts the servers that were seen. Those of another cluster, or of this one before it was set back, count their
    /// indices and versions in another way, so they are left out: what the primary is of, or else the newest epoch, is meant.
    pub(super) fn new(seen: Vec<Seen>) -> Self {
        let statuses = || seen.iter().filter_map(|seen| seen.status.as_ref().ok());
        let mut witnesses: BTreeSet<u32> = statuses()
            .flat_map(|status| &status.servers)
            .filter(|server| server.witness)
            .map(|server| server.id)
            .collect();
        witnesses.extend(statuses().filter(|status| is_witness(status)).map(|status| status.server));
        let with_data = statuses().filter(|status| !witnesses.contains(&status.server));
        let founded = with_data.filter_map(|status| Some((rank(status), cluster(status)?)));
        let cluster = founded.max().map(|(_, cluster)| cluster);
        let mut copies = Self { cluster, copies: Vec::new(), left_out: Vec::new(), digests: Digests::default() };
        for Seen { id, address, status } in seen {
            let sorted = match status {
                _ if id.is_some_and(|id| witnesses.contains(&id)) => Err(Why::Witness),
                Ok(status) => copy(&address, &status, cluster).map_err(Why::NotSeen),
                Err(why) => Err(Why::NotSeen(why)),
            };
            match sorted {
                Ok(copy) => {
                    copies.digests.hear(copy.id, copy.applied, copy.state.clone());
                    copies.copies.push(copy);
                }
                Err(why) => copies.left_out.push(LeftOut { id, address, why }),
            }
        }
        copies
    }

    /// Asks the copies again until all that answer were seen at one index, or often enough, or until the deadline. None is
    /// asked in the last `answer_span` before it: whoever has less time than that and does not answer is not silent.
    pub(super) async fn poll(&mut self, deadline: Instant, answer_span: Duration) {
        for _ in 0..POLLS_MAX {
            let asked_at = Instant::now() + POLL_PAUSE;
            if self.digests.met(&self.answering()).is_some() || asked_at + answer_span >= deadline {
                return;
            }
            tokio::time::sleep(POLL_PAUSE).await;
            self.ask_again(deadline).await;
        }
    }

    /// Asks all copies that still answer once more.
    pub(super) async fn ask_again(&mut self, deadline: Instant) {
        let asked = self.copies.iter().filter(|copy| copy.silence.is_none());
        let asked: Vec<_> = asked.map(|copy| (Some(u32::from(copy.id.0)), copy.address.clone())).collect();
        let seen = operator::ask_all(asked.into_iter(), deadline.saturating_duration_since(Instant::now())).await;
        let mut said: BTreeMap<Address, _> = seen.into_iter().map(|seen| (seen.address, seen.status)).collect();
        for known in &mut self.copies {
            let Some(status) = said.remove(&known.address) else { continue };
            match status.and_then(|status| copy(&known.address, &status, self.cluster)) {
                Ok(now) if now.id == known.id => {
                    self.digests.hear(now.id, now.applied, now.state.clone());
                    *known = now;
                }
                Ok(other) => known.silence = Some(format!("server {} answers in its place", other.id)),
                Err(why) => known.silence = Some(why),
            }
        }
    }

    /// The ids of the copies that still answer.
    pub(super) fn answering(&self) -> BTreeSet<ServerId> {
        self.copies.iter().filter(|copy| copy.silence.is_none()).map(|copy| copy.id).collect()
    }

    /// The version at which keys are compared: the primary's, for all of it is committed and whoever has not applied it will.
    /// Where none leads it is that of the newest epoch.
    pub(super) fn at(&self) -> Option<At> {
        let newest = self.copies.iter().max_by_key(|copy| (copy.role == "primary", copy.epoch, copy.state.version))?;
        Some(At { version: newest.state.version, cluster: self.cluster? })
    }
}

/// Whose word of the cluster is taken: the highest.
fn rank(status: &StatusResponse) -> (bool, Option<Epoch>, u64) {
    (status.role == "primary", epoch_from_wire(status.epoch).ok(), status.version)
}

fn cluster(status: &StatusResponse) -> Option<ClusterId> {
    status.cluster.parse().ok()
}

/// A server's copy, if it has one that can be compared with others of this cluster.
fn copy(address: &Address, status: &StatusResponse, of: Option<ClusterId>) -> Result<Replica, String> {
    let id = u8::try_from(status.server).map_err(|_| format!("no cluster has a server {}", status.server))?;
    match (cluster(status), of) {
        (None, _) => return Err("it has no data yet".to_owned()),
        (Some(its), Some(of)) if its != of => return Err(format!("it is of cluster {its}, and the others of {of}")),
        (Some(_), _) => {}
    }
    Ok(Replica {
        id: ServerId(id),
        address: address.clone(),
        role: status.role.clone(),
        epoch: epoch_from_wire(status.epoch).unwrap_or(Epoch::NONE),
        applied: LogIndex(status.applied),
        state: State { version: Version(status.version), digest: status.digest.clone() },
        silence: None,
    })
}

#[cfg(test)]
mod tests {
    use heirloom_proto::wire::v1::{self, ServerAddress};

    use super::*;

    fn seen(id: u32, role: &str, round: u64, version: u64) -> Seen {
        let server = |id| ServerAddress { id, address: format!("127.0.0.1:{}", 7400 + id), witness: id == 3 };
        let status = StatusResponse {
            server: id,
            role: role.to_owned(),
            cluster: "0000000000000001/1".to_owned(),
            epoch: Some(v1::Epoch { round, server: 0, run: 1 }),
            applied: version + 1,
            version,
            digest: "abc".to_owned(),
            servers: (0..4).map(server).collect(),
            ..Default::default()
        };
        let address = server(id).address.parse().expect("well formed");
        Seen { id: Some(id), address, status: Ok(status) }
    }

    fn of_cluster(seen: Seen, cluster: &str) -> Seen {
        let status = seen.status.map(|status| StatusResponse { cluster: cluster.to_owned(), ..status });
        Seen { status, ..seen }
    }

    fn dead(seen: Seen) -> Seen {
        Seen { status: Err("connection refused".to_owned()), ..seen }
    }

    fn left_out(copies: &Copies) -> Vec<(Option<u32>, Why)> {
        copies.left_out.iter().map(|left| (left.id, left.why.clone())).collect()
    }

    #[test]
    fn a_dead_server_is_missed_and_a_witness_is_not() {
        for witness in [seen(3, "witness", 2, 0), seen(3, "recovering", 2, 0), dead(seen(3, "witness", 2, 0))] {
            let all = vec![seen(0, "primary", 2, 9), seen(1, "backup", 2, 8), dead(seen(2, "backup", 2, 9)), witness];
            let copies = Copies::new(all);
            assert_eq!(copies.answering(), [0, 1].map(ServerId).into());
            let missed = (Some(2), Why::NotSeen("connection refused".to_owned()));
            assert_eq!(left_out(&copies), [missed, (Some(3), Why::Witness)]);
            assert_eq!(copies.digests.state(ServerId(1), LogIndex(9)).map(|state| state.version), Some(Version(8)));
        }
    }

    #[test]
    fn another_cluster_and_a_blank_server_are_not_compared() {
        let other = of_cluster(seen(1, "backup", 9, 50), "0000000000000001/2");
        let blank = of_cluster(seen(2, "recovering", 9, 0), "");
        let copies = Copies::new(vec![seen(0, "primary", 2, 9), other, blank]);
        assert_eq!(copies.answering(), [ServerId(0)].into());
        let why: Vec<Why> = copies.left_out.into_iter().map(|left| left.why).collect();
        assert!(matches!(&why[0], Why::NotSeen(why) if why.contains("0000000000000001/2")), "{why:?}");
        assert_eq!(why[1], Why::NotSeen("it has no data yet".to_owned()));
    }

    #[test]
    fn keys_are_compared_at_the_version_of_the_newest_primary() {
        let at = |seen: Vec<Seen>| Copies::new(seen).at().map(|at| at.version);
        // What was deposed may not have heard of it, and who catches up may lie far ahead in nothing but its epoch.
        let all = vec![seen(0, "primary", 2, 9), seen(1, "primary", 3, 7), seen(2, "learner", 4, 2)];
        assert_eq!(at(all), Some(Version(7)));
        assert_eq!(at(vec![seen(0, "backup", 2, 9), seen(1, "backup", 2, 7)]), Some(Version(9)));
        assert_eq!(at(vec![dead(seen(0, "backup", 2, 9))]), None);
    }

    #[tokio::test]
    async fn nobody_is_taken_for_silent_who_had_no_time_to_answer() {
        let mut copies = Copies::new(vec![seen(0, "primary", 2, 9), seen(1, "backup", 2, 8)]);
        // No server of theirs is there, so whoever is asked falls silent.
        let (deadline, answer_span) = (Instant::now() + Duration::from_secs(1), Duration::from_secs(1));
        copies.poll(deadline, answer_span).await;
        assert_eq!(copies.answering(), [0, 1].map(ServerId).into());
        copies.ask_again(deadline).await;
        assert_eq!(copies.answering(), [].into());
    }
}
