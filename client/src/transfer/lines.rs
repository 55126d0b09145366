//! The lines as they are written, and the sum over them.

use bytes::Bytes;
use heirloom_proto::{ClusterId, KeyRange, Version};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::cli::text;
use crate::scan::ScanEntry;

/// What the first line calls the file.
pub(super) const FORMAT: &str = "heirloom export";
/// The form of the lines that is written, and the newest that is read.
pub(super) const FORMAT_VERSION: u64 = 1;

/// What the first line says of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Whose version it is.
    pub(crate) cluster: ClusterId,
    /// The version at which all keys were so.
    pub(crate) version: Version,
    /// All keys of this range are there, and no others.
    pub(crate) range: KeyRange,
}

/// How many keys and bytes there were so far, and the checksum over their lines.
#[derive(Clone)]
pub(crate) struct Sum {
    hash: Box<Xxh3>,
    /// How many keys.
    pub(crate) keys: u64,
    /// How long all keys and values are. **Units:** bytes.
    pub(crate) bytes: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HeaderLine {
    format: String,
    format_version: u64,
    cluster: String,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_base64: Option<String>,
}

#[derive(Serialize)]
struct KeyLine {
    #[serde(flatten)]
    key: text::Key,
    #[serde(flatten)]
    value: text::Value,
    version: u64,
    changed_at_ms: u64,
}

#[derive(Serialize)]
struct LastLine {
    complete: bool,
    keys: u64,
    xxh3_128: String,
}

impl HeaderLine {
    /// What it says.
    ///
    /// **Errors:** what is wrong with it, for people.
    pub(super) fn header(self) -> Result<Header, &'static str> {
        let cluster = self.cluster.parse().map_err(|_| "its cluster can't be read")?;
        let start = text::from_either(self.start, self.start_base64)?.unwrap_or_default();
        let end = text::from_either(self.end, self.end_base64)?;
        let range = KeyRange { start, end };
        if !range.is_within_bounds() {
            return Err("the ends of its range are longer than a key may be");
        }
        Ok(Header { cluster, version: Version(self.version), range })
    }
}

impl Default for Sum {
    fn default() -> Self {
        Self { hash: Box::new(Xxh3::new()), keys: 0, bytes: 0 }
    }
}

impl Sum {
    /// The checksum over all lines so far, as it stands in the last line.
    pub(crate) fn checksum(&self) -> String {
        format!("{:032x}", self.hash.digest128())
    }

    /// Takes a line into account, with its end; that of a key is counted by itself.
    pub(super) fn take_line(&mut self, line: &[u8]) {
        self.hash.update(line);
    }

    /// Counts a key.
    pub(super) fn take_key(&mut self, key: &Bytes, value: &Bytes) {
        self.keys += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }

    /// Adds the first line to these lines.
    pub(super) fn write_header(&mut self, header: &Header, lines: &mut Vec<u8>) {
        let (start, start_base64) = text::either(&header.range.start);
        let (end, end_base64) = header.range.end.as_ref().map_or((None, None), |end| text::either(end));
        let line = HeaderLine {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            cluster: header.cluster.to_string(),
            version: header.version.0,
            start,
            start_base64,
            end,
            end_base64,
        };
        self.write(&line, lines);
    }

    /// Adds the line of a key.
    pub(super) fn write_key(&mut self, entry: &ScanEntry, lines: &mut Vec<u8>) {
        let line = KeyLine {
            key: text::Key::new(&entry.key),
            value: text::Value::new(&entry.value),
            version: entry.version.0,
            changed_at_ms: entry.changed_at.0,
        };
        self.take_key(&entry.key, &entry.value);
        self.write(&line, lines);
    }

    /// Adds the last line, over which there is no checksum.
    pub(super) fn write_last(&self, lines: &mut Vec<u8>) {
        append(&LastLine { complete: true, keys: self.keys, xxh3_128: self.checksum() }, lines);
    }

    fn write(&mut self, line: &impl Serialize, lines: &mut Vec<u8>) {
        let start = lines.len();
        append(line, lines);
        self.take_line(&lines[start..]);
    }
}

fn append(line: &impl Serialize, lines: &mut Vec<u8>) {
    serde_json::to_writer(&mut *lines, line).expect("numbers and texts can always be written");
    lines.push(b'\n');
}
