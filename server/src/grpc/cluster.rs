//! The service `Cluster`: for operators, and for clients that look for the primary.

use std::sync::Arc;
use std::time::Duration;

use heirloom_proto::wire::client::Asked;
use heirloom_proto::wire::epoch_to_wire;
use heirloom_proto::wire::refusal::status_from_refusal;
use heirloom_proto::wire::snapshot::held_from_wire;
use heirloom_proto::wire::v1::cluster_client::ClusterClient;
use heirloom_proto::wire::v1::cluster_server::Cluster;
use heirloom_proto::wire::v1::{
    FenceRequest, FenceResponse, NudgeRequest, NudgeResponse, PromoteRequest, PromoteResponse, ReadCounts,
    SaveSnapshotRequest, ServerAddress, StatusRequest, StatusResponse,
};
use heirloom_proto::{self as proto, At, Consistency, KeyRange, Refusal, Scan, ServerId, Version, VoterKind};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::desk::{Desk, Patience};
use super::dictionary::patience;
use super::forward;
use crate::clock;
use crate::links::Acceptor;
use crate::transfer::{self, Chunks};

/// The cluster as seen from one desk.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    desk: Arc<Desk>,
    kinds: Arc<[VoterKind]>,
    acceptor: Acceptor,
}

impl Service {
    /// A service that hands in at `desk`; `kinds` are those of the servers, by id; `acceptor` knows the life that is on.
    pub(crate) fn new(desk: Arc<Desk>, kinds: Arc<[VoterKind]>, acceptor: Acceptor) -> Self {
        Self { desk, kinds, acceptor }
    }

    fn refuse(&self, refusal: &Refusal) -> Status {
        status_from_refusal(refusal, self.desk.primary_address(refusal).as_deref())
    }

    fn address(&self, server: Option<ServerId>) -> String {
        let found = server.and_then(|server| self.desk.servers().get(usize::from(server.0)));
        found.map(ToString::to_string).unwrap_or_default()
    }

    /// A server that the cluster has.
    fn server(&self, id: u32) -> Result<ServerId, Status> {
        let server = u8::try_from(id).ok().filter(|id| usize::from(*id) < self.kinds.len()).map(ServerId);
        server.ok_or_else(|| {
            let last = self.kinds.len() - 1;
            Status::invalid_argument(format!("the cluster has no server {id}: its servers are 0 to {last}"))
        })
    }

    /// Waits until this server has applied every change that was answered before now; gives the version of that.
    ///
    /// A linearizable look at all keys is answered here, of what is applied here then, or by the primary; its version is
    /// waited for in that case.
    async fn catch_up(&self, until: Instant) -> Result<Version, Status> {
        let look = |consistency| {
            let at = At::Now(consistency);
            proto::Request::Scan(Scan { range: KeyRange::default(), limit: 1, keys_only: true, at, cluster: None })
        };
        let late = || Status::deadline_exceeded("this server did not catch up while its caller waited");
        let asked = Asked { request: look(Consistency::Linearizable), redirect: false };
        let answered = self.desk.carry_out(asked, until).await.map_err(|refusal| self.refuse(&refusal))?;
        let seen = answered.response.seen();
        let at_least = seen.ok_or_else(|| Status::internal("the answer does not fit the request"))?.version;
        if answered.server.is_some_and(|server| server != self.desk.me()) {
            let causal = look(Consistency::Causal { at_least });
            let answer = self.desk.ask(causal, until).await.map_err(|Patience::Ended| late())?;
            answer.map_err(|refusal| self.refuse(&refusal))?;
        }
        Ok(at_least)
    }

    /// Asks the primary for the hand-over; `None` where it is worth trying again.
    async fn promote_at(
        &self,
        primary: ServerId,
        server: ServerId,
        until: Instant,
    ) -> Option<Result<Response<PromoteResponse>, Status>> {
        let address = &self.desk.servers().get(usize::from(primary.0))?;
        // Nothing was asked yet where the time ends here, which the caller's loop sees by itself.
        let channel = tokio::time::timeout_at(until, forward::connect(address)).await.ok()?.ok()?;
        let mut client = ClusterClient::new(channel);
        let request = PromoteRequest { server: u32::from(server.0), redirect: true };
        match tokio::time::timeout_at(until, client.promote(request)).await {
            // Asking twice for the same hand-over is harmless, so what is unavailable is tried again.
            Ok(Err(status)) if status.code() == Code::Unavailable => None,
            Ok(answer) => Some(answer),
            Err(_) => Some(Err(Status::deadline_exceeded("the hand-over took longer than the caller waits"))),
        }
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let Some(report) = self.desk.report().await else {
            return Err(Status::unavailable("this server is starting or stopping: ask again"));
        };
        let status = report.status;
        let servers = self.desk.servers().iter().zip(self.kinds.iter()).enumerate();
        let servers = servers.map(|(id, (address, kind))| ServerAddress {
            id: u32::try_from(id).unwrap_or(u32::MAX),
            address: address.to_string(),
            witness: *kind == VoterKind::Witness,
        });
        Ok(Response::new(StatusResponse {
            server: u32::from(status.server.0),
            address: self.address(Some(status.server)),
            role: status.role.word().to_owned(),
            cluster: status.cluster.map(|cluster| cluster.to_string()).unwrap_or_default(),
            epoch: Some(epoch_to_wire(status.epoch)),
            primary: status.primary.map(|primary| u32::from(primary.0)),
            primary_address: self.address(status.primary),
            in_sync: status.in_sync.iter().map(|member| u32::from(member.server.0)).collect(),
            log_end: status.log_end.0,
            commit: status.commit.0,
            applied: status.applied.0,
            version: status.version.0,
            digest: status.digest.to_string(),
            keys: status.keys,
            sessions: status.sessions,
            lease_ms: status.lease.map(millis),
            waits_for: status.waits_for.unwrap_or_default(),
            uptime_ms: millis(report.uptime),
            disk_bytes: report.disk_bytes,
            log_bytes: report.log_bytes,
            snapshot_bytes: report.snapshot_bytes,
            checked_ms_ago: clock::calendar().0.saturating_sub(report.checked.at.0),
            servers: servers.collect(),
            reads: Some(ReadCounts {
                local: report.reads.local,
                waited: report.reads.waited,
                confirmed: report.reads.confirmed,
                forwarded: report.reads.forwarded,
            }),
        }))
    }

    async fn nudge(&self, request: Request<NudgeRequest>) -> Result<Response<NudgeResponse>, Status> {
        self.desk.nudge(Instant::now() + patience(request.metadata())).await;
        let primary = self.desk.place().borrow().primary;
        Ok(Response::new(NudgeResponse {
            primary: primary.map(|primary| u32::from(primary.0)),
            primary_address: self.address(primary),
        }))
    }

    async fn promote(&self, request: Request<PromoteRequest>) -> Result<Response<PromoteResponse>, Status> {
        let until = Instant::now() + patience(request.metadata());
        let PromoteRequest { server, redirect } = request.into_inner();
        let server = self.server(server)?;
        let mut place = self.desk.place();
        let mut pause = Duration::from_millis(25);
        loop {
            place.mark_unchanged();
            let refusal = match self.desk.ask(heirloom_proto::Request::Promote(server), until).await {
                Ok(Ok(heirloom_proto::Response::Promoted { primary })) => {
                    return Ok(Response::new(PromoteResponse { primary: u32::from(primary.0) }));
                }
                Ok(Ok(_)) => return Err(Status::internal("the answer does not fit the request")),
                Ok(Err(refusal)) => refusal,
                Err(Patience::Ended) => {
                    return Err(Status::deadline_exceeded("the hand-over took longer than the caller waits"));
                }
            };
            let Refusal::NotPrimary { primary } = &refusal else { return Err(self.refuse(&refusal)) };
            if redirect {
                return Err(self.refuse(&refusal));
            }
            if let Some(primary) = primary.filter(|primary| *primary != self.desk.me())
                && let Some(answer) = self.promote_at(primary, server, until).await
            {
                return answer;
            }
            if !self.desk.wait_for_primary(&mut place, &mut pause, until).await {
                return Err(self.refuse(&refusal));
            }
        }
    }

    type SaveSnapshotStream = Chunks;

    async fn save_snapshot(&self, request: Request<SaveSnapshotRequest>) -> Result<Response<Chunks>, Status> {
        let until = Instant::now() + patience(request.metadata());
        let held = request.into_inner().held.map(held_from_wire).transpose();
        let held = held.map_err(|error| Status::invalid_argument(error.to_string()))?;
        if self.kinds.get(usize::from(self.desk.me().0)) == Some(&VoterKind::Witness) {
            return Err(Status::failed_precondition("this server is a witness, which keeps no data: ask another one"));
        }
        let life = self.acceptor.life()?;
        let seat = tokio::time::timeout_at(until, life.transfers.begin_save()).await;
        let seat = seat.map_err(|_| {
            Status::resource_exhausted("this server is saving as many snapshots as it may: ask another one, or later")
        })?;
        let shelf = life.shelf.clone();
        if let Some(held) = held {
            return transfer::save_held(shelf, seat, held).await.map(Response::new);
        }
        let at_least = self.catch_up(until).await?;
        let made = self.desk.make_snapshot(until).await;
        let made = made.ok_or_else(|| Status::unavailable("this server is starting or stopping: ask again"))?;
        Ok(Response::new(transfer::save_fresh(shelf, seat, made, at_least)))
    }

    async fn fence(&self, request: Request<FenceRequest>) -> Result<Response<FenceResponse>, Status> {
        let until = Instant::now() + patience(request.metadata());
        let FenceRequest { server, it_is_off } = request.into_inner();
        let server = self.server(server)?;
        if !it_is_off {
            return Err(Status::invalid_argument(
                "it_is_off is not set: make sure that the server is off and stays off, then say so",
            ));
        }
        match self.desk.ask(heirloom_proto::Request::Fence(server), until).await {
            Ok(Ok(heirloom_proto::Response::Fenced)) => Ok(Response::new(FenceResponse {})),
            Ok(Ok(_)) => Err(Status::internal("the answer does not fit the request")),
            Ok(Err(refusal)) => Err(self.refuse(&refusal)),
            Err(Patience::Ended) => Err(Status::deadline_exceeded("the node did not take the word in time")),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
