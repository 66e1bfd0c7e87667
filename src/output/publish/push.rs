//! Pushing to another RTSP server, with reconnection.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gst::prelude::*;
use gstreamer as gst;

use crate::address::{LocatedPath, Login, Server};
use crate::gst::element;
use crate::gst::message::progress_of;
use crate::gst::trust::authorities;
use crate::output::publish::PublishOptions;
use crate::output::publish::anchor::anchor;
use crate::output::publish::chain::Chain;
use crate::output::publish::recording::parser_of;
use crate::output::publish::sink_queue::{AbortFlag, Packet, Sink};
use crate::{Error, Result};

/// Time after which a stalled TCP connection counts as lost, in microseconds.
const TIMEOUT_US: u64 = 5_000_000;

/// Requests of the sink until the stream flows: ANNOUNCE, then RECORD.
const ASKED: u32 = 2;
/// Packets after which a stream counts as flowing.
const FLOWS: u64 = 10;

pub(crate) struct Push {
    server: Server,
    login: Option<Login>,
    /// File with certificate authorities, instead of the system's.
    trust: Option<LocatedPath>,
    abort: Arc<AbortFlag>,
    chain: Option<Chain>,
    /// Requests sent so far.
    asked: u32,
    /// Packets pushed since the last request.
    passed: Arc<AtomicU64>,
}

impl Push {
    /// # Errors
    /// The file with the credentials or the one with the authorities cannot be read or is malformed.
    pub fn open(
        server: &Server,
        login: Option<&Login>,
        options: &PublishOptions,
        abort: &Arc<AbortFlag>,
    ) -> Result<Self> {
        let login = match (login, &options.push_credentials) {
            (None, Some(path)) => Some(read_credentials(path)?),
            (login, _) => login.cloned(),
        };
        let server = server.clone();
        let trust = options.push_tls_ca.clone().filter(|_| server.tls());
        trust.as_deref().map(authorities).transpose()?;
        Ok(Self { server, login, trust, abort: Arc::clone(abort), chain: None, asked: 0, passed: Arc::default() })
    }
}

impl Sink for Push {
    fn start(&mut self, first: &Packet) -> Result<()> {
        let parser = element(parser_of(&first.caps))?;
        parser.set_property("config-interval", -1i32);
        let sink = element("rtspclientsink")?;
        sink.set_property("location", &self.server.location);
        sink.set_property_from_str("protocols", "tcp");
        sink.set_property("tcp-timeout", TIMEOUT_US);
        sink.set_property("latency", 0u32);
        if let Some(path) = &self.trust {
            sink.set_property("tls-database", authorities(path)?);
        }
        if let Some(Login { user, password }) = &self.login {
            sink.set_property("user-id", user);
            sink.set_property("user-pw", password);
        }
        let chain = Chain::new(&first.caps, true, &[parser.clone(), sink])?;
        anchor(&chain.source);
        self.asked = 0;
        self.passed = Arc::default();
        let passed = Arc::clone(&self.passed);
        if let Some(pad) = parser.static_pad("src") {
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                passed.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
        }
        chain.play()?;
        self.chain = Some(chain);
        Ok(())
    }

    fn take(&mut self, packet: Packet) -> Result<()> {
        let Some(chain) = &self.chain else { return Err(Error::failed("there is no connection")) };
        if packet.key && !chain.takes(&packet.caps) {
            self.chain = None;
            self.start(&packet)?;
        }
        let Some(chain) = &self.chain else { return Err(Error::failed("there is no connection")) };
        chain.push(packet.buffer, &self.abort)
    }

    fn check(&mut self) -> Result<bool> {
        let Some(chain) = &self.chain else { return Ok(false) };
        let asked = &mut self.asked;
        chain.check(&mut |message| {
            if let Some((code, text)) = progress_of(message) {
                tracing::debug!("{code}: {text}");
                *asked += u32::from(code == "record");
            }
        })?;
        // Success is not reported; before it, the sink lets only a few packets in.
        if self.asked < ASKED {
            self.passed.store(0, Ordering::Relaxed);
        }
        Ok(self.passed.load(Ordering::Relaxed) > FLOWS)
    }

    fn finish(&mut self, _: &AbortFlag) -> Result<()> {
        self.abandon();
        Ok(())
    }

    fn abandon(&mut self) {
        // Sends TEARDOWN, if the server still listens.
        self.chain = None;
    }
}

/// The first `user:password` line of a file.
fn read_credentials(path: &Path) -> Result<Login> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|e| Error::failed(format!("push_credentials: {shown} cannot be read: {e}")))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let (user, password) = line
        .and_then(|line| line.split_once(':'))
        .filter(|(user, _)| !user.is_empty())
        .ok_or_else(|| Error::failed(format!("push_credentials: {shown} has no line `user:password`")))?;
    Ok(Login { user: user.to_owned(), password: password.to_owned() })
}
