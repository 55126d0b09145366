//! Pages of a range, and all other looks at the applied state.

use bytes::Bytes;
use heirloom_proto::limits::{PAGE_BYTES_MAX, PAGE_COUNT_MAX, PAGE_LOOKED_AT_MAX};
use heirloom_proto::{At, ClusterId, Lookup, Refusal, Response, Scan, Scanned, Seen, Version};

use crate::dictionary::Stored;
use crate::replica::Replica;

/// From this size on a value is shared with the dictionary; a smaller one is copied, for its share would keep a handle that
/// weighs as much as the value, and stays with it for good. **Units:** bytes.
const SHARED_FROM: usize = 4 << 10;

impl Replica {
    /// The version of the state that a look-up looks at.
    pub fn version_of(&self, lookup: &Lookup) -> Version {
        match lookup.at() {
            At::Now(_) => self.dictionary().version(),
            At::Version(version) => version,
        }
    }

    /// What a look-up finds in the applied state of the version that `seen` names.
    ///
    /// **Refuses when** a page is of a version that is no longer kept.
    ///
    /// **Panics if** it has not been applied yet, or a page is of no cluster.
    pub fn look(&self, lookup: &Lookup, seen: Seen, cluster: Option<ClusterId>) -> Result<Response, Refusal> {
        assert!(seen.version <= self.dictionary().version(), "a look at what is to come");
        match lookup {
            Lookup::Key { key, .. } => Ok(self.found(key, seen)),
            Lookup::Page(scan) => self.page(scan, seen, cluster.expect("only members of a cluster are read")),
        }
    }

    fn found(&self, key: &[u8], seen: Seen) -> Response {
        match self.dictionary().read(key) {
            Some(stored) => Response::Found {
                value: stored.value.clone(),
                version: stored.version,
                changed_at: stored.changed_at,
                seen,
            },
            None => Response::NotFound { seen },
        }
    }

    fn page(&self, scan: &Scan, seen: Seen, cluster: ClusterId) -> Result<Response, Refusal> {
        let wanted = usize::try_from(scan.limit).unwrap_or(usize::MAX);
        let count_max = if wanted == 0 { PAGE_COUNT_MAX } else { wanted.min(PAGE_COUNT_MAX) };
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut next = None;
        for (looked_at, (key, stored)) in self.dictionary().as_of(&scan.range, seen.version)?.enumerate() {
            let size = stored.map_or(0, |stored| key.len() + if scan.keys_only { 0 } else { stored.value.len() });
            let full = stored.is_some() && (found.len() >= count_max || bytes + size > PAGE_BYTES_MAX);
            if full && !found.is_empty() || looked_at >= PAGE_LOOKED_AT_MAX {
                next = Some(Bytes::copy_from_slice(key));
                break;
            }
            bytes += size;
            found.extend(stored.map(|stored| (key, stored)));
        }
        Ok(Response::Scanned { entries: entries(&found, scan.keys_only), next, seen, cluster })
    }
}

/// The entries of a page, in one buffer but for large values.
fn entries(found: &[(&Bytes, &Stored)], keys_only: bool) -> Vec<Scanned> {
    let is_copied = |stored: &Stored| !keys_only && stored.value.len() < SHARED_FROM;
    let copied = |(key, stored): &(&Bytes, &Stored)| key.len() + if is_copied(stored) { stored.value.len() } else { 0 };
    let mut buffer = Vec::with_capacity(found.iter().map(copied).sum());
    for (key, stored) in found {
        buffer.extend_from_slice(key);
        if is_copied(stored) {
            buffer.extend_from_slice(&stored.value);
        }
    }
    let mut buffer = Bytes::from(buffer);
    let entry = |(key, stored): &(&Bytes, &Stored)| Scanned {
        key: buffer.split_to(key.len()),
        value: match (keys_only, is_copied(stored)) {
            (true, _) => Bytes::new(),
            (false, true) => buffer.split_to(stored.value.len()),
            (false, false) => stored.value.clone(),
        },
        version: stored.version,
        changed_at: stored.changed_at,
    };
    found.iter().map(entry).collect()
}
