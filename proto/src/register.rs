//! The voter's copy of the view register: what it promised and accepted (PROTOCOL 5).

use crate::codec::{Malformed, Reader, Writer};
use crate::entry::{read_epoch, write_epoch};
use crate::ids::Epoch;
use crate::mutants::{Mutant, planted};
use crate::view::View;

/// Whether a voter's memory of its votes is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It remembers every vote that it gave.
    Intact,
    /// Its register was lost. It gives no vote until it has heard from *all* other voters, none in the same plight, and
    /// has stored the highest promised and accepted among them.
    Amnesiac,
}

/// The register as it is stored.
///
/// **Invariants:** `accepted` is never of an epoch above `promised`; neither ever goes back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Register {
    /// Nothing of a lower epoch is taken any more.
    pub promised: Epoch,
    /// The view of the highest epoch accepted.
    pub accepted: Option<View>,
    /// Whether it may vote.
    pub standing: Standing,
}

impl Register {
    /// The register of a voter that has never voted.
    pub const FRESH: Self = Self { promised: Epoch::NONE, accepted: None, standing: Standing::Intact };

    /// The register of a voter that has lost its memory.
    pub const LOST: Self = Self { promised: Epoch::NONE, accepted: None, standing: Standing::Amnesiac };

    /// The epoch of the accepted view.
    pub fn accepted_epoch(&self) -> Epoch {
        self.accepted.as_ref().map_or(Epoch::NONE, |view| view.epoch)
    }

    /// Takes the promise of `epoch`; false where a promise at least as high stands.
    #[must_use]
    pub fn promise(&mut self, epoch: Epoch) -> bool {
        let same_round = planted(Mutant::TwoPromisesOfOneEpoch) && epoch.round == self.promised.round;
        if epoch <= self.promised && !same_round {
            return false;
        }
        self.promised = self.promised.max(epoch);
        true
    }

    /// Accepts a view; false where a higher promise stands.
    #[must_use]
    pub fn accept(&mut self, view: &View) -> bool {
        let same_round = planted(Mutant::TwoPromisesOfOneEpoch) && view.epoch.round == self.promised.round;
        if view.epoch < self.promised && !same_round || view.epoch < self.accepted_epoch() {
            return false;
        }
        self.promised = self.promised.max(view.epoch);
        self.accepted = Some(view.clone());
        self.check_invariants();
        true
    }

    /// Takes over what another voter remembers, where it is higher.
    pub fn learn(&mut self, promised: Epoch, accepted: Option<&View>) {
        if let Some(view) = accepted.filter(|view| view.epoch > self.accepted_epoch()) {
            self.accepted = Some(view.clone());
        }
        self.promised = self.promised.max(promised).max(self.accepted_epoch());
        self.check_invariants();
    }

    /// **Panics if** an invariant of the type is broken: always a bug.
    pub fn check_invariants(&self) {
        assert!(self.accepted_epoch() <= self.promised, "accepted above the promise: {self:?}");
    }

    /// Writes the register.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u8(match self.standing {
            Standing::Intact => 1,
            Standing::Amnesiac => 2,
        });
        write_epoch(&mut out, self.promised);
        match &self.accepted {
            None => {
                out.u8(0);
            }
            Some(view) => {
                out.u8(1);
                view.encode(&mut out);
            }
        }
        out.finish()
    }

    /// Reads a register.
    ///
    /// **Errors:** [`Malformed`] where the bytes are not exactly one register.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes.into());
        let standing = match reader.u8("register standing")? {
            1 => Standing::Intact,
            2 => Standing::Amnesiac,
            _ => return Err(Malformed("register standing")),
        };
        let promised = read_epoch(&mut reader)?;
        let accepted = match reader.u8("register view")? {
            0 => None,
            1 => Some(View::decode(&mut reader)?),
            _ => return Err(Malformed("register view")),
        };
        reader.end("register")?;
        let register = Self { promised, accepted, standing };
        if register.accepted_epoch() > promised { Err(Malformed("register")) } else { Ok(register) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ids::{Member, RunId, ServerId, StoreId};

    fn view(round: u64) -> View {
        let primary = ServerId(0);
        View {
            epoch: Epoch { round, server: primary, run: RunId(7) },
            primary,
            in_sync: BTreeSet::from([Member { server: primary, store: StoreId(1) }]),
            leaving: BTreeSet::new(),
        }
    }

    #[test]
    fn a_promise_shuts_out_every_lower_epoch_and_its_own_repetition() {
        let mut register = Register::FRESH;
        assert!(register.promise(view(2).epoch));
        assert!(!register.promise(view(2).epoch));
        assert!(!register.promise(view(1).epoch));
        assert!(!register.accept(&view(1)));
        assert!(register.accept(&view(2)));
        assert_eq!(register.accepted, Some(view(2)));
    }

    #[test]
    fn a_register_survives_its_encoding() {
        for register in [
            Register::FRESH,
            Register::LOST,
            Register { promised: view(4).epoch, accepted: Some(view(3)), standing: Standing::Intact },
        ] {
            assert_eq!(Register::decode(register.encode()), Ok(register));
        }
    }

    #[test]
    fn a_register_has_one_encoding() {
        let mut two = view(3);
        two.in_sync.insert(Member { server: ServerId(1), store: StoreId(2) });
        let bytes = Register { promised: two.epoch, accepted: Some(two), standing: Standing::Intact }.encode();
        let written = |member: usize| bytes.len() - 4 - 9 * (2 - member)..bytes.len() - 4 - 9 * (1 - member);
        let (first, second) = (bytes[written(0)].to_vec(), bytes[written(1)].to_vec());
        for (before, behind) in [(&second, &first), (&first, &first)] {
            let mut other = bytes.clone();
            other[written(0)].copy_from_slice(before);
            other[written(1)].copy_from_slice(behind);
            assert_eq!(Register::decode(other), Err(Malformed("view members")));
        }
    }
}
