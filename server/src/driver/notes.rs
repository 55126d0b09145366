//! What the node tells people, as log lines.

use heirloom_proto::event::Note;
use heirloom_proto::{Message, Record, Request, ServerId, Ticket, Token, View};

/// Logs a note.
pub(crate) fn log(note: &Note) {
    match note {
        Note::Prepared { token, index, epoch } => {
            tracing::debug!(token = token.0, %index, %epoch, "prepared");
        }
        Note::Role { role, epoch, primary } => {
            let primary = primary.map_or_else(|| "nobody".to_owned(), |server| format!("server {server}"));
            tracing::info!(%epoch, "{} now; {primary} leads", role.word());
        }
        Note::Chosen { view, reason } => {
            tracing::info!(epoch = %view.epoch, "view chosen: {} ({reason})", members_text(view));
        }
        Note::Serving { epoch } => tracing::info!(%epoch, "serving"),
        Note::ProvenDead { server, run } => tracing::info!(%server, %run, "proven dead"),
        Note::RolledBack { keep, end } => {
            tracing::info!(%keep, %end, "rolled back entries that were never committed");
        }
        Note::Diverged { server, index, what } => {
            tracing::error!(%server, %index, "a replica differs in its {what}: it is put out of the view");
        }
        Note::Warning(what) => tracing::warn!("{what}"),
    }
}

/// Logs a request on its way into the node, so that one write can be followed by its token.
pub(crate) fn log_request(token: Token, request: &Request) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let token = token.0;
    match request {
        Request::Change { id: Some(id), .. } => {
            tracing::debug!(token, session = %id.session, sequence = id.sequence, "change asked");
        }
        Request::Change { id: None, .. } => tracing::debug!(token, "change asked, without a request id"),
        Request::OpenSession => tracing::debug!(token, "session asked"),
        Request::CloseSession(session) => tracing::debug!(token, %session, "end of session asked"),
        Request::Read { .. } => tracing::trace!(token, "read asked"),
        Request::Scan(_) => tracing::trace!(token, "page asked"),
        Request::Promote(server) => tracing::info!(token, %server, "hand-over asked"),
        Request::Fence(server) => tracing::info!(token, %server, "told by an operator that the server is off"),
    }
}

/// Logs a record on its way to disk.
pub(crate) fn log_record(ticket: Ticket, record: &Record) {
    let ticket = ticket.0;
    match record {
        Record::Append(entries) => {
            if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                tracing::debug!(ticket, first = %first.index(), last = %last.index(), "appended");
            }
        }
        Record::Cut { keep } => tracing::debug!(ticket, %keep, "cut"),
        Record::Register(register) => tracing::debug!(ticket, promised = %register.promised, "register"),
        Record::Identity(_) => tracing::debug!(ticket, "identity"),
    }
}

/// Logs a message that came: the two that a write waits for so that it can be followed, the others only at the finest
/// level.
pub(crate) fn log_message(from: ServerId, message: &Message) {
    match message {
        Message::Prepare { entries, .. } if !entries.is_empty() => {
            if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
                tracing::debug!(%from, first = %first.index(), last = %last.index(), "asked to prepare");
            }
        }
        Message::Confirm { position, .. } => tracing::debug!(%from, index = %position.index, "confirmed"),
        _ => tracing::trace!(%from, "received {}", message.name()),
    }
}

fn members_text(view: &View) -> String {
    let list = |members: &std::collections::BTreeSet<heirloom_proto::Member>| {
        members.iter().map(|member| member.server.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut text = format!("primary {}, in sync {}", view.primary, list(&view.in_sync));
    if !view.leaving.is_empty() {
        text.push_str(&format!(", leaving {}", list(&view.leaving)));
    }
    text
}
