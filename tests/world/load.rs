//! A cluster that holds as many keys as there are to be, and the knowledge of what belongs to each.

use heirloom::Client;

pub const KEY_BYTES: u64 = 16;
pub const VALUE_BYTES: usize = 128;

/// The key of this number; keys are in the order of their numbers.
pub fn key(number: u64) -> String {
    format!("key-{number:012}")
}

/// What belongs to it.
pub fn value(number: u64) -> String {
    format!("{number:0>VALUE_BYTES$}")
}

/// Adds all keys below this number, so many at a time.
pub async fn load(client: &Client, keys: u64, at_once: u64) {
    let tasks: Vec<_> = (0..at_once)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in (task..keys).step_by(usize::try_from(at_once).expect("few")) {
                    client.add(key(number), value(number)).await.expect("added");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
}
