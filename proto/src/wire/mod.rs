//! The wire: generated gRPC code and the conversions. The only place in the house that names a prost type.
//!
//! What comes from outside is parsed here, at the wall: it is a value of ours afterwards or a typed error, never a panic.

pub mod client;
#[cfg(any(test, feature = "testing"))]
pub mod examples;
pub mod link;
mod parts;
pub mod refusal;
pub mod snapshot;

use std::time::Duration;

use crate::codec::Malformed;
use crate::ids::{ClusterId, Epoch, RunId, ServerId};

/// Generated from `proto/heirloom/v1/*.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("heirloom.v1");
}

/// The descriptors of all services, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/heirloom.bin"));

/// An epoch for the wire.
pub fn epoch_to_wire(epoch: Epoch) -> v1::Epoch {
    v1::Epoch { round: epoch.round, server: u32::from(epoch.server.0), run: epoch.run.0 }
}

/// An epoch from the wire.
///
/// **Errors:** [`Malformed`] where there is none or its server is out of range.
pub fn epoch_from_wire(wire: Option<v1::Epoch>) -> Result<Epoch, Malformed> {
    let wire = wire.ok_or(Malformed("epoch"))?;
    Ok(Epoch { round: wire.round, server: server_from_wire(wire.server)?, run: RunId(wire.run) })
}

/// A server's id from the wire.
///
/// **Errors:** [`Malformed`] where it is out of range.
pub fn server_from_wire(wire: u32) -> Result<ServerId, Malformed> {
    u8::try_from(wire).map(ServerId).map_err(|_| Malformed("server id"))
}

/// A cluster's name for the wire; empty where there is none.
pub fn cluster_to_text(cluster: Option<ClusterId>) -> String {
    cluster.map_or_else(String::new, |cluster| cluster.to_string())
}

/// A cluster's name from the wire.
///
/// **Errors:** [`Malformed`] where it is no name.
pub fn cluster_from_text(wire: &str) -> Result<Option<ClusterId>, Malformed> {
    let named = (!wire.is_empty()).then(|| wire.parse());
    named.transpose().map_err(|_| Malformed("cluster"))
}

/// A span for the wire, in nanoseconds, of which a number holds 580 years.
pub(crate) fn span_to_wire(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
