//! Searching many worlds, as many at a time as the machine has cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use heirloom_proto::mutants::Mutant;

use crate::search::Found;

/// What a search may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many states are looked at, at most.
    pub states_max: usize,
    /// How long it goes on, at most.
    pub time_max: Duration,
    /// Which states are looked at first.
    pub order: Order,
    /// A fault that is planted once the cluster is whole.
    pub fault: Option<Mutant>,
}

/// Which of the states that wait is looked at first. A search that comes to its end has looked at all in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Those with most on its way: they show all that others with the same servers could, which are not looked at then.
    MostOnItsWay,
    /// Those that are fewest steps from the beginning: a fault is met soon.
    FewestSteps,
}

/// Looks at all of these, as many at a time as the machine has cores; each is told as soon as it is done.
pub fn run_all<T: Sync>(all: &[T], look: impl Fn(&T) -> Found + Sync, done: impl Fn(&T, &Found) + Sync) -> Vec<Found> {
    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, Found)>> = Mutex::default();
    let work = || loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(it) = all.get(number) else { return };
        let one = look(it);
        let mut found = found.lock().expect("no thread panics while it notes");
        done(it, &one);
        found.push((number, one));
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
