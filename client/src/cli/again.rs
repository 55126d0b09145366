//! How to go on with a command that ended too early: the line that was typed, with one option more.

use std::ffi::OsString;

/// The command line of this process with this option, right behind the name of the command.
pub(super) fn command_with(command: &str, option: &str, value: Option<u64>) -> String {
    with(std::env::args_os(), command, option, value)
}

fn with(line: impl Iterator<Item = OsString>, command: &str, option: &str, value: Option<u64>) -> String {
    let mut words = Vec::new();
    let mut line = line.map(|word| word.to_string_lossy().into_owned());
    let mut is_put = false;
    let mut are_options = true;
    while let Some(word) = line.next() {
        are_options = are_options && word != "--";
        let is_it = are_options && is_put && word == option;
        let has_it = value.is_some() && word.strip_prefix(option).is_some_and(|rest| rest.starts_with('='));
        match (is_it, value) {
            // What was said of it before is no longer so.
            (true, Some(_)) => drop(line.next()),
            (true, None) => {}
            (false, _) if are_options && has_it => {}
            (false, _) => words.push(quoted(&word)),
        }
        if word == command && !is_put {
            is_put = true;
            words.push(option.to_owned());
            words.extend(value.map(|value| value.to_string()));
        }
    }
    words.join(" ")
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,@%+=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_one_that_was_typed_with_one_option_more() {
        let again =
            |line: &[&str], command, option, value| with(line.iter().map(OsString::from), command, option, value);
        let import = |line: &[&str]| again(line, "import", "--from-line", Some(9));
        assert_eq!(import(&["heirloom", "import", "a b"]), "heirloom import --from-line 9 'a b'");
        assert_eq!(
            import(&["h", "import", "-", "--from-line", "3", "--if-absent"]),
            "h import --from-line 9 - --if-absent"
        );
        assert_eq!(import(&["h", "import", "--from-line=3", "it's"]), r"h import --from-line 9 'it'\''s'");
        assert_eq!(import(&["h", "import", "--", "--from-line"]), "h import --from-line 9 -- --from-line");
        assert_eq!(
            again(&["h", "export", "", "--to", "f", "--resume"], "export", "--resume", None),
            "h export --resume '' --to f"
        );
    }
}
