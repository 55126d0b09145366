//! What the watcher sees: one line for each thing that happens, with the time since the beginning.

use std::io::IsTerminal as _;
use std::time::Instant;

use crate::cli::{Failure, output};

/// The watcher's terminal, or a pipe.
pub(super) struct Screen {
    began: Instant,
    has_colour: bool,
}

/// How a line is meant.
#[derive(Clone, Copy)]
pub(super) enum Tone {
    /// It goes on.
    Plain,
    /// Something was broken on purpose.
    Bad,
    /// Something was mended, or held.
    Good,
    /// Aside.
    Faint,
}

impl Screen {
    pub(super) fn new() -> Self {
        let has_colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { began: Instant::now(), has_colour }
    }

    /// A line of the story.
    pub(super) fn say(&self, tone: Tone, text: &str) -> Result<(), Failure> {
        let time = format!("{:6.2}s", self.began.elapsed().as_secs_f64());
        output::line(&format!("{}  {}", self.paint(Tone::Faint, &time), self.paint(tone, text)))
    }

    /// A line of the summary.
    pub(super) fn sum_up(&self, holds: bool, text: &str) -> Result<(), Failure> {
        let (tone, mark) = if holds { (Tone::Good, "ok  ") } else { (Tone::Bad, "FAIL") };
        output::line(&format!("  {}  {text}", self.paint(tone, mark)))
    }

    /// An empty line, and a title.
    pub(super) fn title(&self, text: &str) -> Result<(), Failure> {
        output::line("")?;
        output::line(text)
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Bad => "1;31",
            Tone::Good => "1;32",
            Tone::Faint => "2",
        };
        if self.has_colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
