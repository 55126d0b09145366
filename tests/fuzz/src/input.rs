//! What an input means: bytes as they are, or an example of what is really written with a few changes.
//!
//! Bytes at random rarely get far, and changes of an example do: so the first byte names the example, 0 being none, and
//! every four of the others are a change. An engine that sees the code's branches can also go on from the seeds, which
//! hold the examples byte by byte.

/// More changes than this would leave little of an example. **Why so few:** the quick pass draws hundreds of bytes.
const CHANGES_MAX: usize = 8;

/// What an input holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The example that was changed; `None` where these are the bytes of the input.
    pub example: Option<usize>,
    /// What is to be read.
    pub bytes: Vec<u8>,
}

impl Content {
    /// Reads an input.
    pub fn of(input: &[u8], examples: &[Vec<u8>]) -> Self {
        let Some((named, rest)) = input.split_first() else { return Self { example: None, bytes: Vec::new() } };
        match (usize::from(*named) % (examples.len() + 1)).checked_sub(1) {
            None => Self { example: None, bytes: rest.to_vec() },
            Some(example) => Self { example: Some(example), bytes: changed(&examples[example], rest) },
        }
    }
}

/// The input that holds these bytes as they are.
pub fn as_they_are(bytes: &[u8]) -> Vec<u8> {
    [&[0], bytes].concat()
}

fn changed(example: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut bytes = example.to_vec();
    for change in changes.as_chunks().0.iter().take(CHANGES_MAX) {
        let [low, high, kind, value] = *change;
        let at = usize::from(u16::from_le_bytes([low, high])) % (bytes.len() + 1);
        match kind % 8 {
            0..=4 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= value),
            5 => drop(bytes.splice(at..(at + 1).min(bytes.len()), [])),
            6 => bytes.insert(at, value),
            _ => bytes.truncate(at),
        }
    }
    bytes
}
