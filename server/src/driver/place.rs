//! The part that the server plays at the moment, for the services.

use heirloom_proto::ServerId;
use heirloom_proto::status::{RoleName, Status};

/// The part that the server plays, and who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The part.
    pub(crate) role: RoleName,
    /// Who leads, as far as is known.
    pub(crate) primary: Option<ServerId>,
}

impl Place {
    /// Before anything is known.
    pub(crate) const UNKNOWN: Self = Self { role: RoleName::Recovering, primary: None };

    /// The place that a status tells of.
    pub(crate) fn of(status: &Status) -> Self {
        Self { role: status.role, primary: status.primary }
    }

    /// Whether the server has a place in its cluster.
    pub(crate) fn is_settled(self) -> bool {
        match self.role {
            RoleName::Primary | RoleName::Backup | RoleName::Learner | RoleName::Witness => true,
            RoleName::Recovering | RoleName::Deposed => false,
        }
    }

    /// Whether a client's request can be served here or forwarded.
    pub(crate) fn can_serve(self) -> bool {
        self.is_settled() && self.primary.is_some()
    }
}
