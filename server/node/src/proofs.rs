//! Proofs of death (PROTOCOL 5): a proof holds against one run, and silence is never one.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_primary::ProofTimes;
use heirloom_proto::{Mutant, RunId, ServerId, Time, View, planted};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Proof {
    run: RunId,
    times: ProofTimes,
    proven_at: Time,
}

/// A question that was asked of the runtime and not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Asked {
    run: RunId,
    probe: u64,
    at: Time,
}

/// The proofs that hold now, and the questions under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Proofs {
    proven: BTreeMap<ServerId, Proof>,
    asked: BTreeMap<ServerId, Asked>,
    probes: u64,
}

impl Proofs {
    /// Names a new probe of this run; `None` where one of it is under way.
    pub(crate) fn ask(&mut self, now: Time, server: ServerId, run: RunId) -> Option<u64> {
        if self.asked.get(&server).is_some_and(|asked| asked.run == run) {
            return None;
        }
        self.probes += 1;
        self.asked.insert(server, Asked { run, probe: self.probes, at: now });
        Some(self.probes)
    }

    /// Takes what came of a probe; true where the run is proven dead by it.
    pub(crate) fn answered(&mut self, now: Time, server: ServerId, run: RunId, probe: u64, dead: bool) -> bool {
        if dead && planted(Mutant::ProofOfOlderRun) {
            self.prove(now, server, run, now);
        }
        let Some(asked) = self.asked.get(&server).copied().filter(|a| a.probe == probe && a.run == run) else {
            return false;
        };
        self.asked.remove(&server);
        if dead {
            let counts_from = if planted(Mutant::ProofFromItsComing) { now } else { asked.at };
            self.prove(now, server, run, counts_from);
        }
        dead
    }

    /// Takes a proof that was asked for at `asked_at`: what it proves may be no newer.
    pub(crate) fn prove(&mut self, now: Time, server: ServerId, run: RunId, asked_at: Time) {
        let before =
            self.proven.get(&server).filter(|p| p.run == run).map(|proof| (proof.times.asked_at, proof.proven_at));
        let times = ProofTimes { asked_at, before };
        self.proven.insert(server, Proof { run, times, proven_at: now });
    }

    /// A handshake with a server voids what was proven of it.
    pub(crate) fn void(&mut self, server: ServerId) {
        if planted(Mutant::StaleProofExcuses) {
            return;
        }
        self.proven.remove(&server);
        self.asked.remove(&server);
    }

    /// A message from another run than the proven one voids the proof.
    pub(crate) fn heard(&mut self, server: ServerId, run: RunId) {
        let later = self.proven.get(&server).is_some_and(|proof| proof.run != run);
        if later && !planted(Mutant::ProofOfOlderRun) {
            self.void(server);
        }
    }

    /// Storing a view voids older proofs against its members: they were alive when it was made.
    pub(crate) fn view_stored(&mut self, view: &View) {
        for member in &view.in_sync {
            self.void(member.server);
        }
    }

    /// The servers whose last heard run is proven dead.
    pub(crate) fn dead(&self) -> BTreeSet<ServerId> {
        self.proven.keys().copied().collect()
    }

    /// When each was proven.
    pub(crate) fn times(&self) -> BTreeMap<ServerId, ProofTimes> {
        self.proven.iter().map(|(server, proof)| (*server, proof.times)).collect()
    }
}
