//! Letting at once happen what only adds to the network.

use std::rc::Rc;

use heirloom_laws::Violation;

use crate::packet::Packet;
use crate::state::State;
use crate::stepping::{Happens, Taken};
use crate::world::Universe;

impl Universe {
    /// Reduction: what only adds to the network happens at once. As nothing is ever taken from the network, whatever can
    /// happen in a state can happen in one that has more on its way, so nothing is lost by it.
    pub(crate) fn saturate(&mut self, before: &State, next: &mut State) -> Result<(), Violation> {
        let changed: Vec<bool> = before.locals.iter().zip(&next.locals).map(|(was, is)| was != is).collect();
        let concerned = |universe: &Self, packet: &u32| changed[usize::from(universe.packets.value(*packet).at().0)];
        let is_new = |packet: &u32| before.network.binary_search(packet).is_err();
        let later = next.now != before.now;
        let mut due: Vec<u32> =
            next.network.iter().copied().filter(|p| later || concerned(self, p) || is_new(p)).collect();
        while let Some(number) = due.pop() {
            let packet = self.packets.value(number);
            let at = packet.at().0;
            if matches!(&**packet, Packet::Probe { .. }) {
                let probed = self.probed(next, number);
                if next.send(probed) {
                    due.push(probed);
                }
            } else if self.may_arrive(next, number) {
                let taken = self.said_by(next, at, number)?;
                for packet in taken.iter().flat_map(|taken| &taken.sends) {
                    if next.send(*packet) {
                        due.push(*packet);
                    }
                }
            }
        }
        Ok(())
    }

    /// What a server makes of a message that does not change it; nothing where it does.
    fn said_by(&mut self, next: &mut State, server: u8, packet: u32) -> Result<Option<Rc<Taken>>, Violation> {
        let before = next.locals[usize::from(server)];
        let taken = self.take(before, &Happens::Arrives(packet), next.now);
        if taken.after != before || taken.panicked.is_some() || taken.tells || taken.beyond {
            return Ok(None);
        }
        if taken.sends.iter().any(|packet| next.network.binary_search(packet).is_err()) {
            for (seen, actions) in &taken.substeps {
                self.judge(next, server, *seen, actions)?;
            }
        }
        Ok(Some(taken))
    }
}
