//! The service `Dictionary`: the unary calls, and the session stream.

use std::sync::Arc;
use std::time::Duration;

use heirloom_proto::request::append_key;
use heirloom_proto::wire::client::{request_from_wire, response_to_wire};
use heirloom_proto::wire::refusal::status_from_refusal;
use heirloom_proto::wire::v1::dictionary_server::Dictionary;
use heirloom_proto::wire::v1::{
    AddRequest, AppendRequest, AppendResponse, ChangeResponse, ChangeSetRequest, CloseSessionRequest,
    CloseSessionResponse, DeleteRequest, OpenSessionRequest, OpenSessionResponse, ReadRequest, ReadResponse,
    ScanRequest, ScanResponse, SessionRequests, WatchRequest, session_request, session_response,
};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::desk::{Desk, PATIENCE};
use super::room::Seat;
use super::seated::keep;
use super::session::{Answers, Session, response_bytes};
use super::watch::Watching;

/// The dictionary at one desk.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    desk: Arc<Desk>,
}

impl Service {
    /// A service that hands in at `desk`.
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self { desk }
    }

    /// One unary call: the same request as a session stream would carry.
    async fn call(
        &self,
        metadata: &MetadataMap,
        request: session_request::Request,
    ) -> Result<session_response::Response, Status> {
        self.call_seated(metadata, request).await.map(|(response, _)| response)
    }

    /// One whose answer may take room for itself.
    async fn call_seated(
        &self,
        metadata: &MetadataMap,
        request: session_request::Request,
    ) -> Result<(session_response::Response, Seat), Status> {
        let until = Instant::now() + patience(metadata);
        let asked = request_from_wire(request).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let refuse = |refusal| {
            let address = self.desk.primary_address(&refusal);
            status_from_refusal(&refusal, address.as_deref())
        };
        let mut seat = self.desk.room().seat(&asked.request).map_err(refuse)?;
        let answered = self.desk.carry_out(asked, until).await.map_err(refuse)?;
        let server = answered.server.unwrap_or_else(|| self.desk.me());
        let response = response_to_wire(answered.response, server).ok_or_else(unfitting)?;
        seat.answered(response_bytes(&response));
        Ok((response, seat))
    }
}

/// How long a caller waits: what it says in `grpc-timeout`, a little less, so that our answer with its reason comes before
/// the bare one of the transport; [`PATIENCE`] where it says nothing.
pub(super) fn patience(metadata: &MetadataMap) -> Duration {
    let said = metadata.get("grpc-timeout").and_then(|text| timeout(text.to_str().ok()?));
    said.map_or(PATIENCE, |said| said.saturating_sub((said / 10).min(Duration::from_millis(50))))
}

/// A time-out as gRPC writes it: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if number.len() > 8 {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// An answer of another kind than the request's is a bug here or, where it was forwarded, at the other server.
fn unfitting() -> Status {
    Status::internal("the answer does not fit the request; the change may have been carried out")
}

#[tonic::async_trait]
impl Dictionary for Service {
    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        match self.call(&metadata, session_request::Request::OpenSession(body)).await? {
            session_response::Response::SessionOpened(opened) => Ok(Response::new(opened)),
            _ => Err(unfitting()),
        }
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        match self.call(&metadata, session_request::Request::CloseSession(body)).await? {
            session_response::Response::SessionClosed(closed) => Ok(Response::new(closed)),
            _ => Err(unfitting()),
        }
    }

    async fn add(&self, request: Request<AddRequest>) -> Result<Response<ChangeResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        match self.call(&metadata, session_request::Request::Add(body)).await? {
            session_response::Response::Changed(changed) => Ok(Response::new(changed)),
            _ => Err(unfitting()),
        }
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<ChangeResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        match self.call(&metadata, session_request::Request::Delete(body)).await? {
            session_response::Response::Changed(changed) => Ok(Response::new(changed)),
            _ => Err(unfitting()),
        }
    }

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        let prefix = body.prefix.clone();
        match self.call(&metadata, session_request::Request::Append(body)).await? {
            session_response::Response::Appended(appended) => {
                let key = append_key(&prefix, appended.number);
                Ok(Response::new(AppendResponse { key, ..appended }))
            }
            _ => Err(unfitting()),
        }
    }

    async fn change_set(&self, request: Request<ChangeSetRequest>) -> Result<Response<ChangeResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        match self.call(&metadata, session_request::Request::ChangeSet(body)).await? {
            session_response::Response::Changed(changed) => Ok(Response::new(changed)),
            _ => Err(unfitting()),
        }
    }

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        match self.call(&metadata, session_request::Request::Read(body)).await? {
            session_response::Response::Read(read) => Ok(Response::new(read)),
            _ => Err(unfitting()),
        }
    }

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<ScanResponse>, Status> {
        let (metadata, _, body) = request.into_parts();
        match self.call_seated(&metadata, session_request::Request::Scan(body)).await? {
            (session_response::Response::Scanned(scanned), seat) => Ok(keep(Response::new(scanned), seat)),
            _ => Err(unfitting()),
        }
    }

    type WatchStream = Watching;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Watching>, Status> {
        Watching::begin(self.desk.clone(), request.into_inner()).map(Response::new)
    }

    type SessionStream = Answers;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequests>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (out, answers) = Answers::channel();
        tokio::spawn(Session::new(self.desk.clone()).serve(request.into_inner(), out));
        Ok(Response::new(answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_is_read_as_grpc_writes_it() {
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for text in ["", "S", "5", "5x", "-5S", "123456789S", "5é"] {
            assert_eq!(timeout(text), None, "{text}");
        }
    }

    #[test]
    fn our_answer_comes_before_the_transports() {
        let mut metadata = MetadataMap::new();
        assert_eq!(patience(&metadata), PATIENCE);
        metadata.insert("grpc-timeout", "1S".parse().expect("ASCII"));
        assert_eq!(patience(&metadata), Duration::from_millis(950));
        metadata.insert("grpc-timeout", "10m".parse().expect("ASCII"));
        assert_eq!(patience(&metadata), Duration::from_millis(9));
    }
}
