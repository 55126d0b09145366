//! Refusals on the wire: in a session stream as a message, on a unary call as a canonical status with the same message in
//! the trailer [`REFUSAL_TRAILER`].

use prost::Message as _;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::{Code, Status};

use super::v1::{self, refusal::Kind};
use crate::codec::Malformed;
use crate::ids::{ServerId, Version};
use crate::request::Refusal;

/// The trailer in which a refusal travels on unary calls.
pub const REFUSAL_TRAILER: &str = "heirloom-refusal-bin";

/// A refusal as a client receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What was refused and why. The `reason` of [`Refusal::BadServer`] does not travel; it is in `message`.
    pub refusal: Refusal,
    /// One sentence for people, as the server said it.
    pub message: String,
    /// Where the primary is, where the refusal names one.
    pub primary_address: Option<String>,
}

/// A refusal for the wire; `primary_address` is that of the primary which it names.
pub fn refusal_to_wire(refusal: &Refusal, primary_address: Option<&str>) -> v1::Refusal {
    let (kind, primary, bound) = match refusal {
        Refusal::NotPrimary { primary } => (Kind::NotPrimary, *primary, 0),
        Refusal::OutcomeUnknown => (Kind::OutcomeUnknown, None, 0),
        Refusal::SessionExpired => (Kind::SessionExpired, None, 0),
        Refusal::SessionUnknown => (Kind::SessionUnknown, None, 0),
        Refusal::SequenceAnswered { lowest_unanswered } => (Kind::SequenceAnswered, None, *lowest_unanswered),
        Refusal::Overloaded => (Kind::Overloaded, None, 0),
        Refusal::BadKey { bytes_max } => (Kind::BadKey, None, *bytes_max as u64),
        Refusal::BadValue { bytes_max } => (Kind::BadValue, None, *bytes_max as u64),
        Refusal::BadSequence => (Kind::BadSequence, None, 0),
        Refusal::BadServer { .. } => (Kind::BadServer, None, 0),
        Refusal::HandOverCalledOff => (Kind::HandOverCalledOff, None, 0),
        Refusal::Recovering => (Kind::Recovering, None, 0),
        Refusal::VersionAhead { version } => (Kind::VersionAhead, None, version.0),
        Refusal::VersionTooOld { oldest } => (Kind::VersionTooOld, None, oldest.0),
        Refusal::OtherCluster => (Kind::OtherCluster, None, 0),
        Refusal::BadSet { count_max } => (Kind::BadSet, None, *count_max as u64),
    };
    v1::Refusal {
        kind: kind.into(),
        message: sentence(refusal, primary_address),
        primary: primary.map(|server| u32::from(server.0)),
        primary_address: primary_address.unwrap_or_default().to_owned(),
        bound,
        outcome_unknown: *refusal == Refusal::OutcomeUnknown,
    }
}

/// A refusal from the wire.
///
/// **Errors:** [`Malformed`] where its kind is unknown here or a part is out of range.
pub fn refusal_from_wire(wire: v1::Refusal) -> Result<Refused, Malformed> {
    let kind = Kind::try_from(wire.kind).map_err(|_| Malformed("refusal kind"))?;
    let bytes_max = || usize::try_from(wire.bound).map_err(|_| Malformed("refusal bound"));
    let refusal = match kind {
        Kind::Unspecified => return Err(Malformed("refusal kind")),
        Kind::NotPrimary => {
            let primary = wire.primary.map(u8::try_from).transpose().map_err(|_| Malformed("refusal primary"))?;
            Refusal::NotPrimary { primary: primary.map(ServerId) }
        }
        Kind::OutcomeUnknown => Refusal::OutcomeUnknown,
        Kind::SessionExpired => Refusal::SessionExpired,
        Kind::SessionUnknown => Refusal::SessionUnknown,
        Kind::SequenceAnswered => Refusal::SequenceAnswered { lowest_unanswered: wire.bound },
        Kind::Overloaded => Refusal::Overloaded,
        Kind::BadKey => Refusal::BadKey { bytes_max: bytes_max()? },
        Kind::BadValue => Refusal::BadValue { bytes_max: bytes_max()? },
        Kind::BadSequence => Refusal::BadSequence,
        Kind::BadServer => Refusal::BadServer { reason: "the server named can't be used for this" },
        Kind::HandOverCalledOff => Refusal::HandOverCalledOff,
        Kind::Recovering => Refusal::Recovering,
        Kind::BadSet => Refusal::BadSet { count_max: bytes_max()? },
        Kind::VersionTooOld => Refusal::VersionTooOld { oldest: Version(wire.bound) },
        Kind::OtherCluster => Refusal::OtherCluster,
        Kind::VersionAhead => Refusal::VersionAhead { version: Version(wire.bound) },
    };
    let primary_address = Some(wire.primary_address).filter(|address| !address.is_empty());
    Ok(Refused { refusal, message: wire.message, primary_address })
}

/// The status that says a refusal on a unary call: a canonical code by its meaning, and the refusal itself in the trailer.
pub fn status_from_refusal(refusal: &Refusal, primary_address: Option<&str>) -> Status {
    let wire = refusal_to_wire(refusal, primary_address);
    let mut trailers = MetadataMap::new();
    trailers.insert_bin(REFUSAL_TRAILER, BinaryMetadataValue::from_bytes(&wire.encode_to_vec()));
    Status::with_metadata(code(refusal), wire.message, trailers)
}

/// The refusal that a status carries; `None` where it is no refusal of ours (a broken connection, say).
///
/// A trailer that can't be read counts as none: the status alone still tells what a generic client would be told.
pub fn refusal_from_status(status: &Status) -> Option<Refused> {
    let bytes = status.metadata().get_bin(REFUSAL_TRAILER)?.to_bytes().ok()?;
    refusal_from_wire(v1::Refusal::decode(bytes).ok()?).ok()
}

/// The canonical code of a refusal.
///
/// Generic clients retry `UNAVAILABLE` by themselves, so it is given only where nothing was or will be applied; an unknown
/// outcome is `ABORTED`, which asks for a retry at a higher level (with the same request id, or after a look).
pub fn code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::NotPrimary { .. } | Refusal::SessionUnknown => Code::Unavailable,
        Refusal::OutcomeUnknown | Refusal::HandOverCalledOff => Code::Aborted,
        Refusal::SessionExpired
        | Refusal::SequenceAnswered { .. }
        | Refusal::Recovering
        | Refusal::OtherCluster
        | Refusal::VersionAhead { .. } => Code::FailedPrecondition,
        Refusal::VersionTooOld { .. } => Code::OutOfRange,
        Refusal::Overloaded => Code::ResourceExhausted,
        Refusal::BadKey { .. }
        | Refusal::BadValue { .. }
        | Refusal::BadSet { .. }
        | Refusal::BadSequence
        | Refusal::BadServer { .. } => Code::InvalidArgument,
    }
}

/// A refusal as one sentence for people: what is so and what to do.
pub fn sentence(refusal: &Refusal, primary_address: Option<&str>) -> String {
    match refusal {
        Refusal::NotPrimary { primary: None } => {
            "no primary is known here at the moment: nothing was applied, ask again".to_owned()
        }
        Refusal::NotPrimary { primary: Some(server) } => match primary_address {
            Some(address) => format!("server {server} at {address} is the primary: ask there"),
            None => format!("server {server} is the primary: ask there"),
        },
        Refusal::OutcomeUnknown => "the change was under way when the server lost its place, so it may or may not be \
            applied: ask again with the same request id, or read what it changes"
            .to_owned(),
        Refusal::SessionExpired => {
            "the session was closed or idle for too long: open another; an unanswered change of \
            the old one may or may not be applied"
                .to_owned()
        }
        Refusal::SessionUnknown => "the session is not known here yet: ask again".to_owned(),
        Refusal::SequenceAnswered { lowest_unanswered } => format!(
            "the answer was forgotten, because the session said that it had seen all below {lowest_unanswered}: use a \
            new sequence for a new change"
        ),
        Refusal::Overloaded => "too many requests wait here: nothing was applied, ask again more slowly".to_owned(),
        Refusal::BadKey { bytes_max } => format!("the key is empty or too long: use 1 to {bytes_max} bytes"),
        Refusal::BadValue { bytes_max } => format!("the value is too large: use at most {bytes_max} bytes"),
        Refusal::BadSet { count_max } => format!(
            "the change set is empty, changes a key twice or is too large: use 1 to {count_max} changes of different keys and \
            at most {count_max} conditions"
        ),
        Refusal::BadSequence => {
            "the sequence is 0 or too far beyond the lowest unanswered one: count from 1, one more \
            for each change"
                .to_owned()
        }
        Refusal::BadServer { reason } => (*reason).to_owned(),
        Refusal::HandOverCalledOff => {
            "the hand-over was called off because the target did not catch up in time: the primary goes on, ask again"
                .to_owned()
        }
        Refusal::VersionAhead { version } => format!(
            "the cluster is at version {version} and has never been at the one that was asked for: it was set back, or the \
            version is of another cluster"
        ),
        Refusal::VersionTooOld { oldest } => format!(
            "the version that was asked for is too old: what is kept goes back to version {oldest}; begin anew with what is \
            so now"
        ),
        Refusal::OtherCluster => {
            "the version that was asked for is of another cluster, or of this one before it was set \
            back: begin anew with what is so now"
                .to_owned()
        }
        Refusal::Recovering => "this server has restarted and has not found its place yet, so it can't use the word: \
            ask a server that was up, or use heirloom recover"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::refusals;
    use super::*;

    #[test]
    fn every_refusal_survives_the_wire_and_the_trailer() {
        for refusal in refusals() {
            let refused = refusal_from_wire(refusal_to_wire(&refusal, None)).expect("well formed");
            assert_eq!(refused.refusal, refusal);
            let status = status_from_refusal(&refusal, Some("127.0.0.1:7401"));
            let refused = refusal_from_status(&status).expect("carries the refusal");
            assert_eq!(refused.refusal, refusal);
            assert_eq!(refused.primary_address.as_deref(), Some("127.0.0.1:7401"));
            assert_eq!(refused.message, status.message());
        }
    }

    #[test]
    fn only_an_unknown_outcome_is_said_to_be_unknown_and_none_is_retried_blindly() {
        for refusal in refusals() {
            let unknown = refusal == Refusal::OutcomeUnknown;
            assert_eq!(refusal_to_wire(&refusal, None).outcome_unknown, unknown);
            assert!(!(unknown && code(&refusal) == Code::Unavailable));
        }
    }

    #[test]
    fn a_garbled_refusal_is_refused_and_a_garbled_trailer_is_none() {
        assert!(refusal_from_wire(v1::Refusal::default()).is_err());
        let kind = v1::refusal::Kind::NotPrimary.into();
        assert!(refusal_from_wire(v1::Refusal { kind, primary: Some(256), ..Default::default() }).is_err());
        let mut status = Status::unavailable("no");
        status.metadata_mut().insert_bin(REFUSAL_TRAILER, BinaryMetadataValue::from_bytes(b"\xff\xff"));
        assert_eq!(refusal_from_status(&status), None);
        assert_eq!(refusal_from_status(&Status::cancelled("timeout")), None);
    }
}
