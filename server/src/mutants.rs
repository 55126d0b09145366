//! Bugs planted in the runtime, each to be caught by a test: a check that no bug fails proves nothing.
//!
//! A bug is planted in one server by a value among its settings, so that a test can run one bad server among sound ones.
//! Without the feature `mutants`, and so in every release, the value is empty and the question whether a bug is planted
//! has the constant answer *no*.
//!
//! What the storage leaves undone is planted beneath it, in the file system that it is given: to the disk a sync that is swallowed is a sync that was never asked for.

#[cfg(any(test, feature = "mutants"))]
mod files;
#[cfg(test)]
mod tests;
mod told;

use std::sync::Arc;

use crate::storage::Files;

pub(crate) use told::Told;

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The thread of the log reports a record as durable before it has written it.
    AnswerBeforePersisted,
    /// The log is written, and never synced.
    LogSyncLeftOut,
    /// The register is written, and never synced.
    RegisterSyncLeftOut,
    /// The register is reported durable when one of its two files holds it.
    RegisterKeptOnce,
    /// The name of a new segment of the log is never synced.
    NameSyncLeftOut,
    /// What is confirmed is what was handed to the disk, not what the disk gives back.
    ReadBackFromMemory,
    /// The data directory is not locked.
    LockLeftOut,
    /// The clock is read before the driver waits for an event, and not after it has taken one.
    ClockReadEarly,
    /// The driver waits for the disk whenever it gives it something to write.
    DriverWaitsForDisk,
    /// Every run of a server has the same id.
    RunIdReused,
    /// What a stream still held when it broke or was replaced is handed to the node all the same.
    ReorderedOverReconnect,
    /// A confirmation is sent once: echoes carry no news of it, nor do further ones for the same place.
    ConfirmNotMadeGood,
    /// Told to stop, the server closes its socket first and stops its node then.
    SocketClosedFirst,
}

#[cfg(any(test, feature = "mutants"))]
impl Mutant {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::AnswerBeforePersisted,
        Self::LogSyncLeftOut,
        Self::RegisterSyncLeftOut,
        Self::RegisterKeptOnce,
        Self::NameSyncLeftOut,
        Self::ReadBackFromMemory,
        Self::LockLeftOut,
        Self::ClockReadEarly,
        Self::DriverWaitsForDisk,
        Self::RunIdReused,
        Self::ReorderedOverReconnect,
        Self::ConfirmNotMadeGood,
        Self::SocketClosedFirst,
    ];

    /// Its name on the command line of a test, and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AnswerBeforePersisted => "answer-before-persisted",
            Self::LogSyncLeftOut => "log-sync-left-out",
            Self::RegisterSyncLeftOut => "register-sync-left-out",
            Self::RegisterKeptOnce => "register-kept-once",
            Self::NameSyncLeftOut => "name-sync-left-out",
            Self::ReadBackFromMemory => "read-back-from-memory",
            Self::LockLeftOut => "lock-left-out",
            Self::ClockReadEarly => "clock-read-early",
            Self::DriverWaitsForDisk => "driver-waits-for-disk",
            Self::RunIdReused => "run-id-reused",
            Self::ReorderedOverReconnect => "reordered-over-reconnect",
            Self::ConfirmNotMadeGood => "confirm-not-made-good",
            Self::SocketClosedFirst => "socket-closed-first",
        }
    }

    /// The rule that it breaks.
    pub const fn rule(self) -> &'static str {
        match self {
            Self::AnswerBeforePersisted => "wall 3; protocol 4.3: an entry is durable before it is confirmed",
            Self::LogSyncLeftOut => "protocol 4.3: a batch is made durable with one sync",
            Self::RegisterSyncLeftOut => "protocol 3: the register is synced before any answer that depends on it",
            Self::RegisterKeptOnce => "storage, records in two files: rot in one takes back no promise",
            Self::NameSyncLeftOut => "storage, assumptions: a name is durable after the sync of its directory",
            Self::ReadBackFromMemory => "protocol 4.3: confirmed is what was read back from the log",
            Self::LockLeftOut => "storage, the data directory: one process at a time",
            Self::ClockReadEarly => "wall 5; protocol 10: a read is answered while the lease is valid",
            Self::DriverWaitsForDisk => "wall 6: heartbeats and leases never wait for a disk",
            Self::RunIdReused => "protocol 2: a run's id is drawn anew at each start and recovery",
            Self::ReorderedOverReconnect => "protocol 2: hears is an unbroken stream; 4.2: in order, one stream",
            Self::ConfirmNotMadeGood => "protocol 1: any message may be lost; the next echo makes a confirmation good",
            Self::SocketClosedFirst => "protocol 5: leases are given up before the socket is closed",
        }
    }

    /// The test that catches it, among the tests of this module.
    pub const fn caught_by(self) -> &'static str {
        match self {
            Self::AnswerBeforePersisted => "no_answer_leaves_while_its_entry_waits_for_the_disk",
            Self::LogSyncLeftOut => "what_was_answered_survives_a_power_failure",
            Self::RegisterSyncLeftOut => "a_promise_reported_durable_survives_a_power_failure",
            Self::RegisterKeptOnce => "a_rotten_file_takes_back_no_promise",
            Self::NameSyncLeftOut => "entries_in_a_new_segment_survive_a_power_failure",
            Self::ReadBackFromMemory => "a_write_that_the_disk_lost_is_not_reported_durable",
            Self::LockLeftOut => "two_servers_never_share_a_data_directory",
            Self::ClockReadEarly => "a_read_that_waited_is_not_served_under_a_lease_that_has_ended",
            Self::DriverWaitsForDisk => "a_server_whose_disk_hangs_goes_on_talking",
            Self::RunIdReused => "no_two_runs_of_a_server_have_one_id",
            Self::ReorderedOverReconnect => "nothing_of_a_stream_is_taken_once_it_is_broken_or_replaced",
            Self::ConfirmNotMadeGood => "a_confirmation_that_was_lost_is_made_good_by_the_next_echo",
            Self::SocketClosedFirst => "a_refused_connection_means_that_the_node_has_stopped",
        }
    }
}

/// Which bug is planted in a server; none, unless a test says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted {
    #[cfg(any(test, feature = "mutants"))]
    bug: Option<Mutant>,
}

impl Planted {
    /// No bug.
    pub const NONE: Self = Self {
        #[cfg(any(test, feature = "mutants"))]
        bug: None,
    };

    /// This bug.
    #[cfg(any(test, feature = "mutants"))]
    pub const fn bug(mutant: Mutant) -> Self {
        Self { bug: Some(mutant) }
    }

    /// The bug that the variable `HEIRLOOM_MUTANT` names, for tests with real processes; none where it is not set.
    ///
    /// **Errors:** there is no such bug; the sentence lists those that there are.
    #[cfg(feature = "mutants")]
    pub fn from_environment() -> Result<Self, String> {
        let Ok(name) = std::env::var("HEIRLOOM_MUTANT") else { return Ok(Self::NONE) };
        match Mutant::ALL.into_iter().find(|mutant| mutant.name() == name) {
            Some(mutant) => Ok(Self::bug(mutant)),
            None => {
                let names: Vec<&str> = Mutant::ALL.into_iter().map(Mutant::name).collect();
                Err(format!("HEIRLOOM_MUTANT is {name}, which is no bug that can be planted: use {}", names.join(", ")))
            }
        }
    }

    /// Whether this bug is planted.
    #[cfg(any(test, feature = "mutants"))]
    pub(crate) fn has(self, mutant: Mutant) -> bool {
        self.bug == Some(mutant)
    }

    /// Never: this build has no bugs to plant.
    #[cfg(not(any(test, feature = "mutants")))]
    pub(crate) const fn has(self, _mutant: Mutant) -> bool {
        false
    }

    /// The file system that the storage is given.
    #[cfg(any(test, feature = "mutants"))]
    pub(crate) fn beneath(self, files: Arc<dyn Files>) -> Arc<dyn Files> {
        match self.bug {
            Some(bug) => Arc::new(files::PlantedFiles::new(files, bug)),
            None => files,
        }
    }

    /// The file system that the storage is given: as it is.
    #[cfg(not(any(test, feature = "mutants")))]
    pub(crate) fn beneath(self, files: Arc<dyn Files>) -> Arc<dyn Files> {
        files
    }
}

/// The planted bugs, the rules that they break, and the tests that catch them, as a page in Markdown.
#[cfg(any(test, feature = "mutants"))]
pub fn table() -> String {
    let mut page = String::from(concat!(
        "# Bugs planted in the runtime\n\n",
        "Generated from `server/src/mutants.rs`; ",
        "`HEIRLOOM_WRITE_PAGES=1 cargo test -p heirloom-server mutants` writes it anew.\n",
        "Each test runs the same check twice: on the sound runtime, where it must hold, and with the bug, where it must ",
        "not.\n\n",
        "| bug | rule broken | caught by |\n|---|---|---|\n",
    ));
    for mutant in Mutant::ALL {
        page.push_str(&format!("| {} | {} | `{}` |\n", mutant.name(), mutant.rule(), mutant.caught_by()));
    }
    page
}
