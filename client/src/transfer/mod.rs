//! What is behind `heirloom export` and `heirloom import`: all keys of a range as lines of JSON, and back.
//!
//! The form of the lines, number 1:
//!
//! ```json
//! {"format":"heirloom export","format_version":1,"cluster":"00c0ffee00c0ffee/1","version":8,"start":""}
//! {"key":"a","value":"first","version":3,"changed_at_ms":1790000000000}
//! {"key_base64":"/w==","value_base64":"/wA=","version":8,"changed_at_ms":1790000000001}
//! {"complete":true,"keys":2,"xxh3_128":"3925fc149a495e54cbe0d762dfa079ac"}
//! ```
//!
//! The first line names the range from `start`, up to `end` where it has one, and the version at which all of it was so. Keys
//! come in their order, each once. The last line says how many there are, and the checksum: xxh3 of 128 bits over all bytes
//! before that line, ends of lines too; so `head -n -1 FILE | xxh128sum` gives it without us. A file without its last line is
//! not whole. Fields that are not known are passed over; where that would be wrong, the form gets another number.

pub(crate) mod add;
pub(crate) mod export;
pub(crate) mod import;
mod lines;
pub(crate) mod part;
mod reading;

#[cfg(test)]
mod tests;

pub(crate) use lines::{Header, Sum};
pub(crate) use reading::{Damage, Reading};
