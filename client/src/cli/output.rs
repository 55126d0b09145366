//! The one place from which answers go to standard output.

use std::io::{self, Write as _};

use serde::Serialize;

use super::failure::Failure;

/// Writes an answer as it is.
pub(crate) fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Writes one line.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    write(format!("{text}\n").as_bytes())
}

/// Writes one JSON object on a line.
pub(crate) fn json(object: &impl Serialize) -> Result<(), Failure> {
    write(json_line(object).as_bytes())
}

/// One JSON object on a line.
pub(crate) fn json_line(object: &impl Serialize) -> String {
    serde_json::to_string(object).expect("an answer of numbers and texts can always be written") + "\n"
}

/// For answers of any number of lines; what was written is told once it is flushed.
pub(crate) fn lines() -> impl io::Write {
    io::BufWriter::with_capacity(64 << 10, io::stdout())
}
