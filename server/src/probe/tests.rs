//! What proves death and what does not.

use clap::Parser;
use heirloom_proto::StoreId;
use tokio::net::TcpListener;

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
        self.prober.probe(PEER.server, run, 3);
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

#[tokio::test]
async fn probes_that_come_while_a_command_runs_are_answered_by_one_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let gate = folder.path().join("gate");
    let command = format!("echo x >> {0}/runs; while ! test -e {0}/gate; do sleep 0.01; done", folder.path().display());
    let mut world = world(&["--fence-command", &command]);
    world.prober.probe(PEER.server, PEER.run, 1);
    while !folder.path().join("runs").exists() {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.prober.probe(PEER.server, PEER.run, 2);
    // The tasks run in the order of their beginning, so that the third meets the second waiting.
    tokio::task::yield_now().await;
    world.prober.probe(PEER.server, PEER.run, 3);
    assert_eq!(world.answer().await, (2, false), "replaced before it began");
    std::fs::write(gate, "").expect("opens the gate");
    assert_eq!(world.answer().await, (1, true));
    assert_eq!(world.answer().await, (3, true));
    let runs = std::fs::read_to_string(folder.path().join("runs")).expect("was written");
    assert_eq!(runs.lines().count(), 2);
}
