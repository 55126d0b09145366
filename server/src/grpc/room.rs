//! How much the services hold for clients at most.

use std::sync::Arc;

use heirloom_proto::limits::PAGE_BYTES_MAX;
use heirloom_proto::{Refusal, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much room there is for requests under way, over all clients. **Units:** KiB.
const ROOM_KIB: usize = 256 << 10;

/// The room for requests under way; a request without room is refused at once.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    kib: Arc<Semaphore>,
}

/// The room that one request takes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _kib: OwnedSemaphorePermit,
}

impl Room {
    /// An empty room.
    pub(crate) fn new() -> Self {
        Self { kib: Arc::new(Semaphore::new(ROOM_KIB)) }
    }

    /// Room for this request.
    pub(crate) fn seat(&self, request: &Request) -> Result<Seat, Refusal> {
        let bytes = request.bytes() + answer_bytes(request);
        let kib = u32::try_from(1 + bytes / 1024).map_err(|_| Refusal::Overloaded)?;
        let seat = self.kib.clone().try_acquire_many_owned(kib).map_err(|_| Refusal::Overloaded)?;
        Ok(Seat { _kib: seat })
    }
}

/// How much an answer holds that is not shared with the dictionary.
fn answer_bytes(request: &Request) -> usize {
    match request {
        Request::Scan(_) => PAGE_BYTES_MAX,
        Request::OpenSession
        | Request::CloseSession(_)
        | Request::Change { .. }
        | Request::Read { .. }
        | Request::Promote(_)
        | Request::Fence(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use heirloom_proto::Change;

    use super::*;

    #[test]
    fn a_full_room_refuses_and_room_comes_back() {
        let room = Room::new();
        let value = Bytes::from(vec![0; 16 << 20]);
        let change = Change::Add { key: Bytes::from_static(b"k"), value };
        let request = Request::Change { id: None, change };
        let mut seats = Vec::new();
        while let Ok(seat) = room.seat(&request) {
            seats.push(seat);
        }
        assert_eq!(seats.len(), 15, "each takes a little more than 16 MiB of 256");
        seats.pop();
        assert!(room.seat(&request).is_ok());
    }
}
