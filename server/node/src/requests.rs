//! Requests of clients and operators, and the end of a batch of events.

use heirloom_backup::Unanswered;
use heirloom_proto::event::{Note, Token};
use heirloom_proto::{Lookup, Outbox, QuorumRule, Refusal, Request, Response, ServerId, Time, WallTime};

use crate::node::{Node, Role};

impl Node {
    pub(crate) fn requested(&mut self, now: Time, token: Token, request: Request, at: WallTime, out: &mut Outbox) {
        self.wall = self.wall.max(at);
        if let Request::Fence(server) = request {
            let result = self.fence(now, server, out);
            return out.respond(token, result);
        }
        if let Err(refusal) = request.check_bounds(self.config.value_bytes_max) {
            return out.respond(token, Err(refusal));
        }
        let primary = self.primary_known(now);
        if let Some(refusal) = self.counts_otherwise(&request, primary) {
            return out.respond(token, Err(refusal));
        }
        match (&mut self.role, request) {
            (Role::Primary(_), request) => self.requested_of_primary(now, token, request, out),
            (Role::Copy(backup), request) if self.identity.cluster.is_some() => {
                let Some(lookup) = lookup(request) else {
                    return out.respond(token, Err(Refusal::NotPrimary { primary }));
                };
                // The primary answers at once what would wait here for longer than this.
                let until = now + self.config.heartbeat;
                backup.read(Unanswered { token, lookup }, now, until, primary, out);
            }
            (Role::Copy(_) | Role::Witness | Role::Over, _) => {
                out.respond(token, Err(Refusal::NotPrimary { primary }));
            }
        }
    }

    /// Why a page can't be of the version that it names, where that is counted otherwise here.
    fn counts_otherwise(&self, request: &Request, primary: Option<ServerId>) -> Option<Refusal> {
        let named = match request {
            Request::Scan(scan) => scan.cluster?,
            Request::OpenSession
            | Request::CloseSession(_)
            | Request::Change { .. }
            | Request::Read { .. }
            | Request::Promote(_)
            | Request::Fence(_) => return None,
        };
        match self.cluster() {
            Some(own) if own == named => None,
            // This one may be the one that has not heard of it yet.
            Some(own) if named.is_later_than(own) => Some(Refusal::NotPrimary { primary }),
            Some(_) => Some(Refusal::OtherCluster),
            None => Some(Refusal::NotPrimary { primary }),
        }
    }

    pub(crate) fn requested_of_primary(&mut self, now: Time, token: Token, request: Request, out: &mut Outbox) {
        // Steps of the calendar backwards would make the time of a change lie; it stands still instead.
        let at = self.wall;
        self.lead(now, |primary, setting| primary.request(token, request, at, setting, out));
    }

    /// The operator's word that a server is off, which means the last run heard (PROTOCOL 5).
    fn fence(&mut self, now: Time, server: ServerId, out: &mut Outbox) -> Result<Response, Refusal> {
        let refuse = |reason| Err(Refusal::BadServer { reason });
        if self.config.constants.kind(server).is_none() {
            return refuse("the cluster has no such server: see `heirloom status`");
        }
        if server == self.config.me {
            return refuse("it is the server that was asked, and it answers");
        }
        if self.config.constants.quorum == QuorumRule::Survivors && self.recovering {
            return Err(Refusal::Recovering);
        }
        if self.peers.is_connected(server) {
            return refuse("a stream to it stands: it is not off");
        }
        let Some(run) = self.peers.run(server) else {
            return refuse("this server has not heard of it since it was started, so there is no run to speak of");
        };
        self.proofs.prove(now, server, run, now);
        out.tell(Note::ProvenDead { server, run });
        self.after_proof(now, out);
        Ok(Response::Fenced)
    }

    /// Nothing else is waiting: what has gathered goes out.
    pub(crate) fn flush(&mut self, now: Time, out: &mut Outbox) {
        self.lead(now, |primary, setting| primary.flush(setting, out));
    }
}

/// What a request looks up, if that is all it does.
fn lookup(request: Request) -> Option<Lookup> {
    match request {
        Request::Read { key, consistency } => Some(Lookup::Key { key, consistency }),
        Request::Scan(scan) => Some(Lookup::Page(scan)),
        Request::OpenSession
        | Request::CloseSession(_)
        | Request::Change { .. }
        | Request::Promote(_)
        | Request::Fence(_) => None,
    }
}
