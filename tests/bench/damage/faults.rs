//! What is done to files and directories, and which.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Files of a store that are hurt together: how their names begin.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub files: &'static [&'static str],
    pub holds: Holds,
}

/// What is lost where all copies of it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Something of which another copy is left on this disk, or that may be lost.
    NothingAlone,
    /// What others have too.
    Data,
    /// What nobody else has: what this voter has promised.
    Votes,
    /// Whose all the rest is.
    Name,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self { files: &["identity.a"], holds: Holds::NothingAlone },
        Self { files: &["identity.b"], holds: Holds::NothingAlone },
        Self { files: &["identity.a", "identity.b"], holds: Holds::Name },
        Self { files: &["register.a"], holds: Holds::NothingAlone },
        Self { files: &["register.b"], holds: Holds::NothingAlone },
        Self { files: &["register.a", "register.b"], holds: Holds::Votes },
        Self { files: &["progress.a"], holds: Holds::NothingAlone },
        Self { files: &["progress.b"], holds: Holds::NothingAlone },
        Self { files: &["progress.a", "progress.b"], holds: Holds::NothingAlone },
        Self { files: &["snapshot-"], holds: Holds::Data },
        Self { files: &["log-"], holds: Holds::Data },
    ];

    pub fn words(self) -> String {
        self.files.join(" and ")
    }
}

/// What is done to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    FlipFirst,
    FlipMiddle,
    FlipLast,
    Halve,
    Empty,
    Delete,
    Swap,
}

impl Fault {
    pub const ALL: [Self; 7] =
        [Self::FlipFirst, Self::FlipMiddle, Self::FlipLast, Self::Halve, Self::Empty, Self::Delete, Self::Swap];

    pub fn words(self) -> &'static str {
        match self {
            Self::FlipFirst => "a bit of the first byte flipped",
            Self::FlipMiddle => "a bit in the middle flipped",
            Self::FlipLast => "a bit of the last byte flipped",
            Self::Halve => "cut to half its length",
            Self::Empty => "cut to nothing",
            Self::Delete => "deleted",
            Self::Swap => "another server's in its place",
        }
    }

    /// Does it; `other` is what the same file of another server held.
    pub fn apply(self, path: &Path, other: &[u8]) {
        let file = || fs::File::options().read(true).write(true).open(path).expect("it is there");
        let used = used_bytes(path);
        match self {
            Self::FlipFirst => flip(&file(), 0),
            Self::FlipMiddle => flip(&file(), used / 2),
            Self::FlipLast => flip(&file(), used - 1),
            Self::Halve => file().set_len(used / 2).expect("cut"),
            Self::Empty => file().set_len(0).expect("cut"),
            Self::Delete => fs::remove_file(path).expect("deleted"),
            Self::Swap => fs::write(path, other).expect("written"),
        }
    }
}

/// The bytes up to the last one that is not zero: behind them is room that was reserved.
fn used_bytes(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("read");
    bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last as u64 + 1)
}

fn flip(file: &fs::File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("written");
}

/// What is done to the whole directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    Deleted,
    Older,
    Others,
}

impl Whole {
    pub const ALL: [Self; 3] = [Self::Deleted, Self::Older, Self::Others];

    pub fn words(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Older => "an older copy of it in its place",
            Self::Others => "another server's in its place",
        }
    }
}
