//! The judge of causal and stale reads, and of appends: small histories that are known to be good, and what is wrong with
//! them after one change.
#![allow(missing_docs, reason = "a test")]

use heirloom_histories::{Answer, Law, Looked, Mode, Op, Record, judge, read_lines, write_lines};

/// A session's operations at the times 10, 20, 30, each answered after 5.
#[derive(Default)]
struct Told {
    history: Vec<Record>,
}

impl Told {
    fn note(mut self, session: u64, op: Op, key: &str, value: Option<&str>, result: Option<Answer>) -> Self {
        let start_ns = 10 * (self.history.len() as u64 + 1);
        let (end_ns, mode) = (result.is_some().then_some(start_ns + 5), Mode::Linearizable);
        let (key, value, session) = (key.to_owned(), value.map(str::to_owned), Some(session));
        let client = self.history.len() as u64;
        self.history.push(Record { client, op, mode, session, key, value, expected: None, start_ns, end_ns, result });
        self
    }

    fn add(self, session: u64, key: &str, value: &str, version: u64) -> Self {
        let result = Answer::Changed { version: Some(version), existed: None, epoch: None };
        self.note(session, Op::Add, key, Some(value), Some(result))
    }

    fn delete(self, session: u64, key: &str, version: u64) -> Self {
        let result = Answer::Changed { version: Some(version), existed: Some(true), epoch: None };
        self.note(session, Op::Delete, key, None, Some(result))
    }

    fn read(mut self, mode: Mode, session: u64, key: &str, result: Answer) -> Self {
        self = self.note(session, Op::Read, key, None, Some(result));
        self.history.last_mut().expect("just noted").mode = mode;
        self
    }

    fn append(self, value: &str, number: Option<u64>) -> Self {
        // Each number is given at the version of its own.
        let appended = |number| Answer::Appended { number, version: Some(number), epoch: None };
        self.note(1, Op::Append, "log/", Some(value), number.map(appended))
    }

    /// Reads numbers one after the other; an empty value for none.
    fn numbers(mut self, values: &[&str]) -> Self {
        for (place, value) in values.iter().enumerate() {
            let found = Answer::Found { value: (*value).to_owned(), version: None, looked: None };
            let result = if value.is_empty() { Answer::Absent } else { found };
            self = self.read(Mode::Linearizable, 2, &format!("log/{:020}", place + 1), result);
        }
        self
    }

    /// What is wrong with it, by law.
    fn wrong(&self, law: Law) -> Vec<String> {
        let mut lines = Vec::new();
        write_lines(&self.history, &mut lines).expect("memory");
        assert_eq!(read_lines(lines.as_slice()).expect("our own"), self.history);
        let found = judge(&self.history, None).violations;
        found.into_iter().filter(|violation| violation.law == law).map(|violation| violation.what).collect()
    }

    fn is_good(&self) -> bool {
        judge(&self.history, None).violations.is_empty()
    }
}

fn found(value: &str, version: u64, seen: u64) -> Answer {
    let looked = Some(Looked { seen, server: 1, local: true, primary: 0 });
    Answer::Found { value: value.to_owned(), version: Some(version), looked }
}

#[test]
fn a_causal_read_may_miss_what_others_changed_and_not_what_its_session_changed() {
    let changed = |session| Told::default().add(1, "k", "old", 1).add(session, "k", "new", 2);
    let old = || found("old", 1, 1);
    assert!(changed(2).read(Mode::Causal, 1, "k", old()).is_good(), "others' changes may be missed");
    let wrong = changed(1).read(Mode::Causal, 1, "k", old()).wrong(Law::Reads);
    assert!(wrong.len() == 1 && wrong[0].contains("went back behind version 2"), "{wrong:?}");
    assert!(changed(1).read(Mode::Stale, 1, "k", old()).is_good(), "a stale read may go back");
    assert!(changed(1).read(Mode::Linearizable, 1, "k", old()).wrong(Law::Linearizable).len() == 1);
}

#[test]
fn a_causal_read_sees_no_less_than_the_reads_before_it() {
    let seen = |mode| Told::default().add(1, "a", "1", 1).add(1, "b", "2", 2).read(mode, 2, "b", found("2", 2, 2));
    for mode in [Mode::Linearizable, Mode::Causal, Mode::Stale] {
        assert!(seen(mode).read(Mode::Causal, 2, "a", found("1", 1, 2)).is_good());
        assert_eq!(seen(mode).read(Mode::Causal, 2, "a", found("1", 1, 1)).wrong(Law::Reads).len(), 1, "{mode:?}");
        assert!(seen(mode).read(Mode::Causal, 3, "a", found("1", 1, 1)).is_good(), "another session");
    }
}

#[test]
fn a_causal_read_that_finds_nothing_is_judged_by_when_the_key_had_no_value() {
    let changed = || Told::default().add(1, "k", "v", 1);
    assert_eq!(changed().read(Mode::Causal, 1, "k", Answer::Absent).wrong(Law::Reads).len(), 1);
    assert!(changed().read(Mode::Causal, 2, "k", Answer::Absent).is_good());
    let deleted = || changed().delete(1, "k", 2);
    assert!(deleted().read(Mode::Causal, 1, "k", Answer::Absent).is_good());
    let again = || deleted().add(1, "k", "w", 3);
    assert_eq!(again().read(Mode::Causal, 1, "k", Answer::Absent).wrong(Law::Reads).len(), 1);
    // A delete of which nobody knows may have taken effect since.
    assert!(again().note(1, Op::Delete, "k", None, None).read(Mode::Causal, 1, "k", Answer::Absent).is_good());
}

#[test]
fn a_read_found_what_was_there_at_the_version_that_it_names() {
    let changed = || Told::default().add(1, "k", "old", 1).add(1, "k", "new", 2).add(1, "other", "x", 3);
    assert!(changed().read(Mode::Stale, 2, "k", found("old", 1, 1)).is_good());
    let wrong = changed().read(Mode::Stale, 2, "k", found("old", 1, 3)).wrong(Law::Reads);
    assert!(wrong.len() == 1 && wrong[0].contains("which version 2 had changed"), "{wrong:?}");
    assert_eq!(changed().read(Mode::Stale, 2, "k", found("new", 2, 1)).wrong(Law::Reads).len(), 1);
    // A value that never was, and a version that is another's.
    assert_eq!(changed().read(Mode::Stale, 2, "k", found("old", 2, 2)).wrong(Law::Versions).len(), 2);
    let early = Told::default().add(1, "k", "old", 1).read(Mode::Stale, 2, "k", found("old", 1, 2)).add(1, "x", "y", 2);
    let wrong = early.wrong(Law::Reads);
    assert!(wrong.len() == 1 && wrong[0].contains("asked for later"), "{wrong:?}");
}

#[test]
fn appends_without_gap_or_repeat_are_accepted_whatever_is_not_known() {
    let appended = || Told::default().append("a", Some(1)).append("b", None).append("c", Some(3));
    assert!(appended().is_good());
    assert!(appended().numbers(&["a", "b", "c", ""]).is_good());
    let last = || Told::default().append("a", Some(1)).append("b", None);
    assert!(last().numbers(&["a", ""]).is_good(), "it never took effect");
    assert!(last().numbers(&["a", "b", ""]).is_good(), "it did");
}

#[test]
fn appends_with_a_gap_a_repeat_or_a_loss_are_found() {
    let appended = || Told::default().append("a", Some(1)).append("b", None).append("c", Some(3));
    let wrong = |told: Told| told.wrong(Law::Appends).join("; ");
    let gap = wrong(appended().numbers(&["a", "", "c", ""]));
    assert!(gap.contains("number 2 under \"log/\" is not there, and number 3 was given"), "{gap}");
    let lost = wrong(appended().numbers(&["a", "b", ""]));
    assert!(lost.contains("number 3 under \"log/\" is not there"), "{lost}");
    let twice = wrong(appended().numbers(&["a", "b", "c", "b"]));
    assert!(twice.contains("\"b\" is number 2 and number 4"), "{twice}");
    let other = wrong(appended().numbers(&["a", "c", "b"]));
    assert!(other.contains("number 3 under \"log/\" is \"c\" and \"b\""), "{other}");
    let repeat = wrong(Told::default().append("a", Some(1)).append("b", Some(1)));
    assert!(repeat.contains("number 1 under \"log/\" is \"a\" and \"b\""), "{repeat}");
    let nobody = wrong(appended().numbers(&["a", "b", "c", "ghost"]));
    assert!(nobody.contains("nobody appended it"), "{nobody}");
    let back = wrong(Told::default().append("b", Some(2)).append("a", Some(1)));
    assert!(back.contains("was asked for after number 2 had been answered"), "{back}");
}

#[test]
fn an_append_that_was_called_not_applied_and_was_is_found() {
    let mut told = Told::default().append("a", Some(1)).append("b", None).numbers(&["a", "b"]);
    told.history[1].result = Some(Answer::NotApplied);
    told.history[1].end_ns = Some(25);
    let wrong = told.wrong(Law::Appends).join("; ");
    assert!(wrong.contains("\"b\" was not appended, and is number 2"), "{wrong}");
}
