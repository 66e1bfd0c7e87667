//! The state and the counters of a message output.

use crate::lock::lock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use serde::Serialize;

/// One message output, for health, metrics and the report.
#[derive(Debug)]
pub struct Status {
    name: String,
    taken: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
    outage: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    since: Instant,
    reason: String,
    logged: bool,
}

/// The figures of a message output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The address without secrets.
    pub output: String,
    /// Messages that were accepted.
    pub sent: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Messages that were lost: the queue was full, they were refused, or the run ended.
    pub dropped: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Why it does not work at the moment.
    pub outage: Option<String>,
}

impl Status {
    /// The state before the first message; `unknown` is why it does not count as working yet.
    pub(super) fn new(name: String, unknown: Option<&str>) -> Self {
        let outage = unknown.map(|reason| Outage { since: Instant::now(), reason: reason.to_owned(), logged: false });
        Self {
            name,
            taken: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            outage: Mutex::new(outage),
        }
    }

    /// The address without secrets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All figures.
    pub fn read(&self) -> Delivery {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (sent, dropped) = (get(&self.sent), get(&self.dropped));
        Delivery {
            output: self.name.clone(),
            sent,
            waiting: get(&self.taken).saturating_sub(sent + dropped),
            dropped,
            failures: get(&self.failures),
            outage: self.lock().as_ref().map(|outage| outage.reason.clone()),
        }
    }

    pub(super) fn took(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn dropped(&self, messages: u64) {
        self.dropped.fetch_add(messages, Ordering::Relaxed);
    }

    /// A message was accepted.
    pub(super) fn sent(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.works();
    }

    /// It works, at last or again.
    pub(super) fn works(&self) {
        if let Some(Outage { since, logged: true, .. }) = self.lock().take() {
            tracing::info!("{}: works again after {:.1} s", self.name, since.elapsed().as_secs_f64());
        }
    }

    /// An attempt failed; of an outage the first reason is logged.
    pub(super) fn failed(&self, reason: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut outage = self.lock();
        if outage.as_ref().is_some_and(|outage| outage.logged) {
            return;
        }
        tracing::warn!("{}: {reason}; the run goes on", self.name);
        *outage = Some(Outage { since: Instant::now(), reason: reason.to_owned(), logged: true });
    }

    fn lock(&self) -> MutexGuard<'_, Option<Outage>> {
        lock(&self.outage)
    }
}
