//! How events and actions are told: one short line each.

use heirloom_proto::message::Remembered;
use heirloom_proto::{
    Action, Answer, Change, Epoch, Event, LogIndex, Member, Message, Note, Position, Record, Register, Request, RunId,
    Sealed, Standing, View,
};

fn run(run: RunId) -> String {
    format!("~{:03x}", run.0 >> 52)
}

fn epoch(epoch: Epoch) -> String {
    format!("e{}.{}{}", epoch.round, epoch.server, run(epoch.run))
}

fn position(position: Position) -> String {
    format!("{}#{:03x}", position.index, position.hash.0 >> 116)
}

fn members<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    let names: Vec<String> =
        members.into_iter().map(|member| format!("{}:{:03x}", member.server, member.store.0 >> 52)).collect();
    names.join(" ")
}

/// A view in a few words.
pub fn view(view: &View) -> String {
    format!("{} {{{}}} leaving {{{}}}", epoch(view.epoch), members(&view.in_sync), members(&view.leaving))
}

fn accepted(accepted: Option<&View>) -> String {
    accepted.map_or_else(|| "no view".to_owned(), view)
}

/// A register in a few words.
pub fn register(register: Option<&Register>) -> String {
    let Some(register) = register else { return "no register".to_owned() };
    let standing = match register.standing {
        Standing::Intact => "",
        Standing::Amnesiac => " amnesiac",
    };
    format!("promised {} accepted {}{standing}", epoch(register.promised), accepted(register.accepted.as_ref()))
}

fn entries(entries: &[Sealed]) -> String {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return "nothing".to_owned() };
    let of = match last.entry().answer {
        Answer::Nothing if last.entry().effects.is_empty() => "marker",
        Answer::Nothing => "removal of idle sessions",
        Answer::Added { .. } => "add",
        Answer::Deleted { .. } => "delete",
        Answer::Appended { .. } => "append",
        Answer::NotMet { .. } => "condition not met",
        Answer::SessionOpened(_) => "open",
        Answer::SessionClosed | Answer::SessionExpired => "close",
    };
    format!("{}..={} ({} of {})", first.index(), last.index(), of, epoch(last.entry().epoch))
}

fn request(request: &Request) -> String {
    match request {
        Request::Change { id, change } => {
            let what = match change {
                Change::Add { key, value } => format!("add {key:?} {value:?}"),
                Change::Delete { key } => format!("delete {key:?}"),
                Change::Append { prefix, value } => format!("append {prefix:?} {value:?}"),
                Change::Together(set) => format!("{set:?}"),
            };
            let id = id.map_or_else(|| "no id".to_owned(), |id| format!("{} #{}", id.session, id.sequence));
            format!("{what} ({id})")
        }
        Request::Read { key, .. } => format!("read {key:?}"),
        Request::Scan(scan) => format!("scan {:?} at {:?}", scan.range, scan.at),
        Request::OpenSession | Request::CloseSession(_) | Request::Promote(_) | Request::Fence(_) => {
            format!("{request:?}")
        }
    }
}

/// One message.
pub fn message(message: &Message) -> String {
    let name = message.name();
    let index = |index: &LogIndex| index.0;
    match message {
        Message::Question { ask } => format!("{name} {ask}"),
        Message::Testimony(testimony) => {
            let hears = testimony.hears.map(|(server, heard)| format!("{server}{}", run(heard)));
            let remembered = testimony.remembered.as_ref().map_or(String::new(), |known| {
                let (promised, confirmed_in) = (epoch(known.promised), epoch(known.confirmed_in));
                let Remembered { confirmed, committed, .. } = known;
                format!(", remembers {promised}, confirmed {confirmed} in {confirmed_in}, committed {committed}")
            });
            let own = register(testimony.register.as_ref());
            format!("{name} {}: {own} hears {hears:?}{remembered}", testimony.ask)
        }
        Message::Enrol { store, .. } => format!("{name} {:03x}", store.0 >> 52),
        Message::Promise { epoch: proposed } => format!("{name} {}?", epoch(*proposed)),
        Message::Promised { epoch: promised, accepted: view, counts, member } => {
            format!(
                "{name} {} accepted {} counts {counts} as {}",
                epoch(*promised),
                accepted(view.as_ref()),
                members(member)
            )
        }
        Message::HigherPromise { refused, promised } => format!("{name} {} over {}", epoch(*promised), epoch(*refused)),
        Message::Accept { view: proposed } => format!("{name} {}!", view(proposed)),
        Message::Accepted { epoch: accepted } => format!("{name} {}", epoch(*accepted)),
        Message::StartEpoch { view: chosen } => format!("{name} {}", view(chosen)),
        Message::EpochStarted { epoch: started, tail } => {
            let ends: Vec<String> =
                tail.epochs.iter().map(|end| format!("{} to {}", epoch(end.epoch), position(end.last))).collect();
            format!("{name} {} applied {} end {} {ends:?}", epoch(*started), position(tail.applied), position(tail.end))
        }
        Message::Cut { epoch: cut, run: of, end, keep } => {
            format!("{name} {} run {} end {} keep {keep}", epoch(*cut), run(*of), position(*end))
        }
        Message::Behind { epoch: behind, run: of, end, base } => {
            format!("{name} {} run {} end {} base {base}", epoch(*behind), run(*of), position(*end))
        }
        Message::Prepare { epoch: prepared, previous, entries: sent, commit_index } => {
            format!(
                "{name} {} after {}: {} commit {}",
                epoch(*prepared),
                position(*previous),
                entries(sent),
                commit_index
            )
        }
        Message::Confirm { epoch: confirmed, position: up_to, applied_index, .. } => {
            format!("{name} {} {} applied {applied_index}", epoch(*confirmed), position(*up_to))
        }
        Message::Gap { epoch: missed, end } => format!("{name} {} end {}", epoch(*missed), position(*end)),
        Message::Heartbeat { epoch: beating, to_run, sent_at, hears_you, commit_index, grant } => format!(
            "{name} {} to {} at {} hears you {hears_you} commit {}{}",
            epoch(*beating),
            run(*to_run),
            sent_at.0 / 1_000,
            index(commit_index),
            grant.map_or(String::new(), |grant| format!(" grants {:?} from {}", grant.span, grant.clock.0 / 1_000))
        ),
        Message::Echo { epoch: echoed, sent_at, end, confirmed, applied_index, .. } => format!(
            "{name} {} of {} end {end} confirmed {} applied {applied_index}",
            epoch(*echoed),
            sent_at.0 / 1_000,
            position(*confirmed)
        ),
        Message::Idle { epoch: beating, wants_copy, .. } => {
            format!("{name} {} wants copy {wants_copy}", epoch(*beating))
        }
        Message::HandOver { epoch: left, to_run } => format!("{name} {} to {}", epoch(*left), run(*to_run)),
        Message::StillPromised { epoch: asked, round } => format!("{name} {} round {round}?", epoch(*asked)),
        Message::NothingHigher { epoch: asked, round } => format!("{name} {} round {round}", epoch(*asked)),
        Message::Diverged { .. } => format!("{message:?}"),
    }
}

/// One event.
pub fn event(event: &Event) -> String {
    match event {
        Event::Received { from, cluster, message: received } => {
            let blank = if cluster.is_none() { " (blank)" } else { "" };
            format!("{}{}{blank} {}", from.server, run(from.run), message(received))
        }
        Event::PeerConnected { peer } => format!("connected to {}{}", peer.server, run(peer.run)),
        Event::PeerBroken { peer } => format!("broken to {}{}", peer.server, run(peer.run)),
        Event::Persisted { ticket, read_back } => format!("durable {} {}", ticket.0, entries(read_back)),
        Event::Requested { token, request: asked, .. } => format!("asked ({}) {}", token.0, request(asked)),
        Event::Probed { server, run: asked, probe, dead } => {
            format!("probe {probe} of {server}{}: dead {dead}", run(*asked))
        }
        Event::Snapshotted { .. }
        | Event::SnapshotFetched { .. }
        | Event::Examined
        | Event::DiskFailed { .. }
        | Event::Nudged
        | Event::Deadline
        | Event::Flush => format!("{event:?}"),
    }
}

fn record(record: &Record) -> String {
    match record {
        Record::Append(sealed) => format!("append {}", entries(sealed)),
        Record::Cut { keep } => format!("cut behind {keep}"),
        Record::Register(stored) => register(Some(stored)),
        Record::Identity(identity) => format!("{identity:?}"),
    }
}

/// One action.
pub fn action(action: &Action) -> String {
    match action {
        Action::Send { to, cluster, message: sent } => {
            let blank = if cluster.is_none() { " (blank)" } else { "" };
            format!("to {to}{blank}: {}", message(sent))
        }
        Action::Persist { ticket, record: written } => format!("persist {} {}", ticket.0, record(written)),
        Action::Respond { token, result } => format!("answer ({}) {result:?}", token.0),
        Action::Probe { server, run: asked, probe, .. } => format!("probe {probe} of {server}{}", run(*asked)),
        Action::Tell(Note::Chosen { view: chosen, reason }) => format!("CHOSEN {} because {reason}", view(chosen)),
        Action::Tell(Note::Role { role, epoch: now, primary }) => {
            format!("ROLE {} {} primary {primary:?}", role.word(), epoch(*now))
        }
        Action::Tell(Note::Serving { epoch: served }) => format!("SERVING {}", epoch(*served)),
        Action::Tell(note) => format!("{note:?}"),
        Action::NoteProgress { confirmed, commit } => format!("note confirmed {confirmed} commit {commit}"),
        Action::FetchSnapshot { .. } | Action::Examine | Action::Halt(_) => format!("{action:?}"),
    }
}
