//! End to end: the executable, as its users meet it.
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test")]

#[path = "../world/mod.rs"]
mod world;

mod bad_input;
mod commands;
mod damaged;
mod disks;
mod examples;
mod failing_commands;
mod failover;
#[cfg(feature = "mutants")]
mod planted;
mod reads;
mod returning;
mod scans;
mod snapshot_files;
mod snapshots;
mod transfer;
mod two_servers;
mod verify;
mod watch;
