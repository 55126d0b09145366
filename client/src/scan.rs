//! Scans: any number of keys in their order, all at one version, fetched page by page.

use std::collections::VecDeque;

use bytes::Bytes;
use heirloom_proto::{At, ClusterId, Epoch, KeyRange, Response, Scanned, ServerId, Version, WallTime};
use heirloom_session::{Answer, Freshness, Operation};

use crate::client::{Asked, Client};
use crate::error::{BadInput, Error};

/// What is scanned, and how; [`Default`] is all keys, as [`Client::scan`] does it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ScanOptions {
    /// The keys; all of them by default. Where the range ends before it begins there are none, which is no error.
    pub range: KeyRange,
    /// So many keys at most; `None` for all.
    pub limit: Option<u64>,
    /// Whether the values are left out: [`ScanEntry::value`] is empty then.
    pub keys_only: bool,
    /// How fresh the version must be that the first page fixes.
    pub consistency: Freshness,
    /// The only server that is to be asked; `None` for any, near ones first. It asks the primary where it must.
    pub from: Option<ServerId>,
    /// The version that is wanted, and the cluster by which it is counted, as [`Scan::version`] and [`Scan::cluster`] of an
    /// earlier scan told them: to go on with that scan behind the last key that came of it. Consistency says nothing then.
    /// `None` for a version that the first page fixes.
    pub at: Option<(Version, ClusterId)>,
}

impl ScanOptions {
    /// All keys that begin with this.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        Self { range: KeyRange::of_prefix(Bytes::copy_from_slice(prefix.as_ref())), ..Self::default() }
    }

    /// The keys from `start` on and before `end`.
    pub fn between(start: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Self {
        let (start, end) = (Bytes::copy_from_slice(start.as_ref()), Some(Bytes::copy_from_slice(end.as_ref())));
        Self { range: KeyRange { start, end }, ..Self::default() }
    }
}

/// A key that was found by a scan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScanEntry {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The version of its last change up to the scan's version.
    pub version: Version,
    /// The time of that change, by the calendar of the server that was the primary then; for people.
    pub changed_at: WallTime,
    /// The server that answered.
    pub server: ServerId,
    /// Its epoch.
    pub epoch: Epoch,
}

/// A scan under way. It holds one page at most, and nothing at any server.
#[derive(Debug)]
#[must_use = "nothing is asked before `next`"]
pub struct Scan {
    client: Client,
    options: ScanOptions,
    /// What is behind the page, to be asked for when that is used up; `None` where there is nothing.
    rest: Option<KeyRange>,
    page: VecDeque<Scanned>,
    /// What the first page or its caller fixed, and whose version it is.
    fixed: Option<(Version, ClusterId)>,
    /// Who answered the page.
    server: ServerId,
    epoch: Epoch,
}

impl Client {
    /// All keys that begin with `prefix`, and an empty one is the beginning of all, in their order and as they were at one
    /// version: linearizable, so no older than any change that was answered before the first [`Scan::next`].
    ///
    /// ```no_run
    /// # async fn example(client: heirloom::Client) -> Result<(), heirloom::Error> {
    /// let mut scan = client.scan("account/");
    /// while let Some(entry) = scan.next().await? {
    ///     println!("{:?} has {:?}", entry.key, entry.value);
    /// }
    /// println!("so it was at version {:?}", scan.version());
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.scan_with(ScanOptions::prefix(prefix))
    }

    /// The keys that `options` say.
    pub fn scan_with(&self, options: ScanOptions) -> Scan {
        Scan {
            client: self.clone(),
            rest: Some(options.range.clone()),
            fixed: options.at,
            options,
            page: VecDeque::new(),
            server: ServerId(0),
            epoch: Epoch::NONE,
        }
    }
}

impl Scan {
    /// The version of which all keys of this scan are; `None` before the first page has come, unless it was given.
    pub fn version(&self) -> Option<Version> {
        self.fixed.map(|(version, _)| version)
    }

    /// The cluster by which that version is counted, for a watch that goes on from it: see
    /// [`WatchOptions`](crate::WatchOptions).
    pub fn cluster(&self) -> Option<ClusterId> {
        self.fixed.map(|(_, cluster)| cluster)
    }

    /// The next key; `None` once there is none. Dropped before it is done it has lost nothing, and after an error it may be
    /// called again.
    ///
    /// **Errors:** [`Error::NotApplied`] where no server answered in time. Also where only another scan helps, which
    /// [`Error::refusal`] says: so much was changed since the first page that the servers no longer keep what keys had then
    /// ([`VersionTooOld`](heirloom_proto::Refusal::VersionTooOld)), or the cluster was set back
    /// ([`OtherCluster`](heirloom_proto::Refusal::OtherCluster)). [`Error::BadInput`] where start or end are longer than a
    /// key may be.
    pub async fn next(&mut self) -> Result<Option<ScanEntry>, Error> {
        while self.page.is_empty() {
            let Some(range) = self.rest.clone().filter(|_| self.options.limit != Some(0)) else { return Ok(None) };
            self.fetch(range).await?;
        }
        let (server, epoch) = (self.server, self.epoch);
        if let Some(limit) = &mut self.options.limit {
            *limit = limit.saturating_sub(1);
        }
        let next = self.page.pop_front();
        Ok(next.map(|Scanned { key, value, version, changed_at }| ScanEntry {
            key,
            value,
            version,
            changed_at,
            server,
            epoch,
        }))
    }

    /// Changes nothing before the page is there.
    async fn fetch(&mut self, range: KeyRange) -> Result<(), Error> {
        if !range.is_within_bounds() {
            return Err(BadInput::Key { bytes: range.longest_end() }.into());
        }
        let asked = Asked { verb: "scan", key: self.options.range.start.clone(), is_change: false };
        let scan = heirloom_proto::Scan {
            range: range.clone(),
            // Nothing else is meant by 0, and a page is never that large.
            limit: self.options.limit.map_or(0, |limit| u32::try_from(limit).unwrap_or(u32::MAX)),
            keys_only: self.options.keys_only,
            at: self.version().map_or(At::Now(self.options.consistency), At::Version),
            cluster: self.cluster(),
        };
        let from = self.options.from;
        let Answer { response, server } = self.client.read_from(&asked, Operation::Scan { scan, from }, from).await?;
        match response {
            Response::Scanned { entries, next, seen, cluster } => {
                let fixed = (seen.version, cluster);
                // A page that does not go on would be asked for again without end; one of another state must not follow.
                let goes_on = next.as_ref().is_none_or(|next| *next > range.start);
                if !goes_on || self.fixed.is_some_and(|first| first != fixed) {
                    return Err(self.client.nonsense(&asked));
                }
                self.fixed = Some(fixed);
                self.server = server.unwrap_or(seen.epoch.server);
                self.epoch = seen.epoch;
                self.rest = next.map(|start| KeyRange { start, end: range.end });
                self.page = entries.into();
                Ok(())
            }
            Response::SessionOpened { .. }
            | Response::SessionClosed
            | Response::Changed { .. }
            | Response::Appended { .. }
            | Response::NotMet { .. }
            | Response::Found { .. }
            | Response::NotFound { .. }
            | Response::Promoted { .. }
            | Response::Fenced => Err(self.client.nonsense(&asked)),
        }
    }
}
