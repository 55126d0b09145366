//! Every bound that the core keeps, in one place.

/// The largest key. **Units:** bytes.
pub const KEY_BYTES_MAX: usize = 4 << 10;
/// The largest value unless `--value-bytes-max` says otherwise. **Units:** bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The largest value that may be configured. **Units:** bytes.
pub const VALUE_BYTES_MAX_MAX: usize = 16 << 20;
/// How many changes, and how many conditions, a change set has at most.
pub const SET_COUNT_MAX: usize = 1_024;
/// How many entries one `Prepare` carries at most.
pub const PREPARE_ENTRIES_MAX: usize = 256;
/// How many bytes of entries one `Prepare` carries at most, unless its first entry alone is larger.
pub const PREPARE_BYTES_MAX: usize = 1 << 20;
/// How many entries may be on their way to one copy, sent but not confirmed.
pub const IN_FLIGHT_ENTRIES_MAX: u64 = 16_384;
/// How many bytes of entries may be on their way to one copy, beyond one message.
pub const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// How many entries the primary holds prepared and not committed; above it writes are refused as overload.
pub const PREPARED_ENTRIES_MAX: u64 = 65_536;
/// How many bytes of entries the primary holds prepared and not committed.
pub const PREPARED_BYTES_MAX: usize = 256 << 20;
/// How many bytes of entries are kept behind a snapshot for copies that are a little behind.
pub const LOG_KEPT_BYTES_MAX: usize = 16 << 20;
/// How many bytes of entries behind a snapshot are kept for copies that are being sent them.
pub const LOG_FED_BYTES_MAX: usize = 256 << 20;
/// How many requests wait for the start of an epoch, for a lease or for a round of confirmation.
pub const WAITING_REQUESTS_MAX: usize = 65_536;
/// How often the time that a proposal, or a member at the start of an epoch, is given is doubled at most where it was too
/// short: for disks that take seconds, a minute or so.
pub const PATIENCE_DOUBLED_MAX: u8 = 7;
/// How much longer than the first time a member that is slow again and again is left out at most.
pub const BAN_GROWTH_MAX: u32 = 64;
/// How many sessions the table holds; where it is full the one idle longest goes.
pub const SESSIONS_MAX: usize = 10_000;
/// After how long an idle session may be removed. **Units:** milliseconds.
pub const SESSION_IDLE_MS_MAX: u64 = 60 * 60 * 1000;
/// How many answers a session keeps: the window between its lowest unanswered request and its newest.
pub const SESSION_ANSWERS_MAX: usize = 4_096;
/// How many entries a page of a scan has at most: what a node does in one step, half a millisecond or so.
pub const PAGE_COUNT_MAX: usize = 1_024;
/// How many keys are looked at for one page, whatever they had at its version, which takes a millisecond or two. **Why more
/// than a page holds:** among many keys that came later, a page with few of the others would cost as many calls.
pub const PAGE_LOOKED_AT_MAX: usize = 16 * PAGE_COUNT_MAX;
/// How many bytes of keys and values a page of a scan has at most, unless its first entry alone is larger.
pub const PAGE_BYTES_MAX: usize = 1 << 20;
/// How much a copy keeps of what keys had before, so that a scan goes on at the version of its first page. **Units:** bytes,
/// of keys, values and [`PAST_RECORD_BYTES`] each. With values of 128 bytes this is some 70,000 changes of keys that were
/// there: seconds at full load, which is longer than a scan of a million keys takes.
pub const PAST_BYTES_MAX: usize = 32 << 20;
/// What it takes to keep one record of what a key had before, beside key and value: its place in a map, in the queue and in
/// the allocator.
pub const PAST_RECORD_BYTES: usize = 320;
/// How many epochs of a log's unsettled tail are named when an epoch starts.
pub const TAIL_EPOCHS_MAX: usize = 4_096;
/// How many servers a cluster has at most.
pub const SERVERS_MAX: usize = 9;
/// The largest message between servers. **Units:** bytes.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;
/// How many data-server sessions one removal entry takes away beside the one that it makes room for.
pub const SESSIONS_REMOVED_AT_ONCE: usize = 16;

const _: () = assert!(VALUE_BYTES_MAX <= VALUE_BYTES_MAX_MAX);
const _: () = assert!(VALUE_BYTES_MAX_MAX + KEY_BYTES_MAX + (1 << 16) < MESSAGE_BYTES_MAX);
const _: () = assert!(PREPARE_BYTES_MAX + VALUE_BYTES_MAX_MAX + (1 << 16) < MESSAGE_BYTES_MAX);
// A change set has the values of one value, and its keys.
const _: () =
    assert!(SET_COUNT_MAX * (KEY_BYTES_MAX + 16) + VALUE_BYTES_MAX_MAX + PREPARE_BYTES_MAX < MESSAGE_BYTES_MAX);
const _: () = assert!(PAGE_BYTES_MAX + VALUE_BYTES_MAX_MAX + PAGE_COUNT_MAX * 64 < MESSAGE_BYTES_MAX);
const _: () = assert!(PAST_BYTES_MAX > VALUE_BYTES_MAX_MAX + KEY_BYTES_MAX + PAST_RECORD_BYTES);
const _: () = assert!(PREPARE_ENTRIES_MAX as u64 <= IN_FLIGHT_ENTRIES_MAX);
const _: () = assert!(IN_FLIGHT_ENTRIES_MAX <= PREPARED_ENTRIES_MAX);
const _: () = assert!(TAIL_EPOCHS_MAX * 64 < MESSAGE_BYTES_MAX);
