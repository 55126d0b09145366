//! The encoding of [`Identity`], and of a register that may never have been stored.

use std::collections::BTreeMap;
use std::time::Duration;

use heirloom_proto::codec::{Malformed, Reader, Writer};
use heirloom_proto::limits::SERVERS_MAX;
use heirloom_proto::time::Drift;
use heirloom_proto::{ClusterId, Constants, Identity, QuorumRule, Register, ServerId, StoreId, VoterKind};

/// Writes an identity.
pub(super) fn encode_identity(identity: &Identity) -> Vec<u8> {
    let mut out = Writer::new();
    out.u8(identity.server.0).u64(identity.store.0);
    match &identity.cluster {
        None => {
            out.u8(0);
        }
        Some((cluster, constants)) => {
            out.u8(1).u64(cluster.id).u32(cluster.generation);
            encode_constants(&mut out, constants);
        }
    }
    out.count(identity.enrolled.len());
    for (server, store) in &identity.enrolled {
        out.u8(server.0).u64(store.0);
    }
    out.u8(u8::from(identity.enrolment_open));
    out.finish()
}

fn encode_constants(out: &mut Writer, constants: &Constants) {
    out.count(constants.voters.len());
    for kind in &constants.voters {
        out.u8(match kind {
            VoterKind::Data => 1,
            VoterKind::Witness => 2,
        });
    }
    out.u8(match constants.quorum {
        QuorumRule::Majority => 1,
        QuorumRule::Survivors => 2,
    });
    out.u64(constants.lease.as_secs()).u32(constants.lease.subsec_nanos());
    out.u32(constants.drift.0).u64(constants.min_copies as u64);
}

/// Reads an identity.
///
/// **Errors:** [`Malformed`] where the bytes are not exactly one identity.
pub(super) fn decode_identity(bytes: Vec<u8>) -> Result<Identity, Malformed> {
    let mut reader = Reader::new(bytes.into());
    let server = ServerId(reader.u8("identity server")?);
    let store = StoreId(reader.u64("identity store")?);
    let cluster = match reader.u8("identity cluster")? {
        0 => None,
        1 => {
            let cluster =
                ClusterId { id: reader.u64("identity cluster id")?, generation: reader.u32("identity generation")? };
            Some((cluster, decode_constants(&mut reader)?))
        }
        _ => return Err(Malformed("identity cluster")),
    };
    let count = reader.count(9, "identity enrolled")?;
    let mut enrolled = BTreeMap::new();
    for _ in 0..count {
        let server = ServerId(reader.u8("enrolled server")?);
        // In one order and none twice, so that an identity has one encoding.
        if enrolled.last_key_value().is_some_and(|(last, _)| *last >= server) {
            return Err(Malformed("enrolled server"));
        }
        enrolled.insert(server, StoreId(reader.u64("enrolled store")?));
    }
    let enrolment_open = match reader.u8("identity enrolment")? {
        0 => false,
        1 => true,
        _ => return Err(Malformed("identity enrolment")),
    };
    reader.end("identity")?;
    Ok(Identity { server, store, cluster, enrolled, enrolment_open })
}

fn decode_constants(reader: &mut Reader) -> Result<Constants, Malformed> {
    let count = reader.count(1, "constants voters")?;
    if count > SERVERS_MAX {
        return Err(Malformed("constants voters"));
    }
    let mut voters = Vec::with_capacity(count);
    for _ in 0..count {
        voters.push(match reader.u8("voter kind")? {
            1 => VoterKind::Data,
            2 => VoterKind::Witness,
            _ => return Err(Malformed("voter kind")),
        });
    }
    let quorum = match reader.u8("quorum rule")? {
        1 => QuorumRule::Majority,
        2 => QuorumRule::Survivors,
        _ => return Err(Malformed("quorum rule")),
    };
    let (seconds, nanos) = (reader.u64("lease")?, reader.u32("lease")?);
    if nanos >= 1_000_000_000 {
        return Err(Malformed("lease"));
    }
    let drift = Drift(reader.u32("drift")?);
    let min_copies = usize::try_from(reader.u64("min copies")?).map_err(|_| Malformed("min copies"))?;
    Ok(Constants { voters, quorum, lease: Duration::new(seconds, nanos), drift, min_copies })
}

/// Writes a register, or that none was ever stored: said in a record of its own, so that lost files are damage and not
/// a server that has never voted.
pub(super) fn encode_register(register: Option<&Register>) -> Vec<u8> {
    let mut out = Writer::new();
    match register {
        None => out.u8(0),
        Some(register) => out.u8(1).bytes(&register.encode()),
    };
    out.finish()
}

/// Reads a register, or that none was ever stored.
pub(super) fn decode_register(bytes: Vec<u8>) -> Result<Option<Register>, Malformed> {
    let mut reader = Reader::new(bytes.into());
    let register = match reader.u8("register")? {
        0 => None,
        1 => Some(Register::decode(reader.bytes("register")?.to_vec())?),
        _ => return Err(Malformed("register")),
    };
    reader.end("register")?;
    Ok(register)
}

/// Writes what a half-done [`super::recover`] still has to store.
pub(super) fn encode_recovery(identity: &Identity, register: &Register) -> Vec<u8> {
    let mut out = Writer::new();
    out.bytes(&encode_identity(identity)).bytes(&encode_register(Some(register)));
    out.finish()
}

/// Reads what a half-done [`super::recover`] still has to store.
pub(super) fn decode_recovery(bytes: Vec<u8>) -> Result<(Identity, Register), Malformed> {
    let mut reader = Reader::new(bytes.into());
    let identity = decode_identity(reader.bytes("recovery identity")?.to_vec())?;
    let register = decode_register(reader.bytes("recovery register")?.to_vec())?;
    reader.end("recovery")?;
    Ok((identity, register.ok_or(Malformed("recovery register"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Identity {
        let mut constants = Constants::defaults(vec![VoterKind::Data, VoterKind::Data, VoterKind::Witness]);
        constants.lease = Duration::new(3, 7);
        Identity {
            server: ServerId(1),
            store: StoreId(0xabc),
            cluster: Some((ClusterId { id: 9, generation: 4 }, constants)),
            enrolled: BTreeMap::from([(ServerId(0), StoreId(5)), (ServerId(1), StoreId(6))]),
            enrolment_open: true,
        }
    }

    #[test]
    fn an_identity_survives_its_encoding() {
        let blank = Identity { cluster: None, enrolled: BTreeMap::new(), enrolment_open: false, ..example() };
        for identity in [example(), blank] {
            assert_eq!(decode_identity(encode_identity(&identity)), Ok(identity));
        }
    }

    #[test]
    fn every_cut_of_an_identity_and_of_a_recovery_is_refused() {
        let bytes = encode_identity(&example());
        for length in 0..bytes.len() {
            assert!(decode_identity(bytes[..length].to_vec()).is_err(), "accepted {length} bytes");
        }
        let bytes = encode_recovery(&example(), &Register::LOST);
        assert_eq!(decode_recovery(bytes.clone()), Ok((example(), Register::LOST)));
        for length in 0..bytes.len() {
            assert!(decode_recovery(bytes[..length].to_vec()).is_err(), "accepted {length} bytes");
        }
    }

    #[test]
    fn an_identity_has_one_encoding() {
        let mut bytes = encode_identity(&example());
        let (first, second) = (bytes.len() - 1 - 18, bytes.len() - 1 - 9);
        bytes.swap(first, second);
        assert_eq!(decode_identity(bytes.clone()), Err(Malformed("enrolled server")));
        bytes[first] = bytes[second];
        assert_eq!(decode_identity(bytes), Err(Malformed("enrolled server")));
    }

    #[test]
    fn a_register_never_stored_differs_from_a_fresh_one() {
        assert_eq!(decode_register(encode_register(None)), Ok(None));
        assert_eq!(decode_register(encode_register(Some(&Register::FRESH))), Ok(Some(Register::FRESH)));
        assert!(decode_register(Vec::new()).is_err());
    }
}
