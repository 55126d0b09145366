//! One life: a run of the node, from what was on disk to its halt.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use heirloom_backup::Durable;
use heirloom_node::Node;
use heirloom_proto::event::Note;
use heirloom_proto::status::RoleName;
use heirloom_proto::{Action, Birth, Cause, ClusterId, Event, LogIndex, Peer, Record, RunId, ServerId, Ticket, Time};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::upkeep::Upkeep;
use super::{Ask, BATCH_MAX, Driver, Ended, INPUTS_MAX, Place, Report, ask, notes};
use crate::clock;
use crate::failure::Failure;
use crate::links::{Input, Life, Pairs, dial};
use crate::mutants::{Mutant, Planted, Told};
use crate::random;
use crate::storage::{Disk, Store};
use crate::transfer::Transfers;

/// How long changes under way may take to be answered when the server is told to stop.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

/// What a node needs around it.
pub(super) struct Living<'a> {
    pub(super) driver: &'a mut Driver,
    pub(super) node: Node,
    pub(super) records: Records,
    pub(super) life: Arc<Life>,
    pub(super) upkeep: Upkeep,
    pairs: Pairs,
    /// Identities on their way to disk: with which cluster they name.
    identities: Vec<(Ticket, Option<ClusterId>)>,
    pub(super) halted: Option<Cause>,
    place_changed: bool,
    /// When the driver went to wait; for a planted bug.
    waits_since: Time,
    /// What was told of confirmations; for a planted bug.
    told: Told,
}

/// The disk, and where it reports.
///
/// **Invariants:** the inputs are closed before the disk is stopped, however this ends: fields are dropped in their order.
/// A thread of the disk may be waiting for room among them, which nobody makes any more when a life is cut short, and
/// stopping the disk waits for its threads.
pub(super) struct Records {
    inputs: mpsc::Receiver<Input>,
    pub(super) disk: Disk,
}

impl Records {
    fn start(store: Store, inputs_in: mpsc::Sender<Input>, inputs: mpsc::Receiver<Input>) -> Self {
        let reports = inputs_in.clone();
        let mut disk = Disk::start(store, move |event| {
            // Waits only where it must, for a start that fails reports on this very thread. An error means that the life
            // is over, and with it all interest.
            if let Err(TrySendError::Full(input)) = inputs_in.try_send(Input::Event(event)) {
                let _ = inputs_in.blocking_send(input);
            }
        });
        disk.start_snapshots(move |report| {
            let _ = reports.blocking_send(Input::Snapshot(report));
        });
        Self { inputs, disk }
    }

    /// Closes the inputs; what is left is the disk, to be stopped.
    fn close(self) -> Disk {
        self.disk
    }
}

impl Driver {
    /// Lives one run of the node, the first of this process or another one. When this returns the node is gone, its streams are closed, and what it wanted on disk
    /// is there.
    pub(super) async fn live(&mut self, durable: Durable, store: Store, same_process: bool) -> Result<Ended, Failure> {
        let mut birth = Birth { run: RunId(random::number()?), cluster: random::number()?, same_process };
        if self.settings.planted.has(Mutant::RunIdReused) {
            birth.run = RunId(1 + u64::from(durable.identity.server.0));
        }
        let identity = &durable.identity;
        let me = Peer { server: identity.server, store: identity.store, run: birth.run };
        let (inputs_in, inputs) = mpsc::channel(INPUTS_MAX);
        let (cluster, _) = watch::channel(identity.cluster.as_ref().map(|(cluster, _)| *cluster));
        let life = Arc::new(Life {
            me,
            cluster,
            inputs: inputs_in.clone(),
            redial: self.servers.iter().map(|_| Notify::new()).collect(),
            servers: self.servers.clone(),
            shelf: store.shelf(),
            transfers: Transfers::default(),
            warned: self.warned.clone(),
        });
        tracing::info!(store = %me.store, run = %me.run, entries = durable.log.len(), "server {} begins a run", me.server);
        let place = self.data_dir.as_ref().expect("it is here whenever nothing slow is done with it").fetch_place();
        let records = Records::start(store, inputs_in, inputs);
        let (node, first) = Node::recover(self.settings.node.clone(), birth, durable, clock::now(self.settings.clock));
        self.prober.begin(life.inputs.clone());
        self.life.send_replace(Some(life.clone()));
        let mut dialling = JoinSet::new();
        for server in self.settings.others() {
            dialling.spawn(dial(life.clone(), server));
        }

        if let Some(applied) = node.applied_after(LogIndex::ZERO) {
            self.feeder.begin(node.cluster(), applied);
        }

        let waits_since = clock::now(self.settings.clock);
        let mut living = Living {
            upkeep: Upkeep::new(place, self.settings.pace),
            driver: self,
            node,
            records,
            life,
            pairs: Pairs::default(),
            identities: Vec::new(),
            halted: None,
            place_changed: true,
            waits_since,
            told: Told::default(),
        };
        living.perform(first);
        living.flush();
        let ended = living.until_the_end().await;

        let Living { node, records, upkeep, .. } = living;
        drop(node);
        upkeep.end().await;
        let disk = records.close();
        self.callers.let_go();
        self.life.send_replace(None);
        self.place.send_replace(Place::UNKNOWN);
        self.feeder.cut_off();
        if let Some(report) = &mut self.last_report {
            report.status.role = RoleName::Deposed;
            report.status.primary = None;
            report.status.lease = None;
        }
        self.prober.end();
        dialling.shutdown().await;
        self.meanwhile(move || disk.stop()).await?;
        Ok(ended)
    }
}

impl Living<'_> {
    async fn until_the_end(&mut self) -> Ended {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut asks = Vec::with_capacity(BATCH_MAX);
        let mut stop = self.driver.stop.clone();
        let mut farewell: Option<tokio::time::Instant> = None;
        loop {
            if let Some(cause) = self.halted.take() {
                return match (cause, self.upkeep.fetched()) {
                    (Cause::SnapshotFetched, Some(head)) => Ended::Fetched(head),
                    (cause, _) => Ended::Halted(cause),
                };
            }
            if self.upkeep.is_damaged() {
                return Ended::Damaged;
            }
            if farewell.is_some_and(|until| self.driver.callers.changes() == 0 || tokio::time::Instant::now() >= until)
            {
                return Ended::Stopped;
            }
            let due = self.due();
            if self.planted().has(Mutant::ClockReadEarly) {
                self.waits_since = self.clock();
            }
            // Peers and disk come before clients, so that a flood of requests does not make the primary look dead.
            tokio::select! {
                biased;
                _ = self.records.inputs.recv_many(&mut batch, BATCH_MAX) => {}
                _ = self.driver.asks.recv_many(&mut asks, BATCH_MAX), if asks.is_empty() => {}
                () = sleep(due) => {}
                () = sleep_until(farewell) => {}
                _ = stop.changed(), if farewell.is_none() => {}
                () = ready(()), if !asks.is_empty() => {}
            }
            if farewell.is_none() && *stop.borrow() {
                tracing::info!("told to stop");
                farewell = Some(tokio::time::Instant::now() + FAREWELL_MAX);
            }
            // Whatever came meanwhile is taken along, so that one sync and one message carry it all.
            while batch.len() < BATCH_MAX
                && let Ok(input) = self.records.inputs.try_recv()
            {
                batch.push(input);
            }
            while asks.len() < BATCH_MAX
                && let Ok(ask) = self.driver.asks.try_recv()
            {
                asks.push(ask);
            }
            for input in batch.drain(..) {
                self.take(input);
            }
            // Looked at after every batch, and not only when nothing waits: heartbeats are not to starve.
            if self.node.next_deadline().is_some_and(|deadline| deadline <= self.clock()) {
                self.step(Event::Deadline);
            }
            // So many pages are milliseconds, for which peers and the disk may wait, and what follows them for the next turn.
            for ask in asks.drain(..ask::turn(&asks)) {
                self.take_ask(ask, farewell.is_some());
            }
            self.flush();
            self.look_after_the_store();
        }
    }

    /// How long until the node wants to be woken.
    fn due(&self) -> Option<Duration> {
        let deadline = self.node.next_deadline()?;
        // A deadline that has passed already gets one turn of the timer, not a busy loop.
        let span = self.driver.settings.clock.on_the_machine(deadline.since(self.clock()));
        Some(span.max(Duration::from_micros(50)))
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Event(Event::Persisted { ticket, read_back }) => {
                tracing::debug!(ticket = ticket.0, entries = read_back.len(), "persisted");
                self.introduce(ticket);
                self.step(Event::Persisted { ticket, read_back });
            }
            Input::Event(event) => self.step(event),
            Input::Snapshot(report) => self.take_report(report),
            Input::SnapshotFetched(head) => self.snapshot_fetched(head),
            Input::Received { from, stream, .. }
                if !self.pairs.stands(from.server, stream) && !self.planted().has(Mutant::ReorderedOverReconnect) =>
            {
                tracing::debug!(server = %from.server, "messages of a stream that is gone are lost with it");
            }
            Input::Received { from, stream: _, messages } => {
                for (cluster, message) in messages {
                    notes::log_message(from.server, &message);
                    self.step(Event::Received { from, cluster, message });
                }
            }
            Input::Dialled { peer, stream, address, outgoing } => {
                self.driver.prober.shaken_hands(peer, address);
                let events = self.pairs.dialled(peer, stream, outgoing);
                self.streams_changed(peer.server, events);
            }
            Input::DialledBroke { server, stream } => {
                let events = self.pairs.dialled_broke(server, stream);
                self.streams_changed(server, events);
            }
            Input::Accepted { peer, stream, gate } => {
                let events = self.pairs.accepted(peer, stream, gate);
                self.streams_changed(peer.server, events);
            }
            Input::AcceptedBroke { server, stream } => {
                let events = self.pairs.accepted_broke(server, stream);
                self.streams_changed(server, events);
            }
        }
    }

    /// The prober hears of it before the node does, which may ask for a probe at once.
    fn streams_changed(&mut self, server: ServerId, events: Vec<Event>) {
        self.driver.prober.streams_stand(server, self.pairs.runs(server));
        self.step_all(events);
    }

    fn take_ask(&mut self, ask: Ask, stopping: bool) {
        match ask {
            Ask::Request { reply, .. } if stopping || self.halted.is_some() => {
                reply.send(Err(heirloom_proto::Refusal::NotPrimary { primary: None }));
            }
            Ask::Request { request, reply } => {
                if let Some(token) = self.driver.callers.wait(&request, reply) {
                    notes::log_request(token, &request);
                    self.step(Event::Requested { token, request, at: clock::calendar() });
                }
            }
            Ask::Report(slot) => {
                let _ = slot.send(self.report(self.clock()));
            }
            // Where the server stops the slot is dropped, which says as much.
            Ask::Snapshot(_) if stopping || self.halted.is_some() => {}
            Ask::Snapshot(slot) => self.want_snapshot(slot),
            Ask::Nudge => self.step(Event::Nudged),
        }
    }

    fn step_all(&mut self, events: Vec<Event>) {
        for event in events {
            match &event {
                Event::PeerConnected { peer } => {
                    tracing::info!(run = %peer.run, "connected with server {}", peer.server)
                }
                Event::PeerBroken { peer } => {
                    tracing::info!(run = %peer.run, "connection with server {} broke", peer.server)
                }
                _ => {}
            }
            self.step(event);
        }
    }

    /// Steps the node. The clock is read here, after the event was taken: a read that waited must not be served under a
    /// lease that has ended meanwhile. After a halt nothing is stepped any more.
    pub(super) fn step(&mut self, event: Event) {
        if self.halted.is_some() {
            return;
        }
        let timer = matches!(event, Event::Deadline);
        let actions = self.node.step(self.now(), event);
        self.place_changed |= timer;
        self.perform(actions);
    }

    fn now(&self) -> Time {
        if self.planted().has(Mutant::ClockReadEarly) { self.waits_since } else { self.clock() }
    }

    fn clock(&self) -> Time {
        clock::now(self.driver.settings.clock)
    }

    fn planted(&self) -> Planted {
        self.driver.settings.planted
    }

    /// Sends what has gathered, after the node had its chance to add to it.
    fn flush(&mut self) {
        self.step(Event::Flush);
        self.pairs.send_gathered();
        self.feed();
        if std::mem::take(&mut self.place_changed) {
            self.publish();
        }
    }

    /// Hands on what was applied since, for those who watch.
    pub(super) fn feed(&mut self) {
        let feeder = &mut self.driver.feeder;
        if let Some(applied) = self.node.applied_after(feeder.fed()).filter(|applied| applied.index > feeder.fed()) {
            feeder.feed(self.node.cluster(), applied);
        }
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, cluster, message } => {
                    tracing::trace!(%to, "send {}", message.name());
                    let told = match self.planted().has(Mutant::ConfirmNotMadeGood) {
                        true => self.told.once(to, message),
                        false => Some(message),
                    };
                    if let Some(message) = told {
                        self.pairs.gather(to, cluster, message);
                    }
                }
                Action::Persist { ticket, record } => self.persist(ticket, record),
                Action::NoteProgress { confirmed, commit } => {
                    // A note that is lost harms nothing; a disk that does not answer shows with the next record.
                    let _ = self.records.disk.note_progress(confirmed, commit);
                }
                Action::Respond { token, result } => {
                    tracing::debug!(token = token.0, ok = result.is_ok(), "answered");
                    self.driver.callers.answer(token, result);
                }
                Action::Probe { server, run, probe, may_fence } => {
                    self.driver.prober.probe(server, run, probe, may_fence);
                }
                Action::FetchSnapshot { from, at_least } => self.fetch_snapshot(from, at_least),
                Action::Examine => self.examine(),
                Action::Tell(note) => {
                    self.place_changed |=
                        matches!(note, Note::Role { .. } | Note::Serving { .. } | Note::Chosen { .. });
                    notes::log(&note);
                }
                // The first cause is the one that counts; there is no second life within one step.
                Action::Halt(cause) => self.halted = self.halted.take().or(Some(cause)),
            }
        }
    }

    fn persist(&mut self, ticket: Ticket, record: Record) {
        notes::log_record(ticket, &record);
        if let Record::Identity(identity) = &record {
            self.identities.push((ticket, identity.cluster.as_ref().map(|(cluster, _)| *cluster)));
        }
        let reported = self.records.inputs.len();
        if let Err(full) = self.records.disk.persist(ticket, record) {
            self.halted.get_or_insert_with(|| Cause::Disk { what: full.to_string() });
        }
        if self.planted().has(Mutant::DriverWaitsForDisk) {
            // The report of the disk is the next that comes, for all else comes on this thread.
            while self.records.inputs.len() == reported {
                std::thread::yield_now();
            }
        }
    }

    /// From the moment that a new identity is durable, handshakes name its cluster.
    fn introduce(&mut self, ticket: Ticket) {
        let Some(position) = self.identities.iter().position(|(of, _)| *of == ticket) else { return };
        let (_, cluster) = self.identities.remove(position);
        self.life.cluster.send_replace(cluster);
    }

    fn report(&self, now: Time) -> Report {
        Report {
            status: self.node.status(now),
            uptime: self.driver.started.elapsed(),
            reads: self.driver.callers.reads(),
            disk_bytes: self.records.disk.disk_bytes(),
            log_bytes: self.life.shelf.log_bytes(),
            snapshot_bytes: self.life.shelf.snapshot_bytes(),
            checked: self.life.shelf.checked(),
        }
    }

    fn publish(&mut self) {
        let now = self.clock();
        self.driver.feeder.stands(self.node.cluster(), self.node.is_in_touch(now));
        let report = self.report(now);
        let place = Place::of(&report.status);
        self.driver.last_report = Some(report);
        self.driver.place.send_if_modified(|old| {
            let changed = *old != place;
            *old = place;
            changed
        });
    }
}

async fn sleep(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{DataDir, OsFiles};

    #[test]
    fn a_life_that_is_cut_short_does_not_wait_for_a_disk_that_waits_for_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut data_dir = DataDir::open(Arc::new(OsFiles), folder.path(), ServerId(0)).expect("opens");
        let (durable, store) = data_dir.load().expect("blank");
        let (inputs_in, inputs) = mpsc::channel(1);
        let full = Input::Event(Event::Nudged);
        inputs_in.try_send(full).expect("there is room for one");
        let records = Records::start(store, inputs_in, inputs);
        records.disk.persist(Ticket(1), Record::Identity(durable.identity)).expect("queued");
        let (dropped, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(records);
            dropped.send(())
        });
        seen.recv_timeout(Duration::from_secs(20)).expect("dropped");
    }
}
