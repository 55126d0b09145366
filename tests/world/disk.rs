//! Servers whose disks can be made to fail or to be slow while they run: `tests/disk`, loaded beneath the executable.

use std::path::PathBuf;
use std::time::Duration;

use super::Cluster;

/// How the disk of one server is.
#[derive(Clone, Copy, Debug)]
pub enum Disk {
    /// As the machine has it.
    Well,
    /// The next sync fails.
    FailsOnce,
    /// Every sync takes so much longer.
    Slow(Duration),
}

impl Cluster {
    /// A cluster of data servers whose disks can be steered; all were started.
    pub fn start_on_steered_disks(data: usize, flags: &[&str]) -> Self {
        let mut cluster = Self::prepare(data, 0, flags);
        cluster.beneath = Some(library());
        for id in 0..data {
            cluster.start_server(id);
        }
        cluster
    }

    /// Where the order for a server's disk stands.
    pub(super) fn disk_order(&self, id: usize) -> PathBuf {
        self.folder.path().join(format!("disk-{id}"))
    }

    /// From now on a server's disk is like this.
    pub fn steer_disk(&self, id: usize, disk: Disk) {
        assert!(self.beneath.is_some(), "nothing is loaded beneath the servers");
        let folder = self.servers[id].data_dir.canonicalize().expect("the server has made it");
        let folder = folder.display();
        let order = match disk {
            Disk::Well => String::new(),
            Disk::FailsOnce => format!("fail-once {folder}"),
            Disk::Slow(span) => format!("slow {} {folder}", span.as_millis()),
        };
        // Whoever reads it meanwhile reads the order before or this one.
        let new = self.folder.path().join(format!("disk-{id}.new"));
        std::fs::write(&new, order).expect("written");
        std::fs::rename(&new, self.disk_order(id)).expect("renamed");
    }
}

/// The library: cargo builds it for whoever depends on its crate, and puts it beside what depends on it.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    let library = test.with_file_name("libheirloom_disk.so");
    assert!(library.exists(), "no {}: `cargo test -p heirloom-server` makes it", library.display());
    library
}
