//! A sink with its own thread and bounded queue, so that nothing else waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use gstreamer as gst;

use crate::output::publish::OutputStatus;
use crate::{Error, Result};

/// Pause between attempts to restart a sink: the first, and the longest.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];
/// Interval of [`Sink::check`] when no packets come.
const TICK: Duration = Duration::from_millis(100);

/// An encoded picture, or a raw one for a display.
#[derive(Clone)]
pub(crate) struct Packet {
    pub buffer: gst::Buffer,
    pub caps: gst::Caps,
    /// Running time in nanoseconds.
    pub time: u64,
    /// Decodable without earlier packets.
    pub key: bool,
}

/// Takes packets from a queue. Every method is called on the queue's thread and may block.
pub(crate) trait Sink: Send {
    /// Starts; the first packet will be `first`, a key frame.
    fn start(&mut self, first: &Packet) -> Result<()>;

    /// Takes a packet.
    fn take(&mut self, packet: Packet) -> Result<()>;

    /// Reports errors since the last call. True once packets have really arrived at the other end.
    fn check(&mut self) -> Result<bool>;

    /// Finishes what was started, if anything.
    fn finish(&mut self, abort: &AbortFlag) -> Result<()>;

    /// Stops without finishing, after an error or an abort.
    fn abandon(&mut self);

    /// Whether missing packets are a failure of the run.
    fn must_be_complete(&self) -> bool {
        false
    }

    /// The consequence of an error.
    fn after(&self, _error: &Error) -> After {
        After::Restart
    }
}

/// The consequence of an error for a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It is restarted, with a growing back-off.
    Restart,
    /// It has ended, as the user wanted.
    Over,
    /// It has ended, with the error as the queue's result.
    Lost,
}

/// Tells the queues of a stream to drop what they hold and to stop at once.
#[derive(Default)]
pub(crate) struct AbortFlag(AtomicBool);

impl AbortFlag {
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The queue in front of a sink.
pub(crate) struct SinkQueue {
    packets: Option<Sender<Packet>>,
    thread: Option<JoinHandle<Result<()>>>,
    status: Arc<OutputStatus>,
    /// A packet was dropped: nothing can be decoded before the next key frame.
    broken: bool,
}

impl SinkQueue {
    /// Starts the thread; the queue holds `room` packets.
    pub fn start(
        sink: Box<dyn Sink>,
        room: usize,
        status: &Arc<OutputStatus>,
        abort: &Arc<AbortFlag>,
        thread: &str,
    ) -> Result<Self> {
        let (sender, receiver) = bounded(room);
        let driver = Driver {
            sink,
            packets: receiver,
            status: Arc::clone(status),
            abort: Arc::clone(abort),
            state: State::Waiting { until: None },
            back_off: BACK_OFF[0],
            last_error: None,
        };
        let thread = std::thread::Builder::new()
            .name(thread.to_owned())
            .spawn(move || driver.run())
            .map_err(|e| Error::failed(format!("{}: its thread cannot be started: {e}", status.name)))?;
        Ok(Self { packets: Some(sender), thread: Some(thread), status: Arc::clone(status), broken: true })
    }

    /// Queues a packet, or drops it and all others up to the next key frame. Never waits.
    pub fn offer(&mut self, packet: &Packet) {
        let Some(packets) = &self.packets else { return };
        if packet.key {
            self.broken = false;
        }
        if self.broken {
            OutputStatus::count(&self.status.dropped);
            return;
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = packets.try_send(packet.clone()) {
            self.broken = true;
            OutputStatus::count(&self.status.dropped);
        }
    }

    /// Whether the sink has ended for good.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Lets the sink finish: no more packets will come.
    pub fn close(&mut self) {
        self.packets = None;
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The sink failed, or did not end before `until`.
    pub fn join(mut self, until: Instant) -> Result<()> {
        self.close();
        let Some(thread) = self.thread.take() else { return Ok(()) };
        while !thread.is_finished() {
            if Instant::now() >= until {
                return Err(Error::failed(format!("{}: it did not end in time and was abandoned", self.status.name)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        thread.join().unwrap_or_else(|_| Err(Error::failed(format!("{}: its thread panicked", self.status.name))))
    }
}

enum State {
    /// Waits for a key frame after the back-off.
    Waiting {
        until: Option<Instant>,
    },
    Running {
        since: Instant,
    },
    /// Has ended for good.
    Over {
        result: Result<()>,
    },
}

struct Driver {
    sink: Box<dyn Sink>,
    packets: Receiver<Packet>,
    status: Arc<OutputStatus>,
    abort: Arc<AbortFlag>,
    state: State,
    back_off: Duration,
    /// The last error logged, until it works again.
    last_error: Option<String>,
}

impl Driver {
    fn run(mut self) -> Result<()> {
        let mut looked = Instant::now();
        loop {
            match self.packets.recv_timeout(TICK) {
                _ if self.abort.is_raised() => break,
                Ok(packet) => self.packet(packet),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                self.look();
            }
            if let State::Over { result } = self.state {
                return result.map_err(|e| e.at(&self.status.name));
            }
        }
        let running = matches!(self.state, State::Running { .. });
        self.status.set_up(false);
        if running && !self.abort.is_raised() {
            let ended = self.sink.finish(&self.abort);
            if ended.is_err() {
                self.sink.abandon();
            }
            return ended.and_then(|()| self.complete()).map_err(|e| e.at(&self.status.name));
        }
        self.sink.abandon();
        if self.abort.is_raised() { Ok(()) } else { self.complete().map_err(|e| e.at(&self.status.name)) }
    }

    /// # Errors
    /// Packets are missing from a sink that must be complete.
    fn complete(&self) -> Result<()> {
        match self.status.restarts.load(Ordering::Relaxed) {
            times if times > 0 && self.sink.must_be_complete() => {
                Err(Error::failed(format!("it was interrupted {times} times, and parts are missing")))
            }
            _ => Ok(()),
        }
    }

    fn packet(&mut self, packet: Packet) {
        match &self.state {
            State::Waiting { until } if packet.key && until.is_none_or(|until| Instant::now() >= until) => {
                if let Err(e) = self.sink.start(&packet) {
                    return self.failed(&e);
                }
                self.state = State::Running { since: Instant::now() };
            }
            State::Running { .. } => {}
            _ => return OutputStatus::count(&self.status.dropped),
        }
        if let Err(e) = self.sink.take(packet) {
            self.failed(&e);
        }
    }

    fn look(&mut self) {
        let State::Running { since } = &self.state else { return };
        match self.sink.check() {
            Ok(works) => {
                if works && !self.status.is_up() {
                    self.status.set_up(true);
                    if self.last_error.take().is_some() {
                        tracing::info!("{}: works again", self.status.name);
                    }
                }
                if works && since.elapsed() > BACK_OFF[1] {
                    self.back_off = BACK_OFF[0];
                }
            }
            Err(e) => self.failed(&e),
        }
    }

    fn failed(&mut self, error: &Error) {
        let after = self.sink.after(error);
        self.sink.abandon();
        self.status.set_up(false);
        OutputStatus::count(&self.status.dropped);
        // Repeated errors are logged once.
        let text = error.to_string();
        let name = &self.status.name;
        if self.last_error.as_ref() == Some(&text) {
            tracing::debug!("{name}: {text}");
        } else if after == After::Restart {
            tracing::warn!("{name}: {text}; it will be restarted, the other outputs continue");
        } else {
            tracing::warn!("{name}: {text}");
        }
        self.last_error = Some(text);
        self.state = match after {
            After::Restart => {
                OutputStatus::count(&self.status.restarts);
                let until = Some(Instant::now() + self.back_off);
                self.back_off = (self.back_off * 2).min(BACK_OFF[1]);
                State::Waiting { until }
            }
            After::Over => State::Over { result: Ok(()) },
            After::Lost => State::Over { result: Err(error.clone()) },
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    use super::*;

    #[derive(Default)]
    struct Seen {
        times: Mutex<Vec<u64>>,
        starts: AtomicU64,
        finished: AtomicBool,
        hold: AtomicBool,
        fail: AtomicBool,
    }

    struct Fake(Arc<Seen>);

    impl Sink for Fake {
        fn start(&mut self, first: &Packet) -> Result<()> {
            assert!(first.key);
            self.0.starts.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        fn take(&mut self, packet: Packet) -> Result<()> {
            while self.0.hold.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            if self.0.fail.swap(false, Ordering::SeqCst) {
                return Err(Error::failed("no more"));
            }
            self.0.times.lock().unwrap().push(packet.time);
            Ok(())
        }
        fn check(&mut self) -> Result<bool> {
            Ok(true)
        }
        fn finish(&mut self, _: &AbortFlag) -> Result<()> {
            self.0.finished.store(true, Ordering::SeqCst);
            Ok(())
        }
        fn abandon(&mut self) {}
    }

    fn packet(time: u64, key: bool) -> Packet {
        Packet { buffer: gst::Buffer::new(), caps: gst::Caps::new_any(), time, key }
    }

    fn until(what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_held_up_sink_loses_packets_up_to_the_next_key_frame_and_nobody_waits() {
        gst::init().unwrap();
        let (seen, status, abort) = (Arc::new(Seen::default()), Arc::default(), Arc::default());
        let mut queue = SinkQueue::start(Box::new(Fake(Arc::clone(&seen))), 3, &status, &abort, "queue").unwrap();
        queue.offer(&packet(0, false));
        assert_eq!(status.dropped.load(Ordering::SeqCst), 1, "nothing starts in the middle");
        seen.hold.store(true, Ordering::SeqCst);
        queue.offer(&packet(1, true));
        until("started", || seen.starts.load(Ordering::SeqCst) == 1);
        for time in 2..=4 {
            queue.offer(&packet(time, false));
        }
        for time in 5..=7 {
            queue.offer(&packet(time, false));
        }
        assert_eq!(status.dropped.load(Ordering::SeqCst), 4);
        seen.hold.store(false, Ordering::SeqCst);
        until("taken", || seen.times.lock().unwrap().len() == 4);
        queue.offer(&packet(8, false));
        queue.offer(&packet(9, true));
        queue.offer(&packet(10, false));
        queue.join(Instant::now() + Duration::from_secs(20)).unwrap();
        assert_eq!(*seen.times.lock().unwrap(), [1, 2, 3, 4, 9, 10]);
        assert!(seen.finished.load(Ordering::SeqCst));
    }

    #[test]
    fn a_failed_sink_starts_again_with_a_key_frame_after_its_back_off() {
        gst::init().unwrap();
        let (seen, status, abort) = (Arc::new(Seen::default()), Arc::<OutputStatus>::default(), Arc::default());
        let mut queue = SinkQueue::start(Box::new(Fake(Arc::clone(&seen))), 3, &status, &abort, "queue").unwrap();
        seen.fail.store(true, Ordering::SeqCst);
        queue.offer(&packet(1, true));
        until("failed", || status.restarts.load(Ordering::SeqCst) == 1);
        let start = Instant::now();
        let mut time = 1;
        while seen.starts.load(Ordering::SeqCst) < 2 {
            assert!(start.elapsed() < Duration::from_secs(20));
            time += 1;
            queue.offer(&packet(time, true));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(start.elapsed() >= BACK_OFF[0] - Duration::from_millis(100), "{:?}", start.elapsed());
        until("up", || status.is_up());
        abort.raise();
        queue.join(Instant::now() + Duration::from_secs(20)).unwrap();
        assert!(!seen.finished.load(Ordering::SeqCst) && !status.is_up());
    }
}
