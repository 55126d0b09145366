//! What travels: between servers, from clients, and to them. What is understood must be said again in the same sense.

use std::sync::LazyLock;

use bytes::Bytes;
use heirloom_proto::address::Address;
use heirloom_proto::limits::VALUE_BYTES_MAX_MAX;
use heirloom_proto::wire::client::{
    Answered, request_from_wire, request_to_wire, response_from_wire, response_to_wire,
};
use heirloom_proto::wire::examples;
use heirloom_proto::wire::link::{
    Hello, PROTOCOL_VERSION, hello_from_wire, hello_to_wire, message_from_wire, message_to_wire,
};
use heirloom_proto::wire::refusal::{
    REFUSAL_TRAILER, Refused, refusal_from_status, refusal_from_wire, refusal_to_wire, status_from_refusal,
};
use heirloom_proto::wire::v1::session_request::Request as Wire;
use heirloom_proto::wire::v1::{self, session_response};
use heirloom_proto::{At, Change, ClusterId, KeyRange, Peer, Refusal, Request, RunId, Scan, ServerId, StoreId, Time};
use heirloom_session::{Attempt, CallId, Freshness, Input, Operation, Output, Seat, Session};
use prost::Message as _;
use tonic::metadata::BinaryMetadataValue;

use crate::Target;
use crate::input::{Content, as_they_are};

/// What servers say to each other.
pub const LINKS: Target = Target { seeds: || seeds(&LINK_EXAMPLES), check: check_link };
/// What clients ask.
pub const REQUESTS: Target = Target { seeds: || seeds(&REQUEST_EXAMPLES), check: check_requests };
/// What clients are told.
pub const ANSWERS: Target = Target { seeds: || seeds(&ANSWER_EXAMPLES), check: check_answers };

fn seeds(examples: &[Vec<u8>]) -> Vec<Vec<u8>> {
    examples.iter().map(|example| as_they_are(example)).collect()
}

static LINK_EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let cluster = Some(ClusterId { id: 7, generation: 2 });
    let messages = examples::messages().into_iter().map(|message| message_to_wire(cluster, message));
    let peer = Peer { server: ServerId(2), store: StoreId(3), run: RunId(4) };
    let hello = Some(hello_to_wire(&Hello { peer, cluster, protocol: PROTOCOL_VERSION }));
    let greeting = v1::LinkMessages { hello, messages: messages.clone().take(2).collect() };
    let batches = messages.map(|message| v1::LinkMessages { hello: None, messages: vec![message] });
    [greeting].into_iter().chain(batches).map(|batch| batch.encode_to_vec()).collect()
});

fn check_link(input: &[u8]) {
    let content = Content::of(input, &LINK_EXAMPLES);
    let Ok(batch) = v1::LinkMessages::decode(Bytes::from(content.bytes)) else { return };
    if let Some(Ok(hello)) = batch.hello.map(hello_from_wire) {
        assert_eq!(hello_from_wire(hello_to_wire(&hello)), Ok(hello));
    }
    for message in batch.messages {
        if let Ok((cluster, message)) = message_from_wire(message) {
            let bytes = message_to_wire(cluster, message.clone()).encode_to_vec();
            let again = v1::LinkMessage::decode(Bytes::from(bytes)).expect("well formed");
            assert_eq!(message_from_wire(again), Ok((cluster, message)));
        }
    }
}

static REQUEST_EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let wire =
        |(request, tag): (Request, u64)| v1::SessionRequest { tag, request: request_to_wire(&request, tag % 2 == 0) };
    let requests = examples::requests().into_iter().zip(1..).map(wire).chain(conditional());
    requests.map(|request| v1::SessionRequests { requests: vec![request] }.encode_to_vec()).collect()
});

/// Conditions of one key, which clients of ours send as sets; two at a time are refused.
fn conditional() -> [v1::SessionRequest; 4] {
    let key = Bytes::from_static(b"k");
    let add = v1::AddRequest { key: key.clone(), if_absent: true, ..Default::default() };
    let both = v1::AddRequest { if_version: Some(3), ..add.clone() };
    let replace = v1::AddRequest { if_absent: false, ..both.clone() };
    let delete = v1::DeleteRequest { key, if_version: Some(3), ..Default::default() };
    let requests = [Wire::Add(add), Wire::Add(both), Wire::Add(replace), Wire::Delete(delete)];
    requests.map(|request| v1::SessionRequest { tag: 1, request: Some(request) })
}

fn check_requests(input: &[u8]) {
    let content = Content::of(input, &REQUEST_EXAMPLES);
    let Ok(batch) = v1::SessionRequests::decode(Bytes::from(content.bytes)) else { return };
    for request in batch.requests.into_iter().filter_map(|request| request.request) {
        let Ok(asked) = request_from_wire(request) else { continue };
        let wire = request_to_wire(&asked.request, asked.redirect).expect("only operators have calls of their own");
        assert_eq!(request_from_wire(wire), Ok(asked.clone()));
        if asked.request.check_bounds(VALUE_BYTES_MAX_MAX).is_ok() {
            assert!(
                asked.request.bytes() <= BOUNDED_BYTES_MAX,
                "within bounds, and yet {} bytes",
                asked.request.bytes()
            );
        }
    }
}

/// More than any request within bounds takes; an input is far shorter.
const BOUNDED_BYTES_MAX: usize = 16 << 20;

static ANSWER_EXAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let answered =
        examples::responses().into_iter().filter_map(|(response, _)| response_to_wire(response, ServerId(2)));
    let refused = examples::refusals()
        .into_iter()
        .map(|refusal| session_response::Response::Refusal(refusal_to_wire(&refusal, Some("127.0.0.1:7401"))));
    let wire = |(response, tag)| v1::SessionResponse { tag, response: Some(response) };
    let responses: Vec<_> = answered.chain(refused).zip((1..6).cycle()).map(wire).collect();
    let one =
        |response: &v1::SessionResponse| v1::SessionResponses { responses: vec![response.clone()] }.encode_to_vec();
    let all = v1::SessionResponses { responses: responses.clone() }.encode_to_vec();
    responses.iter().map(one).chain([all]).collect()
});

/// Where the answers arrive: two servers are connected, and calls of all kinds are under way at them.
static ASKED: LazyLock<Session> = LazyLock::new(|| {
    let mut session = Session::new(2);
    for seat in 0..2 {
        let server = Some(ServerId(u8::try_from(seat).expect("small")));
        session.step(Time(0), Input::Connected { seat: Seat(seat), server });
    }
    let key = Bytes::from_static(b"k");
    let range = KeyRange { start: key.clone(), end: None };
    let scan = Scan { range, limit: 2, keys_only: false, at: At::Now(Freshness::Linearizable), cluster: None };
    let operations = [
        Operation::Change(Change::Add { key: key.clone(), value: key.clone() }),
        Operation::Change(Change::Append { prefix: key.clone(), value: key.clone() }),
        Operation::Read { key, freshness: Freshness::Linearizable, from: None },
        Operation::Scan { scan, from: Some(ServerId(1)) },
    ];
    for (operation, call) in operations.into_iter().zip(1..) {
        session.step(Time(0), Input::Call { call: CallId(call), operation, deadline: Time(5_000_000_000) });
    }
    session
});

fn check_answers(input: &[u8]) {
    let content = Content::of(input, &ANSWER_EXAMPLES);
    let bytes = Bytes::from(content.bytes);
    check_trailer(&bytes);
    let Ok(batch) = v1::SessionResponses::decode(bytes) else { return };
    let mut client = Client { session: ASKED.clone(), done: Vec::new() };
    for answer in batch.responses {
        let understood = answer.response.map(response_from_wire);
        if let Some(Ok(understood)) = &understood {
            check_said_again(understood);
        }
        for seat in [Seat(0), Seat(1)] {
            let attempt = Attempt { seat, number: answer.tag };
            client.step(
                Time(1),
                match understood.clone() {
                    Some(Ok(Ok(Answered { response, server }))) => Input::Answered { attempt, response, server },
                    Some(Ok(Err(refused))) => Input::Refused { attempt, refusal: refused.refusal },
                    Some(Err(_)) | None => Input::Refused { attempt, refusal: Refusal::OutcomeUnknown },
                },
            );
        }
    }
    // Whatever was told, no call outlives its deadline, and each ends once.
    client.step(Time(5_000_000_001), Input::Deadline);
    client.done.sort();
    assert_eq!(client.done, [CallId(1), CallId(2), CallId(3), CallId(4)]);
}

struct Client {
    session: Session,
    done: Vec<CallId>,
}

impl Client {
    fn step(&mut self, now: Time, input: Input) {
        let outputs = self.session.step(now, input);
        self.session.check_invariants();
        self.done.extend(outputs.iter().filter_map(|output| match output {
            Output::Done { call, .. } => Some(*call),
            Output::Send { .. } | Output::Nudge { .. } => None,
        }));
    }
}

fn check_said_again(understood: &Result<Answered, Refused>) {
    match understood {
        Ok(Answered { response, server }) => {
            let wire = response_to_wire(response.clone(), server.unwrap_or(ServerId(0))).expect("a client's answer");
            assert_eq!(response_from_wire(wire), Ok(Ok(Answered { response: response.clone(), server: *server })));
        }
        Err(refused) => check_refused(refused),
    }
}

fn check_refused(refused: &Refused) {
    let address = refused.primary_address.as_deref();
    let again = refusal_from_wire(refusal_to_wire(&refused.refusal, address)).expect("well formed");
    assert_eq!((&again.refusal, again.primary_address.as_deref()), (&refused.refusal, address));
    let status = status_from_refusal(&refused.refusal, address);
    assert_eq!(refusal_from_status(&status), Some(again));
    // What the client takes it for.
    let _ = address.map(str::parse::<Address>);
}

/// The same bytes as a trailer of a unary call.
fn check_trailer(bytes: &[u8]) {
    let mut status = tonic::Status::unavailable("no");
    status.metadata_mut().insert_bin(REFUSAL_TRAILER, BinaryMetadataValue::from_bytes(bytes));
    if let Some(refused) = refusal_from_status(&status) {
        check_refused(&refused);
    }
}
