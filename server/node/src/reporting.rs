//! What a node says of itself to people.

use heirloom_proto::status::{RoleName, Status};
use heirloom_proto::{Digest, Epoch, LogIndex, Sealed, ServerId, Time, Version};

use crate::node::{Node, Role};

/// Entries that were applied, in order.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    /// The entries.
    pub entries: &'a [Sealed],
    /// Everything up to here is applied.
    pub index: LogIndex,
    /// The version that it leads to.
    pub version: Version,
}

impl Node {
    /// The part that it plays.
    pub fn role_name(&self) -> RoleName {
        match &self.role {
            Role::Over => RoleName::Deposed,
            Role::Witness if self.cluster().is_none() => RoleName::Recovering,
            Role::Witness => RoleName::Witness,
            Role::Primary(_) => RoleName::Primary,
            Role::Copy(backup) => match backup.works_in() {
                None => RoleName::Recovering,
                Some(epoch) => {
                    let member = self.register.accepted.as_ref().is_some_and(|v| v.epoch == epoch && v.has(self.me()));
                    if member { RoleName::Backup } else { RoleName::Learner }
                }
            },
        }
    }

    /// The highest epoch that it has promised, which is the one that it works in, if any.
    pub fn epoch(&self) -> Epoch {
        self.register.promised
    }

    /// Who leads, as far as this server knows.
    pub fn primary_known(&self, now: Time) -> Option<ServerId> {
        match &self.role {
            Role::Primary(_) => Some(self.config.me),
            Role::Copy(_) | Role::Witness => {
                let silent = self.watch.suspected_at(self.config.suspicion).is_none_or(|at| now > at);
                self.watch.primary().filter(|_| !silent)
            }
            Role::Over => None,
        }
    }

    /// What was applied behind `index`, as far back as it is kept; `None` where it keeps no copy. Only what is committed is
    /// applied, and what is applied is never cut.
    pub fn applied_after(&self, index: LogIndex) -> Option<Applied<'_>> {
        let replica = self.replica()?;
        let first = index.max(replica.log().base());
        let count = replica.applied_index().0.saturating_sub(first.0);
        let entries = replica.log().from(first.next());
        let entries = usize::try_from(count).ok().and_then(|count| entries.get(..count)).unwrap_or(entries);
        Some(Applied { entries, index: replica.applied_index(), version: replica.dictionary().version() })
    }

    /// Whether what is committed now will be applied here soon: it is a member that hears its primary, or a primary that
    /// serves and holds its lease; where leases are off, one that hears all its members.
    pub fn is_in_touch(&self, now: Time) -> bool {
        let excused = self.excused();
        match &self.role {
            Role::Primary(primary) => {
                let setting = self.setting(now, &excused);
                let heard = match self.config.constants.lease.is_zero() {
                    true => primary.waits_for_members(setting).is_none(),
                    false => primary.lease_until(setting).is_some_and(|until| now < until),
                };
                primary.serves() && heard
            }
            Role::Copy(_) => self.role_name() == RoleName::Backup && self.hears(now).is_some(),
            Role::Witness | Role::Over => false,
        }
    }

    /// A snapshot for `status`.
    pub fn status(&self, now: Time) -> Status {
        let replica = self.replica();
        let excused = self.excused();
        let lease = match &self.role {
            Role::Primary(primary) => primary.lease_until(self.setting(now, &excused)),
            Role::Copy(backup) => backup.lease_until(),
            Role::Witness | Role::Over => None,
        };
        let view = match &self.role {
            Role::Primary(primary) => Some(primary.view()),
            Role::Witness | Role::Copy(_) | Role::Over => self.register.accepted.as_ref(),
        };
        let full = self.config.constants.lease;
        Status {
            server: self.config.me,
            role: self.role_name(),
            cluster: self.cluster(),
            epoch: self.epoch(),
            primary: self.primary_known(now),
            in_sync: view.map(|view| view.in_sync.iter().copied().collect()).unwrap_or_default(),
            log_end: replica.map_or(LogIndex::ZERO, |replica| replica.log().end()),
            commit: replica.map_or(LogIndex::ZERO, heirloom_backup::Replica::applied_index),
            applied: replica.map_or(LogIndex::ZERO, heirloom_backup::Replica::applied_index),
            version: replica.map_or(Version(0), |replica| replica.dictionary().version()),
            digest: replica.map_or(Digest::default(), heirloom_backup::Replica::digest),
            keys: replica.map_or(0, |replica| replica.dictionary().len() as u64),
            sessions: replica.map_or(0, |replica| replica.sessions().len() as u64),
            lease: lease.filter(|until| *until > now).map(|until| until.since(now).min(full)),
            waits_for: self.waits_for(now),
        }
    }
}
