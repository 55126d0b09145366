//! Whole servers on loopback, within one process: what clients see of them, over gRPC as any language would use it.

mod changes;
mod clients;
mod failover;
mod neighbours;
mod reads;
mod scans;
mod upkeep;
mod watch;
mod world;
