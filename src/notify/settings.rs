//! The sections `[mqtt]`, `[webhook]` and `[exec]` of a pipeline file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use crate::address::LocatedPath;
use crate::duration::seconds;
use crate::{Error, Result};

/// Messages that may wait, where nothing else is said.
const QUEUE: usize = 1000;

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MqttConfig {
    /// File with the password of the address's user on its first line; without it `OODSTREAM_MQTT_PASSWORD`.
    pub password_file: Option<LocatedPath>,
    /// PEM file with the certificate authorities of `mqtts://` brokers; default: the system's.
    pub tls_ca: Option<LocatedPath>,
    /// Identity at the broker, unique there; a random one when left out.
    pub client_id: Option<String>,
    /// Topic under which Home Assistant looks for devices; empty: live streams are not announced.
    pub discovery: String,
    /// Messages that may wait for the broker.
    pub queue: usize,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self { password_file: None, tls_ca: None, client_id: None, discovery: "homeassistant".to_owned(), queue: QUEUE }
    }
}

/// `[webhook]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// File with the secret of the signature on its first line; without it `OODSTREAM_WEBHOOK_SECRET`, and without
    /// either no signature.
    pub secret_file: Option<LocatedPath>,
    /// PEM file with the certificate authorities of `https://` receivers; default: the system's.
    pub tls_ca: Option<LocatedPath>,
    /// Further headers of each request, `Name: value`.
    pub headers: Vec<Header>,
    /// Time limit of a request.
    #[serde(deserialize_with = "seconds")]
    pub timeout_s: f64,
    /// Age at which a message that was not accepted is dropped.
    #[serde(deserialize_with = "seconds")]
    pub give_up_s: f64,
    /// Messages that may wait for the receiver.
    pub queue: usize,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self { secret_file: None, tls_ca: None, headers: Vec::new(), timeout_s: 10.0, give_up_s: 600.0, queue: QUEUE }
    }
}

/// `[exec]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecConfig {
    /// Time limit of a command, after which it is killed.
    #[serde(deserialize_with = "seconds")]
    pub timeout_s: f64,
    /// Commands that run at the same time; with 1 they run in the order of the messages.
    pub jobs: usize,
    /// Messages that may wait for a command.
    pub queue: usize,
}

impl Default for ExecConfig {
    fn default() -> Self {
        Self { timeout_s: 30.0, jobs: 1, queue: QUEUE }
    }
}

/// A header of a request. Debugged it has no value, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for Header {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let header = text
            .split_once(':')
            .map(|(name, value)| Self { name: name.trim().to_owned(), value: value.trim().to_owned() });
        // `hyper` is as strict later on.
        let valid = |header: &Self| {
            hyper::header::HeaderName::from_bytes(header.name.as_bytes()).is_ok()
                && hyper::header::HeaderValue::from_str(&header.value).is_ok()
        };
        header
            .filter(valid)
            .ok_or_else(|| Error::usage("not a header of a request").hint("`Name: value`, such as `X-Camera: front`"))
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ***", self.name)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| de::Error::custom("expected `Name: value`"))
    }
}

impl MqttConfig {
    /// # Errors
    /// A value is out of range; the message names its key.
    pub(crate) fn check(&self) -> Result<()> {
        at_least_one("mqtt.queue", self.queue)?;
        if self.discovery.contains(['+', '#']) || self.discovery.contains(char::is_control) {
            return Err(Error::usage("mqtt.discovery is a topic without `+` and `#`"));
        }
        Ok(())
    }
}

impl WebhookConfig {
    /// # Errors
    /// A value is out of range; the message names its key.
    pub(crate) fn check(&self) -> Result<()> {
        at_least_one("webhook.queue", self.queue)?;
        time("webhook.timeout_s", self.timeout_s)?;
        time("webhook.give_up_s", self.give_up_s)
    }
}

impl ExecConfig {
    /// # Errors
    /// A value is out of range; the message names its key.
    pub(crate) fn check(&self) -> Result<()> {
        at_least_one("exec.queue", self.queue)?;
        at_least_one("exec.jobs", self.jobs)?;
        time("exec.timeout_s", self.timeout_s)
    }
}

fn at_least_one(key: &str, value: usize) -> Result<()> {
    if value == 0 { Err(Error::usage(format!("{key} is 0, it must be at least 1"))) } else { Ok(()) }
}

fn time(key: &str, seconds: f64) -> Result<()> {
    if seconds > 0.0 && seconds <= 86400.0 {
        return Ok(());
    }
    Err(Error::usage(format!("{key} is {seconds}, it must be above 0 to 86400 seconds")))
}
