use super::audience::{RANGES_MAX, WATCHERS_MAX};
use super::examples::{Woken, key, prefix, put, puts, puts_of, range};
use super::ring::size;
use super::*;

const CLUSTER: ClusterId = ClusterId { id: 1, generation: 1 };

/// A history in touch with its cluster, whose ring holds about so many entries.
fn history(entries: usize) -> (Feeder, Arc<History>) {
    let (feeder, history) = History::bounded(entries * size(&put(1, "a")), HERALD_LOOKS_MAX);
    feeder.stands(Some(CLUSTER), true);
    (feeder, history)
}

fn feed(feeder: &mut Feeder, entries: &[Sealed]) {
    let last = entries.last().expect("some").entry();
    feeder.feed(Some(CLUSTER), Applied { entries, index: last.index, version: last.version });
}

/// A life that begins with nothing but a state.
fn begin(feeder: &mut Feeder, version: u64) {
    feeder.begin(Some(CLUSTER), Applied { entries: &[], index: LogIndex(0), version: Version(version) });
}

fn all() -> KeyRange {
    KeyRange::default()
}

/// The versions that are told next, once it has its turn; `None` where there are none yet.
fn told(watcher: &mut Watcher, woken: &Arc<Woken>) -> Option<Result<Vec<u64>, Refusal>> {
    poll(watcher, woken).or_else(|| {
        herald(&watcher.history.clone());
        poll(watcher, woken)
    })
}

/// The versions that are told at once.
fn poll(watcher: &mut Watcher, woken: &Arc<Woken>) -> Option<Result<Vec<u64>, Refusal>> {
    let waker = Waker::from(woken.clone());
    match watcher.poll_next(&mut Context::from_waker(&waker)) {
        Poll::Ready(Ok(batch)) => Some(Ok(batch.entries.iter().map(|sealed| sealed.entry().version.0).collect())),
        Poll::Ready(Err(refusal)) => Some(Err(refusal)),
        Poll::Pending => None,
    }
}

fn herald(history: &History) {
    while history.give_turns() {}
}

#[test]
fn a_watcher_is_told_of_its_range_alone_each_change_once_and_in_order() {
    let (mut feeder, history) = history(100);
    let woken = Arc::default();
    feed(&mut feeder, &[put(1, "x/1"), put(2, "y"), put(3, "x/2")]);
    let mut watcher = history.watch(prefix("x/"), Some(Version(1)), None).expect("kept");
    assert_eq!(told(&mut watcher, &woken), Some(Ok(vec![1, 3])));
    assert_eq!(told(&mut watcher, &woken), None);
    feed(&mut feeder, &[put(4, "x/1"), put(5, "x/3")]);
    herald(&history);
    assert_eq!(told(&mut watcher, &woken), Some(Ok(vec![4, 5])));
    assert_eq!((told(&mut watcher, &woken), watcher.told()), (None, Version(5)));
}

#[test]
fn whoever_names_no_version_is_told_what_is_applied_from_then_on() {
    let (mut feeder, history) = history(100);
    feed(&mut feeder, &puts(1..=5));
    let mut watcher = history.watch(all(), None, None).expect("in touch");
    assert_eq!(watcher.told(), Version(5));
    feed(&mut feeder, &puts(6..=6));
    assert_eq!(told(&mut watcher, &Arc::default()), Some(Ok(vec![6])));
}

#[test]
fn only_those_are_woken_for_whom_there_is_something_and_the_others_move_on_all_the_same() {
    let (mut feeder, history) = history(100);
    let (woken, asleep) = (Arc::<Woken>::default(), Arc::<Woken>::default());
    let mut concerned = history.watch(prefix("x"), None, None).expect("in touch");
    let mut other = history.watch(prefix("y"), None, None).expect("in touch");
    assert_eq!((told(&mut concerned, &woken), told(&mut other, &asleep)), (None, None));
    feed(&mut feeder, &[put(1, "x")]);
    herald(&history);
    assert_eq!((woken.count(), asleep.count()), (1, 0));
    assert_eq!((concerned.told(), other.told()), (Version(0), Version(1)));
    feed(&mut feeder, &[put(2, "y")]);
    herald(&history);
    assert_eq!((woken.count(), asleep.count()), (1, 1), "one that was woken is not woken again before it has looked");
    assert_eq!(told(&mut other, &asleep), Some(Ok(vec![2])));
}

/// How many looks the herald has at once.
fn looks(history: &History) -> usize {
    let Inner { ring, audience, .. } = &mut *history.lock();
    audience.match_entries(ring)
}

#[test]
fn an_entry_costs_nothing_to_those_whom_it_does_not_concern() {
    let (mut feeder, history) = history(10_000);
    let woken = Arc::<Woken>::default();
    let ranges = (0..2_000).flat_map(|number| [key(format!("key/{number}")), prefix(format!("prefix/{number:04}/"))]);
    let mut watchers: Vec<Watcher> = ranges.map(|range| history.watch(range, None, None).expect("in touch")).collect();
    watchers.push(history.watch(key("a"), None, None).expect("in touch"));
    assert!(watchers.iter_mut().all(|watcher| poll(watcher, &woken).is_none()));
    feed(&mut feeder, &puts(1..=1_000));
    // Each entry, its key among the keys, and the one that was found; the key is shorter than any prefix.
    assert_eq!(looks(&history), 2 * 1_000 + 1);
    assert!(!history.give_turns());
    assert_eq!(woken.count(), 1);
    let concerned = watchers.pop().expect("many");
    assert_eq!(concerned.told(), Version(0));
    assert!(watchers.iter().all(|watcher| watcher.told() == Version(1_000)));
}

#[test]
fn those_whom_one_entry_concerns_are_found_a_few_at_a_time_and_whoever_comes_meanwhile_is_told_too() {
    let looks_max = 8;
    let (mut feeder, history) = History::bounded(1 << 20, looks_max);
    feeder.stands(Some(CLUSTER), true);
    let woken = Arc::<Woken>::default();
    let begun = || history.watch(prefix("k/1"), Some(Version(1)), None).expect("kept");
    let mut watchers: Vec<Watcher> = (0..100).map(|_| begun()).collect();
    assert!(watchers.iter_mut().all(|watcher| poll(watcher, &woken).is_none()));
    let keys = ["k/1", "k/2", "k/3", "k/4", "k/5", "k/6", "k/7", "k/8", "k/9"];
    feed(&mut feeder, &[puts_of(1, &keys)]);
    let mut slices = 0;
    loop {
        let looks = looks(&history);
        if looks == 0 {
            break;
        }
        // What is looked up for the last key comes on top.
        assert!(looks <= looks_max + 2, "{looks}");
        let mut late = begun();
        assert_eq!(poll(&mut late, &woken), None);
        watchers.push(late);
        slices += 1;
    }
    assert!(slices > 100 / looks_max, "{slices}");
    herald(&history);
    assert_eq!(woken.count(), watchers.len());
}

#[test]
fn a_version_that_is_still_to_come_is_waited_for() {
    let (mut feeder, history) = history(100);
    let woken = Arc::<Woken>::default();
    let mut watcher = history.watch(all(), Some(Version(3)), None).expect("still to come");
    assert_eq!(told(&mut watcher, &woken), None);
    feed(&mut feeder, &puts(1..=2));
    herald(&history);
    assert_eq!((woken.count(), told(&mut watcher, &woken)), (0, None));
    feed(&mut feeder, &puts(3..=4));
    herald(&history);
    assert_eq!((woken.count(), told(&mut watcher, &woken)), (1, Some(Ok(vec![3, 4]))));
}

#[test]
fn a_watcher_that_does_not_read_is_told_that_it_was_cut_off_and_the_others_see_all() {
    let (mut feeder, history) = history(10);
    let woken = Arc::default();
    let mut stuck = history.watch(all(), None, None).expect("in touch");
    let mut other = history.watch(all(), None, None).expect("in touch");
    let mut seen = Vec::new();
    for version in 1..=40 {
        feed(&mut feeder, &puts(version..=version));
        herald(&history);
        seen.extend(told(&mut other, &woken).expect("something").expect("kept"));
    }
    assert_eq!(seen, (1..=40).collect::<Vec<u64>>());
    let oldest = history.lock().ring.oldest();
    assert!(oldest > Version(20), "{oldest}");
    assert_eq!(told(&mut stuck, &woken), Some(Err(Refusal::VersionTooOld { oldest })));
    let refused = history.watch(all(), Some(Version(1)), None);
    assert_eq!(refused.map(drop), Err(Refusal::VersionTooOld { oldest }), "at once");
    history.watch(all(), Some(oldest), None).expect("kept");
}

#[test]
fn one_that_waits_is_cut_off_too_when_the_server_begins_anew_without_what_it_wants() {
    let (mut feeder, history) = history(10);
    let woken = Arc::<Woken>::default();
    feed(&mut feeder, &puts(1..=5));
    let mut watcher = history.watch(all(), None, None).expect("in touch");
    assert_eq!(told(&mut watcher, &woken), None);
    begin(&mut feeder, 0);
    feed(&mut feeder, &puts(1..=5));
    herald(&history);
    assert_eq!((woken.count(), told(&mut watcher, &woken)), (0, None), "it was told these");
    begin(&mut feeder, 9);
    herald(&history);
    let refusal = Refusal::VersionTooOld { oldest: Version(10) };
    assert_eq!((woken.count(), told(&mut watcher, &woken)), (1, Some(Err(refusal))));
}

#[test]
fn many_are_woken_a_few_at_a_time() {
    let (mut feeder, history) = history(10);
    let woken = Arc::<Woken>::default();
    let mut watchers: Vec<Watcher> =
        (0..3 * TURNS_AT_ONCE).map(|_| history.watch(all(), None, None).expect("in touch")).collect();
    assert!(watchers.iter_mut().all(|watcher| told(watcher, &woken).is_none()));
    feed(&mut feeder, &puts(1..=1));
    for slice in 1..=3 {
        assert_eq!(history.give_turns(), slice < 3);
        assert_eq!(woken.count(), slice * TURNS_AT_ONCE);
    }
}

#[test]
fn a_turn_is_for_one_batch_and_whoever_had_none_for_longest_comes_first() {
    let (mut feeder, history) = history(10_000);
    let woken = Arc::<Woken>::default();
    let mut lags = history.watch(all(), Some(Version(1)), None).expect("to come");
    feed(&mut feeder, &puts(1..=1_500));
    assert_eq!(poll(&mut lags, &woken), None, "it has no turn, though there is something");
    assert!(!history.give_turns());
    assert!(matches!(poll(&mut lags, &woken), Some(Ok(_))));
    assert_eq!(poll(&mut lags, &woken), None, "one batch for a turn");
    assert!(!history.give_turns());
    history.give_turns();
    history.give_turns();
    assert_eq!(poll(&mut lags, &woken), None, "it came too late for its turn, as many may at once");
    // Of more than have their turn at once those who lag, and had one lately, come last.
    let mut others: Vec<Watcher> =
        (0..TURNS_AT_ONCE).map(|_| history.watch(all(), None, None).expect("in touch")).collect();
    assert!(others.iter_mut().all(|watcher| poll(watcher, &woken).is_none()));
    feed(&mut feeder, &puts(1_501..=1_501));
    assert!(history.give_turns());
    assert!(others.iter_mut().all(|watcher| poll(watcher, &woken) == Some(Ok(vec![1_501]))));
    assert_eq!(poll(&mut lags, &woken), None);
    assert!(!history.give_turns());
    assert!(matches!(poll(&mut lags, &woken), Some(Ok(_))));
}

#[test]
fn batches_are_bounded_and_miss_nothing() {
    let (mut feeder, history) = history(10_000);
    let woken = Arc::<Woken>::default();
    let mut watcher = history.watch(prefix("b"), None, None).expect("in touch");
    let mut entries = puts(1..=3_000);
    entries[2_999] = put(3_000, "b");
    feed(&mut feeder, &entries);
    assert_eq!(told(&mut watcher, &woken), Some(Ok(vec![3_000])));
    let mut watcher = history.watch(all(), Some(Version(1)), None).expect("kept");
    let mut seen = Vec::new();
    while let Some(batch) = told(&mut watcher, &woken) {
        let batch = batch.expect("kept");
        assert!(batch.len() * put(1, "a").bytes().len() <= BATCH_BYTES_MAX);
        seen.extend(batch);
    }
    assert_eq!(seen, (1..=3_000).collect::<Vec<u64>>());
}

#[test]
fn nobody_begins_at_a_server_that_is_cut_off_and_all_end_when_it_stops() {
    let (feeder, history) = history(10);
    let woken = Arc::<Woken>::default();
    let mut watcher = history.watch(all(), None, None).expect("in touch");
    assert_eq!(told(&mut watcher, &woken), None);
    feeder.stands(Some(CLUSTER), false);
    assert!(history.cut_off_for().is_some());
    let refusal = Refusal::NotPrimary { primary: None };
    assert_eq!(history.watch(all(), None, None).map(drop), Err(refusal.clone()));
    drop(feeder);
    assert_eq!((woken.count(), told(&mut watcher, &woken)), (1, Some(Err(refusal))));
}

#[test]
fn nobody_is_told_the_versions_of_a_cluster_that_was_set_back_as_if_they_followed() {
    let (mut feeder, history) = history(10);
    let woken = Arc::<Woken>::default();
    feed(&mut feeder, &puts(1..=5));
    let mut watcher = history.watch(all(), None, None).expect("in touch");
    let set_back = ClusterId { generation: 2, ..CLUSTER };
    begin(&mut feeder, 0);
    let entries = puts(1..=9);
    feeder.feed(Some(set_back), Applied { entries: &entries, index: LogIndex(10), version: Version(9) });
    herald(&history);
    assert_eq!(told(&mut watcher, &woken), Some(Err(Refusal::NotPrimary { primary: None })));
    let mut anew = history.watch(all(), Some(Version(6)), None).expect("in touch");
    assert_eq!((anew.cluster(), told(&mut anew, &woken)), (set_back, Some(Ok(vec![6, 7, 8, 9]))));
}

#[test]
fn watchers_are_bounded_in_number_and_make_room_when_they_go() {
    let (_feeder, history) = history(10);
    let mut ranges: Vec<Watcher> =
        (0..RANGES_MAX).map(|_| history.watch(range("a", "c"), None, None).expect("there is room")).collect();
    assert_eq!(history.watch(range("a", "c"), None, None).map(drop), Err(Refusal::Overloaded));
    drop(history.watch(all(), None, None).expect("there is room for those who cost nobody anything"));
    ranges.pop();
    history.watch(range("a", "c"), None, None).expect("there is room");
    drop(ranges);
    let mut watchers: Vec<Watcher> =
        (0..WATCHERS_MAX).map(|_| history.watch(all(), None, None).expect("there is room")).collect();
    assert_eq!(history.watch(all(), None, None).map(drop), Err(Refusal::Overloaded));
    let mut last = watchers.pop().expect("many");
    assert_eq!(told(&mut last, &Arc::default()), None);
    drop(last);
    assert!(history.lock().audience.nobody_waits());
    history.watch(all(), None, None).expect("there is room");
}

#[test]
fn a_version_of_an_earlier_generation_is_refused_for_good_and_one_of_a_later_is_left_to_others() {
    let (feeder, history) = history(10);
    let generation = |generation| ClusterId { generation, ..CLUSTER };
    feeder.stands(Some(generation(2)), true);
    let watch = |named| history.watch(all(), None, Some(named)).map(drop);
    assert_eq!(watch(generation(1)), Err(Refusal::OtherCluster));
    assert_eq!(watch(ClusterId { id: 7, generation: 3 }), Err(Refusal::OtherCluster));
    assert_eq!(watch(generation(2)), Ok(()));
    assert_eq!(watch(generation(3)), Err(Refusal::NotPrimary { primary: None }), "it may not have heard of it yet");
}
