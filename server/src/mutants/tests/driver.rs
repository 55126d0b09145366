//! A driver without services: one server alone, asked by the check itself.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use heirloom_proto::{Change, Consistency, Refusal, Request, Response};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::Planted;
use super::Verdict;
use super::disk::DATA;
use super::gate::Gate;
use crate::driver::{Ask, Driver, Handles, Reply, Report};
use crate::failure::Failure;
use crate::settings::{ServeFlags, Settings};
use crate::storage::{DataDir, Files, PowerFailureFiles};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: ServeFlags,
}

/// The settings that a command line gives, on a disk of the check's own.
pub(super) fn settings(line: &str, planted: Planted) -> Settings {
    let words = std::iter::once("serve").chain(line.split_whitespace());
    let mut settings = Line::try_parse_from(words).expect("parses").flags.settings().expect("valid");
    settings.data_dir = PathBuf::from(DATA);
    settings.planted = planted;
    settings
}

/// A driver at work.
pub(super) struct Driving {
    pub(super) handles: Handles,
    pub(super) ended: JoinHandle<Result<(), Failure>>,
}

pub(super) type Slot = oneshot::Receiver<Result<Response, Refusal>>;

impl Driving {
    /// Starts one.
    pub(super) fn start(settings: &Arc<Settings>, files: Arc<dyn Files>) -> Self {
        let files = settings.planted.beneath(files);
        let mut data_dir = DataDir::open(files, &settings.data_dir, settings.node.me).expect("opens");
        data_dir.plant(settings.planted);
        let (driver, handles) = Driver::new(settings.clone(), data_dir);
        Self { handles, ended: tokio::spawn(driver.run()) }
    }

    /// Returns once it leads, or works under another.
    pub(super) async fn settled(&mut self) {
        self.handles.place.wait_for(|place| place.can_serve()).await.expect("it runs");
    }

    /// Asks, and does not wait.
    pub(super) fn ask(&self, request: Request) -> Slot {
        let (slot, answer) = oneshot::channel();
        self.handles.asks.try_send(Ask::Request { request, reply: Reply::Call(slot) }).expect("there is room");
        answer
    }

    /// Returns once everything is done that was asked before; nothing else happens between the asking and that, where
    /// the caller has not waited meanwhile.
    pub(super) async fn report(&self) -> Report {
        let (slot, report) = oneshot::channel();
        self.handles.asks.try_send(Ask::Report(slot)).expect("there is room");
        report.await.expect("it runs")
    }

    /// Ends it in the midst of whatever it does.
    pub(super) async fn end(self) {
        self.ended.abort();
        let _ = self.ended.await;
    }
}

pub(super) fn put(value: &'static str) -> Request {
    let change = Change::Add { key: Bytes::from_static(b"key"), value: Bytes::from_static(value.as_bytes()) };
    Request::Change { id: None, change }
}

pub(super) fn read() -> Request {
    Request::Read { key: Bytes::from_static(b"key"), consistency: Consistency::Linearizable }
}

async fn answered(slot: Slot) {
    slot.await.expect("answered").expect("carried out");
}

const ALONE: &str = "--cluster 127.0.0.1:1 --heartbeat 5ms --suspicion 1s";

pub(super) async fn answer_while_the_log_is_not_synced(planted: Planted) -> Verdict {
    let (gate, files) = Gate::before(PowerFailureFiles::new(), "log-");
    let mut server = Driving::start(&Arc::new(settings(ALONE, planted)), files);
    server.settled().await;
    answered(server.ask(put("first"))).await;
    gate.close();
    let mut second = server.ask(put("second"));
    gate.reached(1).await;
    server.report().await;
    let mut early = second.try_recv();
    if early.is_err() {
        // Where the first was answered too early it may be its sync that waits, with all that follows behind it.
        let mut third = server.ask(put("third"));
        server.report().await;
        gate.let_one_pass();
        gate.reached(2).await;
        server.report().await;
        early = third.try_recv();
    }
    gate.open();
    server.end().await;
    match early {
        Ok(answer) => Err(format!("answered before the sync: {answer:?}")),
        Err(_) => Ok(()),
    }
}

pub(super) async fn disk_hangs(planted: Planted) -> Verdict {
    let (gate, files) = Gate::before(PowerFailureFiles::new(), "log-");
    let mut server = Driving::start(&Arc::new(settings(ALONE, planted)), files);
    server.settled().await;
    answered(server.ask(put("first"))).await;
    gate.close();
    let second = server.ask(put("second"));
    gate.reached(1).await;
    server.report().await;
    let waited = gate.was_given_up();
    gate.open();
    answered(second).await;
    server.end().await;
    if waited { Err("the driver said nothing while its disk hung".to_owned()) } else { Ok(()) }
}

pub(super) async fn answered_and_power_fails(planted: Planted) -> Verdict {
    const ADDS: usize = 3;
    for seed in 0..10 {
        let files = PowerFailureFiles::new();
        let settings = Arc::new(settings(ALONE, planted));
        let mut server = Driving::start(&settings, Arc::new(files.clone()));
        server.settled().await;
        for _ in 0..ADDS {
            answered(server.ask(put("value"))).await;
        }
        files.cut_power();
        server.end().await;
        files.restore_power(seed);
        let shared: Arc<dyn Files> = Arc::new(files);
        let mut dir = DataDir::open(shared, &settings.data_dir, settings.node.me).expect("opens");
        // The marker of the epoch stands before them.
        match dir.load() {
            Ok((durable, _)) if durable.log.len() == ADDS + 1 => {}
            Ok((durable, _)) => return Err(format!("{} entries are left of {}", durable.log.len(), ADDS + 1)),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}
