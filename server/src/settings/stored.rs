//! Settings against those that were fixed when the cluster was first started.

use heirloom_proto::{Constants, QuorumRule, VoterKind};

use super::units::{drift_text, duration_text};

/// What of `asked` differs from `stored`, as one sentence with the remedy; `None` where nothing does.
pub(crate) fn differs(stored: &Constants, asked: &Constants) -> Option<String> {
    if stored.voters != asked.voters {
        return Some(format!(
            "--cluster names {}, and this cluster was started with {}: the servers of a cluster are fixed, so name the \
            same ones in the same order",
            voters_text(&asked.voters),
            voters_text(&stored.voters)
        ));
    }
    let options = [
        ("--quorum", quorum_text(stored.quorum).to_owned(), quorum_text(asked.quorum).to_owned()),
        ("--lease", duration_text(stored.lease), duration_text(asked.lease)),
        ("--drift", drift_text(stored.drift), drift_text(asked.drift)),
        ("--min-copies", stored.min_copies.to_string(), asked.min_copies.to_string()),
    ];
    let (option, stored, asked) = options.into_iter().find(|(_, stored, asked)| stored != asked)?;
    Some(format!(
        "{option} is {asked}, and this cluster was started with {stored}, which is fixed: use {option} {stored}"
    ))
}

fn voters_text(voters: &[VoterKind]) -> String {
    let witnesses = voters.iter().filter(|kind| **kind == VoterKind::Witness).count();
    let data = voters.len() - witnesses;
    match witnesses {
        0 => format!("{data} data servers"),
        _ => {
            let positions = (0..voters.len()).filter(|position| voters[*position] == VoterKind::Witness);
            let positions: Vec<String> = positions.map(|position| position.to_string()).collect();
            format!("{data} data servers and a witness at position {}", positions.join(", "))
        }
    }
}

fn quorum_text(rule: QuorumRule) -> &'static str {
    match rule {
        QuorumRule::Majority => "majority",
        QuorumRule::Survivors => "survivors",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heirloom_proto::time::Drift;

    use super::*;

    #[test]
    fn each_constant_that_differs_is_named_by_its_option_with_the_stored_value() {
        let stored = Constants::defaults(vec![VoterKind::Data; 2]);
        assert_eq!(differs(&stored, &stored), None);
        let cases = [
            (Constants::defaults(vec![VoterKind::Data; 3]), "--cluster", "2 data servers"),
            (Constants { quorum: QuorumRule::Majority, ..stored.clone() }, "--quorum", "--quorum survivors"),
            (Constants { lease: Duration::ZERO, ..stored.clone() }, "--lease", "--lease 300ms"),
            (Constants { drift: Drift(0), ..stored.clone() }, "--drift", "--drift 0.01"),
            (Constants { min_copies: 2, ..stored.clone() }, "--min-copies", "--min-copies 1"),
        ];
        for (asked, option, remedy) in cases {
            let sentence = differs(&stored, &asked).expect(option);
            assert!(sentence.starts_with(option) && sentence.contains(remedy), "{sentence}");
        }
    }
}
