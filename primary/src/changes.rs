//! What becomes of a change: its effects, decided once, against committed plus prepared state (PROTOCOL 4.2).

use bytes::Bytes;
use heirloom_proto::request::append_key;
use heirloom_proto::{
    Answer, Change, Condition, Effect, KeyChange, LogIndex, Mutant, Origin, Together, Version, WallTime, planted,
};

use crate::primary::Primary;

impl Primary {
    pub(crate) fn change(&mut self, change: Change, origin: Option<Origin>, at: WallTime) -> LogIndex {
        let (effects, answer) = match change {
            Change::Add { key, value } => {
                let existed = self.version_of(&key).is_some();
                (vec![Effect::Put { key, value }], Answer::Added { existed })
            }
            Change::Delete { key } => {
                let existed = self.version_of(&key).is_some();
                let effects = if existed { vec![Effect::Remove { key }] } else { Vec::new() };
                (effects, Answer::Deleted { existed })
            }
            Change::Append { prefix, value } => self.append_value(prefix, value),
            Change::Together(set) => self.together(*set),
        };
        self.append(at, effects, origin, answer)
    }

    /// The next number under the prefix whose key is free: somebody may have added one by its name.
    fn append_value(&self, prefix: Bytes, value: Bytes) -> (Vec<Effect>, Answer) {
        let mut number = self.numbered(&prefix) + 1;
        while self.is_taken(&append_key(&prefix, number)) {
            number += 1;
        }
        let key = append_key(&prefix, number);
        (vec![Effect::Put { key, value }, Effect::Count { prefix, number }], Answer::Appended { number })
    }

    fn together(&self, set: Together) -> (Vec<Effect>, Answer) {
        for (condition, Condition { key, version }) in (0..).zip(&set.conditions) {
            let found = self.judged_by(key);
            if found != *version {
                return (Vec::new(), Answer::NotMet { condition, found });
            }
        }
        let existed = set.changes.iter().any(|change| self.version_of(&change.key).is_some());
        let effects = set.changes.into_iter().filter_map(|KeyChange { key, value }| match value {
            Some(value) => Some(Effect::Put { key, value }),
            None => self.version_of(&key).is_some().then_some(Effect::Remove { key }),
        });
        (effects.collect(), Answer::Added { existed })
    }

    fn numbered(&self, prefix: &Bytes) -> u64 {
        if planted(Mutant::AppendCountsCommitted) {
            return self.replica.dictionary().appended(prefix);
        }
        self.overlay.appended(prefix, &self.replica)
    }

    fn is_taken(&self, key: &[u8]) -> bool {
        if planted(Mutant::AppendCountsCommitted) {
            return self.replica.dictionary().read(key).is_some();
        }
        self.version_of(key).is_some()
    }

    /// The version by which a condition on the key is judged.
    fn judged_by(&self, key: &[u8]) -> Option<Version> {
        if planted(Mutant::ConditionOnCommitted) {
            return self.replica.dictionary().read(key).map(|stored| stored.version);
        }
        self.version_of(key)
    }

    /// The version of the key's last change once all that is prepared is applied; `None` where it has no value then.
    fn version_of(&self, key: &[u8]) -> Option<Version> {
        match self.replica.prepared(key) {
            Some(prepared) => prepared.version,
            None => self.replica.dictionary().read(key).map(|stored| stored.version),
        }
    }
}
