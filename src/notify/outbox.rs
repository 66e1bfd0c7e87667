//! The queue between the pipeline, which never waits, and the thread of a message output.

use crate::lock::lock;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::status::Status;

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// `start`, `update`, `end`, `lost` or `back`.
    pub kind: &'static str,
    /// A line of the events file.
    pub body: Arc<str>,
    /// When it was made.
    pub since: Instant,
}

/// Messages in the order in which they came, up to a number of them.
#[derive(Debug)]
pub(super) struct Outbox {
    room: usize,
    pub status: Arc<Status>,
    waiting: Mutex<VecDeque<Message>>,
    full: AtomicBool,
    closed: AtomicBool,
    changed: Notify,
    abandoned: Notify,
}

impl Outbox {
    pub fn new(room: usize, status: Arc<Status>) -> Self {
        Self {
            room,
            status,
            waiting: Mutex::default(),
            full: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
            abandoned: Notify::new(),
        }
    }

    /// Takes a message. Where there is no room the oldest update is dropped, or else the oldest message.
    pub fn push(&self, message: Message) {
        self.status.took();
        let mut waiting = self.lock();
        if waiting.len() >= self.room {
            let least = waiting.iter().position(|message| message.kind == "update").unwrap_or(0);
            waiting.remove(least);
            self.status.dropped(1);
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "{}: {} messages wait, which is all there is room for: the oldest updates and then the oldest \
                     messages are dropped",
                    self.status.name(),
                    self.room
                );
            }
        }
        waiting.push_back(message);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits until [`Outbox::push`] or [`Outbox::close`] was called since the last time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The oldest message, if there is one.
    pub fn try_next(&self) -> Option<Message> {
        let mut waiting = self.lock();
        let message = waiting.pop_front();
        if waiting.is_empty() {
            self.full.store(false, Ordering::Relaxed);
        }
        message
    }

    /// The oldest message; none once the queue is closed and empty.
    pub async fn next(&self) -> Option<Message> {
        loop {
            if let Some(message) = self.try_next() {
                return Some(message);
            }
            if self.is_closed() {
                return None;
            }
            self.changed().await;
        }
    }

    /// No more messages will come.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Ends the thread, whatever it is doing.
    pub fn abandon(&self) {
        self.abandoned.notify_one();
    }

    /// Waits for [`Outbox::abandon`].
    pub async fn is_abandoned(&self) {
        self.abandoned.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Message>> {
        lock(&self.waiting)
    }
}

/// Pauses between attempts: each twice as long as the one before, up to the longest.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(250);

    pub fn up_to(longest: Duration) -> Self {
        Self { next: Self::FIRST, longest }
    }

    /// Waits for the next pause.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_room_updates_go_first_and_what_is_dropped_is_counted() {
        let status = Arc::new(Status::new("x".to_owned(), None));
        let outbox = Outbox::new(3, Arc::clone(&status));
        for (kind, body) in [("start", "1"), ("update", "2"), ("end", "3"), ("update", "4"), ("end", "5"), ("end", "6")]
        {
            outbox.push(Message { kind, body: body.into(), since: Instant::now() });
        }
        let left: Vec<_> = std::iter::from_fn(|| outbox.try_next()).map(|message| message.body.to_string()).collect();
        assert_eq!(left, ["3", "5", "6"]);
        assert_eq!((status.read().dropped, status.read().waiting), (3, 3));
    }
}
