//! Ports that nobody uses.

use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

/// Below the range from which the kernel takes ports for outgoing connections (32768 and up): a dead server's port from
/// there could be dialled into itself, and would then look alive.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// So many different ports of the loopback address on which one could listen a moment ago. Another process may take one
/// before it is used: whoever starts a server there must be ready to try others.
pub(super) fn free(count: usize) -> Option<Vec<u16>> {
    let width = u32::from(PORTS.end - PORTS.start);
    // Somewhere else each time, so that two demos at once rarely meet.
    let moment = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let first = (moment / 1_000).wrapping_add(std::process::id().wrapping_mul(7_919)) % width;
    let mut held = Vec::new();
    for step in 0..width {
        let offset = u16::try_from((first + step) % width).expect("narrower than all ports");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", PORTS.start + offset)) {
            held.push((PORTS.start + offset, listener));
        }
        if held.len() == count {
            return Some(held.into_iter().map(|(port, _)| port).collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_different_and_can_be_listened_on() {
        let ports = free(3).expect("the machine has three");
        let _held: Vec<_> =
            ports.iter().map(|port| TcpListener::bind(("127.0.0.1", *port)).expect("it is free")).collect();
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
