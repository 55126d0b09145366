//! Laws 5 and 10, which no fault on record in the core breaks, and law 4 of reads break where they should.
#![allow(missing_docs, reason = "a test")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use heirloom_backup::Durable;
use heirloom_laws::stored::Stored;
use heirloom_laws::{Asker, DurableAtOnce, Inspect, Laws};
use heirloom_node::Node;
use heirloom_proto::event::{Birth, Identity, Record};
use heirloom_proto::{
    Action, At, Change, ClusterId, Consistency, Constants, Entry, Epoch, Event, KeyRange, LogIndex, NodeConfig,
    Request, Response, RunId, Scan, Scanned, Sealed, Seen, ServerId, StoreId, Ticket, Time, Token, Version, VoterKind,
    WallTime,
};

const ME: ServerId = ServerId(0);
const READER: Token = Token(1_000);
const CLUSTER: ClusterId = ClusterId { id: 1, generation: 1 };

/// One real node, alone, on a disk that is at once durable; the laws look at it through whatever a test makes of it.
struct Alone {
    node: Option<Node>,
    disk: Durable,
    asked: BTreeMap<Token, (Asker, Request)>,
    now: Time,
    laws: Laws,
}

impl Alone {
    /// A server that leads and has committed its marker and one add.
    fn with_an_add() -> Self {
        let identity =
            Identity { server: ME, store: StoreId(1), cluster: None, enrolled: BTreeMap::new(), enrolment_open: false };
        let disk = Durable::blank(identity);
        let laws = Laws::new(1);
        let mut alone = Self { node: None, disk, asked: BTreeMap::new(), now: Time(1_000_000_000), laws };
        alone.begin_run(1);
        let change = Change::Add { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") };
        alone.ask(Token(1), Request::Change { id: None, change });
        assert_eq!(alone.laws.oracle.version(), Version(1), "the add is committed");
        alone
    }

    /// A run, from what the disk holds until it leads.
    fn begin_run(&mut self, run: u64) {
        let config = NodeConfig {
            me: ME,
            constants: Constants::defaults(vec![VoterKind::Data]),
            heartbeat: Duration::from_millis(50),
            suspicion: Duration::from_millis(400),
            value_bytes_max: 1 << 20,
        };
        let birth = Birth { run: RunId(run), cluster: 7, same_process: false };
        let (node, actions) = Node::recover(config, birth, self.disk.clone(), self.now);
        self.node = Some(node);
        let mut actions = self.lawful(actions);
        for _ in 0..100 {
            self.carry_out(actions);
            if self.leads() && self.applied() == LogIndex(self.disk.log.len() as u64) {
                return;
            }
            self.now = self.now + Duration::from_millis(50);
            actions = self.step(Event::Deadline);
        }
        panic!("it does not lead");
    }

    fn leads(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.leads().is_some())
    }

    fn applied(&self) -> LogIndex {
        self.node.as_ref().and_then(Inspect::applied).map_or(LogIndex::ZERO, |(applied, _)| applied)
    }

    /// One step and its flush, which break no law.
    fn step(&mut self, event: Event) -> Vec<Action> {
        let mut all = Vec::new();
        for event in [event, Event::Flush] {
            let actions = self.node.as_mut().expect("it runs").step(self.now, event);
            all.extend(self.lawful(actions));
        }
        all
    }

    fn lawful(&mut self, actions: Vec<Action>) -> Vec<Action> {
        assert_eq!(self.law_broken_by(&actions), None, "{actions:?}");
        actions
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Persist { ticket, record } => {
                    let read_back = if let Record::Append(entries) = &record { entries.clone() } else { Vec::new() };
                    match record {
                        Record::Append(entries) => self.disk.log.extend(entries),
                        Record::Cut { keep } => self.disk.cut(keep),
                        Record::Register(register) => self.disk.register = Some(register),
                        Record::Identity(identity) => self.disk.identity = identity,
                    }
                    let next = self.step(Event::Persisted { ticket, read_back });
                    self.carry_out(next);
                }
                Action::Respond { token, .. } => assert!(self.asked.remove(&token).is_some(), "{token:?} waits"),
                _ => {}
            }
        }
    }

    fn ask(&mut self, token: Token, request: Request) {
        self.asked.insert(token, (Asker::Client, request.clone()));
        let actions = self.step(Event::Requested { token, request, at: WallTime(0) });
        self.carry_out(actions);
    }

    /// The law that is broken where the server is as it is and gives these actions.
    fn law_broken_by(&mut self, actions: &[Action]) -> Option<u8> {
        let mut laws = std::mem::take(&mut self.laws);
        let now = self.now.0;
        let (node, disk) = (self.node.as_ref(), Some(&self.disk));
        let seen = DurableAtOnce { server: ME, node, disk, asked: &self.asked };
        let judged = laws.after_step(&[seen], ME, now, actions);
        self.laws = laws;
        judged.err().map(|violation| violation.law)
    }

    /// The last entry of the disk is cut.
    fn cut_of_the_last(&self) -> Vec<Action> {
        vec![cut_behind(self.disk.log.len() - 1)]
    }
}

fn cut_behind(keep: usize) -> Action {
    Action::Persist { ticket: Ticket(99), record: Record::Cut { keep: LogIndex(keep as u64) } }
}

fn append(entry: &Sealed) -> Action {
    Action::Persist { ticket: Ticket(98), record: Record::Append(vec![entry.clone()]) }
}

fn answer(token: Token, result: Response) -> Action {
    Action::Respond { token, result: Ok(result) }
}

#[test]
fn a_cut_below_what_is_applied_breaks_law_5() {
    let mut alone = Alone::with_an_add();
    // No view but the first is known, before which nothing was committed: none counts on the entry.
    let cut = alone.cut_of_the_last();
    assert_eq!(alone.law_broken_by(&cut), Some(5));
}

#[test]
fn a_cut_below_what_a_later_view_counts_on_breaks_law_5_though_nothing_is_applied() {
    let mut alone = Alone::with_an_add();
    let inherited = alone.disk.log.len();
    alone.begin_run(2);
    alone.node = None;
    assert_eq!(alone.law_broken_by(&[cut_behind(inherited - 1)]), Some(5));
}

#[test]
fn a_cut_at_a_copy_that_no_view_counts_on_is_harmless() {
    let mut alone = Alone::with_an_add();
    alone.node = None;
    let cut = alone.cut_of_the_last();
    assert_eq!(alone.law_broken_by(&cut), None, "no later view has inherited the entry");
    alone.begin_run(2);
    alone.node = None;
    alone.disk.identity.store = StoreId(2);
    let cut = alone.cut_of_the_last();
    assert_eq!(alone.law_broken_by(&cut), None, "another store is another member");
}

#[test]
fn a_cut_of_what_was_never_committed_is_harmless() {
    let mut alone = Alone::with_an_add();
    let last = alone.disk.log.last().expect("an add").entry().clone();
    alone.disk.log.push(Sealed::new(Entry { index: last.index.next(), ..last }));
    let cut = alone.cut_of_the_last();
    assert_eq!(alone.law_broken_by(&cut), None);
}

#[test]
fn an_answer_to_nobody_and_a_second_answer_break_law_10() {
    let mut alone = Alone::with_an_add();
    let once = answer(READER, Response::SessionClosed);
    assert_eq!(alone.law_broken_by(std::slice::from_ref(&once)), Some(10), "nobody waits");
    alone.asked.insert(READER, (Asker::Client, Request::OpenSession));
    assert_eq!(alone.law_broken_by(std::slice::from_ref(&once)), None);
    assert_eq!(alone.law_broken_by(&[once.clone(), once]), Some(10), "twice in one step");
}

#[test]
fn two_log_records_in_a_step_break_law_10() {
    let mut alone = Alone::with_an_add();
    let entry = alone.disk.log.last().expect("an add").clone();
    let end = alone.disk.log.len();
    assert_eq!(alone.law_broken_by(&[append(&entry)]), None);
    assert_eq!(alone.law_broken_by(&[append(&entry), append(&entry)]), Some(10));
    assert_eq!(alone.law_broken_by(&[cut_behind(end), append(&entry)]), Some(10));
}

#[test]
fn a_read_that_misses_what_its_version_has_or_names_one_that_is_not_committed_breaks_law_4() {
    let mut alone = Alone::with_an_add();
    let key = Bytes::from_static(b"k");
    alone.asked.insert(READER, (Asker::Client, Request::Read { key, consistency: Consistency::Stale }));
    let seen = |version| Seen { version: Version(version), epoch: Epoch::NONE, local: true, waited: false, age: None };
    let missed = |version| answer(READER, Response::NotFound { seen: seen(version) });
    assert_eq!(alone.law_broken_by(&[missed(0)]), None, "the add came later");
    assert_eq!(alone.law_broken_by(&[missed(1)]), Some(4));
    let found = |seen_at| {
        let (value, changed_at) = (Bytes::from_static(b"v"), WallTime(0));
        answer(READER, Response::Found { value, version: Version(1), changed_at, seen: seen(seen_at) })
    };
    assert_eq!(alone.law_broken_by(&[found(1)]), None);
    assert_eq!(alone.law_broken_by(&[found(2)]), Some(4));
    assert_eq!(alone.law_broken_by(&[found(0)]), Some(4));
}

#[test]
fn a_page_that_misses_a_key_or_shows_another_or_is_of_another_version_breaks_law_4() {
    let mut alone = Alone::with_an_add();
    let mut judged = |at, found: &[(&'static str, u64)], next: Option<&'static str>, version| {
        let scan = Scan { range: KeyRange::default(), limit: 1, keys_only: true, at, cluster: None };
        alone.asked.insert(READER, (Asker::Client, Request::Scan(scan)));
        let entry = |(key, version): &(&'static str, u64)| Scanned {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::new(),
            version: Version(*version),
            changed_at: WallTime(0),
        };
        let seen = Seen { version: Version(version), epoch: Epoch::NONE, local: true, waited: false, age: None };
        let next = next.map(|next| Bytes::from_static(next.as_bytes()));
        alone.law_broken_by(&[answer(
            READER,
            Response::Scanned { entries: found.iter().map(entry).collect(), next, seen, cluster: CLUSTER },
        )])
    };
    let now = At::Now(Consistency::Linearizable);
    assert_eq!(judged(now, &[("k", 1)], None, 1), None);
    assert_eq!(judged(now, &[], None, 0), None, "the add came later");
    assert_eq!(judged(now, &[], None, 1), Some(4), "a key is missing");
    assert_eq!(judged(now, &[("k", 1)], None, 0), Some(4), "it was not there yet");
    assert_eq!(judged(now, &[("k", 1), ("l", 1)], None, 1), Some(4), "more than there is, and than was wanted");
    assert_eq!(judged(now, &[("k", 1)], Some("l"), 1), Some(4), "no such key follows");
    assert_eq!(judged(now, &[], Some("k"), 1), Some(4), "a page that is empty leads nowhere");
    assert_eq!(judged(now, &[("k", 1)], None, 2), Some(4), "version 2 is not committed");
    assert_eq!(judged(At::Version(Version(0)), &[], None, 0), None);
    assert_eq!(judged(At::Version(Version(0)), &[("k", 1)], None, 1), Some(4), "it was asked at version 0");
    assert_eq!(judged(At::Now(Consistency::Causal { at_least: Version(1) }), &[], None, 0), Some(4), "it knew more");
}
