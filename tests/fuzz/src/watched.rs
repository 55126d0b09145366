//! What a client is told that watches: message by message, from servers that may say anything.

use std::sync::LazyLock;

use bytes::{Buf as _, Bytes};
use heirloom_proto::wire::epoch_from_wire;
use heirloom_proto::wire::v1::{Committed, Epoch, KeyChange, WatchResponse};
use heirloom_proto::{ClusterId, Version};
use heirloom_session::watch::Watch;
use prost::Message as _;

use crate::Target;
use crate::input::{Content, as_they_are};

/// The stream of a watch, one message behind the other with its length before it; the first begins it.
pub const WATCHED: Target = Target { seeds: || STREAMS.iter().map(|stream| as_they_are(stream)).collect(), check };

static STREAMS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let cluster = ClusterId { id: 7, generation: 2 }.to_string();
    let first = WatchResponse { changes: Vec::new(), version: 4, server: 1, cluster };
    let change = |key: &'static [u8], value| KeyChange { key: Bytes::from_static(key), value };
    let changes = vec![change(b"a", Some(Bytes::from_static(b"v"))), change(b"b", None)];
    let epoch = Some(Epoch { round: 2, server: 1, run: 9 });
    let told = Committed { version: 5, changed_at_ms: 1, changes, epoch };
    let again = WatchResponse { changes: vec![told.clone()], version: 5, server: 1, cluster: String::new() };
    let next = WatchResponse { changes: vec![told], version: 6, server: 1, cluster: String::new() };
    let alive = WatchResponse { version: 6, server: 1, ..WatchResponse::default() };
    let last = WatchResponse { version: u64::MAX, ..alive.clone() };
    let stream = |messages: &[&WatchResponse]| {
        messages.iter().flat_map(|message| message.encode_length_delimited_to_vec()).collect()
    };
    vec![
        stream(&[&first]),
        stream(&[&first, &next]),
        stream(&[&first, &alive, &next]),
        stream(&[&first, &last]),
        stream(&[&first, &again, &again]),
    ]
});

fn check(input: &[u8]) {
    let mut bytes = Bytes::from(Content::of(input, &STREAMS).bytes);
    // One that waits for what is told first, and one that wants what it has not seen yet.
    let mut watches = [None, Some(Version(5))].map(|from| Watch::new(from, 0));
    let mut is_first = true;
    while bytes.has_remaining() {
        let Ok(message) = WatchResponse::decode_length_delimited(&mut bytes) else { return };
        for watch in &mut watches {
            let told = watch.told();
            hear(watch, &message, is_first);
            assert!(watch.told() >= told, "what was told only rises");
            let _ = (watch.wanted(), watch.seat(3));
        }
        is_first = false;
    }
}

fn hear(watch: &mut Watch, message: &WatchResponse, is_first: bool) {
    if is_first && watch.began(&message.cluster, Version(message.version)).is_err() {
        watch.failed(3);
        return;
    }
    for committed in &message.changes {
        let (version, told) = (Version(committed.version), watch.told());
        assert_eq!(watch.is_news(version), told.is_none_or(|told| version > told), "each version is told once");
        let _ = epoch_from_wire(committed.epoch);
    }
    watch.progressed(Version(message.version));
}
