//! What a comparison has found, and what it comes to.

use heirloom_proto::{LogIndex, ServerId};

use super::copies::{Copies, Replica, Why};
use crate::cli::failure::Failure;
use crate::verify::{At, Compared, State, Tally, majority};

/// All that was found.
#[derive(Debug)]
pub(super) struct Findings<'a> {
    pub(super) copies: &'a Copies,
    pub(super) digests: Compared,
    /// `None` where keys were not compared.
    pub(super) keys: Option<Keys>,
}

/// What the comparison key by key has found.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) at: At,
    /// Those that were asked; those that were lost among them.
    pub(super) servers: Vec<ServerId>,
    pub(super) tally: Tally,
    /// Whether a key differed at an older version, of which not all keys could be compared.
    pub(super) differed_before: bool,
}

/// What the digest of a copy is, beside the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// As all others.
    Equal,
    /// As more than half have it, and not all.
    EqualToMost,
    /// Not as more than half have it.
    DiffersFromMost,
    /// Not all are the same, and none is that of more than half.
    Differs,
    /// There is no other.
    Alone,
    /// It was seen at no index with the others.
    NotCompared(String),
}

impl Standing {
    pub(super) fn new(copies: &Copies, digests: &Compared, copy: &Replica) -> Self {
        if let Compared::Differ { groups, .. } = digests
            && groups.iter().any(|group| group.contains(&copy.id))
        {
            return match majority(groups) {
                Some(most) if most.contains(&copy.id) => Self::EqualToMost,
                Some(_) => Self::DiffersFromMost,
                None => Self::Differs,
            };
        }
        if let Some(silence) = &copy.silence {
            return Self::NotCompared(format!("it answers no longer: {silence}"));
        }
        match digests {
            Compared::Equal { .. } if copies.answering().len() < 2 => Self::Alone,
            Compared::Equal { .. } => Self::Equal,
            Compared::Differ { .. } | Compared::NotMet => {
                Self::NotCompared("it was not seen at one index with all others".to_owned())
            }
        }
    }

    /// The word for programs.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::EqualToMost => "equal_to_most",
            Self::DiffersFromMost => "differs_from_most",
            Self::Differs => "differs",
            Self::Alone => "alone",
            Self::NotCompared(_) => "not_compared",
        }
    }

    /// The words for people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Equal => "equal".to_owned(),
            Self::EqualToMost => "equal to most".to_owned(),
            Self::DiffersFromMost => "differs from most".to_owned(),
            Self::Differs => "differs".to_owned(),
            Self::Alone => "no other to compare it with".to_owned(),
            Self::NotCompared(why) => format!("not compared: {why}"),
        }
    }
}

/// The state of a copy that was compared, with its index; where it was not, what it told last.
pub(super) fn shown<'a>(copies: &'a Copies, digests: &Compared, copy: &'a Replica) -> (LogIndex, &'a State) {
    let last = (copy.applied, &copy.state);
    match digests {
        Compared::Equal { at } | Compared::Differ { at, .. } => {
            copies.digests.state(copy.id, *at).map_or(last, |state| (*at, state))
        }
        Compared::NotMet => last,
    }
}

impl Findings<'_> {
    /// Whether copies differ, which no server that is missing undoes.
    pub(super) fn differ(&self) -> bool {
        let keys_differ = |keys: &Keys| keys.tally.differing > 0 || keys.differed_before;
        matches!(self.digests, Compared::Differ { .. }) || self.keys.as_ref().is_some_and(keys_differ)
    }

    /// Who could not be compared, or not to the end, and why.
    pub(super) fn missing(&self) -> Vec<(String, String)> {
        let mut missing = Vec::new();
        for left in &self.copies.left_out {
            match &left.why {
                Why::NotSeen(why) => {
                    let name = left.id.map_or_else(|| left.address.to_string(), |id| named(id, &left.address));
                    missing.push((name, why.clone()));
                }
                Why::Witness => {}
            }
        }
        for copy in &self.copies.copies {
            let lost = match &self.keys {
                Some(keys) => keys.tally.lost.get(&copy.id),
                None => copy.silence.as_ref(),
            };
            if let Some(why) = lost {
                missing.push((named(copy.id, &copy.address), why.clone()));
            }
        }
        missing
    }

    /// What was found, a sentence each, without the copies and keys that have lines of their own.
    pub(super) fn sentences(&self) -> Vec<String> {
        let mut all = Vec::new();
        match &self.digests {
            Compared::Equal { at } => match &self.copies.answering().into_iter().collect::<Vec<_>>()[..] {
                [] => {}
                [alone] => {
                    all.push(format!("server {alone} has the only copy that is seen: there is nothing to compare"))
                }
                servers => all.push(format!("equal at index {at}: {}", listed(servers))),
            },
            Compared::Differ { at, groups } => {
                let each: Vec<String> = groups.iter().map(|group| format!("one of {}", listed(group))).collect();
                all.push(format!("at index {at} there are {} digests: {}", groups.len(), each.join(", ")));
            }
            Compared::NotMet => {}
        }
        let Some(Keys { at, servers, tally, differed_before }) = &self.keys else { return all };
        let Tally { keys, differing, odd, lost } = tally;
        let result = match differing {
            0 => "all equal".to_owned(),
            1 => "1 differs".to_owned(),
            more => format!("{more} differ"),
        };
        let keys = if *keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") };
        let to_the_end: Vec<_> = servers.iter().copied().filter(|server| !lost.contains_key(server)).collect();
        if to_the_end.is_empty() {
            all.push(format!("{keys} at version {}: {result}", at.version));
        } else {
            all.push(format!("{keys} at version {}, of {}: {result}", at.version, listed(&to_the_end)));
        }
        for (server, count) in odd {
            all.push(format!("server {server} has something else than most under {count} of them"));
        }
        for (server, why) in lost {
            all.push(format!("server {server} was not compared to the end: {why}"));
        }
        if *differed_before && *differing == 0 {
            all.push("a key differed at an older version, at which not all could be compared".to_owned());
        }
        if matches!(self.digests, Compared::Differ { .. }) && *differing == 0 && !differed_before && lost.is_empty() {
            all.push(
                "all keys are equal: the digests differ in what is no key, such as sessions and the numbers of appends, or \
                 what differed is gone by now"
                    .to_owned(),
            );
        }
        all
    }

    /// How the command ends.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let missing = self.missing();
        let lines: String = missing.iter().map(|(name, why)| format!("\n  {name}: {why}")).collect();
        if self.differ() {
            let found = self.sentences().join("; ");
            let missing = if missing.is_empty() { String::new() } else { format!("\nnot compared:{lines}") };
            return Err(Failure::Integrity(format!(
                "integrity: replicas differ: {found}{missing}\nkeep the data directories of all as they are, and see \
                 heirloom status"
            )));
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Failure::Unavailable(format!(
            "not all copies could be compared:{lines}\nsee heirloom status, and compare again when they are back; a longer \
             --timeout waits longer for them"
        )))
    }
}

fn named(id: impl std::fmt::Display, address: &heirloom_proto::Address) -> String {
    format!("server {id} at {address}")
}

fn listed(servers: &[ServerId]) -> String {
    let ids: Vec<String> = servers.iter().map(ToString::to_string).collect();
    format!("{} {}", if ids.len() == 1 { "server" } else { "servers" }, ids.join(", "))
}

#[cfg(test)]
mod tests {
    use heirloom_proto::{ClusterId, Epoch, Version};

    use super::super::copies::LeftOut;
    use super::*;
    use crate::verify::Digests;

    const CLUSTER: ClusterId = ClusterId { id: 1, generation: 1 };

    /// Copies that were all seen at index 7 with these digests.
    fn copies(said: &[&str]) -> Copies {
        let mut digests = Digests::default();
        let copies = (0..).zip(said).map(|(id, digest)| {
            let (id, applied) = (ServerId(id), LogIndex(7));
            let state = State { version: Version(6), digest: (*digest).to_owned() };
            digests.hear(id, applied, state.clone());
            let (address, role) = ("127.0.0.1:7400".parse().expect("well formed"), "backup".to_owned());
            Replica { id, address, role, epoch: Epoch::NONE, applied, state, silence: None }
        });
        let copies = copies.collect();
        Copies { cluster: Some(CLUSTER), copies, left_out: Vec::new(), digests }
    }

    fn found(copies: &Copies, keys: Option<Tally>) -> Findings<'_> {
        let digests = copies.digests.compare(&copies.answering());
        let servers = copies.answering().into_iter().collect();
        let at = At { version: Version(6), cluster: CLUSTER };
        Findings { copies, digests, keys: keys.map(|tally| Keys { at, servers, tally, differed_before: false }) }
    }

    fn standings(copies: &Copies) -> Vec<&'static str> {
        let digests = copies.digests.compare(&copies.answering());
        copies.copies.iter().map(|copy| Standing::new(copies, &digests, copy).word()).collect()
    }

    fn missing_one(copies: Copies) -> Copies {
        let address = "127.0.0.1:7402".parse().expect("well formed");
        let left = LeftOut { id: Some(2), address, why: Why::NotSeen("connection refused".to_owned()) };
        Copies { left_out: vec![left], ..copies }
    }

    #[test]
    fn what_most_have_is_said_where_most_have_it() {
        assert_eq!(standings(&copies(&["a", "a", "a"])), ["equal"; 3]);
        assert_eq!(standings(&copies(&["a", "b", "a"])), ["equal_to_most", "differs_from_most", "equal_to_most"]);
        assert_eq!(standings(&copies(&["a", "b"])), ["differs"; 2]);
        assert_eq!(standings(&copies(&["a"])), ["alone"]);
        let one_odd = copies(&["a", "b", "a"]);
        assert_eq!(
            found(&one_odd, None).sentences(),
            ["at index 7 there are 2 digests: one of servers 0, 2, one of server 1"]
        );
    }

    #[test]
    fn equal_copies_end_well_and_a_missing_one_is_not_taken_for_equal() {
        let equal = copies(&["a", "a"]);
        assert_eq!(found(&equal, None).verdict(), Ok(()));
        assert_eq!(found(&equal, Some(Tally { keys: 9, ..Tally::default() })).verdict(), Ok(()));
        let alone = copies(&["a"]);
        assert_eq!(found(&alone, None).verdict(), Ok(()), "a cluster with one copy has none that differs");
        for copies in [missing_one(equal), missing_one(alone)] {
            let failure = found(&copies, None).verdict().expect_err("one is missing");
            assert!(
                matches!(&failure, Failure::Unavailable(why) if why.contains("server 2 at 127.0.0.1:7402")),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_server_that_fell_silent_or_was_lost_among_its_keys_is_missing() {
        let mut silent = copies(&["a", "a", "a"]);
        silent.copies[1].silence = Some("connection refused".to_owned());
        let failure = found(&silent, None).verdict().expect_err("one is missing");
        assert!(matches!(&failure, Failure::Unavailable(why) if why.contains("server 1 at")), "{failure}");
        assert_eq!(standings(&silent), ["equal", "not_compared", "equal"]);
        // It was back for its keys.
        assert_eq!(found(&silent, Some(Tally { keys: 9, ..Tally::default() })).verdict(), Ok(()));
        let equal = copies(&["a", "a", "a"]);
        let lost = || [(ServerId(2), "nothing came (after 4 keys)".to_owned())].into();
        let failure = found(&equal, Some(Tally { keys: 9, lost: lost(), ..Tally::default() }))
            .verdict()
            .expect_err("one is missing");
        assert!(matches!(&failure, Failure::Unavailable(why) if why.contains("after 4 keys")), "{failure}");
        let said = found(&equal, Some(Tally { keys: 9, lost: lost(), ..Tally::default() })).sentences().join("\n");
        assert!(said.contains("9 keys at version 6, of servers 0, 1: all equal"), "{said}");
    }

    #[test]
    fn a_difference_is_one_whoever_is_missing() {
        let differ = missing_one(copies(&["a", "b"]));
        let failure = found(&differ, None).verdict().expect_err("they differ");
        assert!(
            matches!(&failure, Failure::Integrity(why) if why.starts_with("integrity: replicas differ")),
            "{failure}"
        );
        assert!(failure.to_string().contains("server 2 at 127.0.0.1:7402: connection refused"), "{failure}");
        let equal = copies(&["a", "a", "a"]);
        let odd = [(ServerId(2), 1)].into();
        let in_keys = found(&equal, Some(Tally { keys: 9, differing: 1, odd, ..Tally::default() }));
        assert!(matches!(in_keys.verdict(), Err(Failure::Integrity(_))));
        let said = in_keys.sentences().join("\n");
        assert!(said.contains("9 keys at version 6, of servers 0, 1, 2: 1 differs"), "{said}");
        assert!(said.contains("server 2 has something else than most under 1 of them"), "{said}");
        let mut before = found(&equal, Some(Tally { keys: 9, ..Tally::default() }));
        before.keys.as_mut().expect("given").differed_before = true;
        assert!(matches!(before.verdict(), Err(Failure::Integrity(_))));
    }

    #[test]
    fn digests_that_differ_over_equal_keys_differ_in_what_is_no_key() {
        let differ = copies(&["a", "b"]);
        let said = |tally| found(&differ, Some(tally)).sentences().join("\n");
        let equal = Tally { keys: 9, ..Tally::default() };
        let of_equal_keys = said(equal.clone());
        assert!(of_equal_keys.contains("sessions"), "{of_equal_keys}");
        assert!(matches!(found(&differ, Some(equal.clone())).verdict(), Err(Failure::Integrity(_))));
        let lost = [(ServerId(1), "nothing came".to_owned())].into();
        assert!(!said(Tally { lost, ..equal.clone() }).contains("sessions"), "not all keys were compared");
        assert!(!said(Tally { differing: 1, ..equal }).contains("sessions"));
    }
}
