//! An MQTT broker, mosquitto, and a client that writes down what it gets.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::common::Place;
use crate::live::{free_port, until};

/// mosquitto on a port of its own. What it owes to clients outlives it.
pub struct Broker {
    pub port: u16,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Broker {
    /// None with a printed reason where mosquitto is not installed. It is not started yet; `more` are lines of its
    /// configuration.
    pub fn new(place: &Place, more: &str) -> Option<Self> {
        if Command::new("mosquitto").arg("-h").output().is_err() || Command::new("mosquitto_sub").output().is_err() {
            eprintln!("skipped: mosquitto and mosquitto_sub are not installed");
            return None;
        }
        let (port, folder, config) = (free_port(), place.path("broker"), place.path("broker.conf"));
        fs::create_dir_all(&folder).unwrap();
        let text = format!(
            "listener {port} 127.0.0.1\nuser root\npersistence true\npersistence_location {}/\nautosave_interval 1\n{more}\n",
            folder.display()
        );
        fs::write(&config, text).unwrap();
        Some(Self { port, config, log: place.path("broker.txt"), child: None })
    }

    pub fn start(&mut self) {
        let log = fs::File::create(&self.log).unwrap();
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(&self.config).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        until("the broker listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// Ends it, with what it owes saved.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        child.wait().unwrap();
    }

    /// The retained value of each topic below `filter`, `count` of them.
    pub fn retained(&self, filter: &str, count: usize) -> Vec<(String, String)> {
        let (port, count) = (self.port.to_string(), count.to_string());
        let output = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port, "-t", filter, "-C", &count, "-W", "20", "-F", "%r %t %p"])
            .args(["--retained-only"])
            .output()
            .unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| split(line.strip_prefix("1 ").unwrap())).collect()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A client for which the broker keeps what it missed.
pub struct Subscriber {
    child: Child,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Subscriber {
    /// Takes what is published to `topic`.
    pub fn start(port: u16, topic: &str) -> Self {
        let mut child = Command::new("mosquitto_sub")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-q",
                "1",
                "-c",
                "-i",
                "subscriber",
                "-t",
                topic,
                "-F",
                "%p",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (lines, to) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&seen));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                to.lock().unwrap().push(line);
            }
        });
        Self { child, seen }
    }

    /// The messages so far, in order.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn split(line: &str) -> (String, String) {
    let (topic, value) = line.split_once(' ').unwrap();
    (topic.to_owned(), value.to_owned())
}
