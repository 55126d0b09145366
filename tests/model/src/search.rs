//! Searching all of a world.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use heirloom_laws::{Violation, story};

use crate::choices::Choice;
use crate::intern::ByFingerprint;
use crate::packet::Packet;
use crate::rules::{Rules, Sight};
use crate::run::{Limits, Order};
use crate::state::State;
use crate::world::Universe;

/// What came of a search.
#[derive(Clone, Debug)]
pub struct Found {
    /// The world.
    pub rules: Rules,
    /// How many distinct states were looked at; of walks, how many there were.
    pub states: usize,
    /// How many steps from one to another were taken.
    pub steps: u64,
    /// The longest way from the beginning that was looked at.
    pub depth: usize,
    /// Whether there is no state left within the bounds.
    pub complete: bool,
    /// How long it took.
    pub took: Duration,
    /// What was seen.
    pub seen: BTreeMap<Sight, u64>,
    /// The law that was broken, with a way there of which nothing can be left out.
    pub violation: Option<(Violation, Vec<String>)>,
}

impl Found {
    /// What the world should have shown and did not; a search that was cut short may not have come to it.
    pub fn missing(&self) -> Vec<Sight> {
        if !self.complete {
            return Vec::new();
        }
        self.rules.sights.iter().copied().filter(|sight| !self.seen.contains_key(sight)).collect()
    }
}

impl Found {
    pub(crate) fn nothing(rules: Rules) -> Self {
        Self {
            rules,
            states: 0,
            steps: 0,
            depth: 0,
            complete: false,
            took: Duration::ZERO,
            seen: BTreeMap::new(),
            violation: None,
        }
    }

    /// Adds what was seen.
    pub(crate) fn see(&mut self, universe: &Universe) {
        for (sight, count) in &universe.seen {
            *self.seen.entry(*sight).or_default() += count;
        }
    }

    pub(crate) fn broken_at_the_beginning(mut self, violation: Violation) -> Self {
        self.violation = Some((violation, vec!["on the way to the beginning".to_owned()]));
        self
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.complete { "complete" } else { "cut short" };
        write!(
            f,
            "{:<24} {:>10} states {:>11} steps, depth {:>3}, {how}, {:.1} s",
            self.rules.name,
            self.states,
            self.steps,
            self.depth,
            self.took.as_secs_f64()
        )?;
        if let Some((violation, way)) = &self.violation {
            write!(f, "\n  broke {violation}")?;
            for line in way {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

const NONE: u32 = u32::MAX;

/// Searches all states of a world.
pub fn search(rules: Rules, limits: Limits) -> Found {
    let begun = Instant::now();
    let mut universe = Universe::new(rules);
    let mut found = Found::nothing(universe.rules.clone());
    let (beginning, _planted) = match universe.beginning(limits.fault) {
        Ok(begun) => begun,
        Err(violation) => return found.broken_at_the_beginning(violation),
    };
    let mut known = Known::default();
    let mut ways: Vec<(u32, Choice)> = vec![(NONE, Choice::Jump)];
    known.insert(&beginning);
    let mut waiting = BinaryHeap::from([Waiting { first: 0, number: 0, depth: 0, state: beginning.clone() }]);
    'search: while let Some(Waiting { number, depth, state, .. }) = waiting.pop() {
        if known.has_better(&state) {
            continue;
        }
        found.states += 1;
        found.depth = found.depth.max(depth);
        for choice in universe.choices(&state) {
            match universe.after(&state, choice) {
                Ok(None) => {}
                Ok(Some(next)) => {
                    found.steps += 1;
                    if known.insert(&next) {
                        let next_number = u32::try_from(ways.len()).expect("memory ends before");
                        ways.push((number, choice));
                        let first = match limits.order {
                            Order::MostOnItsWay => next.network.len(),
                            Order::FewestSteps => usize::MAX - depth,
                        };
                        waiting.push(Waiting { first, number: next_number, depth: depth + 1, state: next });
                    }
                }
                Err(violation) => {
                    let mut way = way_to(&ways, number);
                    way.push(choice);
                    let way = shorten(&mut universe, &beginning, way, violation.law);
                    found.violation = Some((violation, tell(&mut universe, &beginning, &way)));
                    break 'search;
                }
            }
        }
        if found.states > limits.states_max || found.states.is_multiple_of(256) && begun.elapsed() > limits.time_max {
            break 'search;
        }
    }
    found.complete = found.violation.is_none() && waiting.is_empty();
    found.see(&universe);
    found.took = begun.elapsed();
    found
}

/// The states met: for each state of servers, clocks, clients and laws the networks under which it was met, but for those
/// that are part of another. A state with more on its way shows all that one with less could.
#[derive(Debug, Default)]
struct Known {
    by_rest: ByFingerprint<Vec<Rc<Vec<u32>>>>,
}

impl Known {
    /// False where the state adds nothing to those met.
    fn insert(&mut self, state: &State) -> bool {
        let networks = self.by_rest.entry(state.rest()).or_default();
        if networks.iter().any(|other| is_part(&state.network, other)) {
            return false;
        }
        networks.retain(|other| !is_part(other, &state.network));
        networks.push(Rc::clone(&state.network));
        true
    }

    /// Whether a state with more on its way was met since.
    fn has_better(&self, state: &State) -> bool {
        !self.by_rest.get(&state.rest()).is_some_and(|networks| networks.contains(&state.network))
    }
}

/// Whether all of one ascending list is in another.
fn is_part(part: &[u32], whole: &[u32]) -> bool {
    let mut rest = whole.iter();
    part.len() <= whole.len() && part.iter().all(|packet| rest.any(|other| other == packet))
}

#[derive(Debug)]
struct Waiting {
    first: usize,
    number: u32,
    depth: usize,
    state: State,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.first, Reverse(self.number)).cmp(&(other.first, Reverse(other.number)))
    }
}

/// The way without whatever is not needed to break the law.
pub(crate) fn shorten(universe: &mut Universe, beginning: &State, mut way: Vec<Choice>, law: u8) -> Vec<Choice> {
    let mut place = way.len();
    while place > 0 {
        place -= 1;
        let mut shorter = way.clone();
        shorter.remove(place);
        if let Some(end) = breaks(universe, beginning, &shorter, law) {
            shorter.truncate(end);
            way = shorter;
            place = place.min(way.len());
        }
    }
    way
}

/// How many choices it takes for this way to break the law; choices that can't be made are left out.
fn breaks(universe: &mut Universe, beginning: &State, way: &[Choice], law: u8) -> Option<usize> {
    let mut state = beginning.clone();
    for (choice, taken) in way.iter().zip(1..) {
        if !universe.choices(&state).contains(choice) {
            continue;
        }
        match universe.after(&state, *choice) {
            Ok(Some(next)) => state = next,
            Ok(None) => {}
            Err(violation) => return (violation.law == law).then_some(taken),
        }
    }
    None
}

fn way_to(ways: &[(u32, Choice)], mut number: u32) -> Vec<Choice> {
    let mut way = Vec::new();
    while let Some((before, choice)) = ways.get(number as usize).filter(|(before, _)| *before != NONE) {
        way.push(*choice);
        number = *before;
    }
    way.reverse();
    way
}

/// The story of a way: what happened, and what each server made of it.
pub(crate) fn tell(universe: &mut Universe, beginning: &State, way: &[Choice]) -> Vec<String> {
    let mut state = beginning.clone();
    let mut lines = Vec::new();
    for choice in way {
        lines.push(match choice {
            Choice::Deliver(packet) => match &**universe.packets.value(*packet) {
                Packet::Message { from, to, message, .. } => {
                    format!("{to} <- {}: {}", from.server, story::message(message))
                }
                Packet::Break { at, peer } => format!("{} finds the stream to {} broken", at.server, peer.server),
                Packet::Mend { at, peer } => format!("{} has a stream to {} again", at.server, peer.server),
                Packet::Probe { asker, server, .. } => format!("a probe by {} looks at {server}", asker.server),
                Packet::Probed { asker, server, dead, .. } => {
                    format!("{} hears of its probe of {server}: dead {dead}", asker.server)
                }
            },
            other => format!("{other:?}"),
        });
        match universe.after(&state, *choice) {
            Ok(Some(next)) => state = next,
            Ok(None) => {}
            Err(violation) => lines.push(format!("!! {violation}")),
        }
    }
    lines
}
