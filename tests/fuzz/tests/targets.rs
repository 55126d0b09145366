//! Each target as a test: its corpus, then inputs at random. `cargo bolero` searches further, by the same functions.
//!
//! A failure prints the input, made smaller, and the seed that makes it again: `BOLERO_RANDOM_SEED=N cargo test -p
//! heirloom-fuzz NAME`.
#![allow(missing_docs, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use heirloom_fuzz::input::{Content, as_they_are};
use heirloom_fuzz::{TARGETS, Target};

/// How many inputs of each target are drawn beside its corpus.
const INPUTS: usize = 10_000;
/// How long an input may be, also one that an engine grows. **Units:** bytes.
const INPUT_BYTES_MAX: usize = 4_096;

macro_rules! tests {
    ($($name:ident => $target:path;)*) => {
        $(#[test]
        fn $name() {
            bolero::check!()
                .with_iterations(INPUTS)
                .with_max_len(INPUT_BYTES_MAX)
                .for_each($target.check);
        })*
    };
}
heirloom_fuzz::with_targets!(tests);

/// So that a corpus stays small.
const CORPUS_FILES_MAX: usize = 200;
/// **Units:** bytes.
const CORPUS_BYTES_MAX: u64 = 100 << 10;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/__fuzz__").join(name).join("corpus")
}

fn seed_path(name: &str, number: usize) -> PathBuf {
    corpus(name).join(format!("seed-{number:02}"))
}

fn write_seeds(name: &str, target: Target) {
    fs::create_dir_all(corpus(name)).expect("a folder for the corpus");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(seed_path(name, number), seed).expect("a seed written");
    }
}

#[test]
fn the_corpora_hold_the_seeds_and_are_small() {
    for (name, target) in TARGETS {
        if std::env::var_os("HEIRLOOM_WRITE_PAGES").is_some() {
            write_seeds(name, *target);
        }
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let kept = fs::read(seed_path(name, number)).ok();
            assert_eq!(
                kept.as_ref(),
                Some(seed),
                "write them anew by HEIRLOOM_WRITE_PAGES=1 cargo test -p heirloom-fuzz"
            );
        }
        let sizes: Vec<u64> = fs::read_dir(corpus(name))
            .expect("the corpus")
            .map(|file| file.and_then(|file| file.metadata()).expect("a file of the corpus").len())
            .collect();
        assert!(sizes.len() <= CORPUS_FILES_MAX, "{name}: {} files", sizes.len());
        assert!(sizes.iter().sum::<u64>() <= CORPUS_BYTES_MAX, "{name}: {} bytes", sizes.iter().sum::<u64>());
    }
}

#[test]
fn the_first_byte_of_an_input_names_an_example_or_none() {
    let examples = [b"first".to_vec(), b"second".to_vec()];
    let content = |input: &[u8]| Content::of(input, &examples);
    assert_eq!(content(b""), Content { example: None, bytes: Vec::new() });
    assert_eq!(content(&as_they_are(b"any")), Content { example: None, bytes: b"any".to_vec() });
    assert_eq!(content(&[2]), Content { example: Some(1), bytes: b"second".to_vec() });
    assert_eq!(content(&[4, 0, 0, 0, 1]), Content { example: Some(0), bytes: b"girst".to_vec() });
}

#[test]
fn what_follows_flips_removes_inserts_and_cuts() {
    let changed = |change: &[u8]| Content::of(&[&[1], change].concat(), &[b"abc".to_vec()]).bytes;
    assert_eq!(changed(&[1, 0, 5, 0]), b"ac");
    assert_eq!(changed(&[3, 0, 6, b'd']), b"abcd");
    assert_eq!(changed(&[1, 0, 7, 0]), b"a");
    assert_eq!(changed(&[3, 0, 4, 1]), b"abc", "behind the end nothing is flipped");
}
