//! Pages of evidence: what a command printed, under the command that printed it.

use std::path::{Path, PathBuf};

/// The page of what a command printed.
pub fn page(title: &str, command: &str, says: &str, printed: &str) -> String {
    format!(
        "# {title}\n\nMade by `{command}`; not written by hand.\n\n{says}\n\n```text\n{}\n```\n",
        printed.trim_end()
    )
}

/// Where a page of this name belongs.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/evidence").join(name)
}
