//! Logs for the tests of this crate.

use bytes::Bytes;
use heirloom_proto::{Answer, Effect, Entry, Epoch, LogIndex, Origin, RunId, Sealed, ServerId, SessionId, WallTime};

use crate::state::State;

fn key(number: u64) -> Bytes {
    Bytes::from(format!("{number:02}"))
}

/// A state of many entries of all kinds, and the log that gave it; equal seeds, equal states.
pub(crate) fn example(seed: u64) -> (State, Vec<Sealed>) {
    let (mut state, mut log) = (State::default(), Vec::new());
    let mut random = seed;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut open: Vec<(SessionId, u64)> = Vec::new();
    for number in 1..=400 {
        let index = LogIndex(number);
        let version = state.head().version;
        let (mut effects, mut origin, mut answer) = (Vec::new(), None, Answer::Nothing);
        match draw(10) {
            0 => {
                let session = SessionId { opened_at: index, nonce: draw(1_000) };
                effects.push(Effect::OpenSession(session));
                answer = Answer::SessionOpened(session);
                open.push((session, 0));
            }
            1 if open.len() > 3 => effects.push(Effect::RemoveSession(open.remove(0).0)),
            2 => {
                let prefix = key(draw(5));
                let number = state.dictionary().appended(&prefix) + 1;
                effects.push(Effect::Count { prefix, number });
            }
            3 => {
                let key = key(draw(20));
                if state.dictionary().read(&key).is_some() {
                    effects.push(Effect::Remove { key });
                }
            }
            _ => effects.push(Effect::Put { key: key(draw(20)), value: Bytes::from(vec![7; draw(9) as usize]) }),
        }
        if let Some((session, sequence)) = open.last_mut().filter(|(session, _)| session.opened_at < index) {
            *sequence += 1;
            let (session, sequence) = (*session, *sequence);
            let lowest_unanswered = sequence.saturating_sub(draw(4)).max(1);
            let seen = state.sessions().lowest_unanswered(session).expect("open");
            origin = Some(Origin { session, sequence, lowest_unanswered: lowest_unanswered.max(seen) });
            answer = Answer::Added { existed: false };
        }
        let epoch = Epoch { round: 1 + number / 100, server: ServerId(0), run: RunId(1) };
        let mut entry = Entry { index, epoch, version, at: WallTime(number), effects, origin, answer };
        if entry.changes_keys() {
            entry.version = version.next();
        }
        let sealed = Sealed::new(entry);
        state.apply(&sealed, sealed.extend(state.head().position.hash));
        log.push(sealed);
    }
    (state, log)
}
