//! The keys that are meant by the arguments of a command.

use std::ffi::OsString;

use clap::Args;
use heirloom_proto::KeyRange;

use super::text;

/// A prefix, or a range by its ends.
#[derive(Args, Debug)]
pub(crate) struct Range {
    /// What the keys begin with; all keys otherwise.
    #[arg(conflicts_with_all = ["start", "end"])]
    prefix: Option<OsString>,
    /// The first key that is meant.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    start: Option<OsString>,
    /// The first key that is not meant any more.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    end: Option<OsString>,
}

impl From<Range> for KeyRange {
    fn from(range: Range) -> Self {
        match range.prefix.map(text::bytes) {
            Some(prefix) => Self::of_prefix(prefix.into()),
            None => Self {
                start: range.start.map(text::bytes).unwrap_or_default().into(),
                end: range.end.map(text::bytes).map(Into::into),
            },
        }
    }
}
