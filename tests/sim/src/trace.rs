//! The readable story of a world, kept only where somebody is going to read it.

use std::collections::VecDeque;

use crate::clock::Instant;

/// How many lines are kept.
const LINES_MAX: usize = 200_000;
/// How long a line may be. **Units:** bytes.
const LINE_BYTES_MAX: usize = 400;

/// The last lines of the story.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    wanted: bool,
    lines: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { wanted, lines: VecDeque::new() }
    }

    /// Adds a line; the text is only made where it is wanted.
    pub(crate) fn note(&mut self, now: Instant, line: impl FnOnce() -> String) {
        if !self.wanted {
            return;
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        let mut text = format!("{:>10.6} {}", now as f64 / 1e9, line());
        if text.len() > LINE_BYTES_MAX {
            let mut cut = LINE_BYTES_MAX;
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            text.truncate(cut);
            text.push('…');
        }
        self.lines.push_back(text);
    }

    pub(crate) fn lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// Whether a line of a story only says that time passes: a story is read faster without.
pub fn is_chatter(line: &str) -> bool {
    const CHATTER: [&str; 7] = ["Heartbeat", "Echo", "Idle", " <- Flush", " <- Deadline", "note confirmed", "Nudged"];
    !line.contains("##") && CHATTER.iter().any(|word| line.contains(word))
}
