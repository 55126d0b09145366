//! The desk at which every service hands in requests: to this server's node, and where another server leads, to that.
//!
//! A request that finds no primary waits here for one until its caller's patience ends, so that clients see a failover as
//! a pause and not as an error.

use std::sync::Arc;
use std::time::Duration;

use heirloom_proto::wire::client::{Answered, Asked};
use heirloom_proto::{Address, Refusal, Request, Response, ServerId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::forward::{Forwarded, Forwards};
use super::room::Room;
use crate::driver::{Ask, Place, Replied, Reply, Report};
use crate::history::History;
use crate::transfer::Made;

/// How long a request may wait whose caller has not said.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// The first pause before a request is tried again where nothing seems to have changed; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// The desk of one server.
#[derive(Debug)]
pub(crate) struct Desk {
    me: ServerId,
    servers: Arc<[Address]>,
    asks: mpsc::Sender<Ask>,
    place: watch::Receiver<Place>,
    history: Arc<History>,
    forwards: Forwards,
    room: Room,
}

/// What came of one attempt that may be made again.
enum Attempt {
    /// It is over.
    Done(Result<Answered, Refusal>),
    /// Nothing was applied.
    Again,
    /// Something may have been applied, or may yet be; asking again is safe all the same.
    AgainUnknown,
}

impl Desk {
    /// A desk that hands in at `asks`. Must be made within the runtime, for it forwards by tasks of its own.
    pub(crate) fn new(
        me: ServerId,
        servers: Arc<[Address]>,
        asks: mpsc::Sender<Ask>,
        place: watch::Receiver<Place>,
        history: Arc<History>,
    ) -> Self {
        let forwards = Forwards::new(&servers);
        Self { me, servers, asks, place, history, forwards, room: Room::new() }
    }

    /// This server.
    pub(crate) fn me(&self) -> ServerId {
        self.me
    }

    /// Where the servers are found, by id.
    pub(crate) fn servers(&self) -> &[Address] {
        &self.servers
    }

    /// The room for requests.
    pub(crate) fn room(&self) -> &Room {
        &self.room
    }

    /// The part that this server plays, to be watched.
    pub(crate) fn place(&self) -> watch::Receiver<Place> {
        self.place.clone()
    }

    /// What was committed lately.
    pub(crate) fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// The address of the primary that a refusal names.
    pub(crate) fn primary_address(&self, refusal: &Refusal) -> Option<String> {
        match refusal {
            Refusal::NotPrimary { primary: Some(server) } => {
                self.servers.get(usize::from(server.0)).map(ToString::to_string)
            }
            _ => None,
        }
    }

    /// Returns once the node has stopped for good.
    pub(crate) async fn closed(&self) {
        self.asks.closed().await;
    }

    /// What the server says of itself; `None` before its first run and after its last.
    pub(crate) async fn report(&self) -> Option<Report> {
        let (slot, report) = oneshot::channel();
        self.asks.send(Ask::Report(slot)).await.ok()?;
        report.await.ok()
    }

    /// Has a snapshot made of all that is applied here; gives when it is there. `None` where the node does not come to take
    /// the request before `until`, or has stopped.
    pub(crate) async fn make_snapshot(&self, until: Instant) -> Option<Made> {
        let (slot, made) = oneshot::channel();
        timeout_at(until, self.asks.send(Ask::Snapshot(slot))).await.ok()?.ok()?;
        Some(made)
    }

    /// Hints that the primary is gone; where the node does not come to take the hint before `until`, it is dropped.
    pub(crate) async fn nudge(&self, until: Instant) {
        // Fails also where the node has stopped, which looks for nobody.
        let _ = timeout_at(until, self.asks.send(Ask::Nudge)).await;
    }

    /// Hands a request of a stream to the own node; the answer goes to the stream. False once the node has stopped.
    pub(crate) async fn hand_in(
        &self,
        request: Request,
        number: u64,
        answers: &mpsc::UnboundedSender<Replied>,
    ) -> bool {
        let reply = Reply::Stream { number, answers: answers.clone() };
        self.asks.send(Ask::Request { request, reply }).await.is_ok()
    }

    /// Asks the own node, and waits for its answer as long as the caller does.
    ///
    /// `Err` where the patience ended first.
    pub(crate) async fn ask(&self, request: Request, until: Instant) -> Result<Result<Response, Refusal>, Patience> {
        let (slot, answer) = oneshot::channel();
        let asked = async {
            let reply = Reply::Call(slot);
            if self.asks.send(Ask::Request { request, reply }).await.is_err() {
                return Err(Refusal::NotPrimary { primary: None });
            }
            // Every caller is answered, unless the driver fell over; nobody knows then.
            answer.await.unwrap_or(Err(Refusal::OutcomeUnknown))
        };
        timeout_at(until, asked).await.map_err(|_| Patience::Ended)
    }

    /// Carries a request out, here or at the primary, waiting for one where there is none.
    pub(crate) async fn carry_out(&self, asked: Asked, until: Instant) -> Result<Answered, Refusal> {
        let first = match self.ask(asked.request.clone(), until).await {
            Ok(first) => first,
            Err(Patience::Ended) if may_take_effect(&asked.request) => return Err(Refusal::OutcomeUnknown),
            Err(Patience::Ended) => return Err(Refusal::NotPrimary { primary: None }),
        };
        self.carry_on(asked, first, until).await
    }

    /// Carries on with a request whose first answer, by the own node, is known.
    pub(crate) async fn carry_on(
        &self,
        asked: Asked,
        first: Result<Response, Refusal>,
        until: Instant,
    ) -> Result<Answered, Refusal> {
        let Asked { request, redirect } = asked;
        let mut place = self.place.clone();
        let mut pause = PAUSE_MIN;
        let mut unknown = false;
        let mut answer = Ok(first);
        loop {
            place.mark_unchanged();
            let attempt = match answer {
                Ok(result) if redirect => return self.answered(result),
                Ok(Err(Refusal::NotPrimary { primary: Some(primary) })) if primary != self.me => {
                    self.forward(primary, &request, &mut place, until).await
                }
                Ok(result) => self.judge(&request, result),
                Err(Patience::Ended) if may_take_effect(&request) => Attempt::AgainUnknown,
                Err(Patience::Ended) => Attempt::Again,
            };
            match attempt {
                Attempt::Done(Err(refusal)) if unknown => match after_unknown(&refusal) {
                    AfterUnknown::AskAgain => {}
                    AfterUnknown::StaysUnknown => return Err(Refusal::OutcomeUnknown),
                },
                Attempt::Done(result) => return result,
                Attempt::Again => {}
                Attempt::AgainUnknown => unknown |= may_take_effect(&request),
            }
            if !self.wait_for_primary(&mut place, &mut pause, until).await {
                // What an earlier attempt may have done does not become undone by a later one that did nothing.
                let primary = place.borrow().primary.filter(|primary| *primary != self.me);
                return Err(if unknown { Refusal::OutcomeUnknown } else { Refusal::NotPrimary { primary } });
            }
            answer = self.ask(request.clone(), until).await;
        }
    }

    /// Waits until it is worth asking again; false where the caller's patience ends first.
    pub(crate) async fn wait_for_primary(
        &self,
        place: &mut watch::Receiver<Place>,
        pause: &mut Duration,
        until: Instant,
    ) -> bool {
        self.nudge(until).await;
        tokio::select! {
            biased;
            () = sleep_until(until) => return false,
            () = self.closed() => return false,
            changed = place.changed() => if changed.is_err() {
                return false;
            },
            // The primary may have come to lead, or gone, without this server's having heard of it.
            () = sleep(*pause) => *pause = (*pause * 2).min(PAUSE_MAX),
        }
        true
    }

    fn answered(&self, result: Result<Response, Refusal>) -> Result<Answered, Refusal> {
        result.map(|response| Answered { response, server: Some(self.me) })
    }

    /// What to make of an answer of the own node.
    fn judge(&self, request: &Request, result: Result<Response, Refusal>) -> Attempt {
        match result {
            Err(Refusal::NotPrimary { .. }) => Attempt::Again,
            Err(Refusal::OutcomeUnknown) if may_repeat(request) => Attempt::AgainUnknown,
            result => Attempt::Done(self.answered(result)),
        }
    }

    /// Forwards to the primary, once: it does not forward again.
    async fn forward(
        &self,
        primary: ServerId,
        request: &Request,
        place: &mut watch::Receiver<Place>,
        until: Instant,
    ) -> Attempt {
        let forwarded = tokio::select! {
            forwarded = self.forwards.forward(primary, request.clone()) => forwarded,
            // Another one leads: what may be repeated is better asked there than waited for.
            _ = place.wait_for(|place| place.primary != Some(primary)), if may_repeat(request) => Forwarded::Broken,
            () = sleep_until(until) => Forwarded::Broken,
        };
        match forwarded {
            Forwarded::Answered(Ok(answered)) => Attempt::Done(Ok(answered)),
            Forwarded::Answered(Err(Refusal::NotPrimary { .. })) | Forwarded::Unsent => Attempt::Again,
            Forwarded::Answered(Err(Refusal::OutcomeUnknown)) if may_repeat(request) => Attempt::AgainUnknown,
            Forwarded::Answered(Err(refusal)) => Attempt::Done(Err(refusal)),
            Forwarded::Broken if !may_take_effect(request) => Attempt::Again,
            Forwarded::Broken if may_repeat(request) => Attempt::AgainUnknown,
            Forwarded::Broken => Attempt::Done(Err(Refusal::OutcomeUnknown)),
        }
    }
}

/// What a refusal is worth where an earlier attempt of the same request may have taken effect.
enum AfterUnknown {
    /// It may pass, and an attempt that is carried out tells what became of all.
    AskAgain,
    /// No attempt will tell.
    StaysUnknown,
}

/// A refusal says that *this* attempt did nothing. To pass it on would tell the caller that the request did nothing, which
/// an earlier attempt may have belied: its entry may be in the log of a primary that this server lost sight of.
fn after_unknown(refusal: &Refusal) -> AfterUnknown {
    match refusal {
        Refusal::NotPrimary { .. } | Refusal::OutcomeUnknown | Refusal::Overloaded | Refusal::SessionUnknown => {
            AfterUnknown::AskAgain
        }
        Refusal::SessionExpired
        | Refusal::SequenceAnswered { .. }
        | Refusal::BadKey { .. }
        | Refusal::BadValue { .. }
        | Refusal::BadSet { .. }
        | Refusal::BadSequence
        | Refusal::BadServer { .. }
        | Refusal::HandOverCalledOff
        | Refusal::VersionAhead { .. }
        | Refusal::VersionTooOld { .. }
        | Refusal::OtherCluster
        | Refusal::Recovering => AfterUnknown::StaysUnknown,
    }
}

/// The caller's patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It ended.
    Ended,
}

/// Whether a request that was let go may yet take effect.
fn may_take_effect(request: &Request) -> bool {
    match request {
        Request::OpenSession | Request::CloseSession(_) | Request::Change { .. } => true,
        Request::Read { .. } | Request::Scan(_) | Request::Promote(_) | Request::Fence(_) => false,
    }
}

/// Whether a request may be carried out twice with the effect of once: changes by their id; sessions because one that was
/// opened for nobody is removed when idle, and one that is closed stays closed.
pub(crate) fn may_repeat(request: &Request) -> bool {
    match request {
        Request::Change { id, .. } => id.is_some(),
        Request::OpenSession | Request::CloseSession(_) | Request::Read { .. } | Request::Scan(_) => true,
        Request::Promote(_) | Request::Fence(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use heirloom_proto::status::RoleName;
    use heirloom_proto::{Change, Epoch, LogIndex, RequestId, SessionId, Version};

    use super::*;

    const CHANGED: Response = Response::Changed { version: Version(7), existed: false, copies: 2, epoch: Epoch::NONE };

    fn desk(asks: mpsc::Sender<Ask>) -> Desk {
        let (_, place) = watch::channel(Place { role: RoleName::Primary, primary: Some(ServerId(0)) });
        let address = Address { host: "127.0.0.1".to_owned(), port: 1 };
        Desk::new(ServerId(0), [address].into(), asks, place, History::new().1)
    }

    fn change() -> Asked {
        let session = SessionId { opened_at: LogIndex(1), nonce: 2 };
        let id = Some(RequestId { session, sequence: 1, lowest_unanswered: 1 });
        let change = Change::Delete { key: Bytes::from_static(b"key") };
        Asked { request: Request::Change { id, change }, redirect: false }
    }

    /// What a caller is told where the node gives these answers, one for each attempt, the last one for ever.
    async fn told(answers: Vec<Result<Response, Refusal>>, patience: Duration) -> Result<Response, Refusal> {
        let (asks_in, mut asks) = mpsc::channel(8);
        let (place_in, place) = watch::channel(Place { role: RoleName::Primary, primary: Some(ServerId(0)) });
        let desk = Desk { place, ..desk(asks_in) };
        tokio::spawn(async move {
            let mut answers = answers.into_iter().peekable();
            while let Some(ask) = asks.recv().await {
                if let Ask::Request { reply, .. } = ask {
                    let next = answers.next().expect("the last one stays");
                    if answers.peek().is_none() {
                        answers = vec![next.clone()].into_iter().peekable();
                    }
                    reply.send(next);
                }
            }
            drop(place_in);
        });
        desk.carry_out(change(), Instant::now() + patience).await.map(|answered| answered.response)
    }

    #[tokio::test]
    async fn a_refusal_after_an_unknown_outcome_is_not_passed_on_as_not_applied() {
        for refusal in [Refusal::SessionExpired, Refusal::BadSequence, Refusal::BadValue { bytes_max: 1 }] {
            let answers = vec![Err(Refusal::OutcomeUnknown), Err(refusal.clone())];
            assert_eq!(told(answers, PATIENCE).await, Err(Refusal::OutcomeUnknown), "{refusal:?}");
            assert_eq!(told(vec![Err(refusal.clone())], PATIENCE).await, Err(refusal), "nothing was unknown");
        }
    }

    #[tokio::test]
    async fn a_refusal_that_may_pass_is_waited_out_after_an_unknown_outcome() {
        for refusal in [Refusal::Overloaded, Refusal::SessionUnknown] {
            let answers = vec![Err(Refusal::OutcomeUnknown), Err(refusal.clone()), Ok(CHANGED)];
            assert_eq!(told(answers, PATIENCE).await, Ok(CHANGED), "{refusal:?}");
            let answers = vec![Err(Refusal::OutcomeUnknown), Err(refusal)];
            assert_eq!(told(answers, Duration::from_millis(100)).await, Err(Refusal::OutcomeUnknown));
        }
    }

    #[tokio::test]
    async fn a_hint_that_nobody_takes_is_given_up_with_the_callers_patience() {
        let (asks_in, _asks) = mpsc::channel(1);
        asks_in.try_send(Ask::Nudge).expect("there is room for one");
        let nudge = tokio::time::timeout(PATIENCE, async {
            desk(asks_in).nudge(Instant::now() + Duration::from_millis(10)).await;
        });
        nudge.await.expect("given up");
    }
}
