//! The pure half of a watch: what was told, and where to go on when a server ends its stream, errs or falls silent.
//!
//! Versions are one order, the same at every server, and every server tells committed changes alone. So a watch is one
//! number: all up to it was told. Any server goes on from there, and what it tells again is dropped.

use std::time::Duration;

use heirloom_proto::Version;

/// How long a server may say nothing before the watch goes on at another one; servers in touch with their cluster say
/// something three times as often.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);
/// The pause after all servers were tried in vain; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(250);

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
    /// The lowest version that a server of this round still has, where all that answered have lost what is wanted.
    oldest: Option<Version>,
}

/// What follows from an attempt in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Ask again after this pause.
    After(Duration),
    /// Nobody who answers has what is wanted any more.
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
        Self { told, cluster: None, seat, failed: 0, pause: PAUSE_MIN, oldest: None }
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
        self.told.map(Version::next)
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
        self.oldest = None;
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

    /// The server that is asked no longer has what is wanted; another one may.
    pub fn too_old(&mut self, oldest: Version, seats: usize) -> Next {
        self.oldest = Some(self.oldest.map_or(oldest, |other| other.min(oldest)));
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
        match self.oldest.take() {
            Some(oldest) => Next::TooOld { oldest },
            None => {
                let pause = self.pause;
                self.pause = (pause * 2).min(PAUSE_MAX);
                Next::After(pause)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "1/1";

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

    #[test]
    fn what_one_server_has_lost_another_may_have_and_only_a_round_in_vain_ends_the_watch() {
        let mut watch = Watch::new(Some(Version(4)), 0);
        assert!(matches!(watch.too_old(Version(9), 3), Next::After(_)));
        assert!(matches!(watch.failed(3), Next::After(_)));
        watch.began(CLUSTER, Version(3)).expect("this one has it");
        assert!(matches!(watch.too_old(Version(20), 3), Next::After(_)), "what was said before has no weight any more");
        assert!(matches!(watch.too_old(Version(15), 3), Next::After(_)));
        assert_eq!(watch.failed(3), Next::TooOld { oldest: Version(15) });
    }
}
