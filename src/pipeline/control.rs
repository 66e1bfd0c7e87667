//! Shutdown: one path for the end of input, Ctrl-C, a stage's error and a panic.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};

use crate::Error;
use crate::lock::lock;

/// The time that a stage waits before it checks the flags again.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// The state by which the stages of one run end together.
///
/// A stop ends the reading: what is in flight is drained and the output is finished. A second interrupt ends the
/// waiting as well. The first error wins; those that follow from it are dropped.
#[derive(Debug, Default)]
pub struct Control {
    interrupts: Arc<AtomicU32>,
    stop: AtomicBool,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Control {
    /// A control that also counts `interrupts`: the first one stops the run, the second one aborts it.
    pub fn watching(interrupts: Arc<AtomicU32>) -> Self {
        Self { interrupts, ..Self::default() }
    }

    /// Ends the reading; the frames in flight are still finished.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends the reading because of `error`, which is reported if it is the first.
    pub fn fail(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
        self.stop();
    }

    /// Whether reading must stop.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.interrupted()
    }

    /// Whether an error occurred, so that messages sent from here will not come back.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Whether the user has interrupted the run.
    pub fn interrupted(&self) -> bool {
        self.interrupts.load(Ordering::Relaxed) >= 1
    }

    /// Whether waiting for other stages is over.
    pub fn aborted(&self) -> bool {
        self.interrupts.load(Ordering::Relaxed) >= 2
    }

    /// The message of the first error.
    pub fn last_error(&self) -> Option<String> {
        lock(&self.error).as_ref().map(Error::to_string)
    }

    /// The first error.
    pub fn error(&self) -> Option<Error> {
        lock(&self.error).clone()
    }

    /// Takes the first error.
    pub fn take_error(&self) -> Option<Error> {
        lock(&self.error).take()
    }

    /// Sends `item`, waiting for room in slices of [`PATIENCE`]; `false` when the receiver is gone or the run aborted.
    pub fn send<T>(&self, sender: &Sender<T>, item: T) -> bool {
        send_unless(|| self.aborted(), sender, item)
    }

    /// The next item, waiting in slices of [`PATIENCE`]; `None` when the senders are gone and all is read, or the run
    /// aborted.
    pub fn receive<T>(&self, receiver: &Receiver<T>) -> Option<T> {
        receive_unless(|| self.aborted(), receiver)
    }
}

/// Sends `item`, calling `give_up` every [`PATIENCE`]; `false` when that returns true or the receiver is gone.
pub fn send_unless<T>(give_up: impl Fn() -> bool, sender: &Sender<T>, mut item: T) -> bool {
    loop {
        match sender.send_timeout(item, PATIENCE) {
            Ok(()) => return true,
            Err(SendTimeoutError::Disconnected(_)) => return false,
            Err(SendTimeoutError::Timeout(_)) if give_up() => return false,
            Err(SendTimeoutError::Timeout(back)) => item = back,
        }
    }
}

/// The next item, calling `give_up` every [`PATIENCE`]; `None` when that returns true or the senders are gone and all
/// is read.
pub fn receive_unless<T>(give_up: impl Fn() -> bool, receiver: &Receiver<T>) -> Option<T> {
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(item) => return Some(item),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if give_up() => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
