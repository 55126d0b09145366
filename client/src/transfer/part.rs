//! A file that has its name only once it is whole; until then it is called `.part`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Damage, Header, Reading, Sum};
use bytes::Bytes;

/// What is written to a file, and is not whole yet.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    part: PathBuf,
    file: File,
    /// Whether there was one, which is gone on with.
    goes_on: bool,
    replaces: bool,
}

/// What an interrupted export has left.
pub(crate) struct Begun {
    pub(crate) header: Header,
    pub(crate) sum: Sum,
    /// The last key that it has.
    pub(crate) last_key: Option<Bytes>,
    /// Whether nothing is missing but its name.
    pub(crate) is_complete: bool,
}

/// Why there is no such file to write to.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// There is a file of that name already.
    Exists,
    /// Another command writes it, or has left it unfinished.
    PartExists(PathBuf),
    /// What was left can't be gone on with.
    Damaged(PathBuf, Damage),
    /// The machine can't.
    Io(PathBuf, io::Error),
}

impl Part {
    /// The file for what is to have this name in the end; where it is to go on with what an earlier command left, and there
    /// is such a thing, as that left it.
    ///
    /// `replaces`: one of that name may be replaced, and what was left is thrown away unless it is gone on with.
    pub(crate) fn open(path: &Path, goes_on: bool, replaces: bool) -> Result<Self, Unfit> {
        let mut name = OsString::from(path);
        name.push(".part");
        let part = PathBuf::from(name);
        let io = |error| Unfit::Io(part.clone(), error);
        match path.symlink_metadata() {
            // Found out at the end, that would be late.
            Ok(metadata) if metadata.is_dir() => {
                return Err(Unfit::Io(path.to_owned(), io::ErrorKind::IsADirectory.into()));
            }
            Ok(_) if !replaces => return Err(Unfit::Exists),
            Ok(_) | Err(_) => {}
        }
        if goes_on && part.symlink_metadata().is_ok() {
            let file = File::options().read(true).write(true).open(&part).map_err(io)?;
            return Ok(Self { path: path.to_owned(), part, file, goes_on, replaces });
        }
        let mut options = File::options();
        options.write(true);
        match replaces {
            true => options.create(true).truncate(true),
            false => options.create_new(true),
        };
        match options.open(&part) {
            Ok(file) => Ok(Self { path: path.to_owned(), part, file, goes_on: false, replaces }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Unfit::PartExists(part)),
            Err(error) => Err(io(error)),
        }
    }

    /// What an export has already that goes on with what an earlier one left; its file goes on behind that.
    pub(crate) fn begun(&mut self) -> Result<Option<Begun>, Unfit> {
        if !self.goes_on {
            return Ok(None);
        }
        let (begun, bytes) = left(&self.file).map_err(|damage| Unfit::Damaged(self.part.clone(), damage))?;
        let is_complete = begun.as_ref().is_some_and(|begun| begun.is_complete);
        if !is_complete {
            let io = |error| Unfit::Io(self.part.clone(), error);
            self.file.set_len(bytes).map_err(io)?;
            self.file.seek(SeekFrom::Start(bytes)).map_err(io)?;
        }
        Ok(begun)
    }

    /// What it is called until it is whole.
    pub(crate) fn part_path(&self) -> &Path {
        &self.part
    }

    /// The file, to be written to at its end.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives it its name, once all of it is on the disk.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.file.sync_all()?;
        if !self.replaces && self.path.symlink_metadata().is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} is there by now", self.path.display()),
            ));
        }
        fs::rename(&self.part, &self.path)?;
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            Some(_) | None => Path::new("."),
        };
        // A name is on the disk once its folder is.
        File::open(folder)?.sync_all()
    }

    /// Whether something can go on with it. One without a byte is removed, so that nobody has to.
    pub(crate) fn is_left(&self) -> bool {
        match self.part.metadata() {
            // Where it can't be removed, the next export says that it is there.
            Ok(metadata) if metadata.len() == 0 => fs::remove_file(&self.part).is_err(),
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

/// What is in the file, and how long the lines are with which an export can go on. A line that was cut off is none of them.
fn left(file: &File) -> Result<(Option<Begun>, u64), Damage> {
    let mut reading = match Reading::begin(BufReader::new(file)) {
        Ok(reading) => reading,
        Err(Damage::CutOff { .. }) => return Ok((None, 0)),
        Err(damage) => return Err(damage),
    };
    let is_complete = loop {
        match reading.next() {
            Ok(Some(_)) => {}
            Ok(None) => break true,
            Err(Damage::CutOff { .. }) => break false,
            Err(damage) => return Err(damage),
        }
    };
    let begun = Begun {
        header: reading.header().clone(),
        sum: reading.sum().clone(),
        last_key: reading.last_key().cloned(),
        is_complete,
    };
    Ok((Some(begun), reading.whole_bytes()))
}
