//! What is measured: a server of ours or of somebody else, started with new data and ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::engines::{Engines, Running};
use super::peer::Peer;
use super::rounds::Who;
use super::{Client, kafka};
use crate::passing::{Receiver, Sender};
use crate::probe::{self, Probe};
use crate::process;
use crate::server::{Counters, Server};

/// Data of a run that memory is warmed for at most.
const WARM_MAX: u64 = 2 << 30;
/// A run before the run is this part of it: connections, topic, memory.
const WARM_UP: u32 = 10;

/// Where it is measured.
pub(super) struct Bench {
    courant: PathBuf,
    engines: Engines,
    /// Data of Courant and the file of the probe, on the disk that the peers' data are on.
    scratch: TempDir,
}

impl Bench {
    pub(super) fn new(target: &Path) -> Result<Bench> {
        let scratch = tempfile::Builder::new()
            .prefix("bench-peers-")
            .tempdir_in(target)
            .with_context(|| format!("no directory can be made in {}", target.display()))?;
        let courant = target.join("release").join("courant");
        Ok(Bench { courant, engines: Engines::from_environment()?, scratch })
    }

    pub(super) fn courant(&self) -> &Path {
        &self.courant
    }

    /// Starts a peer once, to see that it can be had.
    pub(super) fn about(&self, peer: Peer) -> Result<String> {
        let (name, settings) = peer.engine();
        let running = self.engines.up(name, settings)?;
        let about = peer.connect(running.address(), 1)?.about()?;
        running.down()?;
        Ok(about)
    }

    /// Starts one with new data.
    pub(super) fn start(&self, who: Who) -> Result<Subject<'_>> {
        let Who::Peer(peer) = who else {
            let data = tempfile::tempdir_in(self.scratch.path()).context("no directory for the data")?;
            let server = Server::start(&self.courant, data.path())?;
            let bootstrap = server.bootstrap();
            return Ok(Subject { who, address: bootstrap, process: Process::Ours { server, _data: data } });
        };
        let (name, settings) = peer.engine();
        let running = self.engines.up(name, settings)?;
        let address = running.address().to_owned();
        Ok(Subject { who, address, process: Process::Theirs(running) })
    }

    /// As much memory as server and log write, twice.
    pub(super) fn warm_memory(&self, bytes: u64) -> Result<()> {
        probe::warm_memory(self.scratch.path(), (bytes * 2).min(WARM_MAX))
    }

    /// What the last measurement left to the file system is done before. Where somebody else is at work, it is
    /// taken a little later.
    pub(super) fn probe(&self) -> Result<Probe> {
        let dir = self.scratch.path();
        File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| dir.display().to_string())?;
        Probe::take_when_idle(dir)
    }
}

/// A server that runs. It is ended when dropped.
pub(super) struct Subject<'engines> {
    who: Who,
    address: String,
    process: Process<'engines>,
}

enum Process<'engines> {
    /// With its data.
    Ours {
        server: Server,
        _data: TempDir,
    },
    Theirs(Running<'engines>),
}

/// The moment before a measurement.
pub(super) struct Before {
    server_cpu: f64,
    client_cpu: f64,
    counters: Option<Counters>,
    at: Instant,
}

/// What a measurement took of server and client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) time: Duration,
    pub(super) server_cpu: f64,
    pub(super) client_cpu: f64,
    /// Memory of the server at the end, with its clients still connected.
    pub(super) pss_kib: u64,
    /// What Courant counts itself.
    pub(super) counted: Option<Counted>,
}

/// What the log did meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) syncs: u64,
    pub(super) checkpoints: u64,
    /// Since the start of the server, which a round has for itself.
    pub(super) longest_wait_us: Option<u64>,
}

impl Subject<'_> {
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The configs of the topic, where there is one.
    pub(super) fn topic(&self) -> Option<&'static [(&'static str, &'static str)]> {
        match self.who {
            Who::Courant | Who::Lean => Some(&[]),
            Who::Relaxed => Some(&[("courant.durability", "interval")]),
            Who::Peer(peer) => peer.topic(),
        }
    }

    /// How long a run before the run is. Who compiles itself meanwhile gets as long as is measured.
    pub(super) fn warm_up(&self, time: Duration) -> Duration {
        match self.who {
            Who::Peer(Peer::Kafka | Peer::KafkaFlush) => time,
            _ => time / WARM_UP,
        }
    }

    /// Producers of single events, so many at most.
    pub(super) fn connect(&self, most: usize) -> Result<Box<dyn Client>> {
        match self.who {
            Who::Peer(peer) => peer.connect(&self.address, most),
            Who::Courant | Who::Relaxed => {
                Ok(Box::new(kafka::Kafka::connect(&self.address, self.topic().unwrap_or_default())?))
            }
            Who::Lean => Ok(Box::new(kafka::Lean::connect(&self.address, self.topic().unwrap_or_default())?)),
        }
    }

    /// A producer that waits for nobody, and a consumer.
    pub(super) fn pass(&self) -> Result<(Box<dyn Sender>, Box<dyn Receiver>)> {
        match self.who {
            Who::Peer(peer) => peer.pass(&self.address),
            Who::Courant | Who::Relaxed => kafka::pass(&self.address, self.topic().unwrap_or_default()),
            Who::Lean => kafka::pass_without_library(&self.address, self.topic().unwrap_or_default()),
        }
    }

    pub(super) fn now(&self) -> Result<Before> {
        Ok(Before {
            counters: self.counters()?,
            server_cpu: self.cpu_seconds()?,
            client_cpu: process::cpu_seconds(std::process::id())?,
            at: Instant::now(),
        })
    }

    /// What was used since then.
    pub(super) fn used(&self, before: &Before) -> Result<Used> {
        let time = before.at.elapsed();
        let server_cpu = self.cpu_seconds()? - before.server_cpu;
        let client_cpu = process::cpu_seconds(std::process::id())? - before.client_cpu;
        let counted = self.counters()?.zip(before.counters).map(|(after, before)| Counted {
            syncs: after.syncs.saturating_sub(before.syncs),
            checkpoints: after.checkpoints.saturating_sub(before.checkpoints),
            longest_wait_us: after.longest_wait_us,
        });
        Ok(Used { time, server_cpu, client_cpu, pss_kib: self.pss_kib()?, counted })
    }

    /// Of all its processes.
    fn cpu_seconds(&self) -> Result<f64> {
        match &self.process {
            Process::Ours { server, .. } => server.cpu_seconds(),
            Process::Theirs(running) => process::tree_cpu_seconds(running.pid()),
        }
    }

    fn pss_kib(&self) -> Result<u64> {
        match &self.process {
            Process::Ours { server, .. } => Ok(server.memory()?.pss_kib),
            Process::Theirs(running) => process::tree_pss_kib(running.pid()),
        }
    }

    fn counters(&self) -> Result<Option<Counters>> {
        match &self.process {
            Process::Ours { server, .. } => server.counters().map(Some),
            Process::Theirs(_) => Ok(None),
        }
    }

    /// Ends it.
    pub(super) fn end(self) -> Result<()> {
        match self.process {
            Process::Ours { server, .. } => server.kill(),
            Process::Theirs(running) => running.down(),
        }
    }
}
