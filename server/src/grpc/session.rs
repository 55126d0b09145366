//! One session stream: a client pipelines requests on it, answers go back in any order and gathered.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use heirloom_proto::wire::client::Answered;
use heirloom_proto::wire::client::{
    Asked, SESSION_BATCH_BYTES_MAX, SESSION_BATCH_MAX, refused_to_wire, request_from_wire, response_to_wire,
};
use heirloom_proto::wire::v1::{SessionRequests, SessionResponse, SessionResponses, session_response};
use heirloom_proto::{Refusal, Response};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::desk::{Desk, PATIENCE, may_repeat};
use super::room::Seat;
use crate::driver::Replied;

/// How many requests of one stream are under way at most; beyond it the stream is not read.
const UNDER_WAY_MAX: usize = 16_384;
/// How many messages with answers wait for a client that reads slowly.
const ANSWERS_MAX: usize = 4;
/// After how long a stream ends whose client does not read its answers, so that what they hold is free again. Longer than a
/// client that is in order ever stands still; what it asked it may ask again.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// One stream and its requests under way.
pub(crate) struct Session {
    desk: Arc<Desk>,
    /// By the number that the own node answers under.
    under_way: HashMap<u64, UnderWay>,
    next_number: u64,
    /// Requests that the own node could not answer: forwarded, or waiting for a primary.
    elsewhere: JoinSet<(UnderWay, Result<Answered, Refusal>)>,
}

struct UnderWay {
    tag: u64,
    asked: Asked,
    seat: Seat,
}

/// An answer that is to be sent.
struct Ready {
    response: SessionResponse,
    /// The room that the answer takes until then; `None` where it takes none.
    seat: Option<Seat>,
}

/// A message that waits for the transport to take it.
pub(crate) struct Waiting {
    message: SessionResponses,
    _seats: Vec<Seat>,
}

/// What waits for the transport. It belongs to both ends of a stream, for the transport of a client that reads nothing does
/// not even ask whether the stream has ended.
type Shelf = Arc<Mutex<mpsc::Receiver<Result<Waiting, Status>>>>;

/// Where answers go.
pub(crate) struct Out {
    sender: mpsc::Sender<Result<Waiting, Status>>,
    shelf: Shelf,
}

impl Out {
    /// Ends the stream, and forgets what waits in it.
    fn close(&self) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.close();
        while shelf.try_recv().is_ok() {}
    }
}

/// The answers of one stream, as the transport takes them; each message keeps its room until then.
pub(crate) struct Answers {
    shelf: Shelf,
}

impl Answers {
    /// Two ends of a stream.
    pub(crate) fn channel() -> (Out, Self) {
        let (sender, waiting) = mpsc::channel(ANSWERS_MAX);
        let shelf = Arc::new(Mutex::new(waiting));
        (Out { sender, shelf: shelf.clone() }, Self { shelf })
    }
}

impl Stream for Answers {
    type Item = Result<SessionResponses, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.poll_recv(context).map(|told| told.map(|told| told.map(|waiting| waiting.message)))
    }
}

impl Session {
    /// A stream with nothing under way.
    pub(crate) fn new(desk: Arc<Desk>) -> Self {
        Self { desk, under_way: HashMap::new(), next_number: 0, elsewhere: JoinSet::new() }
    }

    /// Serves the stream until the client ends it and has its answers, it breaks, or the server stops.
    pub(crate) async fn serve(mut self, mut requests: Streaming<SessionRequests>, out: Out) {
        let (answers_in, mut answers) = mpsc::unbounded_channel();
        let mut replied = Vec::new();
        let mut reading = true;
        let desk = self.desk.clone();
        while reading || self.count() > 0 {
            let mut ready = Vec::new();
            tokio::select! {
                _ = answers.recv_many(&mut replied, SESSION_BATCH_MAX) => {}
                Some(done) = self.elsewhere.join_next() => self.finish(done, &mut ready),
                batch = requests.message(), if reading && self.count() < UNDER_WAY_MAX => match batch {
                    Ok(Some(batch)) => {
                        if let Err(status) = self.take(batch, &answers_in, &mut ready).await {
                            let _ = timeout(UNREAD_MAX, out.sender.send(Err(status))).await;
                            return;
                        }
                    }
                    Ok(None) => reading = false,
                    // The client is gone, and nobody waits for the answers.
                    Err(_) => return,
                },
                () = desk.closed() => break,
                () = out.sender.closed() => return,
            }
            self.answer(&mut replied, &mut ready);
            // Whatever else has come meanwhile goes into the same message.
            while ready.len() < SESSION_BATCH_MAX
                && let Some(done) = self.elsewhere.try_join_next()
            {
                self.finish(done, &mut ready);
            }
            if !send(ready, &out).await {
                return;
            }
        }
        // The node has stopped, and has told every caller so before.
        let mut ready = Vec::new();
        while let Ok(last) = answers.try_recv() {
            replied.push(last);
        }
        self.farewell(&mut replied, &mut ready);
        let _ = send(ready, &out).await;
    }

    fn count(&self) -> usize {
        self.under_way.len() + self.elsewhere.len()
    }

    /// Hands the requests of a message to the node.
    async fn take(
        &mut self,
        batch: SessionRequests,
        answers: &mpsc::UnboundedSender<Replied>,
        ready: &mut Vec<Ready>,
    ) -> Result<(), Status> {
        if batch.requests.len() > SESSION_BATCH_MAX {
            return Err(Status::invalid_argument(format!(
                "a message carries {} requests: send at most {SESSION_BATCH_MAX}",
                batch.requests.len()
            )));
        }
        for request in batch.requests {
            let tag = request.tag;
            let asked = request.request.ok_or_else(|| {
                Status::invalid_argument(format!("request {tag} is of a kind that is not known here"))
            })?;
            let asked = request_from_wire(asked)
                .map_err(|error| Status::invalid_argument(format!("request {tag}: {error}")))?;
            let seat = match self.desk.room().seat(&asked.request) {
                Ok(seat) => seat,
                Err(refusal) => {
                    ready.push(Ready { response: self.refused(tag, &refusal), seat: None });
                    continue;
                }
            };
            let number = self.next_number;
            self.next_number += 1;
            let request = asked.request.clone();
            self.under_way.insert(number, UnderWay { tag, asked, seat });
            if !self.desk.hand_in(request, number, answers).await {
                let result = Err(Refusal::NotPrimary { primary: None });
                let _ = answers.send(Replied { number, result });
            }
        }
        Ok(())
    }

    /// Takes the node's answers: those that are final are ready, the others are carried on elsewhere.
    fn answer(&mut self, replied: &mut Vec<Replied>, ready: &mut Vec<Ready>) {
        for Replied { number, result } in replied.drain(..) {
            let Some(under_way) = self.under_way.remove(&number) else { continue };
            let again = match &result {
                Err(Refusal::NotPrimary { .. }) => !under_way.asked.redirect,
                Err(Refusal::OutcomeUnknown) => !under_way.asked.redirect && may_repeat(&under_way.asked.request),
                _ => false,
            };
            if again {
                let desk = self.desk.clone();
                self.elsewhere.spawn(async move {
                    let until = Instant::now() + PATIENCE;
                    let result = desk.carry_on(under_way.asked.clone(), result, until).await;
                    (under_way, result)
                });
            } else {
                let result = result.map(|response| Answered { response, server: None });
                ready.push(self.ready(under_way, result));
            }
        }
    }

    fn finish(
        &self,
        done: Result<(UnderWay, Result<Answered, Refusal>), tokio::task::JoinError>,
        ready: &mut Vec<Ready>,
    ) {
        match done {
            Ok((under_way, result)) => ready.push(self.ready(under_way, result)),
            Err(error) => tracing::error!("a request was dropped: {error}"),
        }
    }

    /// The last answers: nothing is tried again.
    fn farewell(&mut self, replied: &mut Vec<Replied>, ready: &mut Vec<Ready>) {
        for Replied { number, result } in replied.drain(..) {
            if let Some(under_way) = self.under_way.remove(&number) {
                let result = result.map(|response| Answered { response, server: None });
                ready.push(self.ready(under_way, result));
            }
        }
    }

    fn ready(&self, under_way: UnderWay, result: Result<Answered, Refusal>) -> Ready {
        let UnderWay { tag, mut seat, .. } = under_way;
        let response = self.response(tag, result);
        seat.answered(response.response.as_ref().map_or(0, response_bytes));
        Ready { response, seat: Some(seat) }
    }

    fn response(&self, tag: u64, result: Result<Answered, Refusal>) -> SessionResponse {
        match result {
            Ok(Answered { response, server }) => {
                let server = server.unwrap_or_else(|| self.desk.me());
                SessionResponse { tag, response: response_to_wire(response, server) }
            }
            Err(refusal) => self.refused(tag, &refusal),
        }
    }

    fn refused(&self, tag: u64, refusal: &Refusal) -> SessionResponse {
        let address = self.desk.primary_address(refusal);
        SessionResponse { tag, response: Some(refused_to_wire(refusal, address.as_deref())) }
    }
}

/// Sends answers in messages of a fair size; false where the client is gone, or reads nothing.
async fn send(ready: Vec<Ready>, out: &Out) -> bool {
    let (mut responses, mut seats) = (Vec::with_capacity(ready.len()), Vec::new());
    let mut bytes = 0;
    for Ready { response, seat } in ready {
        let next = response.response.as_ref().map_or(0, response_bytes);
        if !responses.is_empty() && bytes + next > SESSION_BATCH_BYTES_MAX {
            if !send_one(std::mem::take(&mut responses), std::mem::take(&mut seats), out).await {
                return false;
            }
            bytes = 0;
        }
        bytes += next;
        responses.push(response);
        seats.extend(seat);
    }
    responses.is_empty() || send_one(responses, seats, out).await
}

async fn send_one(responses: Vec<SessionResponse>, seats: Vec<Seat>, out: &Out) -> bool {
    let waiting = Waiting { message: SessionResponses { responses }, _seats: seats };
    match timeout(UNREAD_MAX, out.sender.send(Ok(waiting))).await {
        Ok(sent) => sent.is_ok(),
        Err(_) => {
            tracing::warn!("a client has not read its answers for {UNREAD_MAX:?}: its stream ends");
            out.close();
            false
        }
    }
}

/// About how large an answer is on the wire.
pub(crate) fn response_bytes(response: &session_response::Response) -> usize {
    match response {
        session_response::Response::Read(read) => 64 + read.value.len(),
        session_response::Response::Scanned(scanned) => {
            let entries = scanned.entries.iter().map(|entry| 32 + entry.key.len() + entry.value.len());
            64 + entries.sum::<usize>()
        }
        session_response::Response::SessionOpened(_)
        | session_response::Response::SessionClosed(_)
        | session_response::Response::Changed(_)
        | session_response::Response::Refusal(_)
        | session_response::Response::Appended(_) => 64,
    }
}

const _: () = assert!(std::mem::size_of::<Response>() <= 128, "answers are moved about by value");

#[cfg(test)]
mod tests {
    use heirloom_proto::{At, Consistency, KeyRange, Request, Scan};
    use tokio_stream::StreamExt as _;

    use super::super::room::Room;
    use super::*;

    fn page(room: &Room) -> Ready {
        let at = At::Now(Consistency::Stale);
        let scan = Scan { range: KeyRange::default(), limit: 0, keys_only: false, at, cluster: None };
        let seat = room.seat(&Request::Scan(scan)).expect("there is room");
        Ready { response: SessionResponse { tag: 1, response: None }, seat: Some(seat) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_loses_its_stream_and_what_waits_for_it_gives_its_room_back() {
        let room = Room::new();
        let empty = room.pages_free();
        let (out, mut answers) = Answers::channel();
        for _ in 0..ANSWERS_MAX {
            assert!(send(vec![page(&room)], &out).await);
        }
        assert!(room.pages_free() < empty, "they wait for the client");
        assert!(!send(vec![page(&room)], &out).await);
        assert_eq!(room.pages_free(), empty, "though nobody has looked at the stream");
        assert!(answers.next().await.is_none(), "whoever looks sees that it has ended");
    }

    #[tokio::test]
    async fn answers_keep_their_room_until_the_transport_takes_them() {
        let room = Room::new();
        let empty = room.pages_free();
        let (out, mut answers) = Answers::channel();
        assert!(send(vec![page(&room), page(&room)], &out).await);
        assert!(room.pages_free() < empty);
        let message = answers.next().await.expect("one").expect("well");
        assert_eq!((message.responses.len(), room.pages_free()), (2, empty));
    }
}
