//! Searching many worlds, as many at a time as the machine has cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use heirloom_proto::mutants::{Mutant, plant};

use crate::rules::Rules;
use crate::search::Found;

/// What a search may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many states are looked at, at most.
    pub states_max: usize,
    /// How long it goes on, at most.
    pub time_max: Duration,
}

/// Searches these worlds, with a fault planted in their nodes or with none; each is told as soon as it is done.
pub fn run_all(
    worlds: &[Rules],
    mutant: Option<Mutant>,
    search: impl Fn(Rules) -> Found + Sync,
    done: impl Fn(&Found) + Sync,
) -> Vec<Found> {
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, Found)>> = Mutex::default();
    let work = || {
        let _planted = mutant.map(plant);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(rules) = worlds.get(number) else { return };
            let one = search(rules.clone());
            let mut found = found.lock().expect("no thread panics while it notes");
            done(&one);
            found.push((number, one));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().expect("no thread panics while it notes");
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, found)| found).collect()
}
