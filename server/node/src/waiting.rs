//! What a server waits for, in words that name the way out.

use heirloom_proto::{QuorumRule, ServerId, Standing, Time};

use crate::node::{Node, Role};

const RECOVER: &str = "`heirloom recover --data-dir DIR --accept-losing-newer-writes`";

impl Node {
    /// What it waits for, where a person may want to know; `None` where all is well.
    pub(crate) fn waits_for(&self, now: Time) -> Option<String> {
        let missing = self.missing(now);
        if let Some(lost) = self.votes_lost(now) {
            return Some(self.waits_for_votes(&lost));
        }
        if self.cluster().is_none() {
            return Some(if missing.is_empty() {
                "the other servers, to found or join a cluster".to_owned()
            } else {
                format!("{}: a cluster is founded when all servers have answered", list(&missing))
            });
        }
        match &self.role {
            Role::Primary(primary) => {
                let undecided: Vec<ServerId> = primary.undecided().collect();
                if !undecided.is_empty() {
                    return Some(undecided_text(&undecided));
                }
                let silent = primary.waits_for_members(self.setting(now, &self.excused()));
                match silent {
                    Some(silent) => Some(self.waits_for_members(&silent)),
                    None if primary.serves() => None,
                    None if missing.is_empty() => Some("the start of its epoch".to_owned()),
                    None => Some(format!("the start of its epoch; no word from {}", list(&missing))),
                }
            }
            Role::Copy(backup) if backup.waits_for_snapshot() => {
                let from = self
                    .watch
                    .primary()
                    .map_or_else(|| "the primary".to_owned(), |primary| format!("server {primary}"));
                Some(format!("a snapshot of {from}, which no longer keeps the entries that are lacking here"))
            }
            Role::Copy(_) if self.hears(now).is_some() => None,
            Role::Copy(_) => Some(self.waits_for_primary(&missing)),
            Role::Witness | Role::Over => None,
        }
    }

    /// The other servers that give no sign of life.
    fn missing(&self, now: Time) -> Vec<ServerId> {
        let silent = |server: &ServerId| {
            !self.peers.is_connected(*server) || !self.peers.heard_within(now, *server, self.config.suspicion * 2)
        };
        self.others().filter(silent).collect()
    }

    /// The servers that have no vote to give, for their registers are lost, where those that have one are no quorum: then
    /// nobody can lead, and none of them can learn from all others what it lost (PROTOCOL 9).
    fn votes_lost(&self, now: Time) -> Option<Vec<ServerId>> {
        let majority = self.config.constants.quorum == QuorumRule::Majority;
        if !majority || self.cluster().is_none() && self.met.is_none() {
            return None;
        }
        let lost = |standing: Option<Standing>| standing != Some(Standing::Intact);
        // Whoever has just begun its run may be in doubt, and says the same for so long.
        let is_sure = |server: ServerId| self.peers.connected_for(now, server, self.config.suspicion * 2);
        let answers = self.inquiry.iter().flat_map(|inquiry| inquiry.answers.iter());
        let others = answers.filter(|(server, answered)| {
            lost(answered.testimony.register.as_ref().map(|register| register.standing)) && is_sure(**server)
        });
        let own = lost(self.cluster().map(|_| self.register.standing));
        let mut lost: Vec<ServerId> = others.map(|(server, _)| *server).chain(own.then_some(self.config.me)).collect();
        lost.sort_unstable();
        self.leave_no_quorum(&lost).then_some(lost)
    }

    /// Whether the voters without these are no majority.
    fn leave_no_quorum(&self, lost: &[ServerId]) -> bool {
        let voters = self.config.constants.voters.len();
        2 * (voters - lost.len()) <= voters
    }

    fn waits_for_votes(&self, lost: &[ServerId]) -> String {
        let servers = list(lost);
        let has_all = self.newest_view().is_some_and(|view| view.has(self.me()));
        let remedy = if has_all {
            format!("stop this server and run {RECOVER}")
        } else {
            format!("stop the server with the newest data and run {RECOVER} there")
        };
        format!(
            "a quorum of votes, for those of {servers} were lost with what they had stored. If this lasts, {remedy}"
        )
    }

    fn waits_for_members(&self, silent: &[ServerId]) -> String {
        let servers = list(silent);
        match self.config.constants.quorum {
            QuorumRule::Survivors => format!(
                "{servers}, silent and not proven dead: silence is no proof. If it is off, say {}",
                fence(silent)
            ),
            QuorumRule::Majority => {
                let go_on = "to go on without, it takes a quorum of the voters and enough copies";
                // Those that still have their votes would have been taken in within a moment.
                let view = self.newest_view();
                let is_new = |server: &ServerId| {
                    let peer = self.peers.peer(*server);
                    view.zip(peer).is_some_and(|(view, peer)| !view.has(peer.member()))
                };
                if silent.iter().all(is_new) && self.leave_no_quorum(silent) {
                    return format!(
                        "{servers}, back without what was stored there; {go_on}. If this lasts, their votes were lost as well: \
                         stop this server and run {RECOVER}"
                    );
                }
                format!("{servers}, silent; {go_on}")
            }
        }
    }

    fn waits_for_primary(&self, missing: &[ServerId]) -> String {
        let servers = list(missing);
        if self.recovering && !self.last_standing {
            return format!(
                "{servers}, which may hold newer writes. If it is lost for good, stop this server and run {RECOVER}"
            );
        }
        if self.register.standing == Standing::Amnesiac {
            return format!(
                "all other servers, for its own register was lost; no word from {servers}. If they are lost for good, run \
                 {RECOVER} where the newest data is"
            );
        }
        // Members of the newest view alone may lead; where none of them answers nobody here can.
        if let Some(view) = self.newest_view().filter(|view| !view.has(self.me())) {
            let members: Vec<ServerId> = view.in_sync.iter().map(|member| member.server).collect();
            if members.iter().all(|server| missing.contains(server)) {
                let members = list(&members);
                return format!(
                    "{members}, which holds newer writes. If it is lost for good, stop this server and run {RECOVER}"
                );
            }
        }
        match self.config.constants.quorum {
            QuorumRule::Survivors => {
                format!("{servers}, or proof that it is dead: silence is none. If it is off, say {}", fence(missing))
            }
            QuorumRule::Majority if missing.is_empty() => "a primary".to_owned(),
            QuorumRule::Majority => format!("a primary, for which it takes a quorum; no word from {servers}"),
        }
    }
}

fn undecided_text(servers: &[ServerId]) -> String {
    let servers = list(servers);
    format!(
        "{servers}, whose copy differs from the one here; each reads all that it has stored, and where one is wrong by that it \
         begins anew. If this lasts, both are right by their checksums: look with `heirloom verify` which is right, and stop the \
         other one for good"
    )
}

fn list(servers: &[ServerId]) -> String {
    match servers {
        [] => "the other server".to_owned(),
        [one] => format!("server {one}"),
        more => {
            let ids: Vec<String> = more.iter().map(ToString::to_string).collect();
            format!("servers {}", ids.join(", "))
        }
    }
}

fn fence(servers: &[ServerId]) -> String {
    let ids: Vec<String> = servers.iter().map(|server| format!("`heirloom fence {server} --it-is-off`")).collect();
    if ids.is_empty() { "`heirloom fence ID --it-is-off`".to_owned() } else { ids.join(" or ") }
}
