//! The binary while it runs: started, stopped, and what its events tell.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::Place;
use crate::live::until;

/// The binary at work. Killed when a test fails.
pub struct Live {
    child: Child,
    log: std::path::PathBuf,
}

impl Live {
    pub fn start(place: &Place, arguments: &str) -> Self {
        Self::start_with(place, place.program(), arguments)
    }

    /// `program` is [`Place::program`] and what more it needs.
    pub fn start_with(place: &Place, mut program: Command, arguments: &str) -> Self {
        let log = place.path("log.txt");
        let child = program
            .args(arguments.split_whitespace())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for an end that comes by itself, however long it takes.
    #[track_caller]
    pub fn ends(&mut self, code: i32) {
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{}", self.log());
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Ends it as systemd would.
    #[track_caller]
    pub fn stop(&mut self, code: i32) -> Duration {
        self.end("-TERM", code)
    }

    /// Ends it as Ctrl-C does.
    #[track_caller]
    pub fn interrupt(&mut self, code: i32) -> Duration {
        self.end("-INT", code)
    }

    /// How long it took to end.
    #[track_caller]
    fn end(&mut self, signal: &str, code: i32) -> Duration {
        let start = Instant::now();
        self.signal(signal);
        until("the run ends", || self.child.try_wait().unwrap().is_some());
        let took = start.elapsed();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{}", self.log());
        // Promised to service managers.
        assert!(took < Duration::from_secs(5), "{took:?}");
        took
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The signal lines of an events file: what happened.
pub fn signals(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|v| v.get("signal").is_some())
        .collect()
}

pub fn count(path: &Path, what: &str) -> usize {
    signals(path).iter().filter(|line| line["signal"] == what).count()
}
