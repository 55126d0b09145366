//! Identity, register, progress and recovery: small records, most of them kept twice.

use std::sync::LazyLock;

use heirloom_proto::{ClusterId, Identity, Record, Register, Standing};
use heirloom_server::storage::raw;

use crate::Target;
use crate::input::{Content, as_they_are};
use crate::store::{self, CLUSTER, Folder};

/// The readers of the small records.
///
/// An input's first byte names the record, and says whether both of its copies are so (`BOTH`) and whether the checksum
/// is made right after the changes (`SEALED`). The rest is what the file holds.
pub const RECORDS: Target = Target { seeds, check };

const NAMES: [&str; 4] = ["identity", "register", "progress", "recovery"];
const KIND: u8 = 3;
const BOTH: u8 = 4;
const SEALED: u8 = 8;

/// A directory, and the same with a recovery that was begun.
static FOLDERS: LazyLock<[Folder; 2]> = LazyLock::new(|| {
    let entries = [vec![Record::Append(vec![store::entry(1, 1)])]];
    let identity =
        Identity { cluster: Some((ClusterId { generation: 4, ..CLUSTER }, store::constants())), ..store::identity() };
    let register = Register { promised: store::epoch(9), accepted: None, standing: Standing::Intact };
    [store::written(&entries, None), store::written(&entries, Some((&identity, &register)))]
});

/// Of each record, by its place in [`NAMES`], what its file may hold.
static EXAMPLES: LazyLock<[Vec<Vec<u8>>; 4]> = LazyLock::new(|| {
    let recovered = store::laid_out(&FOLDERS[1]);
    drop(store::open(&recovered).expect("carries it out"));
    let recovered = store::read_back(&recovered);
    [
        vec![FOLDERS[0]["identity.a"].clone(), recovered["identity.a"].clone()],
        vec![FOLDERS[0]["register.a"].clone(), recovered["register.a"].clone()],
        vec![FOLDERS[0]["progress.a"].clone(), FOLDERS[0]["progress.b"].clone()],
        vec![FOLDERS[1]["recovery"].clone()],
    ]
});

fn seeds() -> Vec<Vec<u8>> {
    let of = |(kind, examples): (u8, &Vec<Vec<u8>>)| {
        let seed =
            |example: &Vec<u8>| [0, BOTH | SEALED].map(|how| [&[kind | how], as_they_are(example).as_slice()].concat());
        examples.iter().flat_map(seed).collect::<Vec<_>>()
    };
    (0..).zip(EXAMPLES.iter()).flat_map(of).collect()
}

fn check(input: &[u8]) {
    let Some((how, input)) = input.split_first() else { return };
    let kind = usize::from(how & KIND);
    let (both, sealed, name) = (how & BOTH != 0, how & SEALED != 0, NAMES[kind]);
    let Content { example, mut bytes } = Content::of(input, &EXAMPLES[kind]);
    if sealed {
        raw::seal_record(&mut bytes);
    }
    let mut folder = FOLDERS[0].clone();
    let copies: &[&str] = match (name, both) {
        ("recovery", _) => &[""],
        (_, false) => &[".a"],
        (_, true) => &[".a", ".b"],
    };
    for copy in copies {
        folder.insert(format!("{name}{copy}"), bytes.clone());
    }
    let files = store::laid_out(&folder);
    let mut data = match store::open(&files) {
        Ok(data) => data,
        Err(error) => return store::check_refusal(&error),
    };
    let Some((durable, store)) = store::load(&mut data) else {
        // Damage must not keep a server down for ever.
        data.reformat_as_amnesiac(CLUSTER, store::constants()).expect("memory does not fail");
        let (durable, _) = data.load().expect("just formatted");
        assert_eq!(durable.register, Some(Register::LOST));
        return;
    };
    drop(store);
    if !sealed && !both && example == Some(0) && name != "recovery" {
        assert_eq!(durable.identity, store::identity(), "one whole copy is enough");
        assert_eq!(durable.register.as_ref(), Some(&store::registers()[1]), "one whole copy is enough");
    }
    let (again, _) = data.load().expect("what was loaded loads again");
    assert_eq!(again, durable);
}
