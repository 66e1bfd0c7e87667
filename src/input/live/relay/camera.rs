//! The camera's side of a relay: requests to it, and its responses.

use std::collections::VecDeque;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::input::live::login::{Authenticator, Denied};
use crate::input::live::relay::message::Message;
use crate::input::live::relay::{Finding, Report, Route};

/// Session time-out of a server that announces none (RFC 2326, 12.37), in seconds.
const SESSION_S: u64 = 60;
/// Limit of requests without a response.
const MAX_PENDING: usize = 32;
/// Limit of answers to challenges per request.
const MAX_TRIES: u8 = 3;
/// Limit of interleaved channels.
const MAX_CHANNELS: usize = 32;

/// The use of a message from the camera.
pub(crate) enum Out {
    Pass(Message),
    /// It was for the relay.
    Nothing,
    /// The connection has ended.
    End,
}

/// Interleaved channels: the camera's numbers, and those that `rtspsrc` knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Channels(Vec<(u8, u8)>);

impl Channels {
    pub fn holds(&self, channel: u8) -> bool {
        self.0.iter().any(|(sent, _)| *sent == channel)
    }

    pub fn translate(&self, channel: u8) -> u8 {
        self.0.iter().find(|(sent, _)| *sent == channel).map_or(channel, |(_, known)| *known)
    }

    fn add(&mut self, sent: u8, known: u8) {
        if self.0.len() < MAX_CHANNELS && !self.holds(sent) {
            self.0.push((sent, known));
        }
    }
}

struct Pending {
    request: Message,
    /// `CSeq` of `rtspsrc`; none for a keep-alive.
    theirs: Option<u32>,
    ours: u32,
    /// It had an `Authorization` header.
    answered: bool,
    tries: u8,
}

impl Pending {
    fn method(&self) -> &str {
        self.request.request().map_or("", |(method, _)| method)
    }

    /// Whether it requests packets over UDP.
    fn is_udp(&self) -> bool {
        self.method() == "SETUP" && self.request.header("Transport").is_some_and(|transport| !transport.contains("TCP"))
    }
}

pub(crate) struct Camera {
    name: String,
    /// Prefix of the addresses in requests of `rtspsrc`, and of those of the camera.
    base: String,
    origin: String,
    peer: IpAddr,
    may_fall_back: bool,
    writer: Box<dyn Write + Send>,
    login: Authenticator,
    report: Arc<Report>,
    sequence: u32,
    pending: VecDeque<Pending>,
    channels: Channels,
    /// The methods of `Public`, empty when the server names none.
    offers: String,
    session: Option<String>,
    /// The address of the session.
    control: Option<String>,
    keep_every: Duration,
    next_keep: Option<Instant>,
}

impl Camera {
    pub fn new(route: &Route, base: &str, writer: Box<dyn Write + Send>, peer: IpAddr, report: Arc<Report>) -> Self {
        Self {
            name: route.name.clone(),
            base: base.to_owned(),
            origin: route.server.origin(),
            peer,
            may_fall_back: route.may_fall_back,
            writer,
            login: Authenticator::new(route.login.clone(), Arc::clone(&route.trust)),
            report,
            sequence: 0,
            pending: VecDeque::new(),
            channels: Channels::default(),
            offers: String::new(),
            session: None,
            control: None,
            keep_every: Duration::from_secs(SESSION_S / 2),
            next_keep: None,
        }
    }

    /// For the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn channels(&self) -> Channels {
        self.channels.clone()
    }

    /// Forwards a message from `rtspsrc`.
    pub fn request(&mut self, mut message: Message) -> std::io::Result<()> {
        let Some((method, uri)) = message.request() else {
            // A response to a request of the camera.
            return self.write(&message);
        };
        let relay = self.base.rfind('/').map_or("", |end| &self.base[..end]);
        let rest = uri.strip_prefix(self.base.as_str()).or_else(|| uri.strip_prefix(relay));
        let uri = rest.map_or_else(|| uri.to_owned(), |rest| format!("{}{rest}", self.origin));
        if method == "PLAY" {
            self.control = Some(uri.clone());
        }
        message.start = format!("{method} {uri} RTSP/1.0");
        let theirs = message.sequence();
        self.send(Pending { request: message, theirs, ours: 0, answered: false, tries: 0 })
    }

    /// Forwards a packet from `rtspsrc`.
    pub fn packet(&mut self, packet: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(packet)
    }

    /// Sends a keep-alive, if one is due.
    pub fn keep_alive(&mut self, now: Instant) -> std::io::Result<()> {
        if self.next_keep.is_none_or(|next| now < next) {
            return Ok(());
        }
        self.next_keep = Some(now + self.keep_every);
        let method = if self.offers.contains("GET_PARAMETER") { "GET_PARAMETER" } else { "OPTIONS" };
        let uri = self.control.clone().unwrap_or_else(|| "*".to_owned());
        let headers = self.session.iter().map(|session| ("Session".to_owned(), session.clone())).collect();
        let request = Message { start: format!("{method} {uri} RTSP/1.0"), headers, body: Vec::new() };
        self.send(Pending { request, theirs: None, ours: 0, answered: false, tries: 0 })
    }

    /// Handles a message from the camera.
    pub fn message(&mut self, mut message: Message) -> Out {
        let Some(status) = message.status() else { return Out::Pass(message) };
        self.report.answer();
        let Some(mut pending) = self.take_pending(message.sequence()) else { return Out::Nothing };
        if status == 401 {
            let challenges = message.headers_named("WWW-Authenticate").map(str::to_owned).collect::<Vec<_>>();
            let answer = self.login.challenge(challenges.iter().map(String::as_str), pending.answered);
            return match answer {
                Ok(()) if pending.tries < MAX_TRIES => {
                    pending.tries += 1;
                    if self.send(pending).is_ok() { Out::Nothing } else { Out::End }
                }
                Ok(()) => self.deny(&Denied::WrongLogin),
                Err(denied) => self.deny(&denied),
            };
        }
        if pending.answered {
            self.login.accept();
        }
        let Some(theirs) = pending.theirs else {
            if status >= 400 && pending.method() == "GET_PARAMETER" {
                // Offered, but not implemented.
                self.offers.clear();
            }
            return Out::Nothing;
        };
        let fine = (200..300).contains(&status);
        match pending.method() {
            "OPTIONS" if fine => self.offers = message.header("Public").unwrap_or_default().to_ascii_uppercase(),
            "DESCRIBE" if fine => describe(&mut message, self.peer.is_ipv6()),
            "SETUP" if fine => self.set_up(&pending, &mut message),
            "SETUP" if self.may_fall_back && pending.is_udp() && !matches!(status, 403 | 453 | 454 | 503) => {
                tracing::info!("{}: UDP was refused ({}), changing to TCP", self.name, words(&message));
                self.report.udp_refused.store(true, Ordering::Release);
                // The status on which `rtspsrc` tries the next transport.
                message.start = "RTSP/1.0 461 Unsupported Transport".to_owned();
            }
            "PLAY" if fine => self.next_keep = Some(Instant::now() + self.keep_every),
            "DESCRIBE" | "SETUP" | "PLAY" => {
                if let Some(finding) = self.refusal(&pending, status, &message) {
                    self.report.find(finding);
                }
                return Out::End;
            }
            _ => {}
        }
        message.set_header("CSeq", theirs.to_string());
        Out::Pass(message)
    }

    /// The meaning of a refused request.
    fn refusal(&self, pending: &Pending, status: u16, message: &Message) -> Option<Finding> {
        let words = words(message);
        Some(match status {
            300..400 => Finding::Moved(message.header("Location")?.to_owned()),
            403 => Finding::Denied(format!("{words}: this login has no access")),
            404 => Finding::Refused("404: there is nothing at this address".to_owned()),
            453 | 503 => {
                Finding::Busy(format!("{words}: the camera has no room for another client; it is tried less often"))
            }
            _ => Finding::Refused(format!("the camera answers {words} to {}", pending.method())),
        })
    }

    fn deny(&self, denied: &Denied) -> Out {
        self.report.find(Finding::Denied(denied.words("the camera")));
        Out::End
    }

    /// Session, time-out and transport of an answer to SETUP.
    fn set_up(&mut self, pending: &Pending, message: &mut Message) {
        if let Some(session) = message.header("Session") {
            let mut parts = session.split(';').map(str::trim);
            self.session = parts.next().map(str::to_owned);
            let timeout = parts.find_map(|part| part.strip_prefix("timeout=")?.trim().parse::<u64>().ok());
            // Half of the time-out; at most once a second.
            let timeout = timeout.filter(|timeout| *timeout > 0).unwrap_or(SESSION_S).min(24 * 3600);
            self.keep_every = Duration::from_millis(timeout * 500).max(Duration::from_secs(1));
        }
        let Some(transport) = message.header("Transport").map(str::to_owned) else { return };
        if pending.is_udp() {
            self.report.udp.store(true, Ordering::Release);
            // Otherwise GStreamer expects the packets from the relay.
            if !transport.contains("source=") {
                message.set_header("Transport", format!("{transport};source={}", self.peer));
            }
            return;
        }
        self.report.udp.store(false, Ordering::Release);
        let asked = pending.request.header("Transport").and_then(interleaved);
        let given = interleaved(&transport);
        if let (None, Some((rtp, rtcp))) = (given, asked) {
            message.set_header("Transport", format!("{transport};interleaved={rtp}-{rtcp}"));
        }
        let known = given.or(asked);
        for pair in [given, asked].into_iter().flatten() {
            if let Some(known) = known {
                self.channels.add(pair.0, known.0);
                self.channels.add(pair.1, known.1);
            }
        }
    }

    fn send(&mut self, mut pending: Pending) -> std::io::Result<()> {
        self.sequence += 1;
        pending.ours = self.sequence;
        pending.request.set_header("CSeq", pending.ours.to_string());
        pending.request.remove_header("Authorization");
        let answer = pending
            .request
            .request()
            .and_then(|(method, uri)| self.login.authorize(method, uri, &pending.request.body));
        pending.answered = answer.is_some();
        if let Some(answer) = answer {
            pending.request.set_header("Authorization", answer);
        }
        self.write(&pending.request)?;
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(pending);
        Ok(())
    }

    fn write(&mut self, message: &Message) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        self.writer.write_all(&bytes)?;
        self.writer.flush()
    }

    /// The request of a response: by its number, or the first where cameras count otherwise.
    fn take_pending(&mut self, sequence: Option<u32>) -> Option<Pending> {
        let found = self.pending.iter().position(|pending| Some(pending.ours) == sequence);
        let index = found.or_else(|| self.pending.iter().position(|pending| pending.theirs.is_some())).unwrap_or(0);
        self.pending.remove(index)
    }
}

/// Status code and reason, readable and bounded.
fn words(message: &Message) -> String {
    let line = message.start.split_once(' ').map_or("", |(_, line)| line);
    line.chars().filter(|c| !c.is_control()).take(60).collect()
}

fn interleaved(transport: &str) -> Option<(u8, u8)> {
    let range = transport.split(';').find_map(|part| part.trim().strip_prefix("interleaved="))?;
    let (first, second) = range.split_once('-').unwrap_or((range, ""));
    let first: u8 = first.trim().parse().ok()?;
    Some((first, second.trim().parse().unwrap_or(first.saturating_add(1))))
}

/// Sets the address family of a description to that of the connection: many cameras always write `IN IP4`.
fn describe(message: &mut Message, ipv6: bool) {
    if !ipv6 {
        return;
    }
    let text = String::from_utf8_lossy(&message.body).into_owned();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut found = false;
    for line in lines.iter_mut().filter(|line| line.starts_with("c=")) {
        found = true;
        if line.starts_with("c=IN IP4") {
            *line = "c=IN IP6 ::".to_owned();
        }
    }
    if !found {
        let at = lines.iter().position(|line| line.starts_with("t=")).unwrap_or(lines.len());
        lines.insert(at, "c=IN IP6 ::".to_owned());
    }
    message.body = (lines.join("\r\n") + "\r\n").into_bytes();
}
