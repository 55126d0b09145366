//! An export under way: a scan, and the lines that come of it.

use bytes::Bytes;
use heirloom_proto::KeyRange;

use super::part::Begun;
use super::{Header, Sum};
use crate::client::Client;
use crate::error::Error;
use crate::scan::{Scan, ScanOptions};

/// How much is gathered before it is given on, unless one line alone is more. **Units:** bytes.
const GIVEN_AT_ONCE: usize = 64 << 10;

/// Makes the lines of an export, all of one version. It holds one page of a scan and [`GIVEN_AT_ONCE`].
pub(crate) struct Exporting {
    scan: Scan,
    range: KeyRange,
    header: Option<Header>,
    sum: Sum,
    /// Lines that are not given yet.
    lines: Vec<u8>,
    is_done: bool,
}

impl Exporting {
    /// From the beginning, of what is there now.
    pub(crate) fn begin(client: &Client, range: KeyRange) -> Self {
        let scan = client.scan_with(ScanOptions { range: range.clone(), ..ScanOptions::default() });
        Self { scan, range, header: None, sum: Sum::default(), lines: Vec::new(), is_done: false }
    }

    /// From behind the last key that there is, of the same version.
    pub(crate) fn go_on(client: &Client, begun: Begun) -> Self {
        let Begun { header, sum, last_key, is_complete } = begun;
        let behind = |key: Bytes| Bytes::from([&key[..], b"\0"].concat());
        let start = last_key.map_or_else(|| header.range.start.clone(), behind);
        let scan = client.scan_with(ScanOptions {
            range: KeyRange { start, end: header.range.end.clone() },
            at: Some((header.version, header.cluster)),
            ..ScanOptions::default()
        });
        let range = header.range.clone();
        Self { scan, range, header: Some(header), sum, lines: Vec::new(), is_done: is_complete }
    }

    /// Of which version of which cluster it is, once that is known.
    pub(crate) fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// What was given so far, and before.
    pub(crate) fn sum(&self) -> &Sum {
        &self.sum
    }

    /// The next lines; `None` behind the last one. Where it is dropped before its end, or ends with an error, nothing is lost.
    ///
    /// **Errors:** as of [`Scan::next`].
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        while !self.is_done && self.lines.len() < GIVEN_AT_ONCE {
            let entry = self.scan.next().await?;
            if self.header.is_none() {
                let (version, cluster) = self.scan.version().zip(self.scan.cluster()).expect("it has asked");
                let header = Header { cluster, version, range: self.range.clone() };
                self.sum.write_header(&header, &mut self.lines);
                self.header = Some(header);
            }
            match entry {
                Some(entry) => self.sum.write_key(&entry, &mut self.lines),
                None => {
                    self.sum.write_last(&mut self.lines);
                    self.is_done = true;
                }
            }
        }
        let lines = self.rest();
        Ok((!lines.is_empty()).then_some(lines))
    }

    /// The lines that there are without asking for more.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.lines)
    }
}
