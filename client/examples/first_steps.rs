//! The first steps with the library: add, read as fresh as needed, change under a condition, change several keys as one.
//!
//! `cargo run -p heirloom --example first_steps`, with servers at the addresses in `HEIRLOOM_SERVERS`, or the usual ones.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use heirloom::{ChangeSet, Client, Conditional, Consistency, Error, ReadOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let servers = std::env::var("HEIRLOOM_SERVERS").unwrap_or_else(|_| "127.0.0.1:7400,127.0.0.1:7401".to_owned());
    let client = Client::connect(servers.split(',')).await?;
    run(&client).await?;
    client.close().await
}

/// Leaves the keys below `first_steps/` behind.
pub async fn run(client: &Client) -> Result<(), Error> {
    // Once this is answered, every live copy has it on disk and has read it back.
    let added = client.add("first_steps/word", "definition").await?;
    println!("version {}, on {} servers", added.version, added.copies);

    // Any member answers, and no answer is older than the last change that was acknowledged, to whomever.
    let found = client.read("first_steps/word").await?.expect("it was just added");
    println!("{:?}, told by server {}", found.value, found.server);

    // At a server that is cut off the others go on; this one says how old its answer may be.
    let stale = ReadOptions { consistency: Consistency::Stale, ..ReadOptions::default() };
    if let Some(entry) = client.read_with("first_steps/word", stale).await? {
        println!("{:?}, no older than {:?}", entry.value, entry.looked.age);
    }

    // A condition that is not met is an answer, not an error.
    match client.add_if_version("first_steps/word", "a better one", found.version).await? {
        Conditional::Done(changed) => println!("replaced, as version {}", changed.version),
        Conditional::NotMet(why) => println!("somebody was faster: the key is at {:?}", why.found),
    }

    let set = ChangeSet::new().delete("first_steps/word").add("first_steps/moved", "definition");
    match client.change_set(set).await? {
        Conditional::Done(changed) => println!("both at once, as version {}", changed.version),
        Conditional::NotMet(_) => unreachable!("the set has no condition"),
    }
    Ok(())
}
