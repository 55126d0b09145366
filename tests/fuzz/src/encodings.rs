//! Our own encodings, where one value has one string of bytes: what was read is written again byte by byte alike.

use std::sync::LazyLock;

use bytes::Bytes;
use heirloom_proto::{Register, Sealed};

use crate::Target;
use crate::input::{Content, as_they_are};
use crate::store;

/// Entries of the log and registers.
pub const ENCODINGS: Target = Target { seeds, check };

static ENTRIES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| store::entries_of_all_kinds().iter().map(|entry| entry.bytes().to_vec()).collect());
static REGISTERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| store::registers().iter().map(Register::encode).collect());

/// The first byte says of what.
fn seeds() -> Vec<Vec<u8>> {
    let of = |what: u8| move |example: &Vec<u8>| [&[what], as_they_are(example).as_slice()].concat();
    ENTRIES.iter().map(of(0)).chain(REGISTERS.iter().map(of(1))).collect()
}

fn check(input: &[u8]) {
    let Some((what, input)) = input.split_first() else { return };
    if what % 2 == 0 {
        let bytes = Bytes::from(Content::of(input, &ENTRIES).bytes);
        if let Ok(sealed) = Sealed::decode(bytes.clone()) {
            assert_eq!(Sealed::new(sealed.entry().clone()).bytes(), &bytes, "an entry has one encoding");
        }
    } else {
        let bytes = Content::of(input, &REGISTERS).bytes;
        if let Ok(register) = Register::decode(bytes.clone()) {
            register.check_invariants();
            assert_eq!(register.encode(), bytes, "a register has one encoding");
        }
    }
}
