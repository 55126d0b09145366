//! What clients ask and are told, on the wire: one pair of functions for requests and one for answers, which server and
//! client share. The unary calls use the same messages as the session stream carries.

use std::time::Duration;

use bytes::Bytes;

use super::refusal::{Refused, refusal_from_wire, refusal_to_wire};
use super::v1::{self, session_request, session_response};
use super::{cluster_from_text, cluster_to_text, epoch_from_wire, epoch_to_wire, server_from_wire, span_to_wire};
use crate::codec::Malformed;
use crate::ids::{LogIndex, ServerId, SessionId, Version};
use crate::request::{
    Change, Condition, Consistency, KeyChange, Refusal, Request, RequestId, Response, Seen, Together,
};
use crate::scan::{At, KeyRange, Scan, Scanned};
use crate::time::WallTime;

/// How many bytes of keys and values one message of a session stream carries at most, either way, unless its first
/// request or answer alone is larger.
pub const SESSION_BATCH_BYTES_MAX: usize = 1 << 20;
/// How many requests or answers one message of a session stream carries at most.
pub const SESSION_BATCH_MAX: usize = 4_096;

/// A request as a server receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// Whether a server that can't answer itself is to say who can, rather than to forward the request or to wait.
    pub redirect: bool,
}

/// An answer as a client receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The answer.
    pub response: Response,
    /// The server that carried the request out, where the answer says so.
    pub server: Option<ServerId>,
}

/// A request for the wire; `None` for those of operators, which have calls of their own in the service `Cluster`.
pub fn request_to_wire(request: &Request, redirect: bool) -> Option<session_request::Request> {
    use session_request::Request as Wire;
    Some(match request {
        Request::OpenSession => Wire::OpenSession(v1::OpenSessionRequest { redirect }),
        Request::CloseSession(session) => {
            Wire::CloseSession(v1::CloseSessionRequest { session: Some(session_to_wire(*session)), redirect })
        }
        Request::Change { id, change } => {
            let request_id = id.map(request_id_to_wire);
            match change {
                Change::Add { key, value } => Wire::Add(v1::AddRequest {
                    key: key.clone(),
                    value: value.clone(),
                    request_id,
                    redirect,
                    ..Default::default()
                }),
                Change::Delete { key } => {
                    Wire::Delete(v1::DeleteRequest { key: key.clone(), request_id, redirect, if_version: None })
                }
                Change::Append { prefix, value } => Wire::Append(v1::AppendRequest {
                    prefix: prefix.clone(),
                    value: value.clone(),
                    request_id,
                    redirect,
                }),
                Change::Together(set) => Wire::ChangeSet(v1::ChangeSetRequest {
                    conditions: set.conditions.iter().map(condition_to_wire).collect(),
                    changes: set.changes.iter().map(key_change_to_wire).collect(),
                    request_id,
                    redirect,
                }),
            }
        }
        Request::Read { key, consistency } => {
            let (consistency, at_least) = consistency_to_wire(*consistency);
            Wire::Read(v1::ReadRequest {
                key: key.clone(),
                redirect,
                consistency: consistency.into(),
                at_least_version: at_least.0,
            })
        }
        Request::Scan(scan) => {
            let (at, at_version) = match scan.at {
                At::Now(consistency) => (consistency_to_wire(consistency), None),
                At::Version(version) => ((v1::Consistency::default(), Version(0)), Some(version.0)),
            };
            Wire::Scan(v1::ScanRequest {
                start: scan.range.start.clone(),
                end: scan.range.end.clone(),
                limit: scan.limit,
                keys_only: scan.keys_only,
                redirect,
                consistency: at.0.into(),
                at_least_version: at.1.0,
                at_version,
                cluster: cluster_to_text(scan.cluster),
            })
        }
        Request::Promote(_) | Request::Fence(_) => return None,
    })
}

/// A request from the wire. Whether keys, values and sequences are within bounds is for the node to say, which refuses
/// with the bound.
///
/// **Errors:** [`Malformed`] where a part that must be there is missing.
pub fn request_from_wire(wire: session_request::Request) -> Result<Asked, Malformed> {
    use session_request::Request as Wire;
    let (request, redirect) = match wire {
        Wire::OpenSession(open) => (Request::OpenSession, open.redirect),
        Wire::CloseSession(close) => (Request::CloseSession(session_from_wire(close.session)?), close.redirect),
        Wire::Add(add) => {
            let id = add.request_id.map(request_id_from_wire).transpose()?;
            let condition = match (add.if_absent, add.if_version) {
                (true, Some(_)) => return Err(Malformed("if_absent and if_version: use one of them")),
                (true, None) => Some(None),
                (false, version) => version.map(|version| Some(Version(version))),
            };
            let change = match condition {
                None => Change::Add { key: add.key, value: add.value },
                Some(version) => only_if(version, add.key, Some(add.value)),
            };
            (Request::Change { id, change }, add.redirect)
        }
        Wire::Delete(delete) => {
            let id = delete.request_id.map(request_id_from_wire).transpose()?;
            let change = match delete.if_version {
                None => Change::Delete { key: delete.key },
                Some(version) => only_if(Some(Version(version)), delete.key, None),
            };
            (Request::Change { id, change }, delete.redirect)
        }
        Wire::Append(append) => {
            let id = append.request_id.map(request_id_from_wire).transpose()?;
            let change = Change::Append { prefix: append.prefix, value: append.value };
            (Request::Change { id, change }, append.redirect)
        }
        Wire::ChangeSet(set) => {
            let id = set.request_id.map(request_id_from_wire).transpose()?;
            let conditions = set.conditions.into_iter().map(condition_from_wire).collect();
            let changes = set.changes.into_iter().map(key_change_from_wire).collect();
            let change = Change::Together(Box::new(Together { conditions, changes }));
            (Request::Change { id, change }, set.redirect)
        }
        Wire::Read(read) => {
            let consistency = consistency_from_wire(read.consistency, read.at_least_version)?;
            (Request::Read { key: read.key, consistency }, read.redirect)
        }
        Wire::Scan(scan) => {
            let consistency = consistency_from_wire(scan.consistency, scan.at_least_version)?;
            let at = scan.at_version.map_or(At::Now(consistency), |version| At::Version(Version(version)));
            let range = KeyRange { start: scan.start, end: scan.end };
            let cluster = cluster_from_text(&scan.cluster)?;
            let page = Scan { range, limit: scan.limit, keys_only: scan.keys_only, at, cluster };
            (Request::Scan(page), scan.redirect)
        }
    };
    Ok(Asked { request, redirect })
}

/// An answer for the wire; `server` is the one that gives it. `None` for answers to operators, which have messages of
/// their own.
pub fn response_to_wire(response: Response, server: ServerId) -> Option<session_response::Response> {
    use session_response::Response as Wire;
    let server = u32::from(server.0);
    Some(match response {
        Response::SessionOpened { session } => {
            Wire::SessionOpened(v1::OpenSessionResponse { session: Some(session_to_wire(session)) })
        }
        Response::SessionClosed => Wire::SessionClosed(v1::CloseSessionResponse {}),
        Response::Changed { version, existed, copies, epoch } => Wire::Changed(v1::ChangeResponse {
            version: version.0,
            existed,
            copies,
            server,
            epoch: Some(epoch_to_wire(epoch)),
            not_met: None,
        }),
        Response::NotMet { condition, found, version, epoch } => Wire::Changed(v1::ChangeResponse {
            version: version.0,
            server,
            epoch: Some(epoch_to_wire(epoch)),
            not_met: Some(v1::NotMet { condition, found_version: found.map(|version| version.0) }),
            ..Default::default()
        }),
        Response::Appended { number, version, copies, epoch } => Wire::Appended(v1::AppendResponse {
            number,
            key: Default::default(),
            version: version.0,
            copies,
            server,
            epoch: Some(epoch_to_wire(epoch)),
        }),
        Response::Found { value, version, changed_at, seen } => Wire::Read(v1::ReadResponse {
            found: true,
            value,
            version: version.0,
            changed_at_ms: changed_at.0,
            ..seen_to_wire(seen, server)
        }),
        Response::NotFound { seen } => {
            Wire::Read(v1::ReadResponse { found: false, version: seen.version.0, ..seen_to_wire(seen, server) })
        }
        Response::Scanned { entries, next, seen, cluster } => Wire::Scanned(v1::ScanResponse {
            entries: entries.into_iter().map(scanned_to_wire).collect(),
            next,
            version: seen.version.0,
            server,
            epoch: Some(epoch_to_wire(seen.epoch)),
            local: seen.local,
            waited: seen.waited,
            age_ns: seen.age.map(span_to_wire),
            cluster: cluster.to_string(),
        }),
        Response::Promoted { .. } | Response::Fenced => return None,
    })
}

/// A refusal as an answer in a session stream.
pub fn refused_to_wire(refusal: &Refusal, primary_address: Option<&str>) -> session_response::Response {
    session_response::Response::Refusal(refusal_to_wire(refusal, primary_address))
}

/// An answer from the wire.
///
/// **Errors:** [`Malformed`] where a part that must be there is missing or out of range.
pub fn response_from_wire(wire: session_response::Response) -> Result<Result<Answered, Refused>, Malformed> {
    use session_response::Response as Wire;
    let (response, server) = match wire {
        Wire::SessionOpened(opened) => (Response::SessionOpened { session: session_from_wire(opened.session)? }, None),
        Wire::SessionClosed(v1::CloseSessionResponse {}) => (Response::SessionClosed, None),
        Wire::Changed(changed) => {
            let (version, epoch) = (Version(changed.version), epoch_from_wire(changed.epoch)?);
            let response = match changed.not_met {
                None => Response::Changed { version, existed: changed.existed, copies: changed.copies, epoch },
                Some(not_met) => {
                    let found = not_met.found_version.map(Version);
                    Response::NotMet { condition: not_met.condition, found, version, epoch }
                }
            };
            (response, Some(changed.server))
        }
        Wire::Appended(appended) => {
            let response = Response::Appended {
                number: appended.number,
                version: Version(appended.version),
                copies: appended.copies,
                epoch: epoch_from_wire(appended.epoch)?,
            };
            (response, Some(appended.server))
        }
        Wire::Read(read) => {
            let server = read.server;
            let seen = Seen {
                version: Version(read.seen_version),
                epoch: epoch_from_wire(read.epoch)?,
                local: read.local,
                waited: read.waited,
                age: read.age_ns.map(Duration::from_nanos),
            };
            let response = if read.found {
                let changed_at = WallTime(read.changed_at_ms);
                Response::Found { value: read.value, version: Version(read.version), changed_at, seen }
            } else {
                Response::NotFound { seen }
            };
            (response, Some(server))
        }
        Wire::Scanned(scanned) => {
            let seen = Seen {
                version: Version(scanned.version),
                epoch: epoch_from_wire(scanned.epoch)?,
                local: scanned.local,
                waited: scanned.waited,
                age: scanned.age_ns.map(Duration::from_nanos),
            };
            let entries = scanned.entries.into_iter().map(scanned_from_wire).collect();
            let cluster = cluster_from_text(&scanned.cluster)?.ok_or(Malformed("cluster"))?;
            (Response::Scanned { entries, next: scanned.next, seen, cluster }, Some(scanned.server))
        }
        Wire::Refusal(refusal) => return Ok(Err(refusal_from_wire(refusal)?)),
    };
    let server = server.map(server_from_wire).transpose()?;
    Ok(Ok(Answered { response, server }))
}

/// A change of one key under one condition on it.
fn only_if(version: Option<Version>, key: Bytes, value: Option<Bytes>) -> Change {
    let conditions = vec![Condition { key: key.clone(), version }];
    Change::Together(Box::new(Together { conditions, changes: vec![KeyChange { key, value }] }))
}

fn condition_to_wire(condition: &Condition) -> v1::Condition {
    v1::Condition { key: condition.key.clone(), version: condition.version.map(|version| version.0) }
}

fn condition_from_wire(wire: v1::Condition) -> Condition {
    Condition { key: wire.key, version: wire.version.map(Version) }
}

fn key_change_to_wire(change: &KeyChange) -> v1::KeyChange {
    v1::KeyChange { key: change.key.clone(), value: change.value.clone() }
}

fn key_change_from_wire(wire: v1::KeyChange) -> KeyChange {
    KeyChange { key: wire.key, value: wire.value }
}

fn scanned_to_wire(scanned: Scanned) -> v1::ScanEntry {
    let Scanned { key, value, version, changed_at } = scanned;
    v1::ScanEntry { key, value, version: version.0, changed_at_ms: changed_at.0 }
}

fn scanned_from_wire(wire: v1::ScanEntry) -> Scanned {
    let v1::ScanEntry { key, value, version, changed_at_ms } = wire;
    Scanned { key, value, version: Version(version), changed_at: WallTime(changed_at_ms) }
}

fn seen_to_wire(seen: Seen, server: u32) -> v1::ReadResponse {
    v1::ReadResponse {
        server,
        epoch: Some(epoch_to_wire(seen.epoch)),
        seen_version: seen.version.0,
        local: seen.local,
        waited: seen.waited,
        age_ns: seen.age.map(span_to_wire),
        ..Default::default()
    }
}

fn consistency_to_wire(consistency: Consistency) -> (v1::Consistency, Version) {
    match consistency {
        Consistency::Linearizable => (v1::Consistency::Linearizable, Version(0)),
        Consistency::Causal { at_least } => (v1::Consistency::Causal, at_least),
        Consistency::Stale => (v1::Consistency::Stale, Version(0)),
    }
}

fn consistency_from_wire(wire: i32, at_least: u64) -> Result<Consistency, Malformed> {
    Ok(match v1::Consistency::try_from(wire).map_err(|_| Malformed("consistency"))? {
        v1::Consistency::Linearizable => Consistency::Linearizable,
        v1::Consistency::Causal => Consistency::Causal { at_least: Version(at_least) },
        v1::Consistency::Stale => Consistency::Stale,
    })
}

/// A session for the wire.
pub fn session_to_wire(session: SessionId) -> v1::SessionId {
    v1::SessionId { opened_at: session.opened_at.0, nonce: session.nonce }
}

/// A session from the wire.
///
/// **Errors:** [`Malformed`] where there is none.
pub fn session_from_wire(wire: Option<v1::SessionId>) -> Result<SessionId, Malformed> {
    let wire = wire.ok_or(Malformed("session: it is missing"))?;
    Ok(SessionId { opened_at: LogIndex(wire.opened_at), nonce: wire.nonce })
}

fn request_id_to_wire(id: RequestId) -> v1::RequestId {
    v1::RequestId {
        session: Some(session_to_wire(id.session)),
        sequence: id.sequence,
        lowest_unanswered: id.lowest_unanswered,
    }
}

fn request_id_from_wire(wire: v1::RequestId) -> Result<RequestId, Malformed> {
    Ok(RequestId {
        session: session_from_wire(wire.session)?,
        sequence: wire.sequence,
        lowest_unanswered: wire.lowest_unanswered,
    })
}

#[cfg(test)]
mod tests {
    use super::super::examples::{requests, responses};
    use super::*;

    #[test]
    fn the_conditions_of_one_key_are_a_set_of_one() {
        let key = Bytes::from_static(b"k");
        let add = v1::AddRequest { key: key.clone(), if_absent: true, ..Default::default() };
        let asked = request_from_wire(session_request::Request::Add(add.clone())).expect("well formed");
        assert_eq!(asked.request, Request::Change { id: None, change: only_if(None, key.clone(), Some(Bytes::new())) });
        let both = v1::AddRequest { if_version: Some(3), ..add };
        assert!(request_from_wire(session_request::Request::Add(both)).is_err());
        let delete = v1::DeleteRequest { key: key.clone(), if_version: Some(3), ..Default::default() };
        let asked = request_from_wire(session_request::Request::Delete(delete)).expect("well formed");
        assert_eq!(asked.request, Request::Change { id: None, change: only_if(Some(Version(3)), key, None) });
    }

    #[test]
    fn every_request_of_a_client_survives_the_wire() {
        for request in requests() {
            for redirect in [false, true] {
                let wire = request_to_wire(&request, redirect).expect("a client's request");
                assert_eq!(request_from_wire(wire), Ok(Asked { request: request.clone(), redirect }));
            }
        }
        assert_eq!(request_to_wire(&Request::Promote(ServerId(1)), false), None);
    }

    #[test]
    fn every_answer_to_a_client_survives_the_wire() {
        for (response, server) in responses() {
            let wire = response_to_wire(response.clone(), ServerId(2)).expect("a client's answer");
            assert_eq!(response_from_wire(wire), Ok(Ok(Answered { response, server })));
        }
        let wire = refused_to_wire(&Refusal::Overloaded, None);
        assert_eq!(response_from_wire(wire).expect("well formed").expect_err("refused").refusal, Refusal::Overloaded);
    }

    #[test]
    fn a_request_without_its_session_is_malformed() {
        let close = v1::CloseSessionRequest { session: None, redirect: false };
        assert!(request_from_wire(session_request::Request::CloseSession(close)).is_err());
        let request_id = Some(v1::RequestId { session: None, sequence: 1, lowest_unanswered: 1 });
        let delete = v1::DeleteRequest { key: Bytes::new(), request_id, ..Default::default() };
        assert!(request_from_wire(session_request::Request::Delete(delete)).is_err());
    }
}
