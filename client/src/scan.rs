//! Scans: any number of keys in their order, all at one version, fetched page by page.

use std::collections::VecDeque;

use bytes::Bytes;
use heirloom_proto::limits::KEY_BYTES_MAX;
use heirloom_proto::{At, Epoch, KeyRange, Response, Scanned, ServerId, Version, WallTime};
use heirloom_session::{Answer, Freshness, Operation};

use crate::client::{Asked, Client};
use crate::error::{BadInput, Error};

/// What is scanned, and how; [`Default`] is all keys, as [`Client::scan`] does it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ScanOptions {
    range: KeyRange,
    limit: Option<u64>,
    keys_only: bool,
    consistency: Freshness,
    from: Option<ServerId>,
}

impl ScanOptions {
    /// All keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The keys that begin with this; takes the place of start and end.
    #[must_use]
    pub fn prefix(self, prefix: impl AsRef<[u8]>) -> Self {
        Self { range: KeyRange::of_prefix(Bytes::copy_from_slice(prefix.as_ref())), ..self }
    }

    /// Keys from this one on.
    #[must_use]
    pub fn start(mut self, start: impl AsRef<[u8]>) -> Self {
        self.range.start = Bytes::copy_from_slice(start.as_ref());
        self
    }

    /// Keys before this one. Where it does not lie behind the start there are none between them, which is no error.
    #[must_use]
    pub fn end(mut self, end: impl AsRef<[u8]>) -> Self {
        self.range.end = Some(Bytes::copy_from_slice(end.as_ref()));
        self
    }

    /// So many keys at most.
    #[must_use]
    pub fn limit(self, limit: u64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Without values: [`ScanEntry::value`] is empty.
    #[must_use]
    pub fn keys_only(self) -> Self {
        Self { keys_only: true, ..self }
    }

    /// How fresh the version must be that the first page fixes.
    #[must_use]
    pub fn consistency(self, consistency: Freshness) -> Self {
        Self { consistency, ..self }
    }

    /// The only server that is to be asked; any, near ones first, otherwise. It asks the primary where it must.
    #[must_use]
    pub fn from(self, server: ServerId) -> Self {
        Self { from: Some(server), ..self }
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
    version: Option<Version>,
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
        self.scan_with(ScanOptions::new().prefix(prefix))
    }

    /// The keys that `options` say.
    pub fn scan_with(&self, options: ScanOptions) -> Scan {
        Scan {
            client: self.clone(),
            rest: Some(options.range.clone()),
            options,
            page: VecDeque::new(),
            version: None,
            server: ServerId(0),
            epoch: Epoch::NONE,
        }
    }
}

impl Scan {
    /// The version of which all keys of this scan are; `None` before the first page has come.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// The next key; `None` once there is none. Dropped before it is done it has lost nothing, and after an error it may be
    /// called again.
    ///
    /// **Errors:** [`Error::NotApplied`] where no server answered in time; also where so much was changed since the first
    /// page that the servers no longer keep what keys had then, of which [`Error::refusal`] gives
    /// [`VersionTooOld`](heirloom_proto::Refusal::VersionTooOld): then only another scan helps. [`Error::BadInput`] where
    /// start or end are longer than a key may be.
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
        for bound in [Some(&range.start), range.end.as_ref()].into_iter().flatten() {
            if bound.len() > KEY_BYTES_MAX {
                return Err(BadInput::Key { bytes: bound.len() }.into());
            }
        }
        let asked = Asked { verb: "scan", key: self.options.range.start.clone(), is_change: false };
        let scan = heirloom_proto::Scan {
            range: range.clone(),
            // Nothing else is meant by 0, and a page is never that large.
            limit: self.options.limit.map_or(0, |limit| u32::try_from(limit).unwrap_or(u32::MAX)),
            keys_only: self.options.keys_only,
            at: self.version.map_or(At::Now(self.options.consistency), At::Version),
        };
        let from = self.options.from;
        let Answer { response, server } = self.client.read_from(&asked, Operation::Scan { scan, from }, from).await?;
        match response {
            Response::Scanned { entries, next, seen } => {
                // A page that does not go on would be asked for again without end.
                if next.as_ref().is_some_and(|next| *next <= range.start || entries.is_empty()) {
                    return Err(self.client.nonsense(&asked));
                }
                self.version = Some(seen.version);
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
