//! The faults: drawn from a seed, applied to real processes, told with the time at which they were applied.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heirloom_laws::random::Random;
use heirloom_proto::wire::v1;
use rustix::process::Signal;

use crate::cluster::{Cluster, Executable, leader};
use crate::hosts::Place;

/// How long a cluster may take to become whole once everything is mended, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// `--lease` by default: pauses and partitions are drawn around it.
const LEASE: Duration = Duration::from_millis(300);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each has its sentence in `does`")]
pub enum Fault {
    Kill,
    Terminate,
    PauseShort,
    PauseLong,
    KillAll,
    Wipe,
    HandOver,
    SlowDisk,
    FailingDisk,
    FullDisk,
    CutBoth,
    CutIn,
    CutOut,
    CutPair,
    Outlive,
}

/// Each with its name, its weight, and what it does.
const FAULTS: [(Fault, &str, u64, &str); 15] = [
    (Fault::Kill, "kill", 18, "kill -9 and restart"),
    (Fault::Terminate, "terminate", 7, "SIGTERM and restart"),
    (Fault::PauseShort, "pause-short", 14, "SIGSTOP for about a lease"),
    (
        Fault::PauseLong,
        "pause-long",
        7,
        "SIGSTOP for far longer than lease and suspicion, which to the server is a suspended machine",
    ),
    (Fault::KillAll, "kill-all", 3, "kill -9 of all servers at once, and restart"),
    (Fault::Wipe, "wipe", 5, "kill -9 and restart without the data directory, the others being healthy"),
    (Fault::HandOver, "hand-over", 6, "a planned hand-over"),
    (Fault::SlowDisk, "slow-disk", 9, "every sync takes long"),
    (Fault::FailingDisk, "failing-disk", 5, "a sync fails, which ends the server; restart"),
    (Fault::FullDisk, "full-disk", 4, "nothing more can be written for a while, and the server steps out meanwhile"),
    (Fault::CutBoth, "cut-both", 9, "one host can neither hear nor be heard"),
    (Fault::CutIn, "cut-in", 7, "one host can be heard and does not hear"),
    (Fault::CutOut, "cut-out", 7, "one host hears and can't be heard"),
    (Fault::CutPair, "cut-pair", 7, "two servers can't reach each other, all others can"),
    (
        Fault::Outlive,
        "outlive",
        5,
        "the slowest clock gets the lead and is cut off from the servers for more than a lease",
    ),
];

impl Fault {
    fn row(self) -> (&'static str, u64, &'static str) {
        let row = FAULTS.iter().find(|(fault, ..)| *fault == self).expect("every fault has a row");
        (row.1, row.2, row.3)
    }

    /// What it does, for people.
    pub fn does(self) -> &'static str {
        self.row().2
    }

    /// Whether it needs a network that can be cut.
    pub fn is_cut(self) -> bool {
        matches!(self, Self::CutBoth | Self::CutIn | Self::CutOut | Self::CutPair | Self::Outlive)
    }

    fn is_disk(self) -> bool {
        matches!(self, Self::SlowDisk | Self::FailingDisk | Self::FullDisk)
    }

    /// Whether another server may be hurt at the same time.
    fn bears_company(self) -> bool {
        !matches!(self, Self::KillAll | Self::Wipe | Self::HandOver | Self::Outlive)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().0)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names: Vec<&str> = FAULTS.iter().map(|(_, name, ..)| *name).collect();
        let found = FAULTS.iter().find(|(_, known, ..)| *known == name);
        found
            .map(|(fault, ..)| *fault)
            .ok_or_else(|| format!("no fault {name:?}: use all or some of {}", names.join(",")))
    }
}

/// The faults of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultSet {
    /// All that can be applied here.
    All,
    /// These.
    These(Vec<Fault>),
}

impl FromStr for FaultSet {
    type Err = String;

    fn from_str(names: &str) -> Result<Self, String> {
        match names {
            "all" => Ok(Self::All),
            "none" => Ok(Self::These(Vec::new())),
            names => names.split(',').map(str::parse).collect::<Result<_, _>>().map(Self::These),
        }
    }
}

/// Who applies them.
#[derive(Debug)]
pub(crate) struct Injector {
    cluster: Arc<Cluster>,
    set: Vec<Fault>,
    /// Every fault of the set once, in some order; from then on by weight.
    deck: Vec<Fault>,
    /// How often what could not be applied is tried again.
    retries: u32,
    random: Random,
    /// How long leases last.
    lease: Duration,
    begun: Instant,
    applied: Mutex<BTreeMap<Fault, u64>>,
    quiet: bool,
}

/// One fault as it was drawn.
#[derive(Clone, Debug)]
struct Drawn {
    fault: Fault,
    target: Place,
    random: Random,
}

impl Injector {
    /// Says which of the faults can be applied to this cluster.
    ///
    /// **Errors:** where one that was asked for by name can't be.
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        set: &FaultSet,
        seed: u64,
        lease: Option<Duration>,
        begun: Instant,
        quiet: bool,
    ) -> Result<Self, String> {
        let obstacle = |fault: Fault| match &cluster.executable {
            _ if fault.is_cut() && !cluster.network.can_cut() => Some("network namespaces"),
            Executable::Shipped(_) if fault.is_disk() => Some("a server with a steered disk: leave out --heirloom"),
            Executable::Shipped(_) | Executable::Own(_) => None,
        };
        let set = match set {
            FaultSet::All => FAULTS.iter().map(|row| row.0).filter(|fault| obstacle(*fault).is_none()).collect(),
            FaultSet::These(faults) => {
                if let Some((fault, what)) = faults.iter().find_map(|fault| Some((fault, obstacle(*fault)?))) {
                    return Err(format!("{fault} needs {what}"));
                }
                faults.clone()
            }
        };
        let mut random = Random::new(seed ^ 0x6661_756c_7473);
        let lease = lease.filter(|lease| !lease.is_zero()).unwrap_or(LEASE);
        let mut deck = set.clone();
        random.shuffle(&mut deck);
        Ok(Self { cluster, set, deck, retries: 5, random, lease, begun, applied: Mutex::default(), quiet })
    }

    /// Whether every fault has had its turn.
    pub(crate) fn had_all(&self) -> bool {
        self.deck.is_empty() && (self.retries == 0 || self.counts().len() == self.set.len())
    }

    pub(crate) fn set(&self) -> &[Fault] {
        &self.set
    }

    pub(crate) fn counts(&self) -> BTreeMap<Fault, u64> {
        self.applied.lock().expect("nobody panicked").clone()
    }

    fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).expect("an hour at most")
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            crate::summary::line(&format!("{:>9.3}s  {what}", self.begun.elapsed().as_secs_f64()));
        }
    }

    /// One fault, or two at once, from its beginning until it is mended, and a pause.
    ///
    /// **Errors:** what must not happen, whatever the faults.
    pub(crate) async fn round(&mut self) -> Result<(), String> {
        if self.set.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Ok(());
        }
        // What could not be applied gets another turn.
        if self.deck.is_empty() && self.retries > 0 {
            self.retries -= 1;
            let counts = self.counts();
            self.deck = self.set.iter().copied().filter(|fault| !counts.contains_key(fault)).collect();
        }
        let (fault, is_first) = match self.deck.pop() {
            Some(fault) => (fault, true),
            None => {
                let weights: Vec<u64> = self.set.iter().map(|fault| fault.row().1).collect();
                (self.set[self.random.weighted(&weights)], false)
            }
        };
        if is_first {
            self.whole("before a fault").await?;
        }
        let servers = self.cluster.servers();
        let primary = leader(&self.cluster.look().await).map(|status| status.server as usize);
        let any = self.random.below(servers as u64) as usize;
        // A failover is what most rules are for.
        let wants_primary = is_first || self.random.per_mille(550);
        let target = primary.filter(|_| wants_primary).unwrap_or(any);
        let first = Drawn { fault, target, random: Random::new(self.random.number()) };
        let others: Vec<Fault> = self.set.iter().copied().filter(|fault| fault.bears_company()).collect();
        let company = self.random.per_mille(300) && fault.bears_company() && !others.is_empty() && servers > 1;
        let second = company.then(|| Drawn {
            fault: self.random.pick(&others),
            target: (target + 1 + self.random.below(servers as u64 - 1) as usize) % servers,
            random: Random::new(self.random.number()),
        });
        let after = Duration::from_millis(self.random.below(1_500));
        let together = async {
            if let Some(second) = second {
                tokio::time::sleep(after).await;
                self.apply(second).await?;
            }
            Ok(())
        };
        let (one, two) = tokio::join!(self.apply(first), together);
        one.and(two)?;
        if let Some((id, how)) = self.cluster.take_death() {
            return Err(format!("server {id} ended by itself: {how}"));
        }
        // At times the next fault meets a cluster that has not recovered from this one.
        if self.random.per_mille(650) {
            self.whole("after a fault").await?;
        }
        tokio::time::sleep(Duration::from_millis(self.random.waiting(600))).await;
        Ok(())
    }

    /// Waits until all servers are members.
    pub(crate) async fn whole(&self, when: &str) -> Result<(), String> {
        let waited = self.cluster.wait(PATIENCE, |all| self.cluster.is_whole(all)).await;
        waited.map(drop).map_err(|told| format!("{when} the cluster is not whole within {PATIENCE:?}: {told}"))
    }

    async fn apply(&self, drawn: Drawn) -> Result<(), String> {
        let Drawn { fault, target, mut random } = drawn;
        let primary = leader(&self.cluster.look().await).map(|status| status.server as usize);
        let whom = if primary == Some(target) { format!("{target}, the primary") } else { target.to_string() };
        let cluster = &self.cluster;
        let mut hold = |low, high| Duration::from_millis(random.between(low, high));
        let begun = Instant::now();
        let done = match fault {
            Fault::Kill => {
                self.say(&format!("{fault} {whom}"));
                cluster.kill(target);
                tokio::time::sleep(hold(0, 2_500)).await;
                cluster.start(target)?;
                true
            }
            Fault::Terminate => {
                self.say(&format!("{fault} {whom}"));
                cluster.signal(target, Signal::TERM);
                match cluster.ended(target, PATIENCE).await {
                    Some(0) => {}
                    Some(code) => return Err(format!("server {target} was asked to end and ended with code {code}")),
                    None => return Err(format!("server {target} was asked to end and has not in {PATIENCE:?}")),
                }
                tokio::time::sleep(hold(0, 1_000)).await;
                cluster.start(target)?;
                true
            }
            Fault::PauseShort | Fault::PauseLong => {
                let lease_ms = self.lease_ms();
                let pause = match fault {
                    Fault::PauseShort => hold(lease_ms / 4, lease_ms * 7 / 4),
                    _ => hold(2_500.max(lease_ms * 5 / 4), 7_000.max(lease_ms * 2)),
                };
                self.say(&format!("{fault} {whom} for {pause:?}"));
                cluster.signal(target, Signal::STOP);
                tokio::time::sleep(pause).await;
                cluster.signal(target, Signal::CONT);
                true
            }
            Fault::KillAll => {
                self.say(&format!("{fault}; the primary was {primary:?}"));
                let mut order: Vec<usize> = (0..cluster.servers()).collect();
                order.iter().for_each(|id| cluster.kill(*id));
                let gap = hold(0, 400);
                random.shuffle(&mut order);
                for id in order {
                    tokio::time::sleep(gap).await;
                    cluster.start(id)?;
                }
                true
            }
            Fault::Wipe => self.wipe(target, &whom).await?,
            Fault::HandOver => {
                let heirs: Vec<usize> = (0..cluster.shape.data).filter(|id| Some(*id) != primary).collect();
                let heir = random.pick(&heirs);
                self.say(&format!("{fault} from {primary:?} to {heir}"));
                match promote(&cluster.addresses, heir).await {
                    Ok(()) => primary.is_some(),
                    Err(why) => {
                        self.say(&format!("no hand-over to {heir}: {why}"));
                        false
                    }
                }
            }
            Fault::SlowDisk => {
                let (delay, time) = (hold(5, 500).as_millis(), hold(500, 4_000));
                self.say(&format!("{fault} of {whom}: {delay} ms a sync, for {time:?}"));
                cluster.steer(target, &format!("slow {delay}"))?;
                tokio::time::sleep(time).await;
                cluster.steer(target, "")?;
                true
            }
            Fault::FullDisk => {
                let time = hold(500, 4_000);
                self.say(&format!("{fault} of {whom} for {time:?}"));
                cluster.steer(target, "full")?;
                tokio::time::sleep(time).await;
                cluster.steer(target, "")?;
                true
            }
            Fault::FailingDisk => {
                self.say(&format!("{fault} of {whom}"));
                cluster.steer(target, "fail")?;
                let ended = cluster.ended(target, Duration::from_secs(10)).await;
                self.say(&format!(
                    "{fault} of {target}: {}",
                    ended.map_or("still runs".to_owned(), |c| format!("ended with code {c}"))
                ));
                cluster.steer(target, "")?;
                cluster.start(target)?;
                match ended {
                    Some(3) => true,
                    // Nothing was to be written: a backup without writes, a witness without elections.
                    None => false,
                    Some(code) => {
                        return Err(format!("the disk of server {target} failed, and it ended with code {code}"));
                    }
                }
            }
            Fault::CutBoth | Fault::CutIn | Fault::CutOut | Fault::CutPair => {
                let ways = self.ways(fault, target, &mut random);
                let time = Duration::from_millis(random.between(200, 5_000.max(self.lease_ms() * 2)));
                self.say(&format!("{fault} {whom} for {time:?}: {ways:?}"));
                for (from, to) in &ways {
                    cluster.network.cut(*from, *to)?;
                }
                tokio::time::sleep(time).await;
                for (from, to) in &ways {
                    cluster.network.mend(*from, *to)?;
                }
                true
            }
            Fault::Outlive => self.outlive().await?,
        };
        if done {
            *self.applied.lock().expect("nobody panicked").entry(fault).or_default() += 1;
        }
        self.say(&format!("{fault} {target} is over after {:?}", begun.elapsed()));
        Ok(())
    }

    /// Which ways are cut.
    fn ways(&self, fault: Fault, target: Place, random: &mut Random) -> Vec<(Place, Place)> {
        let servers = self.cluster.servers();
        // The clients outside are cut off as well, or reach both sides.
        let places = servers + usize::from(random.per_mille(500));
        let mut others: Vec<Place> = (0..places).filter(|place| *place != target).collect();
        if fault == Fault::CutPair {
            others = vec![random.pick(&others)];
        }
        let to = others.iter().map(|other| (target, *other));
        let from = others.iter().map(|other| (*other, target));
        match fault {
            Fault::CutIn => from.collect(),
            Fault::CutOut => to.collect(),
            _ => to.chain(from).collect(),
        }
    }

    /// Lets the one whose lease lasts longest, measured by everybody else's clock, lead and then hold on to that lease while
    /// the others go on. All clients go on reaching all servers.
    async fn outlive(&self) -> Result<bool, String> {
        let cluster = &self.cluster;
        let clock = |id: &usize| cluster.told.clocks_ppm.get(*id).copied().unwrap_or(0);
        let slowest = (0..cluster.shape.data).min_by_key(clock).expect("two servers at least");
        self.whole("before the slowest clock gets the lead").await?;
        // It may lead already, or the hand-over is called off.
        let _ = promote(&cluster.addresses, slowest).await;
        let leads = |status: &v1::StatusResponse| status.server as usize == slowest;
        let led = cluster.wait(Duration::from_secs(2), |all| cluster.is_whole(all) && leader(all).is_some_and(leads));
        let leads = led.await.is_ok();
        let time = (self.lease * 13 / 10).max(Duration::from_secs(1));
        self.say(&format!("{} {slowest} for {time:?}", Fault::Outlive));
        let others = || (0..cluster.servers()).filter(|other| *other != slowest);
        for other in others() {
            cluster.network.cut(slowest, other)?;
            cluster.network.cut(other, slowest)?;
        }
        tokio::time::sleep(time).await;
        for other in others() {
            cluster.network.mend(slowest, other)?;
            cluster.network.mend(other, slowest)?;
        }
        Ok(leads)
    }

    /// Loses a data directory while that loses nothing: another server leads without this one.
    async fn wipe(&self, target: usize, whom: &str) -> Result<bool, String> {
        let cluster = &self.cluster;
        self.whole("before a wipe").await?;
        self.say(&format!("{} {whom}", Fault::Wipe));
        cluster.kill(target);
        // A view without the one that is gone was chosen after its end: nothing is known to it alone.
        let without = |status: &v1::StatusResponse| !status.in_sync.iter().any(|member| *member as usize == target);
        let led = cluster.wait(PATIENCE, |all| leader(all).is_some_and(without)).await;
        led.map_err(|told| format!("nobody leads without server {target}, which was killed: {told}"))?;
        std::fs::remove_dir_all(cluster.data_dir(target)).map_err(|error| error.to_string())?;
        cluster.start(target)?;
        self.whole("after a wipe").await?;
        Ok(true)
    }

    /// Mends everything that may still be broken.
    pub(crate) fn mend_all(&self) -> Result<(), String> {
        for id in 0..self.cluster.servers() {
            self.cluster.signal(id, Signal::CONT);
            self.cluster.steer(id, "")?;
            self.cluster.start(id)?;
        }
        self.cluster.network.heal()
    }
}

async fn promote(addresses: &[String], heir: usize) -> Result<(), String> {
    let server = u32::try_from(heir).expect("few servers");
    let mut last = String::new();
    for address in addresses {
        let asked = async {
            let endpoint =
                tonic::transport::Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
            let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
            let mut cluster = v1::cluster_client::ClusterClient::new(channel);
            let asked = cluster.promote(v1::PromoteRequest { server, redirect: false }).await;
            asked.map(drop).map_err(|status| status.message().to_owned())
        };
        match tokio::time::timeout(Duration::from_secs(5), asked).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => last = why,
            Err(_) => last = "no answer".to_owned(),
        }
    }
    Err(last)
}
