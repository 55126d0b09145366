//! The servers of one client: addresses given and heard of, and the links to them.

use std::collections::BTreeMap;
use std::time::Duration;

use heirloom_proto::ServerId;
use heirloom_proto::limits::SERVERS_MAX;
use heirloom_proto::wire::v1::{NudgeRequest, SessionRequest};
use heirloom_session::{Seat, Tried};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::link::{self, Connection, Event};
use crate::error::ServerReport;
use heirloom_proto::Address;

/// How long a nudge is waited for; nobody needs its answer.
const NUDGE_TIMEOUT: Duration = Duration::from_secs(1);

/// All seats.
///
/// **Invariants:** a seat never changes its address, and seats are never removed.
#[derive(Debug)]
pub(super) struct Seats {
    places: Vec<Place>,
    /// Servers that others told of, and that may sit on a seat under another name.
    heard_of: BTreeMap<ServerId, Address>,
    events: mpsc::Sender<Event>,
    /// Aborted when the driver ends.
    tasks: JoinSet<()>,
    is_connecting: bool,
}

#[derive(Debug)]
struct Place {
    address: Address,
    server: Option<ServerId>,
    connection: Option<Connection>,
    /// Why there is no connection.
    trouble: Option<String>,
}

impl Seats {
    pub(super) fn new(addresses: Vec<Address>, events: mpsc::Sender<Event>) -> Self {
        let places = addresses.into_iter().map(Place::new).collect();
        Self { places, heard_of: BTreeMap::new(), events, tasks: JoinSet::new(), is_connecting: false }
    }

    /// Begins to connect to all, unless that was done before.
    pub(super) fn connect(&mut self) {
        if !self.is_connecting {
            self.is_connecting = true;
            (0..self.places.len()).for_each(|position| self.link(position));
        }
    }

    fn link(&mut self, position: usize) {
        let address = self.places[position].address.clone();
        self.tasks.spawn(link::keep(seat(position), address, self.events.clone()));
    }

    pub(super) fn connected(&mut self, seat: Seat, connection: Connection) {
        let place = self.place_mut(seat);
        place.connection = Some(connection);
        place.trouble = None;
    }

    pub(super) fn broken(&mut self, seat: Seat, why: String) {
        let place = self.place_mut(seat);
        place.connection = None;
        place.trouble = Some(why);
    }

    pub(super) fn identified(&mut self, seat: Seat, server: ServerId) {
        self.place_mut(seat).server = Some(server);
    }

    pub(super) fn server(&self, seat: Seat) -> Option<ServerId> {
        self.places[usize::from(seat.0)].server
    }

    /// The servers that are known, in the order of the client's list.
    pub(super) fn known(&self) -> Vec<(Option<ServerId>, Address)> {
        self.places.iter().map(|place| (place.server, place.address.clone())).collect()
    }

    /// A server told where another one is.
    pub(super) fn heard_of(&mut self, server: ServerId, address: Address) {
        self.heard_of.insert(server, address);
    }

    /// Gives a seat to each server that was heard of and has none. Waits until every seat has told who sits there or could
    /// not be reached: the same server may be known under another name.
    pub(super) fn adopt(&mut self) -> Vec<(Seat, ServerId)> {
        if self.heard_of.is_empty() || self.places.iter().any(|place| place.server.is_none() && place.trouble.is_none())
        {
            return Vec::new();
        }
        let mut adopted = Vec::new();
        for (server, address) in std::mem::take(&mut self.heard_of) {
            let is_seated = |place: &Place| place.server == Some(server) || place.address == address;
            if self.places.iter().any(is_seated) || self.places.len() >= 2 * SERVERS_MAX {
                continue;
            }
            let position = self.places.len();
            self.places.push(Place { server: Some(server), ..Place::new(address) });
            self.link(position);
            adopted.push((seat(position), server));
        }
        adopted
    }

    /// Hands a request to the link. Where the link has just broken the request is gone, and the session is told next.
    pub(super) fn send(&self, seat: Seat, request: SessionRequest) {
        if let Some(connection) = &self.places[usize::from(seat.0)].connection {
            let _ = connection.outbox.send(request);
        }
    }

    pub(super) fn nudge(&mut self, seat: Seat) {
        // What is done is forgotten, so that the set doesn't grow for ever.
        while self.tasks.try_join_next().is_some() {}
        if let Some(connection) = &self.place_mut(seat).connection {
            let mut cluster = connection.cluster.clone();
            self.tasks.spawn(async move {
                let _ = tokio::time::timeout(NUDGE_TIMEOUT, cluster.nudge(NudgeRequest {})).await;
            });
        }
    }

    pub(super) fn report(&self, tried: Tried) -> ServerReport {
        let place = &self.places[usize::from(tried.seat.0)];
        ServerReport {
            address: place.address.clone(),
            server: tried.server,
            heard: tried.heard,
            trouble: place.trouble.clone(),
        }
    }

    fn place_mut(&mut self, seat: Seat) -> &mut Place {
        &mut self.places[usize::from(seat.0)]
    }
}

impl Place {
    fn new(address: Address) -> Self {
        Self { address, server: None, connection: None, trouble: None }
    }
}

fn seat(position: usize) -> Seat {
    Seat(u16::try_from(position).expect("the list is bounded when it is given"))
}
