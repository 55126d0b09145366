//! What proves death and what does not.

use clap::Parser;
use heirloom_proto::StoreId;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::net::unix::pipe;

use super::*;
use crate::settings::ServeFlags;

const PEER: Peer = Peer { server: ServerId(1), store: StoreId(1), run: RunId(7) };

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: ServeFlags,
}

struct World {
    prober: Prober,
    inputs: mpsc::Receiver<Input>,
}

fn world(options: &[&str]) -> World {
    let words = ["serve", "--id", "0", "--cluster", "127.0.0.1:1,127.0.0.1:2"].iter().chain(options);
    let settings = Line::try_parse_from(words).expect("parses").flags.settings().expect("valid");
    let mut prober = Prober::new(Arc::new(settings));
    let (sender, inputs) = mpsc::channel(16);
    prober.begin(sender);
    World { prober, inputs }
}

impl World {
    async fn answer(&mut self) -> (u64, bool) {
        match self.inputs.recv().await {
            Some(Input::Event(Event::Probed { server: ServerId(1), run: RunId(_), probe, dead })) => (probe, dead),
            other => panic!("{other:?}"),
        }
    }

    async fn is_dead(&mut self, run: RunId) -> bool {
        self.prober.probe(PEER.server, run, 3, true);
        let (probe, dead) = self.answer().await;
        assert_eq!(probe, 3);
        dead
    }
}

/// An address on loopback at which nobody listens any more.
async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a port")
}

#[tokio::test]
async fn a_refused_connection_proves_the_death_of_the_run_whose_hand_was_shaken_there() {
    let mut world = world(&[]);
    world.prober.shaken_hands(PEER, closed_port().await);
    assert!(world.is_dead(PEER.run).await);
    assert!(!world.is_dead(RunId(8)).await, "another run");
}

#[tokio::test]
async fn nothing_is_proven_about_a_run_that_was_never_met() {
    let mut world = world(&[]);
    assert!(!world.is_dead(PEER.run).await);
    world.prober.shaken_hands(PEER, closed_port().await);
    world.prober.end();
    let (sender, inputs) = mpsc::channel(16);
    world.inputs = inputs;
    world.prober.begin(sender);
    assert!(!world.is_dead(PEER.run).await, "what an earlier run of this server had seen");
}

#[tokio::test]
async fn whoever_listens_is_not_proven_dead() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut world = world(&[]);
    world.prober.shaken_hands(PEER, listener.local_addr().expect("bound"));
    assert!(!world.is_dead(PEER.run).await);
}

#[tokio::test]
async fn the_fencing_command_proves_death_by_its_success_alone() {
    let command = "test $HEIRLOOM_FENCE_SERVER = 1 && test $HEIRLOOM_FENCE_ADDRESS = 127.0.0.1:2 \
        && test $HEIRLOOM_FENCE_RUN = 0000000000000007";
    let mut world = world(&["--fence-command", command]);
    assert!(world.is_dead(PEER.run).await, "the command knows whom it is to fence");
    assert!(!world.is_dead(RunId(8)).await);
}

/// A world whose command notes each time that it is run, says that it has begun, and goes on when the gate is open.
struct Gated {
    world: World,
    folder: tempfile::TempDir,
    begun: pipe::Receiver,
}

fn gated() -> Gated {
    let folder = tempfile::tempdir().expect("a folder");
    let begun = pipe_at(&folder.path().join("begun"));
    let command = format!(
        "echo x >> {0}/runs; echo x > {0}/begun; while ! test -e {0}/gate; do sleep 0.01; done",
        folder.path().display()
    );
    Gated { world: world(&["--fence-command", &command]), folder, begun }
}

impl Gated {
    async fn begins(&mut self) {
        self.begun.read_exact(&mut [0; 2]).await.expect("the command says so");
    }

    fn open(&self) {
        std::fs::write(self.folder.path().join("gate"), "").expect("opens the gate");
    }
}

/// A pipe with a name, for processes to write to.
fn pipe_at(path: &std::path::Path) -> pipe::Receiver {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).expect("a pipe");
    pipe::OpenOptions::new().open_receiver(path).expect("a pipe")
}

/// How often a command was run that notes it in this folder.
fn runs(folder: &tempfile::TempDir) -> usize {
    std::fs::read_to_string(folder.path().join("runs")).unwrap_or_default().lines().count()
}

#[tokio::test]
async fn probes_that_come_while_a_command_runs_are_answered_by_one_more() {
    let mut gated = gated();
    gated.world.prober.probe(PEER.server, PEER.run, 1, true);
    gated.begins().await;
    gated.world.prober.probe(PEER.server, PEER.run, 2, true);
    // The tasks run in the order of their beginning, so that the third meets the second waiting.
    tokio::task::yield_now().await;
    gated.world.prober.probe(PEER.server, PEER.run, 3, true);
    assert_eq!(gated.world.answer().await, (2, false), "replaced before it began");
    gated.open();
    assert_eq!(gated.world.answer().await, (1, true));
    assert_eq!(gated.world.answer().await, (3, true));
    assert_eq!(runs(&gated.folder), 2);
}

/// A world whose command notes each time that it is run, and exits so.
struct Counting {
    world: World,
    folder: tempfile::TempDir,
}

fn counting(exit: u8) -> Counting {
    let folder = tempfile::tempdir().expect("a folder");
    let command = format!("echo x >> {}/runs; exit {exit}", folder.path().display());
    Counting { world: world(&["--fence-command", &command]), folder }
}

impl Counting {
    fn runs(&self) -> usize {
        runs(&self.folder)
    }
}

#[tokio::test]
async fn the_command_is_run_only_where_the_node_says_that_it_may_be() {
    let mut counting = counting(0);
    counting.world.prober.probe(PEER.server, PEER.run, 1, false);
    assert_eq!(counting.world.answer().await, (1, false));
    assert_eq!(counting.runs(), 0);
}

#[tokio::test]
async fn a_run_to_which_a_stream_stands_is_not_fenced() {
    let mut counting = counting(0);
    counting.world.prober.streams_stand(PEER.server, [PEER.run].into());
    assert!(!counting.world.is_dead(PEER.run).await);
    assert_eq!(counting.runs(), 0);
    counting.world.prober.streams_stand(PEER.server, [RunId(8)].into());
    assert!(counting.world.is_dead(PEER.run).await, "a stream to a later run is none to this one");
}

#[tokio::test]
async fn a_probe_that_waits_for_a_command_is_checked_again_before_it_runs_another() {
    let mut gated = gated();
    gated.world.prober.probe(PEER.server, PEER.run, 1, true);
    gated.begins().await;
    gated.world.prober.probe(PEER.server, PEER.run, 2, true);
    tokio::task::yield_now().await;
    gated.world.prober.streams_stand(PEER.server, [PEER.run].into());
    gated.open();
    assert_eq!(gated.world.answer().await, (1, true));
    assert_eq!(gated.world.answer().await, (2, false));
    assert_eq!(runs(&gated.folder), 1);
}

#[tokio::test]
async fn after_a_failing_command_there_is_a_pause_in_which_a_refused_connection_still_proves() {
    let mut counting = counting(1);
    assert!(!counting.world.is_dead(PEER.run).await);
    assert!(!counting.world.is_dead(PEER.run).await);
    counting.world.prober.end();
    let (sender, inputs) = mpsc::channel(16);
    counting.world.inputs = inputs;
    counting.world.prober.begin(sender);
    assert!(!counting.world.is_dead(PEER.run).await);
    assert_eq!(counting.runs(), 1, "not at each probe, nor in the next life");
    counting.world.prober.shaken_hands(PEER, closed_port().await);
    assert!(counting.world.is_dead(PEER.run).await);
    assert_eq!(counting.runs(), 1);
}

#[test]
fn the_pause_doubles_up_to_half_a_minute_and_ends_with_a_success() {
    let mut pause = Pause::default();
    let now = Instant::now();
    assert!(!pause.is_on(now));
    for seconds in [1, 2, 4, 8, 16, 30, 30, 30] {
        pause.note(false, now);
        assert!(pause.is_on(now + Duration::from_millis(seconds * 1000 - 1)), "{seconds}");
        assert!(!pause.is_on(now + Duration::from_secs(seconds)), "{seconds}");
    }
    for _ in 0..100 {
        pause.note(false, now);
    }
    assert!(!pause.is_on(now + Duration::from_secs(30)), "however many have failed");
    pause.note(true, now);
    assert!(!pause.is_on(now));
    pause.note(false, now);
    assert!(!pause.is_on(now + Duration::from_secs(1)));
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipe");
    let mut pipe = pipe_at(&path);
    let command = format!("exec 3> {}; echo begun >&3; (sleep 60) & wait", path.display());
    assert!(!fence(&command, "", PEER.server, PEER.run, Duration::from_millis(500)).await);
    // The pipe ends when the last process that holds it has ended.
    let mut said = String::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), pipe.read_to_string(&mut said)).await;
    ended.expect("it was at work after its end").expect("a pipe");
    assert_eq!(said, "begun\n");
}
