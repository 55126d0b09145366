//! A counter that many may raise at once: read, add one, and write it back only if nobody was faster.
//!
//! `cargo run -p heirloom --example counter`, with servers at the addresses in `HEIRLOOM_SERVERS`, or the usual ones.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use heirloom::{Client, Conditional, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let servers = std::env::var("HEIRLOOM_SERVERS").unwrap_or_else(|_| "127.0.0.1:7400,127.0.0.1:7401".to_owned());
    let client = Client::connect(servers.split(',')).await?;
    println!("it is {} now", raise(&client, "counter").await?);
    client.close().await
}

/// Raises it by one; returns what it is then.
///
/// The library repeats a call by itself, under one request id, until it is answered or its time is up; so a failover
/// neither loses a step nor counts one twice. [`Error::Unknown`] is left to the caller: the step was made once or not at all.
pub async fn raise(client: &Client, key: &str) -> Result<u64, Error> {
    loop {
        let found = client.read(key).await?;
        let is = found.as_ref().and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok()).unwrap_or(0u64);
        let raised = (is + 1).to_string();
        let outcome = match found {
            Some(entry) => client.add_if_version(key, raised, entry.version).await?,
            None => client.add_if_absent(key, raised).await?,
        };
        match outcome {
            Conditional::Done(_) => return Ok(is + 1),
            Conditional::NotMet(_) => {}
        }
    }
}
