//! Command lines of the programs that search and judge: what was not understood is named, and help is not an error.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// The words of a command line. Remembers what was read, for the sentence that says where reading stopped.
#[derive(Debug)]
pub struct Words<I> {
    words: I,
    read: Vec<String>,
}

impl<I: Iterator<Item = String>> Words<I> {
    /// These words.
    pub fn new(words: I) -> Self {
        Self { words, read: Vec::new() }
    }

    /// Reads all of them; where `read` can't, the sentence that names what it stopped at.
    ///
    /// **Errors:** that sentence.
    pub fn read_by<T>(mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Result<T, String> {
        read(&mut self).ok_or_else(|| {
            let flag = self.read.iter().rposition(|word| word.starts_with("--")).unwrap_or(0);
            match &self.read[flag..] {
                [flag] if self.words.next().is_none() => format!("{flag} is not known, or lacks its value"),
                words => format!("{} is not understood", words.join(" ")),
            }
        })
    }
}

impl<I: Iterator<Item = String>> Iterator for Words<I> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let word = self.words.next()?;
        self.read.push(word.clone());
        Some(word)
    }
}

/// A time given in minutes; `None` where it is none, or longer than can be told.
pub fn minutes(word: &str) -> Option<Duration> {
    let minutes: f64 = word.parse().ok()?;
    Duration::try_from_secs_f64(minutes * 60.0).ok()
}

/// Whether somebody asks how a program is used.
pub fn asks_for_help(words: impl Iterator<Item = String>) -> bool {
    words.into_iter().any(|word| word == "--help" || word == "-h")
}

/// Says why a command line is refused, and how the program is used; the exit code of that.
pub fn refuse(program: &str, why: &str, usage: &str) -> ExitCode {
    // Nobody may be reading, which does not make it right.
    let _ = writeln!(io::stderr(), "{program}: {why}\n{usage}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &str) -> String {
        let words = Words::new(line.split_whitespace().map(str::to_owned));
        let read = words.read_by(|words| {
            while let Some(word) = words.next() {
                match word.as_str() {
                    "--seed" => drop(words.next()?.parse::<u64>().ok()?),
                    "--minutes" => drop(minutes(&words.next()?)?),
                    _ => return None,
                }
            }
            Some(())
        });
        read.expect_err("refused")
    }

    #[test]
    fn what_is_not_understood_is_named_with_its_flag() {
        assert_eq!(refused("--seed 7 --seed x --minutes 1"), "--seed x is not understood");
        assert_eq!(refused("--minutes 1 --seed"), "--seed is not known, or lacks its value");
        assert_eq!(refused("--seed 7 --bogus"), "--bogus is not known, or lacks its value");
        assert_eq!(refused("bogus"), "bogus is not known, or lacks its value");
    }

    #[test]
    fn minutes_that_no_clock_can_count_are_refused() {
        for bad in ["-1", "nan", "inf", "1e300", "soon"] {
            assert_eq!(refused(&format!("--minutes {bad}")), format!("--minutes {bad} is not understood"));
        }
        assert_eq!(minutes("0.5"), Some(Duration::from_secs(30)));
    }
}
