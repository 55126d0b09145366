//! The wire: generated gRPC code and the conversions. The only place in the house that names a prost type.

/// Generated from `proto/heirloom/v1/*.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("heirloom.v1");
}

/// The descriptors of all services, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/heirloom.bin"));
