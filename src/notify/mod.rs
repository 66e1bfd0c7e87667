//! Messages: events sent to a broker, to a web server or to a command, while the run goes on.
//!
//! Each output has a queue and a thread of its own. The pipeline puts messages into the queue and never waits; a queue
//! without room drops messages and counts them. A message is what a line of the events file is.

mod exec;
mod mqtt;
mod outbox;
mod secret;
mod settings;
mod status;
mod target;
mod tls;
mod webhook;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

pub use self::settings::{ExecConfig, Header, MqttConfig, WebhookConfig};
pub use self::status::{Delivery, Status};
pub use self::target::{Broker, Target};

use self::exec::Exec;
use self::mqtt::{Board, Mqtt};
use self::outbox::{Message, Outbox};
use self::webhook::Webhook;
use crate::lock::lock;
use crate::ood::alarm::{Event, EventType};
use crate::record::events::SignalLine;
use crate::record::{FrameResults, Recorder};
use crate::{Error, Result};

/// Interval at which the end of an output is looked for.
const SLICE: Duration = Duration::from_millis(10);

/// The settings of all kinds of message outputs.
#[derive(Debug, Clone, Copy)]
pub struct NotifyOptions<'a> {
    /// `[mqtt]`
    pub mqtt: &'a MqttConfig,
    /// `[webhook]`
    pub webhook: &'a WebhookConfig,
    /// `[exec]`
    pub exec: &'a ExecConfig,
}

/// The message outputs of a run.
#[derive(Debug, Default)]
pub struct Notifier {
    outputs: Vec<Output>,
}

#[derive(Debug)]
struct Output {
    outbox: Arc<Outbox>,
    /// The retained topics of a broker.
    board: Option<Arc<Board>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Notifier {
    /// Starts an output for each of `targets`. What is not reachable yet is tried again; `streams` are the names of
    /// live streams, which brokers keep the state of.
    ///
    /// # Errors
    /// A secret, a certificate or a command is missing.
    pub fn open(targets: &[Target], options: &NotifyOptions<'_>, streams: &[String]) -> Result<Self> {
        let mut outputs: Vec<Output> = Vec::new();
        for target in targets {
            let base = target.to_string();
            let same = outputs.iter().filter(|output| {
                let name = output.outbox.status.name();
                name == base || name.strip_prefix(&base).is_some_and(|rest| rest.starts_with(" ("))
            });
            let name = match same.count() {
                0 => base,
                before => format!("{base} ({})", before + 1),
            };
            outputs.push(Output::start(name, target, options, streams)?);
        }
        Ok(Self { outputs })
    }

    /// The state of each output, in order.
    pub fn statuses(&self) -> Vec<Arc<Status>> {
        self.outputs.iter().map(|output| Arc::clone(&output.outbox.status)).collect()
    }

    /// A recorder that sends the events of one stream; none where there are no outputs.
    pub fn recorder(self: &Arc<Self>) -> Option<Box<dyn Recorder>> {
        (!self.outputs.is_empty()).then(|| Box::new(MessageRecorder(Arc::clone(self))) as _)
    }

    /// Sends that an input was lost or came back.
    pub fn signal(&self, line: &SignalLine<'_>) {
        if let (false, Some(body)) = (self.outputs.is_empty(), body(line)) {
            let message = Message { kind: line.kind(), body, since: Instant::now() };
            self.outputs.iter().for_each(|output| output.outbox.push(message.clone()));
        }
    }

    fn event(&self, event: &Event) {
        let Some(body) = body(event) else { return };
        let kind = match event.kind {
            EventType::Start => "start",
            EventType::Update => "update",
            EventType::End => "end",
        };
        let message = Message { kind, body, since: Instant::now() };
        for output in &self.outputs {
            if let Some(board) = &output.board {
                board.event(event, &message.body);
            }
            output.outbox.push(message.clone());
        }
    }

    /// Waits until every message is delivered, for at most `patience`, or until `stop` says so; ends the outputs. What
    /// is left then is lost, and counted.
    pub fn finish(&self, patience: Duration, stop: &dyn Fn() -> bool) -> Vec<Delivery> {
        self.outputs.iter().for_each(|output| output.outbox.close());
        let start = Instant::now();
        let over = |output: &Output| output.lock().as_ref().is_none_or(JoinHandle::is_finished);
        while !self.outputs.iter().all(over) && start.elapsed() < patience && !stop() {
            thread::sleep(SLICE);
        }
        self.outputs.iter().map(Output::end).collect()
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        for output in &self.outputs {
            output.end();
        }
    }
}

impl Output {
    fn start(name: String, target: &Target, options: &NotifyOptions<'_>, streams: &[String]) -> Result<Self> {
        let room = match target {
            Target::Mqtt(_) => options.mqtt.queue,
            Target::Webhook(_) => options.webhook.queue,
            Target::Exec(_) => options.exec.queue,
        };
        let unknown = matches!(target, Target::Mqtt(_)).then_some("it has not been connected yet");
        let outbox = Arc::new(Outbox::new(room, Arc::new(Status::new(name, unknown))));
        let (board, thread) = match target {
            Target::Mqtt(broker) => {
                let board = Arc::new(Board::new(&broker.topic, &options.mqtt.discovery, streams));
                let mqtt = Mqtt::new(broker, options.mqtt, Arc::clone(&board), Arc::clone(&outbox))?;
                (Some(board), spawn("mqtt", &outbox, mqtt.run())?)
            }
            Target::Webhook(url) => {
                let webhook = Webhook::new(url, options.webhook, Arc::clone(&outbox))?;
                (None, spawn("webhook", &outbox, webhook.run())?)
            }
            Target::Exec(words) => {
                let exec = Exec::new(words, options.exec, Arc::clone(&outbox))?;
                (None, spawn("exec", &outbox, exec.run())?)
            }
        };
        Ok(Self { outbox, board, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread; its figures, in which what was left counts as dropped.
    fn end(&self) -> Delivery {
        self.outbox.abandon();
        if let Some(thread) = self.lock().take() {
            let _ = thread.join();
        }
        let status = &self.outbox.status;
        status.dropped(status.read().waiting);
        status.read()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<JoinHandle<()>>> {
        lock(&self.thread)
    }
}

/// Runs `work` on a thread called `name` until it is done or abandoned.
fn spawn(name: &str, outbox: &Arc<Outbox>, work: impl Future<Output = ()> + Send + 'static) -> Result<JoinHandle<()>> {
    let failed = |error| Error::io(format!("the thread `{name}`"), error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let outbox = Arc::clone(outbox);
    let run = move || {
        runtime.block_on(async {
            tokio::select! {
                () = work => {}
                () = outbox.is_abandoned() => {}
            }
        });
        // A look-up of a name may take longer than anyone waits.
        runtime.shutdown_background();
    };
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(failed)
}

/// Sends the events of one stream.
struct MessageRecorder(Arc<Notifier>);

impl Recorder for MessageRecorder {
    fn record(&mut self, _: &FrameResults<'_>) -> Result<()> {
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        events.iter().for_each(|event| self.0.event(event));
        Ok(())
    }
}

/// A line as the events file has it.
fn body(line: &impl Serialize) -> Option<Arc<str>> {
    match serde_json::to_string(line) {
        Ok(body) => Some(body.into()),
        Err(error) => {
            tracing::error!("an event cannot be written as a message: {error}");
            None
        }
    }
}

/// Hexadecimal digits, two for each byte.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
