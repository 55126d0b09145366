//! The pure half of a watch: what was told, and where to go on when a server ends its stream, errs or falls silent.
//!
//! Versions are one order, the same at every server, and every server tells committed changes alone. So a watch is one
//! number: all up to it was told. Any server goes on from there, and what it tells again is dropped.

use std::collections::BTreeSet;
use std::time::Duration;

use heirloom_proto::Version;

/// How long a server may say nothing before the watch goes on at another one; servers in touch with their cluster say
/// something three times as often.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The pause after all servers were tried in vain; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How many rounds must find that whoever answers has lost what is wanted, before the watch ends though others could not be
/// asked. **Why:** a server that restarts may have kept it, and is back within some seconds; the pauses of so many rounds
/// are three seconds at least.
const TOO_OLD_ROUNDS: u32 = 16;

/// Where a watch stands.
///
/// **Invariants:** what was told only rises.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watch {
    /// All up to here was told; `None` before any server has said where it begins.
    told: Option<Version>,
    /// The cluster and its generation, by which these versions are counted.
    cluster: Option<String>,
    /// The seat that is asked.
    seat: usize,
    /// How many seats were tried in vain, one after the other.
    failed: usize,
    pause: Duration,
    /// What was said since a server last had what is wanted; `None` where none has said that it has lost it.
    lost: Option<Lost>,
}

/// Servers that have lost what is wanted. Each has lost it for good, so what it said holds until the watch goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lost {
    seats: BTreeSet<usize>,
    /// The lowest version that any of them still has, by what they said in the last round in which one did.
    oldest: Version,
    /// Whether one has said so in this round.
    is_of_this_round: bool,
    /// In how many rounds one has.
    rounds: u32,
}

/// What follows from an attempt in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Ask again after this pause.
    After(Duration),
    /// All have lost what is wanted, or those who have were the only ones to answer for some seconds.
    TooOld {
        /// The lowest version to watch from.
        oldest: Version,
    },
}

/// Why a server's stream can't be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// Its versions are counted anew: it is of another cluster, or of one that was set back.
    OtherCluster,
    /// It begins behind what is wanted, which no server of ours does.
    Gap,
}

impl Watch {
    /// A watch from this version on, or from wherever the first server begins; `seat` is asked first.
    pub fn new(from: Option<Version>, seat: usize) -> Self {
        let told = from.map(|from| Version(from.0.saturating_sub(1)));
        Self { told, cluster: None, seat, failed: 0, pause: PAUSE_MIN, lost: None }
    }

    /// The same watch, of versions that this cluster counts.
    #[must_use]
    pub fn of(self, cluster: Option<String>) -> Self {
        Self { cluster, ..self }
    }

    /// The cluster that counts; `None` before any server has said so.
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// The first version that is wanted; `None` where the server is to say.
    pub fn wanted(&self) -> Option<Version> {
        // A server may say anything, even that the last of all versions was told.
        self.told.map(|told| Version(told.0.saturating_add(1)))
    }

    /// All up to here was told; `None` before it has begun.
    pub fn told(&self) -> Option<Version> {
        self.told
    }

    /// Whom to ask of so many seats.
    pub fn seat(&self, seats: usize) -> usize {
        self.seat % seats.max(1)
    }

    /// A server begins to tell what follows `version`.
    ///
    /// **Errors:** [`Unfit`] where that does not fit what was told.
    pub fn began(&mut self, cluster: &str, version: Version) -> Result<(), Unfit> {
        if self.cluster.as_deref().is_some_and(|known| known != cluster) {
            return Err(Unfit::OtherCluster);
        }
        if self.told.is_some_and(|told| version > told) {
            return Err(Unfit::Gap);
        }
        self.cluster = Some(cluster.to_owned());
        self.told.get_or_insert(version);
        self.failed = 0;
        self.lost = None;
        Ok(())
    }

    /// Whether the change set of this version is news; it counts as told from now on.
    pub fn is_news(&mut self, version: Version) -> bool {
        let is_news = self.told.is_none_or(|told| version > told);
        if is_news {
            self.told = Some(version);
        }
        is_news
    }

    /// A server says that all up to `version` is told: it is of use.
    pub fn progressed(&mut self, version: Version) {
        self.told = self.told.max(Some(version));
        self.pause = PAUSE_MIN;
    }

    /// The lowest version to watch from, where whoever has answered since the watch last went on has lost what is wanted.
    pub fn oldest(&self) -> Option<Version> {
        self.lost.as_ref().map(|lost| lost.oldest)
    }

    /// The server that is asked no longer has what is wanted; another one may, be it one that can't be asked right now.
    pub fn too_old(&mut self, oldest: Version, seats: usize) -> Next {
        let seat = self.seat(seats);
        let fresh = || Lost { seats: BTreeSet::new(), oldest, is_of_this_round: false, rounds: 0 };
        let lost = self.lost.get_or_insert_with(fresh);
        lost.seats.insert(seat);
        lost.oldest = if lost.is_of_this_round { lost.oldest.min(oldest) } else { oldest };
        lost.is_of_this_round = true;
        if lost.seats.len() >= seats {
            return Next::TooOld { oldest: lost.oldest };
        }
        self.failed(seats)
    }

    /// The server that is asked has ended, erred or fallen silent: the next one is asked.
    pub fn failed(&mut self, seats: usize) -> Next {
        self.seat = self.seat(seats) + 1;
        self.failed += 1;
        if self.failed < seats {
            // The first pause is short, and there all the same: a server that ends every stream at once must not be hammered.
            return Next::After(PAUSE_MIN.min(self.pause));
        }
        self.failed = 0;
        // A round in which nobody answered says nothing.
        if let Some(lost) = &mut self.lost
            && std::mem::take(&mut lost.is_of_this_round)
        {
            lost.rounds += 1;
            if lost.rounds >= TOO_OLD_ROUNDS {
                return Next::TooOld { oldest: lost.oldest };
            }
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        Next::After(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "1/1";

    #[test]
    fn a_server_that_names_the_last_of_all_versions_is_survived() {
        let mut watch = Watch::new(None, 0);
        watch.began(CLUSTER, Version(5)).expect("the first one says where it begins");
        watch.progressed(Version(u64::MAX));
        assert_eq!(watch.wanted(), Some(Version(u64::MAX)));
        assert!(!watch.is_news(Version(u64::MAX)));
    }

    #[test]
    fn what_was_told_is_told_once_whoever_tells_it() {
        let mut watch = Watch::new(None, 0);
        assert_eq!(watch.wanted(), None);
        watch.began(CLUSTER, Version(5)).expect("the first one says where it begins");
        assert!(watch.is_news(Version(6)) && !watch.is_news(Version(6)) && !watch.is_news(Version(4)));
        watch.progressed(Version(9));
        watch.progressed(Version(7));
        assert_eq!(watch.wanted(), Some(Version(10)));
        watch.began(CLUSTER, Version(8)).expect("one that tells more than is wanted");
        assert!(!watch.is_news(Version(9)) && watch.is_news(Version(10)));
    }

    #[test]
    fn a_server_that_begins_too_late_or_counts_anew_is_not_gone_on_with() {
        let mut watch = Watch::new(Some(Version(4)), 0);
        assert_eq!(watch.began(CLUSTER, Version(4)), Err(Unfit::Gap));
        assert_eq!(watch.began(CLUSTER, Version(3)), Ok(()));
        assert_eq!(watch.began("1/2", Version(3)), Err(Unfit::OtherCluster));
    }

    #[test]
    fn servers_are_asked_in_turn_and_a_round_in_vain_is_followed_by_a_longer_pause_each_time() {
        let mut watch = Watch::new(None, 7);
        let mut seats = Vec::new();
        let mut pauses = Vec::new();
        for _ in 0..15 {
            seats.push(watch.seat(3));
            match watch.failed(3) {
                Next::After(pause) => pauses.push(pause.as_millis()),
                Next::TooOld { .. } => panic!("nobody said so"),
            }
        }
        assert_eq!(seats[..6], [1, 2, 0, 1, 2, 0]);
        assert_eq!(pauses, [10, 10, 10, 10, 10, 20, 10, 10, 40, 10, 10, 80, 10, 10, 160]);
        watch.progressed(Version(1));
        assert_eq!([1, 2, 3].map(|_| watch.failed(3)).last(), Some(&Next::After(PAUSE_MIN)));
    }

    fn goes_on(next: Next) -> Duration {
        match next {
            Next::After(pause) => pause,
            Next::TooOld { oldest } => panic!("it ended, and {oldest} is kept"),
        }
    }

    #[test]
    fn what_one_server_has_lost_another_may_have_and_the_word_of_all_ends_the_watch() {
        let mut watch = Watch::new(Some(Version(4)), 0);
        goes_on(watch.too_old(Version(9), 3));
        goes_on(watch.failed(3));
        assert_eq!(watch.oldest(), Some(Version(9)));
        watch.began(CLUSTER, Version(3)).expect("this one has it");
        assert_eq!(watch.oldest(), None, "what was said before has no weight any more");
        goes_on(watch.too_old(Version(20), 3));
        goes_on(watch.too_old(Version(15), 3));
        assert_eq!(watch.too_old(Version(18), 3), Next::TooOld { oldest: Version(15) });
    }

    #[test]
    fn one_that_restarts_while_the_others_have_lost_what_is_wanted_is_asked_again() {
        let mut watch = Watch::new(Some(Version(4)), 0);
        for _ in 0..2 {
            goes_on(watch.too_old(Version(20), 3));
            goes_on(watch.failed(3));
            goes_on(watch.too_old(Version(15), 3));
        }
        goes_on(watch.failed(3));
        assert_eq!(watch.seat(3), 1);
        let mut has_it = watch.clone();
        assert_eq!(has_it.began(CLUSTER, Version(3)), Ok(()));
        // The others have said it in an earlier round; what is kept is what is said last.
        assert_eq!(watch.too_old(Version(30), 3), Next::TooOld { oldest: Version(30) });
    }

    #[test]
    fn one_that_stays_away_is_waited_for_some_seconds() {
        let mut watch = Watch::new(Some(Version(4)), 0);
        let mut waited = Duration::ZERO;
        let oldest = loop {
            waited += goes_on(watch.too_old(Version(20), 3)) + goes_on(watch.too_old(Version(15), 3));
            match watch.failed(3) {
                Next::After(pause) => waited += pause,
                Next::TooOld { oldest } => break oldest,
            }
        };
        assert_eq!(oldest, Version(15));
        assert!(waited > SILENCE_MAX && waited < 2 * SILENCE_MAX, "{waited:?}");
    }

    #[test]
    fn a_round_in_which_nobody_answers_brings_the_end_no_nearer() {
        let mut watch = Watch::new(Some(Version(4)), 0);
        for _ in 1..TOO_OLD_ROUNDS {
            goes_on(watch.too_old(Version(9), 2));
            for _ in 0..3 {
                goes_on(watch.failed(2));
            }
        }
        goes_on(watch.too_old(Version(9), 2));
        assert_eq!(watch.failed(2), Next::TooOld { oldest: Version(9) });
    }
}
