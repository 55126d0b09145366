//! How far a long command is: one line on standard error that is written over and over, where that is a terminal.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use super::table::size;

/// How long a line stays at least: more often nobody can read it.
const SHOWN_AT_LEAST: Duration = Duration::from_millis(100);
/// How many characters the bar has.
const BAR_WIDTH: u64 = 24;

/// The line.
#[derive(Debug)]
pub struct Progress<W: Write = io::Stderr> {
    /// `None` where nobody looks.
    screen: Option<W>,
    began: Instant,
    shown_at: Option<Instant>,
}

impl Progress {
    /// Shows nothing yet, and nothing at all where standard error is no terminal.
    pub fn begin() -> Self {
        let screen = io::stderr();
        Self { screen: screen.is_terminal().then_some(screen), began: Instant::now(), shown_at: None }
    }
}

impl<W: Write> Progress<W> {
    /// Since it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Shows how many keys and bytes are done, of so many keys where that is known.
    pub(super) fn show(&mut self, doing: &str, keys: u64, bytes: u64, of: Option<u64>) {
        self.show_at(Instant::now(), doing, keys, bytes, of);
    }

    /// Shows how many of so many bytes are done.
    pub fn show_bytes(&mut self, doing: &str, bytes: u64, of: u64) {
        self.show_line(Instant::now(), |elapsed| bytes_line(doing, bytes, of, elapsed));
    }

    fn show_at(&mut self, now: Instant, doing: &str, keys: u64, bytes: u64, of: Option<u64>) {
        self.show_line(now, |elapsed| line(doing, keys, bytes, of, elapsed));
    }

    fn show_line(&mut self, now: Instant, line: impl FnOnce(Duration) -> String) {
        let Some(screen) = &mut self.screen else { return };
        if self.shown_at.is_some_and(|at| now - at < SHOWN_AT_LEAST) {
            return;
        }
        self.shown_at = Some(now);
        // Nobody needs to hear that the line could not be written.
        let _ = write!(screen, "\r{}\x1b[K", line(now - self.began));
        let _ = screen.flush();
    }

    /// Takes the line away, so that something else can be written.
    pub fn clear(&mut self) {
        if let Some(screen) = &mut self.screen
            && self.shown_at.take().is_some()
        {
            let _ = write!(screen, "\r\x1b[K");
            let _ = screen.flush();
        }
    }
}

fn bytes_line(doing: &str, bytes: u64, of: u64, elapsed: Duration) -> String {
    let rate = bytes as f64 / elapsed.as_secs_f64().max(0.001);
    let rate = size(rate as u64);
    match of {
        0 => doing.to_owned(),
        of => format!("{doing} {}, {} of {}, {rate}/s", bar(bytes, of), size(bytes), size(of)),
    }
}

/// How much of it is done, to look at and in hundredths.
fn bar(done: u64, of: u64) -> String {
    let done = done.min(of);
    let width = |part: u64| usize::try_from(part).expect("few");
    let full = width(u64::try_from(u128::from(BAR_WIDTH) * u128::from(done) / u128::from(of)).expect("few"));
    let bar = "#".repeat(full) + &".".repeat(width(BAR_WIDTH) - full);
    format!("[{bar}] {} %", u128::from(done) * 100 / u128::from(of))
}

fn line(doing: &str, keys: u64, bytes: u64, of: Option<u64>, elapsed: Duration) -> String {
    let rate = keys as f64 / elapsed.as_secs_f64().max(0.001);
    let counts = format!("{keys} keys, {}, {rate:.0} keys/s", size(bytes));
    let Some(of) = of.filter(|of| *of > 0) else { return format!("{doing} {counts}") };
    format!("{doing} {}, {counts}", bar(keys, of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_bar_where_it_is_known_how_much_there_is() {
        let second = Duration::from_secs(2);
        assert_eq!(line("exporting", 5_000, 3 << 20, None, second), "exporting 5000 keys, 3.0 MiB, 2500 keys/s");
        assert_eq!(
            line("importing", 500, 10, Some(1_000), second),
            "importing [############............] 50 %, 500 keys, 10 B, 250 keys/s"
        );
        assert!(line("importing", 7, 1, Some(7), Duration::ZERO).contains("[########################] 100 %"));
        assert!(!line("importing", 0, 0, Some(0), Duration::ZERO).contains('['));
        assert_eq!(
            bytes_line("saving", 1 << 30, 1 << 32, Duration::from_secs(4)),
            "saving [######..................] 25 %, 1.0 GiB of 4.0 GiB, 256.0 MiB/s"
        );
        assert_eq!(bytes_line("waiting", 0, 0, Duration::ZERO), "waiting");
    }

    #[test]
    fn a_line_is_written_ten_times_a_second_at_most_and_taken_away() {
        let began = Instant::now();
        let mut progress = Progress { screen: Some(Vec::new()), began, shown_at: None };
        for millisecond in 0..=1_000 {
            progress.show_at(began + Duration::from_millis(millisecond), "exporting", millisecond, 0, None);
        }
        progress.clear();
        progress.clear();
        let written = String::from_utf8(progress.screen.expect("there")).expect("text");
        assert_eq!(written.matches("\rexporting").count(), 11, "{written:?}");
        assert_eq!(written.matches("\r\x1b[K").count(), 1, "{written:?}");
        let mut unseen: Progress<Vec<u8>> = Progress { screen: None, began, shown_at: None };
        unseen.show("exporting", 1, 1, None);
        unseen.clear();
    }
}
