//! Whether what clients saw of one key could have been seen if every operation had taken effect at one moment between
//! its call and its return.
//!
//! The operations are walked in the order of their calls and returns, with the set of all configurations that explain
//! what was seen so far: the value, which of the pending operations have already taken effect, and which operations of
//! unknown outcome were called upon. An operation is made to take effect only when a return demands it, reads as early as
//! they can. Three things keep the set small, so that histories of many thousand operations take milliseconds:
//! - a read that fits the value takes effect at once, for it changes nothing;
//! - a configuration that called upon fewer operations of unknown outcome covers one that called upon more, for such an
//!   operation may take effect at any later time, or never;
//! - operations of unknown outcome that nobody can tell apart (deletes, and adds of one condition whose value no read
//!   ever returned) are
//!   called upon in the order of their calls.
//!
//! **Source:** Wing & Gong 1993; Lowe 2017, "Testing for linearizability" (just-in-time linearization).
//! Deviation: Lowe has no operations of unknown outcome.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use bytes::Bytes;

/// What a client asked of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Adds or replaces. Values must be unique within the history of a key.
    Add(Bytes),
    /// Adds or replaces where the key's value is the one expected, and else does nothing.
    AddIf {
        /// The value; unique as that of an add.
        value: Bytes,
        /// `None` for no value.
        expected: Option<Bytes>,
    },
    /// Deletes.
    Delete,
    /// Reads.
    Read,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The change took effect; whether the key had a value before.
    Changed {
        /// Whether there was a value before.
        existed: bool,
    },
    /// The value was not the expected one, and nothing was changed.
    NotMet,
    /// The change took effect; what was there before was not told.
    Done,
    /// The read returned this.
    Found(Bytes),
    /// The read found no value.
    NotFound,
}

/// One operation on one key. Operations that certainly did not take effect are left out of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who called; for people.
    pub client: u64,
    /// What.
    pub call: Call,
    /// When it was called. **Units:** any, as long as the whole history uses one clock.
    pub called_at: u64,
    /// When it returned and with what; `None` where the outcome is unknown.
    pub returned: Option<(u64, Outcome)>,
}

/// Why a history was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No order explains what was seen.
    NotLinearizable {
        /// The key.
        key: Bytes,
        /// The operation whose return can't be explained.
        operation: Box<Operation>,
        /// The values that the key may have had at that moment; `None` for no value.
        possible: Vec<Option<Bytes>>,
        /// The operations before it in time, newest last.
        before: Vec<Operation>,
    },
    /// More configurations than can be followed: nothing is known.
    TooHard {
        /// The key.
        key: Bytes,
        /// How many there were.
        configurations: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLinearizable { key, operation, possible, before } => {
                writeln!(f, "key {key:?} is not linearizable: {operation:?}")?;
                writeln!(f, "  the value may have been one of {possible:?}; what happened before:")?;
                for operation in before {
                    writeln!(f, "  {operation:?}")?;
                }
                Ok(())
            }
            Self::TooHard { key, configurations } => {
                write!(f, "key {key:?}: gave up at {configurations} configurations")
            }
        }
    }
}

/// The operations of all keys.
#[derive(Clone, Debug, Default)]
pub struct History {
    keys: BTreeMap<Bytes, Vec<Operation>>,
}

impl History {
    /// Notes an operation.
    pub fn note(&mut self, key: &Bytes, operation: Operation) {
        self.keys.entry(key.clone()).or_default().push(operation);
    }

    /// How many operations it holds.
    pub fn operations(&self) -> usize {
        self.keys.values().map(Vec::len).sum()
    }

    /// Checks each key by itself: linearizability is local.
    ///
    /// **Errors:** the first fault found.
    pub fn check(&self) -> Result<(), Fault> {
        self.keys.iter().try_for_each(|(key, operations)| check(key, operations))
    }
}

/// More than this many configurations are not followed.
const CONFIGURATIONS_MAX: usize = 1_000_000;
/// How many operations before an inexplicable one are shown.
const SHOWN_MAX: usize = 30;

/// The value of the key, numbered; two numbers are given.
type Value = u32;
const NO_VALUE: Value = 0;
/// Any value that no read ever returned and no condition expected.
const UNSEEN: Value = 1;

/// Checks the history of one key, given in any order.
///
/// **Errors:** [`Fault`].
pub fn check(key: &Bytes, operations: &[Operation]) -> Result<(), Fault> {
    check_within(CONFIGURATIONS_MAX, key, operations)
}

/// The same, giving up at so many configurations.
///
/// **Errors:** [`Fault`].
pub fn check_within(configurations_max: usize, key: &Bytes, operations: &[Operation]) -> Result<(), Fault> {
    Walk::new(operations, configurations_max).run().map_err(|stop| match stop {
        Stop::TooHard(configurations) => Fault::TooHard { key: key.clone(), configurations },
        Stop::Inexplicable { operation, possible } => {
            let mut before: Vec<Operation> = operations
                .iter()
                .filter(|other| other.called_at <= operation_end(&operations[operation]))
                .cloned()
                .collect();
            before.sort_by_key(|other| other.called_at);
            before.drain(..before.len().saturating_sub(SHOWN_MAX));
            Fault::NotLinearizable {
                key: key.clone(),
                operation: Box::new(operations[operation].clone()),
                possible,
                before,
            }
        }
    })
}

fn operation_end(operation: &Operation) -> u64 {
    operation.returned.as_ref().map_or(u64::MAX, |(at, _)| *at)
}

/// What an operation needs and does, with values as numbers.
#[derive(Clone, Copy, Debug)]
struct Effect {
    needs: Need,
    leaves: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Anything,
    Exactly(Value),
    AnyBut(Value),
    AnyValue,
}

impl Effect {
    fn on(self, value: Value) -> Option<Value> {
        let fits = match self.needs {
            Need::Anything => true,
            Need::Exactly(wanted) => value == wanted,
            Need::AnyBut(unwanted) => value != unwanted,
            Need::AnyValue => value != NO_VALUE,
        };
        fits.then(|| self.leaves.unwrap_or(value))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Configuration {
    value: Value,
    /// Pending operations of known outcome that have taken effect.
    done: BTreeSet<usize>,
    /// Operations of unknown outcome that have taken effect.
    called_upon: BTreeSet<usize>,
}

enum Stop {
    TooHard(usize),
    Inexplicable { operation: usize, possible: Vec<Option<Bytes>> },
}

struct Walk {
    effects: Vec<Effect>,
    /// Calls and returns in the order of time; at equal times calls come first, which is the lenient reading.
    moments: Vec<(u64, bool, usize)>,
    names: Vec<Option<Bytes>>,
    pending: BTreeSet<usize>,
    unknown: Vec<usize>,
    configurations: Vec<Configuration>,
    configurations_max: usize,
}

impl Walk {
    fn new(operations: &[Operation], configurations_max: usize) -> Self {
        let mut names = vec![None, None];
        let mut numbers: BTreeMap<Bytes, Value> = BTreeMap::new();
        for operation in operations {
            let found = match &operation.returned {
                Some((_, Outcome::Found(value))) => Some(value),
                _ => None,
            };
            let expected = match &operation.call {
                Call::AddIf { expected, .. } => expected.as_ref(),
                Call::Add(_) | Call::Delete | Call::Read => None,
            };
            for value in found.into_iter().chain(expected) {
                numbers.entry(value.clone()).or_insert_with(|| {
                    names.push(Some(value.clone()));
                    Value::try_from(names.len() - 1).expect("fewer values than memory")
                });
            }
        }
        let effects = operations.iter().map(|operation| effect(operation, &numbers)).collect();
        let mut moments = Vec::with_capacity(operations.len() * 2);
        for (position, operation) in operations.iter().enumerate() {
            // A read of unknown outcome says nothing.
            if operation.call == Call::Read && operation.returned.is_none() {
                continue;
            }
            moments.push((operation.called_at, false, position));
            if let Some((at, _)) = operation.returned {
                moments.push((at.max(operation.called_at), true, position));
            }
        }
        moments.sort_unstable();
        let start = Configuration { value: NO_VALUE, done: BTreeSet::new(), called_upon: BTreeSet::new() };
        Self {
            effects,
            moments,
            names,
            pending: BTreeSet::new(),
            unknown: Vec::new(),
            configurations: vec![start],
            configurations_max,
        }
    }

    fn run(mut self) -> Result<(), Stop> {
        let moments = std::mem::take(&mut self.moments);
        let returning: BTreeSet<usize> =
            moments.iter().filter(|(_, returns, _)| *returns).map(|(_, _, position)| *position).collect();
        for (_, returns, position) in moments {
            if returns {
                self.returned(position)?;
            } else if returning.contains(&position) {
                self.pending.insert(position);
                for configuration in &mut self.configurations {
                    take_reads(&self.effects, &self.pending, configuration);
                }
            } else {
                self.unknown.push(position);
            }
        }
        Ok(())
    }

    /// Keeps the configurations in which the operation has taken effect, and finds those in which it does now.
    fn returned(&mut self, operation: usize) -> Result<(), Stop> {
        let before = std::mem::take(&mut self.configurations);
        let possible = before.iter().map(|configuration| configuration.value).collect::<BTreeSet<_>>();
        let mut queue: VecDeque<Configuration> = before.into();
        let mut visited = Covered::default();
        let mut kept = Covered::default();
        while let Some(configuration) = queue.pop_front() {
            if !visited.admit(&configuration) {
                continue;
            }
            if visited.count > self.configurations_max {
                return Err(Stop::TooHard(visited.count));
            }
            if configuration.done.contains(&operation) {
                let mut next = configuration;
                next.done.remove(&operation);
                kept.admit(&next);
                continue;
            }
            for position in self.pending.iter().filter(|position| !configuration.done.contains(position)) {
                if let Some(value) = self.effects[*position].on(configuration.value) {
                    let mut next = Configuration { value, ..configuration.clone() };
                    next.done.insert(*position);
                    take_reads(&self.effects, &self.pending, &mut next);
                    queue.push_front(next);
                }
            }
            let mut tried = BTreeSet::new();
            for position in self.unknown.iter().filter(|position| !configuration.called_upon.contains(position)) {
                let effect = self.effects[*position];
                // Of those that nobody can tell apart only the first.
                let alike = effect.leaves.filter(|value| *value <= UNSEEN);
                if alike.is_some_and(|value| !tried.insert((effect.needs, value)))
                    || effect.leaves == Some(configuration.value)
                {
                    continue;
                }
                if let Some(value) = effect.on(configuration.value) {
                    let mut next = Configuration { value, ..configuration.clone() };
                    next.called_upon.insert(*position);
                    take_reads(&self.effects, &self.pending, &mut next);
                    // Behind those that called upon fewer, which may cover it.
                    queue.push_back(next);
                }
            }
        }
        self.pending.remove(&operation);
        self.configurations = kept.into_configurations();
        if self.configurations.is_empty() {
            let possible = possible.into_iter().map(|value| self.name(value)).collect();
            return Err(Stop::Inexplicable { operation, possible });
        }
        Ok(())
    }

    fn name(&self, value: Value) -> Option<Bytes> {
        match value {
            NO_VALUE => None,
            UNSEEN => Some(Bytes::from_static(b"(a value that nobody read)")),
            value => self.names[value as usize].clone(),
        }
    }
}

/// Lets every pending operation take effect that fits and changes nothing.
fn take_reads(effects: &[Effect], pending: &BTreeSet<usize>, configuration: &mut Configuration) {
    for position in pending {
        let effect = effects[*position];
        if effect.leaves.is_none() && effect.on(configuration.value).is_some() {
            configuration.done.insert(*position);
        }
    }
}

fn effect(operation: &Operation, numbers: &BTreeMap<Bytes, Value>) -> Effect {
    let number = |value: &Bytes| numbers.get(value).copied().unwrap_or(UNSEEN);
    let outcome = operation.returned.as_ref().map(|(_, outcome)| outcome);
    let expected = match &operation.call {
        Call::AddIf { expected, .. } => Some(expected.as_ref().map_or(NO_VALUE, number)),
        Call::Add(_) | Call::Delete | Call::Read => None,
    };
    let needs = match outcome {
        Some(Outcome::NotMet) => expected.map_or(Need::Anything, Need::AnyBut),
        // Also where the outcome is unknown: where the condition is not met it never takes effect.
        Some(Outcome::Changed { .. } | Outcome::Done) | None if expected.is_some() => {
            Need::Exactly(expected.expect("just looked at"))
        }
        Some(Outcome::Changed { existed: true }) => Need::AnyValue,
        Some(Outcome::Changed { existed: false } | Outcome::NotFound) => Need::Exactly(NO_VALUE),
        Some(Outcome::Found(value)) => Need::Exactly(number(value)),
        Some(Outcome::Done) | None => Need::Anything,
    };
    let leaves = match (&operation.call, outcome) {
        (_, Some(Outcome::NotMet)) => None,
        (Call::Add(value) | Call::AddIf { value, .. }, _) => Some(number(value)),
        // A delete that found nothing changed nothing.
        (Call::Delete, Some(Outcome::Changed { existed: false })) | (Call::Read, _) => None,
        (Call::Delete, _) => Some(NO_VALUE),
    };
    Effect { needs, leaves }
}

/// Configurations of which none covers another.
#[derive(Default)]
struct Covered {
    by_state: BTreeMap<(Value, BTreeSet<usize>), Vec<BTreeSet<usize>>>,
    count: usize,
}

impl Covered {
    /// Takes a configuration; false where one that it has already covers it.
    fn admit(&mut self, configuration: &Configuration) -> bool {
        let alike = self.by_state.entry((configuration.value, configuration.done.clone())).or_default();
        if alike.iter().any(|called_upon| called_upon.is_subset(&configuration.called_upon)) {
            return false;
        }
        let before = alike.len();
        alike.retain(|called_upon| !configuration.called_upon.is_subset(called_upon));
        alike.push(configuration.called_upon.clone());
        self.count = self.count + alike.len() - before;
        true
    }

    fn into_configurations(self) -> Vec<Configuration> {
        self.by_state
            .into_iter()
            .flat_map(|((value, done), sets)| {
                sets.into_iter().map(move |called_upon| Configuration { value, done: done.clone(), called_upon })
            })
            .collect()
    }
}
