//! Reading the lines back. Nothing in them is believed before it is checked.

use std::fmt;
use std::io::{BufRead, Read as _};

use bytes::Bytes;
use heirloom_proto::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX_MAX};
use serde::Deserialize;

use super::lines::{FORMAT, FORMAT_VERSION, Header, HeaderLine, Sum};
use crate::cli::text;

/// The longest line there may be: a text of control characters takes six bytes for each. **Units:** bytes.
const LINE_BYTES_MAX: u64 = 6 * (KEY_BYTES_MAX + VALUE_BYTES_MAX_MAX) as u64 + 4_096;

/// A key and its value, as a line has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    /// The number of its line; the first line, which is the header, has number 1.
    pub(crate) line: u64,
}

/// Why a file can't be read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The machine can't read it.
    Unreadable(String),
    /// The first line is that of another kind of file.
    NoExport,
    /// A newer Heirloom wrote it, in a form that is not known here.
    Newer {
        /// The number of that form.
        format_version: u64,
    },
    /// A line is not what it should be.
    Line {
        /// Its number.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// It ends before its last line, or in the midst of a line.
    CutOff {
        /// How many lines are whole.
        lines: u64,
    },
    /// There are more or fewer keys than the last line says.
    Keys {
        /// How many it says.
        told: u64,
        /// How many there are.
        found: u64,
    },
    /// The checksum of the last line is not that of the lines.
    Checksum,
    /// Something stands behind the last line.
    More,
}

/// Reads an export line by line.
pub(crate) struct Reading<R> {
    input: R,
    line: Vec<u8>,
    lines: u64,
    header: Header,
    sum: Sum,
    last_key: Option<Bytes>,
    whole_bytes: u64,
}

#[derive(Deserialize)]
struct Form {
    format: String,
    format_version: u64,
}

/// The line of a key, or the last one.
#[derive(Deserialize)]
struct Line {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    version: Option<u64>,
    changed_at_ms: Option<u64>,
    complete: Option<bool>,
    keys: Option<u64>,
    xxh3_128: Option<String>,
}

/// How a line ends.
enum End {
    /// With the end of a line.
    Whole,
    /// With the end of the file.
    File,
    /// Not soon enough.
    TooLong,
}

impl<R: BufRead> Reading<R> {
    /// Reads the header.
    ///
    /// **Errors:** [`Damage::CutOff`] where there is not even that.
    pub(crate) fn begin(mut input: R) -> Result<Self, Damage> {
        let mut line = Vec::new();
        let end = read_line(&mut input, &mut line)?;
        let Ok(Form { format, format_version }) = serde_json::from_slice(&line) else {
            return Err(match end {
                End::File if FORMAT_BEGINS.starts_with(&line) || line.starts_with(FORMAT_BEGINS) => {
                    Damage::CutOff { lines: 0 }
                }
                End::File | End::Whole | End::TooLong => Damage::NoExport,
            });
        };
        if format != FORMAT {
            return Err(Damage::NoExport);
        }
        if format_version > FORMAT_VERSION {
            return Err(Damage::Newer { format_version });
        }
        match end {
            End::Whole => {}
            End::File => return Err(Damage::CutOff { lines: 0 }),
            End::TooLong => return Err(Damage::NoExport),
        }
        let wrong = |why: String| Damage::Line { line: 1, why };
        let header: HeaderLine = serde_json::from_slice(&line).map_err(|error| wrong(words(&error)))?;
        let header = header.header().map_err(|why| wrong(why.to_owned()))?;
        let mut sum = Sum::default();
        sum.take_line(&line);
        let whole_bytes = line.len() as u64;
        Ok(Self { input, line, lines: 1, header, sum, last_key: None, whole_bytes })
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// How many lines were read, the last one too.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// What was read so far.
    pub(crate) fn sum(&self) -> &Sum {
        &self.sum
    }

    /// The key that was read last.
    pub(crate) fn last_key(&self) -> Option<&Bytes> {
        self.last_key.as_ref()
    }

    /// How long the header and the lines of keys are that were read.
    pub(crate) fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// The next key; `None` once the last line was read and all that it says is so.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, Damage> {
        let number = self.lines + 1;
        let wrong = |why: String| Damage::Line { line: number, why };
        match read_line(&mut self.input, &mut self.line)? {
            End::Whole => {}
            End::File => return Err(Damage::CutOff { lines: self.lines }),
            End::TooLong => return Err(wrong(format!("it has more than {LINE_BYTES_MAX} bytes"))),
        }
        let line: Line = serde_json::from_slice(&self.line).map_err(|error| wrong(words(&error)))?;
        self.lines = number;
        if line.complete.is_some() {
            return self.end(&line).map(|()| None);
        }
        let record = self.record(line, number).map_err(wrong)?;
        self.sum.take_line(&self.line);
        self.sum.take_key(&record.key, &record.value);
        self.whole_bytes += self.line.len() as u64;
        self.last_key = Some(record.key.clone());
        Ok(Some(record))
    }

    fn record(&self, line: Line, number: u64) -> Result<Record, String> {
        let key = text::from_either(line.key, line.key_base64)?.ok_or("it has no key")?;
        let value = text::from_either(line.value, line.value_base64)?.ok_or("it has no value")?;
        let version = line.version.ok_or("it has no version")?;
        line.changed_at_ms.ok_or("it has no changed_at_ms")?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(format!("its key has {} bytes, and keys have 1 to {KEY_BYTES_MAX}", key.len()));
        }
        if value.len() > VALUE_BYTES_MAX_MAX {
            return Err(format!("its value has {} bytes, more than any server takes", value.len()));
        }
        // So keys come once, and it does not matter in which order they are added.
        if self.last_key.as_ref().is_some_and(|last| *last >= key) {
            return Err("its key does not come after the one before it".to_owned());
        }
        if !self.header.range.contains(&key) {
            return Err("its key is not in the range that the first line names".to_owned());
        }
        if version > self.header.version.0 {
            let of = self.header.version;
            return Err(format!(
                "its version {version} is newer than version {of}, of which the first line says that all is"
            ));
        }
        Ok(Record { key, value, line: number })
    }

    fn end(&mut self, line: &Line) -> Result<(), Damage> {
        let (Some(true), Some(told), Some(checksum)) = (line.complete, line.keys, &line.xxh3_128) else {
            let why = "the last line does not say what it should".to_owned();
            return Err(Damage::Line { line: self.lines, why });
        };
        if told != self.sum.keys {
            return Err(Damage::Keys { told, found: self.sum.keys });
        }
        if *checksum != self.sum.checksum() {
            return Err(Damage::Checksum);
        }
        match self.input.fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(Damage::More),
            Err(error) => Err(Damage::Unreadable(error.to_string())),
        }
    }
}

/// How each export begins.
const FORMAT_BEGINS: &[u8] = br#"{"format":"heirloom export","#;

/// An error of JSON, without the only line that it knows of, and not with the whole of a value.
fn words(error: &serde_json::Error) -> String {
    const CHARACTERS_MAX: usize = 160;
    error.to_string().replace(" at line 1 column ", " at column ").chars().take(CHARACTERS_MAX).collect()
}

fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<End, Damage> {
    line.clear();
    let mut limited = input.by_ref().take(LINE_BYTES_MAX);
    limited.read_until(b'\n', line).map_err(|error| Damage::Unreadable(error.to_string()))?;
    Ok(match line.last() {
        Some(b'\n') => End::Whole,
        _ if line.len() as u64 == LINE_BYTES_MAX => End::TooLong,
        _ => End::File,
    })
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "it can't be read: {why}"),
            Self::NoExport => f.write_str("its first line is not that of an export of heirloom"),
            Self::Newer { format_version } => write!(
                f,
                "it is of format {format_version}, which a newer heirloom writes, and this one reads none above \
                 {FORMAT_VERSION}: use that one"
            ),
            Self::Line { line, why } => write!(f, "line {line} is damaged: {why}"),
            Self::CutOff { lines } => write!(
                f,
                "it is not whole: behind line {lines} there should be more, up to a line that says that it is complete"
            ),
            Self::Keys { told, found } => {
                write!(f, "its last line says that it has {told} keys, and it has {found}")
            }
            Self::Checksum => f.write_str("its lines are not those of which its last line has the checksum"),
            Self::More => f.write_str("it goes on behind the line that says that it is complete"),
        }
    }
}
