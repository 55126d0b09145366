//! Where servers and clients live: all on loopback, or each server in a network namespace of its own, with a router
//! between them that drops what it is told to.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A place: the host of the server with this id, or [`Network::outside`].
pub(crate) type Place = usize;

const PORT: u16 = 7400;
static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// How the servers reach each other.
#[derive(Debug)]
pub enum Network {
    /// One host.
    Loopback {
        /// How many servers.
        servers: usize,
    },
    /// A namespace for each server, and one for clients and driver.
    Namespaces {
        /// Makes the names this network's own.
        name: String,
        /// How many servers.
        servers: usize,
        /// What is dropped now.
        cuts: Mutex<Vec<(Place, Place)>>,
    },
}

/// Why namespaces can't be made here; `None` where they can.
pub fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("making network namespaces needs root".to_owned());
    }
    let name = format!("hh-{}-try", std::process::id());
    let made = ip(&["netns", "add", &name]);
    let _ = ip(&["netns", "del", &name]);
    made.err()
}

fn ip(args: &[&str]) -> Result<(), String> {
    // In a group of its own, as in `Network::command`: half a network could not be cleared away.
    match Command::new("ip").args(args).process_group(0).output() {
        Err(error) => Err(format!("`ip` does not run: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

impl Network {
    /// One host.
    pub fn loopback(servers: usize) -> Self {
        Self::Loopback { servers }
    }

    /// A namespace for each server, still to be made.
    pub fn namespaces(servers: usize) -> Self {
        let name = format!("hh-{}-{}", std::process::id(), NETWORKS.fetch_add(1, Ordering::Relaxed));
        Self::Namespaces { name, servers, cuts: Mutex::default() }
    }

    /// Makes the namespaces and the router; nothing on loopback. What stands, also after a failure, goes with `self`.
    ///
    /// **Errors:** what `ip` said.
    pub(crate) fn make(&self) -> Result<(), String> {
        let Self::Namespaces { name, servers, .. } = self else { return Ok(()) };
        let router = format!("{name}-r");
        ip(&["netns", "add", &router])?;
        for place in 0..=*servers {
            let space = self.space(place);
            let (port, here, there) = (format!("port{place}"), format!("10.77.{place}.1"), address(place));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &port, "netns", &router, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            ip(&["-n", &router, "addr", "add", &format!("{here}/24"), "dev", &port])?;
            ip(&["-n", &router, "link", "set", &port, "up"])?;
            ip(&["-n", &space, "addr", "add", &format!("{there}/24"), "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
            ip(&["-n", &space, "route", "add", "default", "via", &here])?;
        }
        ip(&["netns", "exec", &router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
    }

    /// Whether hosts can be cut off from one another.
    pub fn can_cut(&self) -> bool {
        matches!(self, Self::Namespaces { .. })
    }

    fn servers(&self) -> usize {
        match self {
            Self::Loopback { servers } | Self::Namespaces { servers, .. } => *servers,
        }
    }

    /// The place where no server is.
    pub fn outside(&self) -> Place {
        self.servers()
    }

    fn space(&self, place: Place) -> String {
        match self {
            Self::Loopback { .. } => String::new(),
            Self::Namespaces { name, .. } => format!("{name}-{place}"),
        }
    }

    /// The servers' addresses, by id.
    ///
    /// **Panics if** no port is free.
    pub fn addresses(&self) -> Vec<String> {
        match self {
            Self::Loopback { servers } => free_ports(*servers).iter().map(|port| format!("127.0.0.1:{port}")).collect(),
            Self::Namespaces { servers, .. } => {
                (0..*servers).map(|place| format!("{}:{PORT}", address(place))).collect()
            }
        }
    }

    /// A command that runs at a place. Its process is the one that is started: `ip` replaces itself.
    pub fn command(&self, place: Place, program: &std::path::Path) -> Command {
        let mut command = match self {
            Self::Loopback { .. } => Command::new(program),
            Self::Namespaces { .. } => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &self.space(place)]).arg(program);
                command
            }
        };
        // The Ctrl-C of a terminal is for the run, which ends its servers itself.
        command.process_group(0);
        command
    }

    /// Moves the calling thread, and the sockets that it will open, to a place.
    ///
    /// **Errors:** as the system does.
    pub fn enter(&self, place: Place) -> Result<(), String> {
        if !self.can_cut() {
            return Ok(());
        }
        let path = format!("/run/netns/{}", self.space(place));
        let space = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&space), Some(LinkNameSpaceType::Network))
            .map_err(|error| format!("{path} can't be entered: {error}"))
    }

    /// What `from` sends `to` is dropped from now on, silently.
    pub fn cut(&self, from: Place, to: Place) -> Result<(), String> {
        let Self::Namespaces { name, cuts, .. } = self else { return Err("loopback can't be cut".to_owned()) };
        let mut cuts = cuts.lock().expect("nobody panicked");
        // Two faults may cut the same way: it is open again when both are over.
        if !cuts.contains(&(from, to)) {
            rule(name, "add", from, to)?;
        }
        cuts.push((from, to));
        Ok(())
    }

    /// Takes all cuts back.
    pub fn heal(&self) -> Result<(), String> {
        let Self::Namespaces { cuts, .. } = self else { return Ok(()) };
        let all = cuts.lock().expect("nobody panicked").clone();
        all.into_iter().try_for_each(|(from, to)| self.mend(from, to))
    }

    /// Takes one cut of this way back.
    pub fn mend(&self, from: Place, to: Place) -> Result<(), String> {
        let Self::Namespaces { name, cuts, .. } = self else { return Err("loopback can't be cut".to_owned()) };
        let mut cuts = cuts.lock().expect("nobody panicked");
        let Some(position) = cuts.iter().position(|cut| *cut == (from, to)) else { return Ok(()) };
        cuts.swap_remove(position);
        if cuts.contains(&(from, to)) { Ok(()) } else { rule(name, "del", from, to) }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Self::Namespaces { name, servers, .. } = self {
            for place in 0..=*servers {
                let _ = ip(&["netns", "del", &format!("{name}-{place}")]);
            }
            let _ = ip(&["netns", "del", &format!("{name}-r")]);
        }
    }
}

fn rule(name: &str, verb: &str, from: Place, to: Place) -> Result<(), String> {
    ip(&["-n", &format!("{name}-r"), "rule", verb, "from", &address(from), "to", &address(to), "blackhole"])
}

fn address(place: Place) -> String {
    format!("10.77.{place}.2")
}

/// Ports below the kernel's ephemeral range: a dead port there could be dialled into oneself.
fn free_ports(count: usize) -> Vec<u16> {
    let mut held = Vec::new();
    let turn = NETWORKS.fetch_add(1, Ordering::Relaxed);
    let first = (std::process::id() * 37 + turn * 16) % 12_000;
    for step in 0..12_000 {
        let port = 20_000 + u16::try_from((first + step) % 12_000).expect("below 12,000");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
        if held.len() == count {
            return held.into_iter().map(|(port, _)| port).collect();
        }
    }
    panic!("no port is free");
}
