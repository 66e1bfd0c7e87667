//! `mqtt://[user@]HOST[:PORT]/TOPIC`: events at a broker, with quality of service 1.
//!
//! A connection lasts as long as it works and is then made anew, with a clean session: messages that the broker has not
//! acknowledged are kept here, in order, and sent again on the next connection; those that it has are not.

mod board;

use std::collections::VecDeque;
use std::process;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Outgoing, Packet, QoS,
    StateError, TlsConfiguration, Transport,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

pub(super) use self::board::Board;
use super::outbox::{Backoff, Message, Outbox};
use super::secret::{self, MQTT_PASSWORD};
use super::settings::MqttConfig;
use super::target::Broker;
use super::tls;
use crate::{Error, Result};

/// Limit of a connection's start, in seconds.
const CONNECT_S: u64 = 5;
/// A broker that is silent for this long is pinged.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Messages that the broker may owe an acknowledgement.
const WINDOW: usize = 32;
/// Largest message, in bytes.
const MAX_PACKET: usize = 256 * 1024;

/// Sends messages to a broker.
pub(super) struct Mqtt {
    options: MqttOptions,
    board: Arc<Board>,
    outbox: Arc<Outbox>,
}

/// A publication that the broker has not acknowledged.
struct Flying {
    /// Its identity on this connection, once it is on its way.
    packet: Option<u16>,
    /// None for a retained topic, whose last value is on the board.
    message: Option<Message>,
}

/// How a connection ended.
enum Ended {
    /// Everything is delivered.
    Done,
    /// It broke, for this reason.
    Broken(String),
}

impl Mqtt {
    /// Prepares the connection; nothing is sent before [`Mqtt::run`].
    ///
    /// # Errors
    /// The password or a certificate cannot be read.
    pub fn new(broker: &Broker, config: &MqttConfig, board: Arc<Board>, outbox: Arc<Outbox>) -> Result<Self> {
        let id = config.client_id.clone().unwrap_or_else(random_id);
        let mut options = MqttOptions::new(id, broker.domain(), broker.port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_max_packet_size(MAX_PACKET, MAX_PACKET);
        options.set_last_will(LastWill::new(board.availability(), "offline", QoS::AtLeastOnce, true));
        let password = secret::read("mqtt.password_file", config.password_file.as_deref(), MQTT_PASSWORD)?;
        match (&broker.user, password) {
            (Some(user), password) => {
                options.set_credentials(user, password.unwrap_or_default());
            }
            (None, Some(_)) => {
                return Err(
                    Error::usage(format!("{broker}: there is a password, and no user")).hint("mqtt://USER@HOST/TOPIC")
                );
            }
            (None, None) => {}
        }
        if broker.tls {
            let config = tls::client(tls::roots("mqtt.tls_ca", config.tls_ca.as_deref())?)?;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
        }
        Ok(Self { options, board, outbox })
    }

    /// Delivers messages until the outbox is closed and empty.
    pub async fn run(self) {
        let mut flying = VecDeque::new();
        let mut pause = Backoff::up_to(LONGEST_PAUSE);
        loop {
            let acknowledged = self.outbox.status.read().sent;
            match self.connection(&mut flying).await {
                Ended::Done => return,
                Ended::Broken(reason) => {
                    self.outbox.status.failed(&reason);
                    if self.outbox.status.read().sent > acknowledged {
                        pause = Backoff::up_to(LONGEST_PAUSE);
                    }
                    pause.wait().await;
                }
            }
        }
    }

    async fn connection(&self, flying: &mut VecDeque<Flying>) -> Ended {
        let (client, events) = AsyncClient::new(self.options.clone(), 1);
        let (mut news, _polling) = poll(events);
        match news.recv().await {
            Some(Ok(Event::Incoming(Packet::ConnAck(_)))) => self.outbox.status.works(),
            Some(Err(error)) => return Ended::Broken(in_words(&error)),
            _ => return Ended::Broken("the broker does not speak MQTT 3.1.1".to_owned()),
        }
        let mut link = Link { client, news, flying, board: &self.board, outbox: &self.outbox };
        link.serve().await
    }
}

/// An open connection.
struct Link<'a> {
    client: AsyncClient,
    news: mpsc::UnboundedReceiver<Result<Event, ConnectionError>>,
    flying: &'a mut VecDeque<Flying>,
    board: &'a Board,
    outbox: &'a Outbox,
}

impl Link<'_> {
    async fn serve(&mut self) -> Ended {
        let kept: Vec<Message> = self.flying.drain(..).filter_map(|flying| flying.message).collect();
        // Before anything is sent, so that none of them is lost should the connection break at once.
        let mut again = VecDeque::from(kept);
        let ended = self.deliver(&mut again).await;
        self.flying.extend(again.into_iter().map(|message| Flying { packet: None, message: Some(message) }));
        ended
    }

    async fn deliver(&mut self, again: &mut VecDeque<Message>) -> Ended {
        for (topic, value) in self.board.whole() {
            if let Err(reason) = self.retain(topic, value).await {
                return Ended::Broken(reason);
            }
        }
        let mut leaving = false;
        loop {
            for (topic, value) in self.board.changes() {
                if let Err(reason) = self.retain(topic, value).await {
                    return Ended::Broken(reason);
                }
            }
            while self.flying.len() < WINDOW
                && let Some(message) = again.pop_front().or_else(|| self.outbox.try_next())
            {
                if let Err(reason) = self.send(message).await {
                    return Ended::Broken(reason);
                }
            }
            if self.flying.is_empty() && self.outbox.is_closed() {
                if leaving {
                    // Nothing is owed any more; a farewell that is lost costs nothing.
                    let _ = self.client.disconnect().await;
                    while let Some(Ok(event)) = self.news.recv().await {
                        if event == Event::Outgoing(Outgoing::Disconnect) {
                            break;
                        }
                    }
                    return Ended::Done;
                }
                leaving = true;
                if let Err(reason) = self.retain(self.board.availability(), "offline".to_owned()).await {
                    return Ended::Broken(reason);
                }
            }
            tokio::select! {
                news = self.news.recv() => match news {
                    Some(Ok(event)) => self.note(&event),
                    Some(Err(error)) => return Ended::Broken(in_words(&error)),
                    None => return Ended::Broken("the connection has ended".to_owned()),
                },
                () = self.outbox.changed() => {}
            }
        }
    }

    async fn retain(&mut self, topic: String, value: String) -> Result<(), String> {
        self.flying.push_back(Flying { packet: None, message: None });
        self.publish(topic, true, value.into_bytes()).await
    }

    async fn send(&mut self, message: Message) -> Result<(), String> {
        let body = message.body.as_bytes().to_vec();
        self.flying.push_back(Flying { packet: None, message: Some(message) });
        self.publish(self.board.events(), false, body).await
    }

    async fn publish(&mut self, topic: String, retain: bool, body: Vec<u8>) -> Result<(), String> {
        if self.client.publish(topic, QoS::AtLeastOnce, retain, body).await.is_ok() {
            return Ok(());
        }
        // The reason is among the news.
        while let Some(news) = self.news.recv().await {
            match news {
                Ok(event) => self.note(&event),
                Err(error) => return Err(in_words(&error)),
            }
        }
        Err("the connection has ended".to_owned())
    }

    fn note(&mut self, event: &Event) {
        match event {
            // Packets go out in the order in which they were published.
            Event::Outgoing(Outgoing::Publish(packet)) => {
                if let Some(next) = self.flying.iter_mut().find(|flying| flying.packet.is_none()) {
                    next.packet = Some(*packet);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                let at = self.flying.iter().position(|flying| flying.packet == Some(ack.pkid));
                if let Some(Flying { message: Some(_), .. }) = at.and_then(|at| self.flying.remove(at)) {
                    self.outbox.status.sent();
                }
            }
            _ => {}
        }
    }
}

/// Stops a task when it goes out of scope.
struct Stopped(AbortHandle);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Drives a connection on a task of its own, as its work must not be cancelled in the middle, up to its first error.
fn poll(mut events: EventLoop) -> (mpsc::UnboundedReceiver<Result<Event, ConnectionError>>, Stopped) {
    events.network_options.set_connection_timeout(CONNECT_S);
    let (to, news) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        loop {
            let event = events.poll().await;
            let over = event.is_err();
            if to.send(event).is_err() || over {
                return;
            }
        }
    });
    (news, Stopped(task.abort_handle()))
}

/// The reason for users. None of these errors holds a password.
fn in_words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                "the broker refuses the user or the password".to_owned()
            }
            other => format!("the broker refuses the connection: {other:?}"),
        },
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
            format!("the broker does not answer within {CONNECT_S} s")
        }
        ConnectionError::Io(error) | ConnectionError::MqttState(StateError::Io(error)) => {
            format!("the broker is not reachable: {error}")
        }
        ConnectionError::MqttState(StateError::AwaitPingResp) => "the broker does not answer any more".to_owned(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => "the broker has closed the connection".to_owned(),
        other => format!("the connection to the broker broke: {other}"),
    }
}

/// An identity that no other run has, of at most 23 characters, as MQTT 3.1.1 wants.
fn random_id() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut hash = Sha256::new();
    hash.update(now.as_nanos().to_le_bytes());
    hash.update(process::id().to_le_bytes());
    hash.finalize().iter().take(6).fold("oodstream-".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}
