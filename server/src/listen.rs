//! Where a server listens. It listens before it sends anything to anybody.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::failure::Failure;
use crate::settings::Settings;

/// The pause before a name is looked up again.
const LOOK_UP_PAUSE: Duration = Duration::from_secs(1);

/// Binds the port of a server. Waits, with warnings, for a name that can't be looked up: in a cluster that is being
/// started as a whole it may come to be a moment later.
///
/// **Errors:** [`Failure::Usage`] where the port is taken, the address is not this machine's, or not loopback and nobody
/// said that this is wanted.
pub async fn listen(settings: &Settings) -> Result<TcpListener, Failure> {
    let address = resolve(settings).await;
    if !address.ip().to_canonical().is_loopback() && !settings.insecure {
        return Err(Failure::Usage(format!(
            "{} is no loopback address, and traffic is not encrypted: use --insecure if the network is trusted, or an \
            address such as 127.0.0.1:{}",
            settings.listen,
            address.port()
        )));
    }
    TcpListener::bind(address).await.map_err(|error| {
        let listen = &settings.listen;
        Failure::Usage(match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("{listen} is in use by another process: stop that one, or choose another port")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!("{listen} is no address of this machine: check --id and --cluster, or use --listen")
            }
            io::ErrorKind::PermissionDenied => {
                format!("no permission to listen on {listen}: choose a port above 1023")
            }
            _ => format!("can't listen on {listen}: {error}"),
        })
    })
}

async fn resolve(settings: &Settings) -> SocketAddr {
    let mut said = String::new();
    loop {
        match crate::settings::resolve(&settings.listen).await {
            Ok(address) => return address,
            Err(error) => {
                let what =
                    format!("{} can't be looked up, and so not listened on: {error}; trying on", settings.listen);
                if what != said {
                    tracing::warn!("{what}");
                    said = what;
                }
            }
        }
        tokio::time::sleep(LOOK_UP_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::settings::ServeFlags;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: ServeFlags,
    }

    fn settings(line: &str) -> Settings {
        let words = std::iter::once("serve").chain(line.split_whitespace());
        Line::try_parse_from(words).expect("parses").flags.settings().expect("valid")
    }

    /// Others could not find such a server, so no option says it.
    fn on_any_port(line: &str) -> Settings {
        let mut settings = settings(line);
        settings.listen.port = 0;
        settings
    }

    async fn refusal(line: &str) -> String {
        match listen(&settings(line)).await {
            Err(Failure::Usage(sentence)) => sentence,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[tokio::test]
    async fn other_addresses_than_loopback_want_insecure() {
        assert!(refusal("--cluster 0.0.0.0:1").await.contains("--insecure"));
        assert!(listen(&on_any_port("--cluster 0.0.0.0:1 --insecure")).await.is_ok());
        assert!(listen(&on_any_port("--cluster localhost:1")).await.is_ok());
    }

    #[tokio::test]
    async fn a_port_in_use_and_a_foreign_address_are_told_apart() {
        let taken = listen(&on_any_port("--cluster 127.0.0.1:1")).await.expect("any port");
        let port = taken.local_addr().expect("bound").port();
        assert!(refusal(&format!("--cluster 127.0.0.1:{port}")).await.contains("in use"));
        assert!(refusal("--cluster 192.0.2.1:7400 --insecure").await.contains("no address of this machine"));
    }
}
