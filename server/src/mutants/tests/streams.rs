//! One server whose peers are played by the check: what it takes from streams, and what it sends on them.

use std::collections::BTreeSet;
use std::sync::Arc;

use heirloom_proto::message::Testimony;
use heirloom_proto::wire::link::{Hello, PROTOCOL_VERSION, message_from_wire};
use heirloom_proto::{
    ClusterId, Constants, Epoch, LogIndex, Member, Message, Peer, Position, Register, RunId, ServerId, Standing,
    StoreId, Time, View,
};
use tokio::sync::watch;
use tokio_stream::StreamExt;

use super::super::Planted;
use super::Verdict;
use super::disk::{entry, furnish, identity};
use super::driver::{Driving, settings};
use crate::links::{Gate, Input, Life, Outgoing, OutgoingStream, StreamId};
use crate::settings::Settings;
use crate::storage::{Files, PowerFailureFiles};

/// A cluster and its constants, as an identity names them.
pub(super) type Founded = (ClusterId, Constants);

const CLUSTER: ClusterId = ClusterId { id: 77, generation: 3 };
const ME: ServerId = ServerId(1);
/// The primary, in whose epoch the server works, and another server.
const PRIMARY: Peer = Peer { server: ServerId(0), store: StoreId(100), run: RunId(1000) };
const OTHER: Peer = Peer { server: ServerId(2), store: StoreId(102), run: RunId(1002) };
const EPOCH: Epoch = Epoch { round: 4, server: PRIMARY.server, run: PRIMARY.run };
/// Nobody listens there, and nothing happens by the clock alone for as long as a check takes.
const LINE: &str = "--id 1 --cluster 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3 --heartbeat 10s --suspicion 3600s";

/// The server and its current life.
struct World {
    server: Driving,
    life: Arc<Life>,
    view: View,
    asks: u64,
}

/// Both streams with a peer.
struct Link {
    peer: Peer,
    dialled: StreamId,
    accepted: StreamId,
    sent: OutgoingStream,
    _gate: watch::Receiver<Gate>,
}

impl World {
    async fn start(planted: Planted) -> Self {
        let settings = Arc::new(settings(LINE, planted));
        let files: Arc<dyn Files> = Arc::new(PowerFailureFiles::new());
        Self::furnish(&settings, &files);
        Self::on(&settings, files).await
    }

    /// A member of a view that `PRIMARY` leads.
    fn furnish(settings: &Settings, files: &Arc<dyn Files>) {
        furnish(files, ME, |store| {
            let founded = (CLUSTER, settings.node.constants.clone());
            let register = Register { promised: EPOCH, accepted: Some(view(store)), standing: Standing::Intact };
            (identity(ME, store, Some(founded)), register)
        });
    }

    async fn on(settings: &Arc<Settings>, files: Arc<dyn Files>) -> Self {
        let mut server = Driving::start(settings, files);
        let life = next_life(&mut server, None).await;
        let view = view(life.me.store);
        Self { server, life, view, asks: 0 }
    }

    async fn input(&self, input: Input) {
        self.life.inputs.send(input).await.expect("it lives");
    }

    async fn connect(&self, peer: Peer) -> Link {
        let outgoing = Arc::new(Outgoing::default());
        let (dialled, accepted) = (StreamId::next(), StreamId::next());
        let address = "127.0.0.1:1".parse().expect("an address");
        self.input(Input::Dialled { peer, stream: dialled, address, outgoing: outgoing.clone() }).await;
        let (gate, seen) = watch::channel(Gate::Shut);
        self.input(Input::Accepted { peer, stream: accepted, gate }).await;
        let hello = Hello { peer: self.life.me, cluster: Some(CLUSTER), protocol: PROTOCOL_VERSION };
        Link { peer, dialled, accepted, sent: OutgoingStream::new(hello, outgoing), _gate: seen }
    }

    async fn say(&self, link: &Link, message: Message) {
        self.say_in(Some(CLUSTER), link, message).await;
    }

    async fn say_in(&self, cluster: Option<ClusterId>, link: &Link, message: Message) {
        let messages = vec![(cluster, message)];
        self.input(Input::Received { from: link.peer, stream: link.accepted, messages }).await;
    }

    /// Says to the server, which has just begun a process, that nothing is remembered of its store.
    async fn remember_nothing(&self, link: &mut Link) {
        let question = |message: &Message| match message {
            Message::Question { ask } => Some(*ask),
            _ => None,
        };
        let ask = link.until(question).await;
        let constants = settings(LINE, Planted::NONE).node.constants;
        let cluster = Some(CLUSTER);
        let testimony =
            Testimony { ask, register: Some(Register::LOST), constants, cluster, hears: None, remembered: None };
        self.say(link, Message::Testimony(Box::new(testimony))).await;
    }

    async fn heartbeat(&self, link: &Link, sent_at: u64) {
        let (to_run, sent_at) = (self.life.me.run, Time(sent_at));
        let commit_index = LogIndex(0);
        self.say(
            link,
            Message::Heartbeat { epoch: EPOCH, to_run, sent_at, hears_you: true, commit_index, grant: None },
        )
        .await;
    }

    /// Asks, and gives what was sent before the answer, and the answer.
    async fn testimony(&mut self, link: &mut Link) -> (Vec<Message>, Testimony) {
        self.asks += 1;
        let ask = self.asks;
        self.say(link, Message::Question { ask }).await;
        let mut before = Vec::new();
        loop {
            for message in link.next().await {
                match message {
                    Message::Testimony(testimony) if testimony.ask == ask => return (before, *testimony),
                    earlier => before.push(earlier),
                }
            }
        }
    }
}

impl Link {
    /// What the server sends next on this link.
    async fn next(&mut self) -> Vec<Message> {
        let batch = self.sent.next().await.expect("the stream stands");
        let message = |wire| message_from_wire(wire).expect("whole").1;
        batch.messages.into_iter().map(message).collect()
    }

    /// Waits until the server says this.
    async fn until<T>(&mut self, wanted: impl Fn(&Message) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.next().await.iter().find_map(&wanted) {
                return found;
            }
        }
    }
}

fn view(store: StoreId) -> View {
    let me = Member { server: ME, store };
    View {
        epoch: EPOCH,
        primary: PRIMARY.server,
        in_sync: BTreeSet::from([PRIMARY.member(), me, OTHER.member()]),
        leaving: BTreeSet::new(),
    }
}

async fn next_life(server: &mut Driving, last: Option<&Arc<Life>>) -> Arc<Life> {
    let another =
        |life: &Option<Arc<Life>>| life.as_ref().is_some_and(|life| last.is_none_or(|last| !Arc::ptr_eq(life, last)));
    server.handles.life.wait_for(another).await.expect("it runs").clone().expect("just looked at")
}

pub(super) async fn runs_follow_one_another(planted: Planted) -> Verdict {
    let settings = Arc::new(settings(LINE, planted));
    let files: Arc<dyn Files> = Arc::new(PowerFailureFiles::new());
    World::furnish(&settings, &files);
    let mut world = World::on(&settings, files.clone()).await;
    let mut runs = vec![world.life.me.run];
    // Within the process: the cluster went on without this server, which recovers.
    let link = world.connect(PRIMARY).await;
    let next = ClusterId { generation: CLUSTER.generation + 1, ..CLUSTER };
    world.say_in(Some(next), &link, Message::Question { ask: 1 }).await;
    let last = world.life.clone();
    runs.push(next_life(&mut world.server, Some(&last)).await.me.run);
    // And as another process.
    world.server.end().await;
    runs.push(World::on(&settings, files).await.life.me.run);
    let distinct: BTreeSet<RunId> = runs.iter().copied().collect();
    if distinct.len() == runs.len() { Ok(()) } else { Err(format!("runs {runs:?}")) }
}

pub(super) async fn late_messages(planted: Planted) -> Verdict {
    let mut world = World::start(planted).await;
    let mut other = world.connect(OTHER).await;
    let old = world.connect(PRIMARY).await;
    world.heartbeat(&old, 1).await;
    let hears = Some((PRIMARY.server, PRIMARY.run));
    assert_eq!(world.testimony(&mut other).await.1.hears, hears, "both ways");

    // A word of the old stream behind one of the stream that took its place.
    let mut new = world.connect(PRIMARY).await;
    world.say(&new, Message::Question { ask: 1002 }).await;
    world.say(&old, Message::Question { ask: 1001 }).await;
    let (before, _) = world.testimony(&mut new).await;
    let asked = |message: &Message| match message {
        Message::Testimony(testimony) => Some(testimony.ask),
        _ => None,
    };
    let asks: Vec<u64> = before.iter().filter_map(asked).filter(|ask| *ask > 1000).collect();
    if asks != [1002] {
        return Err(format!("taken over a reconnection in the order {asks:?}"));
    }

    // A heartbeat that was read before the connection broke, and waits behind the news of it.
    world.heartbeat(&new, 2).await;
    world.input(Input::DialledBroke { server: PRIMARY.server, stream: new.dialled }).await;
    world.heartbeat(&new, 3).await;
    match world.testimony(&mut other).await.1.hears {
        None => Ok(()),
        Some(heard) => Err(format!("hears {heard:?} through a stream that is gone")),
    }
}

pub(super) async fn confirmation_is_lost(planted: Planted) -> Verdict {
    let mut world = World::start(planted).await;
    let mut primary = world.connect(PRIMARY).await;
    let mut other = world.connect(OTHER).await;
    world.remember_nothing(&mut primary).await;
    world.remember_nothing(&mut other).await;
    world.say(&primary, Message::StartEpoch { view: world.view.clone() }).await;
    let started = |message: &Message| match message {
        Message::EpochStarted { tail, .. } => Some(tail.end),
        _ => None,
    };
    let end = primary.until(started).await;
    world.say(&primary, Message::Cut { epoch: EPOCH, run: world.life.me.run, end, keep: end.index }).await;
    world.heartbeat(&primary, 1).await;
    let echoed = |message: &Message| match message {
        Message::Echo { confirmed, .. } => Some(*confirmed),
        _ => None,
    };
    assert_eq!(primary.until(echoed).await, Position::START, "it works, and has nothing yet");

    let first = entry(1, EPOCH, 100);
    let position = Position { index: LogIndex(1), hash: first.extend(Position::START.hash) };
    let prepare =
        Message::Prepare { epoch: EPOCH, previous: Position::START, entries: vec![first], commit_index: LogIndex(0) };
    world.say(&primary, prepare.clone()).await;
    let confirmed = |message: &Message| match message {
        Message::Confirm { position, .. } => Some(*position),
        _ => None,
    };
    // Taken from the stream, and so lost: the primary never hears of it.
    assert_eq!(primary.until(confirmed).await, position);

    world.heartbeat(&primary, 2).await;
    if primary.until(echoed).await != position {
        return Err("the echo says nothing of the confirmation".to_owned());
    }
    // Asked for outright, it is given again.
    world.say(&primary, prepare).await;
    let (before, _) = world.testimony(&mut primary).await;
    let again = before.iter().find_map(confirmed);
    if again == Some(position) { Ok(()) } else { Err(format!("asked again: {again:?}")) }
}
