//! How much the services hold for clients at most.

use std::sync::Arc;

use heirloom_proto::limits::PAGE_BYTES_MAX;
use heirloom_proto::{Refusal, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much room there is for requests under way, over all clients. **Units:** KiB.
const REQUESTS_KIB: usize = 256 << 10;
/// How much room there is for pages that are read, or on their way to their clients. Of their own, so that clients that do not
/// read what they asked for cost others pages at most, and no write. **Units:** KiB.
const PAGES_KIB: usize = 128 << 10;

/// The room for requests under way and their answers; a request without room is refused at once.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    requests: Arc<Semaphore>,
    pages: Arc<Semaphore>,
}

/// The room that one request takes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    /// `None` once it is answered.
    request: Option<OwnedSemaphorePermit>,
    /// For what its answer holds that is not shared with the dictionary; `None` where that is nothing.
    page: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// An empty room.
    pub(crate) fn new() -> Self {
        Self { requests: Arc::new(Semaphore::new(REQUESTS_KIB)), pages: Arc::new(Semaphore::new(PAGES_KIB)) }
    }

    /// Room for this request.
    pub(crate) fn seat(&self, request: &Request) -> Result<Seat, Refusal> {
        let page = match request {
            // How large a page is shows when it is there.
            Request::Scan(_) => Some(take(&self.pages, kib(PAGE_BYTES_MAX))?),
            Request::OpenSession
            | Request::CloseSession(_)
            | Request::Change { .. }
            | Request::Read { .. }
            | Request::Promote(_)
            | Request::Fence(_) => None,
        };
        Ok(Seat { request: Some(take(&self.requests, kib(request.bytes()))?), page })
    }

    /// How much room there is for pages. **Units:** KiB.
    #[cfg(test)]
    pub(super) fn pages_free(&self) -> usize {
        self.pages.available_permits()
    }
}

fn take(room: &Arc<Semaphore>, kib: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    let kib = u32::try_from(kib).map_err(|_| Refusal::Overloaded)?;
    room.clone().try_acquire_many_owned(kib).map_err(|_| Refusal::Overloaded)
}

fn kib(bytes: usize) -> usize {
    1 + bytes / 1024
}

impl Seat {
    /// The answer is there, and is so large: the rest of the room is free again.
    pub(crate) fn answered(&mut self, bytes: usize) {
        self.request = None;
        if let Some(page) = &mut self.page {
            // One that is larger than pages are holds one large value, which is shared.
            drop(page.split(page.num_permits().saturating_sub(kib(bytes))));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use heirloom_proto::{At, Change, Consistency, KeyRange, Scan};

    use super::*;

    fn change() -> Request {
        let value = Bytes::from(vec![0; 16 << 20]);
        Request::Change { id: None, change: Change::Add { key: Bytes::from_static(b"k"), value } }
    }

    fn scan() -> Request {
        let at = At::Now(Consistency::Stale);
        Request::Scan(Scan { range: KeyRange::default(), limit: 0, keys_only: false, at, cluster: None })
    }

    /// As many as there is room for.
    fn seats(room: &Room, request: &Request, answered: Option<usize>) -> Vec<Seat> {
        let mut seats = Vec::new();
        while let Ok(mut seat) = room.seat(request) {
            if let Some(bytes) = answered {
                seat.answered(bytes);
            }
            seats.push(seat);
        }
        seats
    }

    #[test]
    fn a_full_room_refuses_and_room_comes_back() {
        let room = Room::new();
        let mut seats = seats(&room, &change(), None);
        assert_eq!(seats.len(), 15, "each takes a little more than 16 MiB of 256");
        assert_eq!(room.seat(&change()).map(drop), Err(Refusal::Overloaded));
        seats.pop();
        assert!(room.seat(&change()).is_ok());
    }

    #[test]
    fn pages_that_are_not_taken_leave_room_for_everything_else_and_take_no_more_than_they_hold() {
        let room = Room::new();
        let full = seats(&room, &scan(), Some(PAGE_BYTES_MAX));
        assert_eq!(full.len(), 127, "each takes a little more than 1 MiB of 128");
        assert_eq!(seats(&room, &change(), None).len(), 15);
        drop(full);
        assert_eq!(
            seats(&room, &scan(), Some(0)).len(),
            (128 << 10) - 1024,
            "until no page has room before it is read"
        );
    }
}
