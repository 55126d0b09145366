//! The comparison key by key: all servers at one version, in step, with a few pages of each in memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use heirloom_proto::{Address, ClusterId, Scanned, ServerId, Version};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::pages::{Page, Pages, Trouble};
use super::rows::{are_equal, take_lowest};
use super::{groups, majority};

/// How many pages of a server wait to be compared, beside the one that is and the one that is fetched.
const PAGES_AHEAD: usize = 1;

/// The state that is compared, and whose versions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The version.
    pub(crate) version: Version,
    /// The cluster and its generation.
    pub(crate) cluster: ClusterId,
}

/// A key under which not all have the same.
#[derive(Debug)]
pub(crate) struct Row {
    /// The key.
    pub(crate) key: Bytes,
    /// What each server has, and had at the version; `None` where it has nothing.
    pub(crate) found: Vec<(ServerId, Option<Scanned>)>,
}

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many keys were compared.
    pub(crate) keys: u64,
    /// Under how many of them not all have the same.
    pub(crate) differing: u64,
    /// Under how many of them a server has something else than most have.
    pub(crate) odd: BTreeMap<ServerId, u64>,
    /// Servers that could not be compared to the end, and why not.
    pub(crate) lost: BTreeMap<ServerId, String>,
}

/// The version is no longer kept by a server: it takes another comparison, at a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOld {
    /// The server.
    pub(crate) server: ServerId,
    /// How far back it goes.
    pub(crate) oldest: Version,
}

/// A comparison under way. A server whose pages can't be had is left out from there on, and said to be.
pub(crate) struct Comparison {
    sides: Vec<Side>,
    /// What is to be compared next of each side, in the same order.
    queues: Vec<VecDeque<Scanned>>,
    /// Whether a server that no longer keeps the version is left out like any other.
    leaves_out_too_old: bool,
    tally: Tally,
    /// Those that fetch; they end with this.
    _fetching: JoinSet<()>,
}

struct Side {
    server: ServerId,
    pages: mpsc::Receiver<Result<Page, Trouble>>,
    /// Whether its last page has come.
    is_over: bool,
}

impl Comparison {
    /// Begins to fetch what these servers have. `timeout` is for each page; `is_last` says that whoever no longer keeps the
    /// version is to be left out, for nobody will ask anew.
    pub(crate) fn begin(
        servers: impl IntoIterator<Item = (ServerId, Address)>,
        at: At,
        timeout: Duration,
        is_last: bool,
    ) -> Self {
        let mut fetching = JoinSet::new();
        let mut begin = |server, address| {
            let (sender, pages) = mpsc::channel(PAGES_AHEAD);
            fetching.spawn(Pages::new(server, address, at, timeout).fetch_all(sender));
            Side { server, pages, is_over: false }
        };
        let sides: Vec<Side> = servers.into_iter().map(|(server, address)| begin(server, address)).collect();
        let queues = vec![VecDeque::new(); sides.len()];
        Self { sides, queues, leaves_out_too_old: is_last, tally: Tally::default(), _fetching: fetching }
    }

    /// What was found so far.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The next key under which not all have the same; `None` when all keys were compared, or fewer than two servers are left.
    ///
    /// **Errors:** [`TooOld`], unless this comparison is the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Row>, TooOld> {
        loop {
            self.refill().await?;
            if self.sides.len() < 2 {
                return Ok(None);
            }
            let Some(found) = take_lowest(&mut self.queues) else { return Ok(None) };
            self.tally.keys += 1;
            if !are_equal(&found) {
                return Ok(Some(self.tell(found)));
            }
        }
    }

    fn tell(&mut self, found: Vec<Option<Scanned>>) -> Row {
        self.tally.differing += 1;
        let found: Vec<_> = self.sides.iter().map(|side| side.server).zip(found).collect();
        let groups = groups(found.iter().map(|(server, entry)| (*server, entry)));
        if let Some(most) = majority(&groups) {
            for odd in groups.iter().flatten().filter(|server| !most.contains(server)) {
                *self.tally.odd.entry(*odd).or_default() += 1;
            }
        }
        let key = found.iter().find_map(|(_, entry)| entry.as_ref()).map(|entry| entry.key.clone()).unwrap_or_default();
        Row { key, found }
    }

    /// Waits until each side has an entry or is over. They fetch at the same time, so this waits for the slowest.
    async fn refill(&mut self) -> Result<(), TooOld> {
        let mut place = 0;
        while let Some(side) = self.sides.get_mut(place) {
            if side.is_over || !self.queues[place].is_empty() {
                place += 1;
                continue;
            }
            let came = side.pages.recv().await;
            let why = match came {
                Some(Ok(page)) => {
                    side.is_over = page.next.is_none();
                    self.queues[place] = page.entries;
                    continue;
                }
                Some(Err(Trouble::TooOld { oldest })) if !self.leaves_out_too_old => {
                    return Err(TooOld { server: side.server, oldest });
                }
                Some(Err(Trouble::TooOld { oldest })) => {
                    format!("so much is changed that it keeps nothing older than version {oldest}")
                }
                Some(Err(Trouble::Lost(why))) => why,
                None => "it is asked no longer".to_owned(),
            };
            let compared = self.tally.keys;
            self.tally.lost.insert(side.server, format!("{why} (after {compared} keys)"));
            self.sides.remove(place);
            self.queues.remove(place);
        }
        Ok(())
    }
}
