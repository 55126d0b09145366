//! What a node says of itself to people.

use heirloom_proto::status::{RoleName, Status};
use heirloom_proto::{Digest, Epoch, LogIndex, QuorumRule, ServerId, Standing, Time, Version};

use crate::node::{Node, Role};

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

    /// A snapshot for `status`.
    pub fn status(&self, now: Time) -> Status {
        let replica = self.replica();
        let excused = self.excused();
        let lease = match &self.role {
            Role::Primary(primary) => primary.lease_until(self.setting(now, &excused)),
            Role::Witness | Role::Copy(_) | Role::Over => None,
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

    /// What it waits for, where a person may want to know.
    fn waits_for(&self, now: Time) -> Option<String> {
        let missing: Vec<String> =
            self.others().filter(|server| !self.peers.is_connected(*server)).map(|server| server.to_string()).collect();
        let missing = missing.join(", ");
        if self.cluster().is_none() {
            return Some(if missing.is_empty() {
                "the other servers, to found or join a cluster".to_owned()
            } else {
                format!("server {missing}: a cluster is founded when all servers have answered")
            });
        }
        match &self.role {
            Role::Primary(primary) if !primary.serves() => Some(if missing.is_empty() {
                "the start of its epoch".to_owned()
            } else {
                format!("the start of its epoch, or a quorum; not connected: server {missing}")
            }),
            Role::Primary(primary) => primary.waits_for_members(self.setting(now, &self.excused())).map(|members| {
                let members: Vec<String> = members.iter().map(ToString::to_string).collect();
                let members = members.join(", ");
                if self.config.constants.quorum == QuorumRule::Survivors {
                    format!(
                        "server {members}, which confirms nothing and is not proven dead: silence is no proof. If it is off, \
                         say `heirloom fence {members} --it-is-off`"
                    )
                } else {
                    format!("server {members}, which confirms nothing; it takes a quorum, or another copy, to go on without")
                }
            }),
            Role::Witness | Role::Over => None,
            Role::Copy(_) if self.hears(now).is_some() => None,
            Role::Copy(_) if self.recovering && !self.last_standing => Some(format!(
                "server {missing}, which may hold newer writes. If it is lost for good, stop this server and run \
                 `heirloom recover --data-dir DIR --accept-losing-newer-writes`"
            )),
            Role::Copy(_) if self.register.standing == Standing::Amnesiac => Some(format!(
                "all other servers, for its own register was lost; not connected: server {missing}. If two registers \
                 are lost for good, run `heirloom recover` on the server with the newest data"
            )),
            Role::Copy(_) if self.config.constants.quorum == QuorumRule::Survivors => Some(format!(
                "server {missing}, or proof that it is dead: silence is none. If it is off, say \
                 `heirloom fence {missing} --it-is-off`"
            )),
            Role::Copy(_) if missing.is_empty() => Some("a primary".to_owned()),
            Role::Copy(_) => Some(format!("a primary, for which it takes a quorum; not connected: server {missing}")),
        }
    }
}
