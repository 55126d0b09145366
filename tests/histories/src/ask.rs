//! How a client asks: through the library, through the command line, or any server by a call of its own, as a program
//! without our library would.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use heirloom::{Client, Consistency, Error, ReadOptions, ServerId};
use heirloom_laws::random::Random;
use heirloom_proto::wire::v1;
use heirloom_proto::wire::v1::dictionary_client::DictionaryClient;
use tonic::transport::{Channel, Endpoint};

use crate::hosts::{Network, Place};
use crate::record::{Answer, Looked, Mode, Op};

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub op: Op,
    pub key: String,
    /// What an add or append adds.
    pub value: Option<String>,
    pub mode: Mode,
    /// The only server that a read asks.
    pub from: Option<ServerId>,
}

impl Wish {
    /// A linearizable read of any server.
    pub(crate) fn read(key: String) -> Self {
        Self { op: Op::Read, key, value: None, mode: Mode::Linearizable, from: None }
    }
}

/// How a worker reaches the servers.
pub(crate) enum Door {
    /// The library.
    Library(Client),
    /// The command line.
    Command { network: Arc<Network>, place: Place, program: PathBuf, servers: String },
    /// Each call to any server by itself, without a request id: what a server can't answer it forwards.
    Each(Vec<DictionaryClient<Channel>>),
}

impl Door {
    /// A door to each of these servers.
    pub(crate) fn each(addresses: &[String]) -> Self {
        let channel = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address that can be read");
            DictionaryClient::new(endpoint.connect_lazy())
        };
        Self::Each(addresses.iter().map(channel).collect())
    }

    /// Asks; `Ok(None)` where the outcome is unknown.
    ///
    /// **Errors:** what must never happen to a client, as a sentence.
    pub(crate) async fn ask(
        &self,
        wish: &Wish,
        timeout: Duration,
        random: &mut Random,
    ) -> Result<Option<Answer>, String> {
        match self {
            Self::Library(client) => by_library(&client.with_timeout(timeout), wish).await,
            Self::Command { network, place, program, servers } => {
                let mut command = tokio::process::Command::from(network.command(*place, program));
                command.args(words(wish)?).args(["--servers", servers, "--output", "json"]);
                command.args(["--timeout", &format!("{}ms", timeout.as_millis())]);
                command.stdin(Stdio::null()).kill_on_drop(true);
                by_command(command, wish.op).await
            }
            Self::Each(servers) => {
                let server = random.below(servers.len() as u64) as usize;
                append_at(servers[server].clone(), wish, timeout).await
            }
        }
    }
}

/// Asks through the library; none where the outcome is unknown.
pub(crate) async fn by_library(client: &Client, wish: &Wish) -> Result<Option<Answer>, String> {
    let numbers = |epoch: heirloom::Epoch| Some([epoch.round, u64::from(epoch.server.0), epoch.run.0]);
    let changed = |changed: heirloom::Changed| Answer::Changed {
        version: Some(changed.version.0),
        existed: Some(changed.existed),
        epoch: numbers(changed.epoch),
    };
    let value = || wish.value.clone().unwrap_or_default();
    let answer = match wish.op {
        Op::Add => client.add(&wish.key, value()).await.map(changed),
        Op::Delete => client.delete(&wish.key).await.map(changed),
        Op::Append => client.append(&wish.key, value()).await.map(|appended| Answer::Appended {
            number: appended.number,
            version: Some(appended.version.0),
            epoch: numbers(appended.epoch),
        }),
        Op::Read => {
            let consistency = match wish.mode {
                Mode::Linearizable => Consistency::Linearizable,
                Mode::Causal => Consistency::Causal,
                Mode::Stale => Consistency::Stale,
            };
            let read = client.read_with(&wish.key, ReadOptions { consistency, from: wish.from }).await;
            read.map(|entry| entry.map_or(Answer::Absent, |entry| found(&entry)))
        }
    };
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Unknown(_)) => Ok(None),
        Err(Error::NotApplied(_)) => Ok(Some(Answer::NotApplied)),
        Err(error @ (Error::BadInput(_) | Error::WatchLost(_))) => Err(error.to_string()),
    }
}

fn found(entry: &heirloom::Entry) -> Answer {
    let looked = Looked {
        seen: entry.looked.version.0,
        server: u64::from(entry.server.0),
        local: entry.looked.local,
        primary: u64::from(entry.epoch.server.0),
    };
    Answer::Found {
        value: String::from_utf8_lossy(&entry.value).into_owned(),
        version: Some(entry.version.0),
        looked: Some(looked),
    }
}

/// Appends at one server, once. Of what was refused nothing is known: it may have been forwarded.
async fn append_at(
    mut server: DictionaryClient<Channel>,
    wish: &Wish,
    timeout: Duration,
) -> Result<Option<Answer>, String> {
    if wish.op != Op::Append {
        return Err("only appends are asked of one server".to_owned());
    }
    let value = wish.value.clone().unwrap_or_default().into();
    let append = v1::AppendRequest { prefix: wish.key.clone().into(), value, ..Default::default() };
    let mut request = tonic::Request::new(append);
    request.set_timeout(timeout);
    let Ok(Ok(answered)) = tokio::time::timeout(timeout, server.append(request)).await else { return Ok(None) };
    let v1::AppendResponse { number, version, epoch, .. } = answered.into_inner();
    let epoch = epoch.map(|epoch| [epoch.round, u64::from(epoch.server), epoch.run]);
    Ok(Some(Answer::Appended { number, version: Some(version), epoch }))
}

fn words(wish: &Wish) -> Result<Vec<&str>, String> {
    match wish.op {
        Op::Add => Ok(vec!["add", &wish.key, wish.value.as_deref().unwrap_or_default()]),
        Op::Read => Ok(vec!["read", &wish.key]),
        Op::Delete => Ok(vec!["delete", &wish.key]),
        Op::Append => Err("appends are not asked through the command line".to_owned()),
    }
}

/// Runs a client command to its end.
async fn by_command(mut command: tokio::process::Command, op: Op) -> Result<Option<Answer>, String> {
    let output = command.output().await.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = || serde_json::from_slice::<serde_json::Value>(&output.stdout).map_err(|error| error.to_string());
    match (output.status.code(), op) {
        (Some(0), Op::Read) => {
            let told = json()?;
            let value = told["value"].as_str().ok_or("no value in the answer")?.to_owned();
            Ok(Some(Answer::Found { value, version: told["version"].as_u64(), looked: None }))
        }
        (Some(0), Op::Add | Op::Delete) => {
            let told = json()?;
            let (version, existed) = (told["version"].as_u64(), told["existed"].as_bool());
            Ok(Some(Answer::Changed { version, existed, epoch: None }))
        }
        (Some(1), Op::Read) => Ok(Some(Answer::Absent)),
        (Some(1), Op::Delete) => Ok(Some(Answer::Changed { version: None, existed: Some(false), epoch: None })),
        (Some(3), _) if said.contains("was not applied") || said.contains("was not answered") => {
            Ok(Some(Answer::NotApplied))
        }
        (Some(3), Op::Add | Op::Delete) if said.contains("may or may not") => Ok(None),
        (code, _) => Err(format!("exit code {code:?}: {said}")),
    }
}
