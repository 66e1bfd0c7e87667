//! `exec:COMMAND`: a command for each message, which it reads on its standard input.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::task::{JoinError, JoinSet};

use super::outbox::{Message, Outbox};
use super::secret::{MQTT_PASSWORD, WEBHOOK_SECRET};
use super::settings::ExecConfig;
use crate::{Error, Result};

/// Runs a command for each message.
pub(super) struct Exec {
    command: Arc<[String]>,
    timeout: Duration,
    jobs: usize,
    outbox: Arc<Outbox>,
}

impl Exec {
    /// # Errors
    /// There is no such command.
    pub fn new(words: &[String], config: &ExecConfig, outbox: Arc<Outbox>) -> Result<Self> {
        let name = words.first().map(String::as_str).unwrap_or_default();
        if !is_there(name) {
            return Err(Error::usage(format!("exec:{name}: there is no such command"))
                .hint("name a program by its path or of PATH; where a shell is wanted, exec:'sh -c \"...\"'"));
        }
        let timeout = Duration::from_secs_f64(config.timeout_s);
        Ok(Self { command: words.into(), timeout, jobs: config.jobs, outbox })
    }

    /// Runs commands until the outbox is closed and empty.
    pub async fn run(self) {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                message = self.outbox.next(), if running.len() < self.jobs => match message {
                    Some(message) => {
                        running.spawn(run_one(Arc::clone(&self.command), message, self.timeout));
                    }
                    None => break,
                },
                Some(ended) = running.join_next(), if !running.is_empty() => self.note(ended),
            }
        }
        while let Some(ended) = running.join_next().await {
            self.note(ended);
        }
    }

    fn note(&self, ended: Result<Result<(), String>, JoinError>) {
        let status = &self.outbox.status;
        match ended.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => status.sent(),
            Err(reason) => {
                status.failed(&reason);
                status.dropped(1);
            }
        }
    }
}

/// Whether `name` is a file, or in a folder of `PATH`.
fn is_there(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).is_file();
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).map(|folder: PathBuf| folder.join(name)).any(|path| path.is_file())
}

/// Ends a command and what it has started, when it goes out of scope.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn run_one(words: Arc<[String]>, message: Message, timeout: Duration) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("OODSTREAM_EVENT", message.kind)
        // Secrets are for this program alone.
        .env_remove(MQTT_PASSWORD)
        .env_remove(WEBHOOK_SECRET)
        .stdin(Stdio::piped())
        // Standard output may be the report of the run.
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        // Ctrl-C in a terminal ends this program, which then finishes its messages.
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(id as i32)));
    match tokio::time::timeout(timeout, finish(&mut child, &message)).await {
        Err(_) => Err(format!("{program} did not end within {} s and was killed", timeout.as_secs_f64())),
        Ok(Err(error)) => Err(format!("{program}: {error}")),
        Ok(Ok(status)) => {
            // What it has left in the background is its own affair.
            group.0 = None;
            if status.success() { Ok(()) } else { Err(format!("{program} ended with {status}")) }
        }
    }
}

async fn finish(child: &mut Child, message: &Message) -> std::io::Result<ExitStatus> {
    if let Some(mut input) = child.stdin.take() {
        // A command need not read its input.
        let _ = input.write_all(format!("{}\n", message.body).as_bytes()).await;
    }
    child.wait().await
}
