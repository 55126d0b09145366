//! Whether the copies of a cluster are equal: by the digests of their states, and key by key at one version.
//!
//! Which copy is right is not said here: what most have is a fact, and no verdict.

mod digests;
mod keys;
mod pages;
mod rows;

use heirloom_proto::ServerId;

pub(crate) use digests::{Compared, Digests, State};
pub(crate) use keys::{At, Comparison, Row, Tally, TooOld};

/// The servers that have the same, group by group, in the order in which they come.
pub(crate) fn groups<T: PartialEq>(found: impl IntoIterator<Item = (ServerId, T)>) -> Vec<Vec<ServerId>> {
    let mut groups: Vec<(T, Vec<ServerId>)> = Vec::new();
    for (server, what) in found {
        match groups.iter_mut().find(|(same, _)| *same == what) {
            Some((_, servers)) => servers.push(server),
            None => groups.push((what, vec![server])),
        }
    }
    groups.into_iter().map(|(_, servers)| servers).collect()
}

/// The group that has more than half of all these servers, if one has.
pub(crate) fn majority(groups: &[Vec<ServerId>]) -> Option<&[ServerId]> {
    let all: usize = groups.iter().map(Vec::len).sum();
    groups.iter().find(|group| 2 * group.len() > all).map(Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half_of_those_that_were_compared() {
        let servers = |ids: &[u8]| ids.iter().copied().map(ServerId).collect::<Vec<_>>();
        let grouped = |what: &[&str]| groups((0..).map(ServerId).zip(what.iter().copied()));
        assert_eq!(grouped(&["a", "b", "a"]), [servers(&[0, 2]), servers(&[1])]);
        assert_eq!(majority(&grouped(&["a", "b", "a"])), Some(&*servers(&[0, 2])));
        assert_eq!(majority(&grouped(&["a", "b"])), None);
        assert_eq!(majority(&grouped(&["a", "b", "a", "b"])), None);
        assert_eq!(majority(&grouped(&["a", "b", "c"])), None);
    }
}
