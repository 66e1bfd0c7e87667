//! The addresses of message outputs, as `-o` takes them. Secrets in them are never displayed.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::address::{Address, Remote};
use crate::{Error, Result};

/// Ports when an address names none: plain and encrypted.
const MQTT_PORTS: [u16; 2] = [1883, 8883];
/// The longest topic, in bytes; what is added to it fits into the 65,535 of the protocol.
const MAX_TOPIC: usize = 1024;

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `mqtt://[user@]HOST[:PORT]/TOPIC`, `mqtts://...`
    Mqtt(Broker),
    /// `webhook:URL`
    Webhook(Url),
    /// `exec:COMMAND`: the program and its arguments.
    Exec(Vec<String>),
}

/// A broker and the topic that the topics of a run begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Name or number, an IPv6 number without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The connection is encrypted.
    pub tls: bool,
    /// The user, whose password is never part of the address.
    pub user: Option<String>,
    /// Without a `/` at its ends.
    pub topic: String,
}

impl Target {
    /// Takes `address` if it has the form of a message output.
    ///
    /// # Errors
    /// It has the form, and is malformed or holds a password.
    pub fn of(address: &Address) -> Result<Option<Self>> {
        let text =
            |kind: &str| address.text().map_or_else(|| Err(Error::usage(format!("-o {kind}...: it is not UTF-8"))), Ok);
        if address.after("webhook").is_some() {
            return webhook(&text("webhook:")?["webhook:".len()..]).map(Some);
        }
        if address.after("exec").is_some() {
            return exec(&text("exec:")?["exec:".len()..]).map(Some);
        }
        match address.url() {
            Some((scheme, rest)) if scheme == "mqtt" || scheme == "mqtts" => broker(&scheme, rest).map(Some),
            _ => Ok(None),
        }
    }
}

fn broker(scheme: &str, rest: &str) -> Result<Target> {
    let form = format!("{scheme}://[user@]HOST[:PORT]/TOPIC, such as {scheme}://broker/oodstream");
    let wrong = |what: &str| Error::usage(format!("{scheme}://...: {what}")).hint(form.clone());
    let tls = scheme == "mqtts";
    let Remote { server, login, .. } = Remote::parse(scheme, rest, MQTT_PORTS[usize::from(tls)])?;
    if login.as_ref().is_some_and(|login| !login.password.is_empty()) {
        return Err(Error::usage(format!("{scheme}://{}: the address holds a password", server.place()))
            .hint("write the password into a file and name it in mqtt.password_file, or set OODSTREAM_MQTT_PASSWORD"));
    }
    if tls && server.host.contains(':') {
        return Err(wrong("an encrypted connection needs the name of the host, not its IPv6 number"));
    }
    if rest.contains(['?', '#']) {
        return Err(wrong("a topic has no `?` and no `#`"));
    }
    let topic = percent_decode_str(server.path().trim_matches('/')).decode_utf8();
    let topic = topic.map_err(|_| wrong("the topic is no valid text"))?;
    if topic.is_empty() {
        return Err(wrong("the topic is missing"));
    }
    if topic.contains(['+', '#', '$']) || topic.contains(char::is_control) || topic.len() > MAX_TOPIC {
        return Err(wrong("a topic has no `+`, `#`, `$` or control characters, and at most 1024 bytes"));
    }
    Ok(Target::Mqtt(Broker {
        topic: topic.into_owned(),
        user: login.map(|login| login.user).filter(|user| !user.is_empty()),
        host: server.host,
        port: server.port,
        tls,
    }))
}

fn webhook(text: &str) -> Result<Target> {
    // The message holds no part of the address: a path may be a secret.
    let wrong = |what: &str| Error::usage(format!("webhook:...: {what}")).hint("webhook:https://HOST[:PORT]/PATH");
    let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("the scheme is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("the address holds a login")
            .hint("put `Authorization: ...` into webhook.headers of the pipeline file"));
    }
    url.set_fragment(None);
    Ok(Target::Webhook(url))
}

fn exec(text: &str) -> Result<Target> {
    let words = shell_words::split(text).map_err(|error| Error::usage(format!("exec:{text}: {error}")))?;
    if words.first().is_none_or(String::is_empty) {
        return Err(Error::usage("exec: there is no command in it")
            .hint("exec:'notify-me --json', or exec:'sh -c \"...\"' where a shell is wanted"));
    }
    if text.contains('\0') {
        return Err(Error::usage("exec: the command holds a NUL character"));
    }
    Ok(Target::Exec(words))
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}:{}/{}", self.domain(), self.port, self.topic)
    }
}

impl Broker {
    /// The host as it stands before a port.
    pub(super) fn domain(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mqtt(broker) => broker.fmt(f),
            // Many services put a secret into the path.
            Self::Webhook(url) => write!(f, "webhook:{}", url.origin().ascii_serialization()),
            Self::Exec(words) => write!(f, "exec:{}", words.first().map_or("", String::as_str)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Target {
        Target::of(&Address::from(text)).unwrap().unwrap()
    }

    #[test]
    fn the_forms() {
        let Target::Mqtt(broker) = parsed("mqtt://cam%40home@broker/road/front%20door/") else { panic!() };
        assert_eq!((broker.host.as_str(), broker.port, broker.tls), ("broker", 1883, false));
        assert_eq!((broker.user.as_deref(), broker.topic.as_str()), (Some("cam@home"), "road/front door"));
        assert_eq!(parsed("mqtts://h/t").to_string(), "mqtts://h:8883/t");
        assert_eq!(parsed("mqtt://[::1]:99/t").to_string(), "mqtt://[::1]:99/t");
        assert_eq!(parsed("webhook:https://h/hooks/secret?x=secret").to_string(), "webhook:https://h");
        assert_eq!(parsed("exec:notify 'a b' c"), Target::Exec(vec!["notify".into(), "a b".into(), "c".into()]));
        for other in ["x.mp4", "rtsp://h/x", "events:webhook:x", "none"] {
            assert_eq!(Target::of(&Address::from(other)).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn malformed_addresses_say_what_is_wrong_and_show_no_secret() {
        for (text, what) in [
            ("mqtt://h", "topic is missing"),
            ("mqtt://h/", "topic is missing"),
            ("mqtt://h/a/+/b", "no `+`"),
            ("mqtt://h/a#b", "no `#`"),
            ("mqtt:///t", "host is missing"),
            ("mqtt://u:secret@h/t", "mqtt.password_file"),
            ("mqtts://[::1]/t", "IPv6"),
            ("webhook:", "webhook:https://"),
            ("webhook:ftp://h/secret", "neither http nor https"),
            ("webhook:https://u:secret@h/x", "webhook.headers"),
            ("exec:", "no command"),
            ("exec:a 'b", "quote"),
        ] {
            let error = Target::of(&Address::from(text)).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
            let shown = format!("{error} {error:?}");
            assert!(error.to_string().contains(what) && !shown.contains("secret"), "{text}: {error}");
        }
    }
}
