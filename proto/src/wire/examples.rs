//! One of everything that travels: what tests go through, and what a fuzzer begins with.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use crate::config::{Constants, QuorumRule, VoterKind};
use crate::entry::{Answer, Effect, Entry, Sealed};
use crate::hash::{ChainHash, Digest};
use crate::ids::{ClusterId, Epoch, LogIndex, Member, Position, RunId, ServerId, SessionId, StoreId, Version};
use crate::message::{EpochEnd, Grant, Message, Remembered, Tail, Testimony};
use crate::register::{Register, Standing};
use crate::request::{
    Change, Condition, Consistency, KeyChange, Refusal, Request, RequestId, Response, Seen, Together,
};
use crate::scan::{At, KeyRange, Scan, Scanned};
use crate::time::{Drift, Time, WallTime};
use crate::view::View;

pub(super) const EPOCH: Epoch = Epoch { round: 3, server: ServerId(1), run: RunId(u64::MAX) };
pub(super) const POSITION: Position = Position { index: LogIndex(6), hash: ChainHash(1 << 100 | 5) };
pub(super) const CLUSTER: ClusterId = ClusterId { id: 0, generation: 2 };

fn member(server: u8) -> Member {
    Member { server: ServerId(server), store: StoreId(u64::from(server) + 100) }
}

pub(super) fn view() -> View {
    View {
        epoch: EPOCH,
        primary: ServerId(1),
        in_sync: BTreeSet::from([member(0), member(1)]),
        leaving: BTreeSet::from([member(2)]),
    }
}

pub(super) fn constants() -> Constants {
    Constants {
        voters: vec![VoterKind::Data, VoterKind::Data, VoterKind::Witness],
        quorum: QuorumRule::Majority,
        lease: Duration::from_nanos(299_999_999),
        drift: Drift(10_000),
        min_copies: 1,
    }
}

pub(super) fn entry(index: u64) -> Sealed {
    Sealed::new(Entry {
        index: LogIndex(index),
        epoch: EPOCH,
        version: Version(4),
        at: WallTime(9),
        effects: vec![Effect::Put { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") }],
        origin: None,
        answer: Answer::Added { existed: false },
    })
}

fn testimony(register: Option<Register>) -> Message {
    let hears = register.is_some().then_some((ServerId(1), RunId(8)));
    let cluster = register.is_some().then_some(CLUSTER);
    let remembered = cluster.map(|_| Remembered {
        store: StoreId(3),
        promised: EPOCH,
        confirmed_in: EPOCH,
        confirmed: LogIndex(6),
        committed: LogIndex(5),
    });
    Message::Testimony(Box::new(Testimony { ask: 1, register, constants: constants(), cluster, hears, remembered }))
}

/// At least one message between servers of every kind.
pub fn messages() -> Vec<Message> {
    let register = Register { promised: EPOCH, accepted: Some(view()), standing: Standing::Intact };
    let tail = Tail { applied: POSITION, end: POSITION, epochs: vec![EpochEnd { epoch: EPOCH, last: POSITION }] };
    let digest = Digest(u128::MAX - 3);
    let (to_run, commit_index, applied_index) = (RunId(5), LogIndex(4), LogIndex(3));
    let messages = vec![
        Message::Question { ask: u64::MAX },
        testimony(None),
        testimony(Some(register)),
        testimony(Some(Register::LOST)),
        Message::Enrol { store: StoreId(0), constants: constants() },
        Message::Promise { epoch: EPOCH },
        Message::Promised { epoch: EPOCH, accepted: None, counts: false, member: None },
        Message::Promised { epoch: EPOCH, accepted: Some(view()), counts: true, member: Some(member(2)) },
        Message::HigherPromise { refused: Epoch::NONE, promised: EPOCH },
        Message::Accept { view: view() },
        Message::Accepted { epoch: EPOCH },
        Message::StartEpoch { view: view() },
        Message::EpochStarted { epoch: EPOCH, tail },
        Message::Cut { epoch: EPOCH, run: to_run, end: POSITION, keep: LogIndex::ZERO },
        Message::Behind { epoch: EPOCH, run: to_run, end: POSITION, base: LogIndex(9) },
        Message::Prepare { epoch: EPOCH, previous: Position::START, entries: Vec::new(), commit_index },
        Message::Prepare { epoch: EPOCH, previous: POSITION, entries: vec![entry(7), entry(8)], commit_index },
        Message::Confirm { epoch: EPOCH, position: POSITION, applied_index, digest },
        Message::Gap { epoch: EPOCH, end: POSITION },
        Message::Diverged { epoch: EPOCH, index: LogIndex(2), own: ChainHash(7) },
        Message::Heartbeat { epoch: EPOCH, to_run, sent_at: Time(1), hears_you: true, commit_index, grant: None },
        Message::Heartbeat {
            epoch: EPOCH,
            to_run,
            sent_at: Time(1),
            hears_you: false,
            commit_index,
            grant: Some(Grant { clock: Time(3), span: Duration::from_nanos(4) }),
        },
        Message::Echo {
            epoch: EPOCH,
            to_run,
            sent_at: Time(1),
            clock: Time(2),
            end: LogIndex(9),
            confirmed: POSITION,
            applied_index,
            digest,
        },
        Message::Idle { epoch: EPOCH, to_run, wants_copy: true },
        Message::HandOver { epoch: EPOCH, to_run },
        Message::StillPromised { epoch: EPOCH, round: 1 },
        Message::NothingHigher { epoch: EPOCH, round: 1 },
    ];
    let kinds: BTreeSet<&str> = messages.iter().map(Message::name).collect();
    assert_eq!(kinds.len(), 22, "a kind of message is missing here");
    messages
}

const SESSION: SessionId = SessionId { opened_at: LogIndex(3), nonce: u64::MAX };
const SEEN: Seen =
    Seen { version: Version(8), epoch: EPOCH, local: true, waited: true, age: Some(Duration::from_nanos(5)) };

fn set(key: &Bytes, value: &Bytes) -> Change {
    let conditions = vec![
        Condition { key: key.clone(), version: Some(Version(4)) },
        Condition { key: value.clone(), version: None },
    ];
    let changes =
        vec![KeyChange { key: key.clone(), value: None }, KeyChange { key: value.clone(), value: Some(key.clone()) }];
    Change::Together(Box::new(Together { conditions, changes }))
}

fn scan(start: Bytes, end: Option<Bytes>, at: At<Consistency>) -> Request {
    let keys_only = end.is_none();
    let cluster = keys_only.then_some(CLUSTER);
    Request::Scan(Scan { range: KeyRange { start, end }, limit: 7, keys_only, at, cluster })
}

/// A request of a client of every kind.
pub fn requests() -> Vec<Request> {
    let (key, value) = (Bytes::from_static(b"\0key"), Bytes::from_static(b"value"));
    let id = RequestId { session: SESSION, sequence: 5, lowest_unanswered: 2 };
    vec![
        Request::OpenSession,
        Request::CloseSession(SESSION),
        Request::Change { id: Some(id), change: Change::Add { key: key.clone(), value: value.clone() } },
        Request::Change { id: None, change: Change::Delete { key: key.clone() } },
        Request::Change { id: Some(id), change: Change::Append { prefix: key.clone(), value: value.clone() } },
        Request::Change { id: Some(id), change: set(&key, &value) },
        Request::Read { key: key.clone(), consistency: Consistency::Linearizable },
        Request::Read { key: key.clone(), consistency: Consistency::Causal { at_least: Version(9) } },
        Request::Read { key: key.clone(), consistency: Consistency::Stale },
        scan(key.clone(), Some(value.clone()), At::Now(Consistency::Linearizable)),
        scan(key.clone(), Some(Bytes::new()), At::Now(Consistency::Causal { at_least: Version(9) })),
        scan(key, None, At::Version(Version(0))),
    ]
}

/// An answer to a client of every kind, and the server that it names; server 2 gives them all.
pub fn responses() -> Vec<(Response, Option<ServerId>)> {
    vec![
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
        (Response::Appended { number: 3, version: Version(7), copies: 2, epoch: EPOCH }, Some(ServerId(2))),
        (
            Response::NotMet { condition: 1, found: Some(Version(5)), version: Version(7), epoch: EPOCH },
            Some(ServerId(2)),
        ),
        (Response::NotMet { condition: 0, found: None, version: Version(7), epoch: EPOCH }, Some(ServerId(2))),
        (Response::NotFound { seen: Seen { age: None, ..SEEN } }, Some(ServerId(2))),
        (Response::Scanned { entries: vec![], next: None, seen: SEEN, cluster: CLUSTER }, Some(ServerId(2))),
        (
            Response::Scanned {
                entries: vec![Scanned {
                    key: Bytes::from_static(b"k"),
                    value: Bytes::from_static(b"v"),
                    version: Version(7),
                    changed_at: WallTime(1),
                }],
                next: Some(Bytes::from_static(b"l")),
                seen: Seen { local: false, ..SEEN },
                cluster: CLUSTER,
            },
            Some(ServerId(2)),
        ),
    ]
}

/// A refusal of every kind.
pub fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::NotPrimary { primary: None },
        Refusal::NotPrimary { primary: Some(ServerId(2)) },
        Refusal::OutcomeUnknown,
        Refusal::SessionExpired,
        Refusal::SessionUnknown,
        Refusal::SequenceAnswered { lowest_unanswered: 7 },
        Refusal::Overloaded,
        Refusal::BadKey { bytes_max: 4096 },
        Refusal::BadValue { bytes_max: 1 << 20 },
        Refusal::BadSequence,
        Refusal::BadServer { reason: "the server named can't be used for this" },
        Refusal::HandOverCalledOff,
        Refusal::Recovering,
        Refusal::BadSet { count_max: 1_024 },
        Refusal::VersionAhead { version: Version(8) },
        Refusal::VersionTooOld { oldest: Version(9) },
        Refusal::OtherCluster,
    ]
}
