//! Walking through a world at random: nothing is complete, but ways are long and worlds may be large.

use std::time::Instant;

use heirloom_laws::Violation;

use crate::choices::Choice;
use crate::rules::Rules;
use crate::run::Limits;
use crate::search::{Found, shorten, tell};
use crate::state::State;
use crate::world::Universe;

/// How many steps a walk takes before it begins anew.
const LENGTH: usize = 400;

/// Walks through a world from its beginning, again and again; what is found counts walks where a search counts states.
pub fn walk(rules: &Rules, seed: u64, limits: Limits) -> Found {
    let begun = Instant::now();
    let mut found = Found::nothing(rules.clone());
    let mut random = Random::new(seed);
    'universes: loop {
        // What was met is remembered, but not for ever.
        let mut universe = Universe::new(rules.clone());
        universe.saturates = false;
        let (beginning, _planted) = match universe.beginning(limits.fault) {
            Ok(begun) => begun,
            Err(violation) => return found.broken_at_the_beginning(violation),
        };
        while !universe.is_large() {
            if found.states >= limits.states_max || begun.elapsed() > limits.time_max {
                found.see(&universe);
                break 'universes;
            }
            found.states += 1;
            let (way, violation) = walk_once(&mut universe, &beginning, &mut random);
            found.steps += way.len() as u64;
            found.depth = found.depth.max(way.len());
            if let Some(violation) = violation {
                let way = shorten(&mut universe, &beginning, way, violation.law);
                found.violation = Some((violation, tell(&mut universe, &beginning, &way)));
                break 'universes;
            }
        }
        found.see(&universe);
    }
    found.took = begun.elapsed();
    found
}

fn walk_once(universe: &mut Universe, beginning: &State, random: &mut Random) -> (Vec<Choice>, Option<Violation>) {
    let mut state = beginning.clone();
    let mut way = Vec::new();
    while way.len() < LENGTH {
        let mut choices = universe.choices(&state);
        let mut went = None;
        while !choices.is_empty() && went.is_none() {
            // The later of two: what is rare among the choices (crashes, requests, time) stands behind the messages.
            let place = random.below(choices.len()).max(random.below(choices.len()));
            let choice = choices.swap_remove(place);
            match universe.after(&state, choice) {
                Ok(next) => went = next.map(|next| (choice, next)),
                Err(violation) => {
                    way.push(choice);
                    return (way, Some(violation));
                }
            }
        }
        let Some((choice, next)) = went else { break };
        way.push(choice);
        state = next;
    }
    (way, None)
}

/// xorshift64*: good enough to choose a way, and the same everywhere.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).expect("31 bits") % end
    }
}
