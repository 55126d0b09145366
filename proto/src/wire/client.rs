//! What clients ask and are told, on the wire: one pair of functions for requests and one for answers, which server and
//! client share. The unary calls use the same messages as the session stream carries.

use std::time::Duration;

use super::refusal::{Refused, refusal_from_wire, refusal_to_wire};
use super::v1::{self, session_request, session_response};
use super::{epoch_from_wire, epoch_to_wire, server_from_wire, span_to_wire};
use crate::codec::Malformed;
use crate::ids::{LogIndex, ServerId, SessionId, Version};
use crate::request::{Change, Consistency, Refusal, Request, RequestId, Response, Seen};
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
                Change::Add { key, value } => {
                    Wire::Add(v1::AddRequest { key: key.clone(), value: value.clone(), request_id, redirect })
                }
                Change::Delete { key } => Wire::Delete(v1::DeleteRequest { key: key.clone(), request_id, redirect }),
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
            (Request::Change { id, change: Change::Add { key: add.key, value: add.value } }, add.redirect)
        }
        Wire::Delete(delete) => {
            let id = delete.request_id.map(request_id_from_wire).transpose()?;
            (Request::Change { id, change: Change::Delete { key: delete.key } }, delete.redirect)
        }
        Wire::Read(read) => {
            let consistency = consistency_from_wire(read.consistency, read.at_least_version)?;
            (Request::Read { key: read.key, consistency }, read.redirect)
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
            let response = Response::Changed {
                version: Version(changed.version),
                existed: changed.existed,
                copies: changed.copies,
                epoch: epoch_from_wire(changed.epoch)?,
            };
            (response, Some(changed.server))
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
        Wire::Refusal(refusal) => return Ok(Err(refusal_from_wire(refusal)?)),
    };
    let server = server.map(server_from_wire).transpose()?;
    Ok(Ok(Answered { response, server }))
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
    use bytes::Bytes;

    use super::*;
    use crate::ids::{Epoch, RunId};

    const SESSION: SessionId = SessionId { opened_at: LogIndex(3), nonce: u64::MAX };
    const EPOCH: Epoch = Epoch { round: 4, server: ServerId(1), run: RunId(9) };
    const SEEN: Seen =
        Seen { version: Version(8), epoch: EPOCH, local: true, waited: true, age: Some(Duration::from_nanos(5)) };

    #[test]
    fn every_request_of_a_client_survives_the_wire() {
        let (key, value) = (Bytes::from_static(b"\0key"), Bytes::from_static(b"value"));
        let id = RequestId { session: SESSION, sequence: 5, lowest_unanswered: 2 };
        let requests = [
            Request::OpenSession,
            Request::CloseSession(SESSION),
            Request::Change { id: Some(id), change: Change::Add { key: key.clone(), value } },
            Request::Change { id: None, change: Change::Delete { key: key.clone() } },
            Request::Read { key: key.clone(), consistency: Consistency::Linearizable },
            Request::Read { key: key.clone(), consistency: Consistency::Causal { at_least: Version(9) } },
            Request::Read { key, consistency: Consistency::Stale },
        ];
        for request in requests {
            for redirect in [false, true] {
                let wire = request_to_wire(&request, redirect).expect("a client's request");
                assert_eq!(request_from_wire(wire), Ok(Asked { request: request.clone(), redirect }));
            }
        }
        assert_eq!(request_to_wire(&Request::Promote(ServerId(1)), false), None);
    }

    #[test]
    fn every_answer_to_a_client_survives_the_wire() {
        let responses = [
            (Response::SessionOpened { session: SESSION }, None),
            (Response::SessionClosed, None),
            (Response::Changed { version: Version(7), existed: true, copies: 3, epoch: EPOCH }, Some(ServerId(2))),
            (
                Response::Found {
                    value: Bytes::from_static(b"v"),
                    version: Version(7),
                    changed_at: WallTime(1),
                    seen: SEEN,
                },
                Some(ServerId(2)),
            ),
            (Response::NotFound { seen: Seen { age: None, ..SEEN } }, Some(ServerId(2))),
        ];
        for (response, server) in responses {
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
        let delete = v1::DeleteRequest { key: Bytes::new(), request_id, redirect: false };
        assert!(request_from_wire(session_request::Request::Delete(delete)).is_err());
    }
}
