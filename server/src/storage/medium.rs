//! What a [`super::PowerFailureFiles`] keeps: what is seen, what is kept, and what lies between.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::path::{Component, Path, PathBuf};

/// How much is written whole or not at all.
const SECTORS: [usize; 3] = [16, 64, 512];

#[derive(Debug)]
pub(super) struct Medium {
    pub(super) nodes: Vec<Node>,
    pub(super) syncs_count: bool,
    pub(super) boot: u64,
    pub(super) operations: u64,
    pub(super) fuse: Option<Fuse>,
    pub(super) off: bool,
    pub(super) lose_next_write: bool,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) read_bytes_max: usize,
}

/// What happens at a later operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fuse {
    PowerAt(u64),
    ErrorAt(u64, ErrorKind),
}

#[derive(Debug)]
pub(super) enum Node {
    File { seen: Content, kept: Content, pending: Vec<Write> },
    Directory { seen: BTreeMap<String, usize>, kept: BTreeMap<String, usize>, pending: Vec<Names> },
}

/// Names that change as one.
pub(super) type Names = Vec<(String, Option<usize>)>;

#[derive(Clone, Debug)]
pub(super) enum Write {
    Bytes(usize, Vec<u8>),
    Length(usize),
    Empty,
}

/// What a file holds; behind the bytes that were written, zeros up to its length.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    pub(super) length: usize,
}

impl Content {
    pub(super) fn apply(&mut self, write: &Write) {
        match write {
            Write::Bytes(offset, bytes) => self.put(*offset, bytes),
            Write::Length(length) => self.length = self.length.max(*length),
            Write::Empty => *self = Self::default(),
        }
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        self.length = self.length.max(end);
    }

    /// Applies some sectors of a write.
    fn tear(&mut self, write: &Write, random: &mut Random) {
        match write {
            Write::Bytes(offset, bytes) => {
                let sector = SECTORS[random.below(SECTORS.len() as u64) as usize];
                let mut from = 0;
                while from < bytes.len() {
                    let to = (((offset + from) / sector + 1) * sector - offset).min(bytes.len());
                    if random.below(2) == 0 {
                        self.put(offset + from, &bytes[from..to]);
                    }
                    from = to;
                }
            }
            Write::Length(_) | Write::Empty => {
                if random.below(2) == 0 {
                    self.apply(write);
                }
            }
        }
    }
}

/// The splitmix64 generator: the seed is the whole story.
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn rename_in(names: &mut BTreeMap<String, usize>, changes: &Names) {
    for (name, node) in changes {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

fn parts(path: &Path) -> Vec<String> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    };
    path.components().filter_map(part).collect()
}

impl Medium {
    /// Forgets what was not synced, as `random` says.
    pub(super) fn lose(&mut self, random: &mut Random) {
        for node in &mut self.nodes {
            match node {
                Node::File { seen, kept, pending } => {
                    let whole = random.below(pending.len() as u64 + 1) as usize;
                    let reordered = random.below(2) == 0;
                    for (place, write) in pending.iter().enumerate() {
                        if reordered || place == whole {
                            kept.tear(write, random);
                        } else if place < whole {
                            kept.apply(write);
                        }
                    }
                    pending.clear();
                    *seen = kept.clone();
                }
                Node::Directory { seen, kept, pending } => {
                    let whole = random.below(pending.len() as u64 + 1) as usize;
                    for names in pending.drain(..).take(whole) {
                        rename_in(kept, &names);
                    }
                    pending.clear();
                    *seen = kept.clone();
                }
            }
        }
    }

    pub(super) fn wake(&mut self) {
        self.boot += 1;
        self.off = false;
        self.fuse = None;
        self.locks.clear();
    }

    pub(super) fn names(&self, directory: usize) -> Result<&BTreeMap<String, usize>> {
        match &self.nodes[directory] {
            Node::Directory { seen, .. } => Ok(seen),
            Node::File { .. } => Err(Error::from(ErrorKind::NotADirectory)),
        }
    }

    fn walk(&self, parts: &[String]) -> Result<usize> {
        parts.iter().try_fold(0, |node, part| {
            self.names(node)?.get(part).copied().ok_or_else(|| Error::from(ErrorKind::NotFound))
        })
    }

    pub(super) fn find(&self, path: &Path) -> Result<usize> {
        self.walk(&parts(path))
    }

    pub(super) fn parent(&self, path: &Path) -> Result<(usize, String)> {
        let mut parts = parts(path);
        let name = parts.pop().ok_or_else(|| Error::from(ErrorKind::AlreadyExists))?;
        Ok((self.walk(&parts)?, name))
    }

    pub(super) fn change(&mut self, directory: usize, changes: Names) -> Result<()> {
        match &mut self.nodes[directory] {
            Node::Directory { seen, pending, .. } => {
                rename_in(seen, &changes);
                pending.push(changes);
                Ok(())
            }
            Node::File { .. } => Err(Error::from(ErrorKind::NotADirectory)),
        }
    }

    pub(super) fn add(&mut self, path: &Path, node: Node) -> Result<usize> {
        let (directory, name) = self.parent(path)?;
        let number = self.nodes.len();
        self.nodes.push(node);
        self.change(directory, vec![(name, Some(number))])?;
        Ok(number)
    }

    pub(super) fn write(&mut self, node: usize, write: Write) {
        if let Node::File { seen, pending, .. } = &mut self.nodes[node] {
            seen.apply(&write);
            pending.push(write);
        }
    }
}
