//! What must hold at every step, numbered as in PROTOCOL 12; then what the architecture adds.
//!
//! | law | says |
//! |---|---|
//! | 1 | one view per epoch |
//! | 2 | a committed entry is in the log of every member of every later accepted view |
//! | 3 | applied sequences are prefixes of one another; equal applied index, equal digest, and nothing is committed with a member that told its primary another |
//! | 4 | no acknowledged write lost, none applied twice, nothing prepared ever read, *not applied* is true |
//! | 5 | truncation never reaches what is applied, nor a committed entry that a view counts on |
//! | 6 | one entry an index; no commit of a newer epoch while a lease of an older one is valid outside the new view |
//! | 7 | linearizable per key |
//! | 8 | no view below `min_copies` |
//! | 9 | nothing is said that is not durable (ARCHITECTURE, wall 3) |
//! | 10 | the node does not spin, answers no caller twice, and keeps to its ports |
//! | 11 | when all is healed, the cluster becomes whole again; who committed alone goes on alone |
//! | 12 | no assertion of the core fails |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use heirloom_proto::{
    Action, At, Consistency, Epoch, KeyRange, LogIndex, Member, Message, Note, Peer, Position, Record, Request,
    Response, Scan, Seen, ServerId, Together, View,
};

use heirloom_node::Node;

use crate::inspect::Inspect;
use crate::observed::{Asker, Observed};
use crate::oracle::Oracle;

/// A law that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Its number.
    pub law: u8,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// A law that is broken, as the end of a check.
    ///
    /// **Errors:** always.
    pub fn of<T>(law: u8, what: String) -> Result<T, Self> {
        Err(Self { law, what })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "law {}: {}", self.law, self.what)
    }
}

/// What the laws remember of a world.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Laws {
    /// What is known to be committed.
    pub oracle: Oracle,
    /// Every view that anybody has accepted.
    views: BTreeMap<Epoch, View>,
    /// How much of the committed log each store must have, because a later view counts on it.
    must_have: BTreeMap<Member, LogIndex>,
    /// The highest epoch of which a proposer said that its view was chosen.
    chosen: Option<Epoch>,
    /// The highest epoch in which a client was told that a change is committed.
    acknowledged: Option<Epoch>,
    /// Stores that were put back as an older copy, which is the fault of none that runs.
    put_back: BTreeSet<Member>,
    /// Runs that told the primary of an epoch of another state than the committed one.
    differ: BTreeSet<(Epoch, Peer)>,
    min_copies: usize,
}

type Checked = Result<(), Violation>;

impl Laws {
    /// The laws of a world in which nothing has happened.
    pub fn new(min_copies: usize) -> Self {
        Self { min_copies, ..Self::default() }
    }

    /// All laws that a step of this server can break.
    pub fn after_step(
        &mut self,
        servers: &[impl Observed],
        stepped: ServerId,
        now: u64,
        actions: &[Action],
    ) -> Checked {
        let server = &servers[usize::from(stepped.0)];
        self.applied(servers, server, now)?;
        self.accepted(servers, server)?;
        self.kept(server)?;
        let mut log_records = 0;
        let mut told = BTreeSet::new();
        for action in actions {
            match action {
                Action::Send { message, .. } => said(server, message)?,
                Action::Persist { record, .. } => {
                    log_records += u32::from(matches!(record, Record::Append(_) | Record::Cut { .. }));
                    self.cut(server, record)?;
                }
                Action::NoteProgress { commit, .. } => {
                    if *commit > server.durable_end() {
                        return Violation::of(
                            9,
                            format!("server {stepped} notes commit {commit} beyond its durable log"),
                        );
                    }
                }
                Action::Respond { token, result } => {
                    match (server.asker(*token).filter(|_| told.insert(*token)), result) {
                        (None, _) => {
                            let what = format!("server {stepped} answers {token:?}, which does not wait");
                            return Violation::of(10, what);
                        }
                        (Some(Asker::Client), Ok(response)) => {
                            if let Some(request) = server.asked(*token) {
                                self.read(stepped, request, response)?;
                            }
                            self.answered(servers, stepped, response)?;
                        }
                        (Some(Asker::Client), Err(_)) | (Some(Asker::Operator), _) => {}
                    }
                }
                Action::Tell(Note::Chosen { view, .. }) => {
                    self.view(servers, view)?;
                    self.chosen = self.chosen.max(Some(view.epoch));
                }
                Action::Probe { .. }
                | Action::FetchSnapshot { .. }
                | Action::Examine
                | Action::Tell(_)
                | Action::Halt(_) => {}
            }
        }
        if log_records > 1 {
            return Violation::of(10, format!("server {stepped} gives {log_records} log records in one step"));
        }
        Ok(())
    }

    /// Takes note of what reaches a server, before it takes the step.
    pub fn received(&mut self, from: Peer, message: &Message) {
        let (Message::Confirm { epoch, applied_index, digest, .. }
        | Message::Echo { epoch, applied_index, digest, .. }) = message
        else {
            return;
        };
        if self.oracle.digest_at(*applied_index).is_some_and(|known| known != *digest) {
            self.differ.insert((*epoch, from));
        }
    }

    /// Takes note that an older copy takes the place of a store, which then lacks what it had: law 2 says nothing of it any
    /// more. What comes of it if it goes on as if it had all is for the others.
    pub fn put_back(&mut self, store: Member) {
        self.put_back.insert(store);
    }

    /// Law 11 under the rule `survivors`, where the other server has been down for long: whoever was told of a change
    /// that is committed by one member alone can count on that one alone.
    pub fn alone(&self, servers: &[impl Observed]) -> Checked {
        let Some(view) =
            self.newest_view().filter(|view| Some(view.epoch) == self.acknowledged && view.in_sync.len() == 1)
        else {
            return Ok(());
        };
        let server = &servers[usize::from(view.primary.0)];
        let waits = server.node().is_some_and(|node| node.leads().is_none());
        if waits && view.has(server.member()) {
            return Violation::of(11, format!("server {} committed alone and does not go on: {view:?}", server.id()));
        }
        Ok(())
    }

    /// The newest view that anybody has accepted.
    pub fn newest_view(&self) -> Option<&View> {
        self.views.values().next_back()
    }

    /// Whether every view that is in force or may still come to be has a member elsewhere, whose directory is still the
    /// one that it counts on.
    pub fn survive_without(&self, servers: &[impl Observed], server: ServerId) -> bool {
        let Some(chosen) = self.chosen else { return false };
        let kept = |member: &Member| {
            servers[usize::from(member.server.0)].member() == *member && !self.put_back.contains(member)
        };
        let elsewhere = |member: &Member| member.server != server && kept(member);
        self.views.range(chosen..).all(|(_, view)| view.in_sync.iter().any(elsewhere))
    }

    /// Laws 3 and 6: new entries join the committed log, old ones are the same.
    fn applied(&mut self, servers: &[impl Observed], server: &impl Observed, now: u64) -> Checked {
        let Some(node) = server.node() else { return Ok(()) };
        let Some((applied, digest)) = node.applied() else { return Ok(()) };
        let committed_before = self.oracle.end();
        let mut by = None;
        while self.oracle.end() < applied {
            let index = self.oracle.end().next();
            let (Some(entry), Some(position)) = (node.entry(index), node.position_at(index)) else {
                return Violation::of(3, format!("server {} applied {applied} and has no {index}", server.id()));
            };
            let by = *by.get_or_insert_with(|| {
                let accepted = node.votes().map(heirloom_proto::Register::accepted_epoch);
                node.leads().or(accepted).unwrap_or(Epoch::NONE)
            });
            self.oracle.commit(entry, position.hash, by)?;
        }
        if node.position_at(applied) != self.oracle.position_at(applied) {
            return Violation::of(3, format!("server {} applied another sequence up to {applied}", server.id()));
        }
        self.oracle.digest(applied, digest)?;
        if let Some(by) = by {
            self.commits(servers, server, by, committed_before, now)?;
        }
        Ok(())
    }

    /// Laws 2 and 6 at the moment of a commit.
    fn commits(
        &mut self,
        servers: &[impl Observed],
        server: &impl Observed,
        by: Epoch,
        before: LogIndex,
        now: u64,
    ) -> Checked {
        let later: Vec<View> =
            self.views.range(by..).filter(|(epoch, _)| **epoch > by).map(|(_, view)| view.clone()).collect();
        for view in later {
            self.inherits(servers, &view)?;
        }
        let Some(view) = self.views.get(&by) else { return Ok(()) };
        let runs = |member: &Member| servers[usize::from(member.server.0)].node().map(Node::peer);
        let differs = |peer: &Peer| self.differ.contains(&(by, *peer)) && view.has(peer.member());
        if let Some(member) = view.in_sync.iter().filter_map(runs).find(differs) {
            let (first, last) = (before.next(), self.oracle.end());
            let what = format!("{first} to {last} are committed in epoch {by} with {member:?}, whose state differs");
            return Violation::of(3, what);
        }
        for other in servers {
            let Some(node) = other.node() else { continue };
            if other.id() == server.id() || view.has(other.member()) {
                continue;
            }
            let status = node.status(other.clock(now));
            if status.epoch < by && status.lease.is_some_and(|left| !left.is_zero()) {
                return Violation::of(
                    6,
                    format!(
                        "server {} committed {} to {} in epoch {by} while server {} holds a lease of {} for another {:?}",
                        server.id(),
                        before.next(),
                        self.oracle.end(),
                        other.id(),
                        status.epoch,
                        status.lease
                    ),
                );
            }
        }
        Ok(())
    }

    /// Looks at the view that a server has accepted.
    fn accepted(&mut self, servers: &[impl Observed], server: &impl Observed) -> Checked {
        let accepted = server.node().and_then(Inspect::votes).and_then(|register| register.accepted.as_ref());
        match accepted {
            Some(view) => self.view(servers, view),
            None => Ok(()),
        }
    }

    /// Laws 1, 2 and 8 of a view.
    fn view(&mut self, servers: &[impl Observed], view: &View) -> Checked {
        if let Some(known) = self.views.get(&view.epoch) {
            if known != view {
                return Violation::of(1, format!("two views of one epoch: {known:?} and {view:?}"));
            }
            return Ok(());
        }
        if view.in_sync.len() < self.min_copies {
            return Violation::of(8, format!("fewer than {} members: {view:?}", self.min_copies));
        }
        self.views.insert(view.epoch, view.clone());
        self.inherits(servers, view)
    }

    /// Law 2: what was committed before this view is in the log of each of its members.
    fn inherits(&mut self, servers: &[impl Observed], view: &View) -> Checked {
        let end = self.oracle.end_before(view.epoch);
        for member in &view.in_sync {
            let must_have = self.must_have.entry(*member).or_default();
            *must_have = (*must_have).max(end);
            let server = &servers[usize::from(member.server.0)];
            let put_back = self.put_back.contains(member);
            if !put_back && server.member() == *member && !self.has(server, end) {
                return Violation::of(
                    2,
                    format!(
                        "{end} was committed before {}, and its member {} lacks it: {view:?}",
                        view.epoch, member.server
                    ),
                );
            }
        }
        Ok(())
    }

    /// Law 2 for all time: a store keeps what a view counts on.
    fn kept(&self, server: &impl Observed) -> Checked {
        if self.put_back.contains(&server.member()) {
            return Ok(());
        }
        let Some(must_have) = self.must_have.get(&server.member()) else { return Ok(()) };
        if !self.has(server, *must_have) {
            return Violation::of(
                2,
                format!("server {} no longer has the committed log up to {must_have}", server.id()),
            );
        }
        Ok(())
    }

    /// Whether a server has the committed log up to here, in memory while it runs and durable otherwise. What a state
    /// stands for it has, where that is the committed one.
    fn has(&self, server: &impl Observed, end: LogIndex) -> bool {
        let (base, position_at): (_, &dyn Fn(LogIndex) -> Option<Position>) = match server.node() {
            Some(node) if node.copy().is_some() => (node.log_base(), &|index| node.position_at(index)),
            Some(_) | None => (server.durable_base(), &|index| server.durable_position_at(index)),
        };
        let end = end.max(base);
        position_at(end) == self.oracle.position_at(end)
    }

    /// Law 5: no committed entry is cut where a view counts on it, or where it is applied.
    fn cut(&self, server: &impl Observed, record: &Record) -> Checked {
        let Record::Cut { keep } = record else { return Ok(()) };
        let first_lost = keep.next();
        let durable = server.durable_position_at(first_lost);
        // A learner that no view counts on may cut what others have committed meanwhile: it is given it again.
        let counted_on = self.must_have.get(&server.member()).is_some_and(|must_have| *must_have >= first_lost);
        let applied = server.node().and_then(Inspect::applied).is_some_and(|(applied, _)| applied >= first_lost);
        if (counted_on || applied) && durable.is_some() && durable == self.oracle.position_at(first_lost) {
            return Violation::of(
                5,
                format!("server {} cuts behind {keep}, and {first_lost} is committed", server.id()),
            );
        }
        Ok(())
    }

    /// Law 4 of reads: what they saw is committed, all of it and nothing else, at the version that they name.
    fn read(&self, by: ServerId, request: &Request, response: &Response) -> Checked {
        let Some(seen) = response.seen() else { return Ok(()) };
        if seen.version > self.oracle.version() {
            let committed = self.oracle.version();
            let what = format!("server {by} reads version {}, and {committed} is committed", seen.version);
            return Violation::of(4, what);
        }
        match request {
            Request::Read { key, .. } => self.key_read(by, key, seen, response),
            Request::Scan(scan) => self.page_read(by, scan, seen, response),
            Request::OpenSession
            | Request::CloseSession(_)
            | Request::Change { .. }
            | Request::Promote(_)
            | Request::Fence(_) => Violation::of(10, format!("server {by} answers {request:?} with {response:?}")),
        }
    }

    /// Law 4 of a page: the keys of the range from its beginning to where the next page begins, at its version, which for a
    /// later page is the one that it was asked for.
    fn page_read(&self, by: ServerId, scan: &Scan, seen: &Seen, response: &Response) -> Checked {
        let told = |what: &str| Violation::of(4, format!("server {by} {what}: {scan:?}, {response:?}"));
        let Response::Scanned { entries, next, .. } = response else { return told("answers a scan with") };
        let fits = match scan.at {
            At::Version(version) => seen.version == version,
            At::Now(Consistency::Causal { at_least }) => seen.version >= at_least,
            At::Now(Consistency::Linearizable | Consistency::Stale) => true,
        };
        let wanted = usize::try_from(scan.limit).unwrap_or(usize::MAX);
        if !fits || wanted > 0 && entries.len() > wanted {
            return told("gives another page than was asked for");
        }
        // No world has so many keys that a page ends for having looked at too many.
        let goes_on = |next: &Bytes| {
            let there = scan.range.contains(next) && self.oracle.value_at(next, seen.version).is_some();
            there && !entries.is_empty() && *next > scan.range.start
        };
        if next.as_ref().is_some_and(|next| !goes_on(next)) {
            return told("says that a page follows where none does");
        }
        let part = KeyRange { start: scan.range.start.clone(), end: next.clone().or_else(|| scan.range.end.clone()) };
        let value = |value| if scan.keys_only { &b""[..] } else { value };
        let committed =
            self.oracle.range_at(&part, seen.version).map(|(key, at, found)| (&key[..], at, value(&found[..])));
        let found = entries.iter().map(|entry| (&entry.key[..], entry.version, &entry.value[..]));
        if found.eq(committed) { Ok(()) } else { told("scans something else than is committed") }
    }

    fn key_read(&self, by: ServerId, key: &Bytes, seen: &Seen, response: &Response) -> Checked {
        let found = match response {
            Response::Found { value, version, .. } => Some((*version, value)),
            _ => None,
        };
        let committed = self.oracle.value_at(key, seen.version);
        if found != committed {
            let what =
                format!("server {by} reads {found:?} of {key:?} at {}, where it has {committed:?}", seen.version);
            return Violation::of(4, what);
        }
        Ok(())
    }

    /// Law 4 of a condition that was not met: what it was judged by is committed, and is what the answer says.
    ///
    /// **Errors:** the law that is broken.
    pub fn judged(&self, by: ServerId, set: &Together, response: &Response) -> Checked {
        let Response::NotMet { condition, found, version, .. } = response else { return Ok(()) };
        let Some(condition) = usize::try_from(*condition).ok().and_then(|place| set.conditions.get(place)) else {
            return Violation::of(4, format!("server {by} names a condition that was not given: {response:?}"));
        };
        let committed = self.oracle.value_at(&condition.key, *version).map(|(version, _)| version);
        if *found != committed || *found == condition.version {
            let what = format!("server {by} judged {condition:?} by {found:?} at {version}, where it is {committed:?}");
            return Violation::of(4, what);
        }
        Ok(())
    }

    /// Law 4: what a client is told is committed, on as many copies as it is told.
    fn answered(&mut self, servers: &[impl Observed], by: ServerId, response: &Response) -> Checked {
        match response {
            Response::Found { value, .. } => {
                if !self.oracle.has_value(value) {
                    return Violation::of(
                        4,
                        format!("server {by} answers a read with {value:?}, which is not committed"),
                    );
                }
            }
            Response::Changed { version, copies, epoch, .. } | Response::Appended { version, copies, epoch, .. } => {
                self.acknowledged = self.acknowledged.max(Some(*epoch));
                let end = self.oracle.end();
                if *version > self.oracle.version() {
                    let committed = self.oracle.version();
                    let what =
                        format!("server {by} answers a change with version {version}, and {committed} is committed");
                    return Violation::of(4, what);
                }
                let members = self.views.get(epoch).map_or(servers.len(), |view| view.in_sync.len());
                if *copies as usize > members {
                    let what = format!("server {by} answers a change at {copies} copies in a view of {members}");
                    return Violation::of(4, what);
                }
                if (*copies as usize) < self.min_copies.min(servers.len()) {
                    return Violation::of(
                        8,
                        format!("server {by} answers a change at {copies} copies; committed is {end}"),
                    );
                }
            }
            // Whether it was so at that version is for [`Self::judged`].
            Response::NotMet { version, .. } if *version > self.oracle.version() => {
                let committed = self.oracle.version();
                let what = format!("server {by} judges a condition at {version}, and {committed} is committed");
                return Violation::of(4, what);
            }
            Response::NotMet { .. }
            | Response::NotFound { .. }
            | Response::Scanned { .. }
            | Response::SessionOpened { .. }
            | Response::SessionClosed
            | Response::Promoted { .. }
            | Response::Fenced => {}
        }
        Ok(())
    }
}

/// Law 9: a server says of itself only what is durable.
fn said(server: &impl Observed, message: &Message) -> Checked {
    let register = server.register();
    let promised = register.map_or(Epoch::NONE, |register| register.promised);
    let accepted = register.map_or(Epoch::NONE, heirloom_proto::Register::accepted_epoch);
    let durable = match message {
        Message::Promise { epoch } => promised >= *epoch,
        Message::Promised { epoch, accepted: shown, .. } => {
            promised >= *epoch && shown.as_ref().is_none_or(|view| view.epoch <= accepted)
        }
        Message::EpochStarted { epoch, tail } => {
            promised >= *epoch && server.durable_position_at(tail.applied.index) == Some(tail.applied)
        }
        Message::Accept { view } => accepted >= view.epoch,
        Message::Accepted { epoch } => accepted >= *epoch,
        Message::StartEpoch { view } => accepted >= view.epoch,
        Message::Confirm { position, .. } => server.durable_position_at(position.index) == Some(*position),
        // It may not have heard yet that more is durable.
        Message::Testimony(testimony) => testimony
            .register
            .as_ref()
            .is_none_or(|told| told.promised <= promised && told.accepted_epoch() <= accepted),
        Message::Echo { epoch, confirmed, .. } => {
            promised >= *epoch && server.durable_position_at(confirmed.index) == Some(*confirmed)
        }
        Message::Question { .. }
        | Message::Enrol { .. }
        | Message::HigherPromise { .. }
        | Message::Cut { .. }
        | Message::Behind { .. }
        | Message::Prepare { .. }
        | Message::Gap { .. }
        | Message::Diverged { .. }
        | Message::Heartbeat { .. }
        | Message::Idle { .. }
        | Message::HandOver { .. }
        | Message::StillPromised { .. }
        | Message::NothingHigher { .. } => true,
    };
    if durable {
        return Ok(());
    }
    Violation::of(9, format!("server {} says {message:?} over {register:?}", server.id()))
}
