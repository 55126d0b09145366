//! The client of Heirloom, a replicated dictionary; also the commands of the executable `heirloom` that talk to servers.
//!
//! ```no_run
//! # async fn example() -> Result<(), heirloom::Error> {
//! let client = heirloom::Client::connect(["127.0.0.1:7400", "127.0.0.1:7401"]).await?;
//! let added = client.add("word", "definition").await?;
//! println!("version {}, on {} servers", added.version, added.copies);
//! let found = client.read("word").await?;
//! assert_eq!(found.map(|entry| entry.value), Some("definition".into()));
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] walks the list of servers when one fails and retries with the same request id, so a change is carried out
//! once or not at all. What is known at the end of a call is in the type of its error:
//!
//! ```no_run
//! # async fn example(client: heirloom::Client) {
//! match client.add("word", "definition").await {
//!     Ok(added) => println!("committed as version {}", added.version),
//!     Err(heirloom::Error::NotApplied(why)) => println!("surely not applied, try again: {:?}", why.0.reason),
//!     Err(heirloom::Error::Unknown(why)) => println!("applied or not, read the key: {:?}", why.0.reason),
//!     Err(heirloom::Error::BadInput(what)) => println!("never sent: {what}"),
//!     Err(heirloom::Error::WatchLost(_)) => unreachable!("that is for watches"),
//! }
//! # }
//! ```
//!
//! A change may hang on conditions, whose failing is no error but an answer; and several changes may take effect as one:
//! see [`Client::add_if_absent`], [`Client::add_if_version`], [`Client::delete_if_version`] and [`Client::change_set`].
//! [`Client::append`] lets the primary make the key: a prefix and the next number.
//!
//! [`Client::scan`] gives any number of keys, in their order and all at one version.
//!
//! [`Client::watch`] tells all changes of a range of keys, each once and in order, through any failover.
//!
//! The rules behind it (request numbers, whom to ask next, what is known of an outcome) are the pure crate
//! `heirloom-session`; here are the connections and the task that drives it.

mod answer;
mod changes;
pub mod cli;
mod client;
mod demo;
mod driver;
mod error;
mod scan;
mod transfer;
mod transport;
mod verify;
mod watch;

pub use answer::{Appended, Changed, Conditional, Entry, Looked, NotMet, ReadOptions};
pub use changes::ChangeSet;
pub use client::{Builder, Client, TIMEOUT_DEFAULT};
pub use error::{BadInput, Error, NotApplied, Report, ServerReport, Unknown, WatchLost};
pub use heirloom_proto::{Address, BadAddress, ClusterId, Epoch, KeyChange, KeyRange, ServerId, Version, WallTime};
pub use heirloom_session::{Freshness as Consistency, Heard, Reason};
pub use scan::{Scan, ScanEntry, ScanOptions};
pub use watch::{Watch, WatchOptions, Watched};
