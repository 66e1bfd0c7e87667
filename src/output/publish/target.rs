//! The addresses of live outputs, as `-o` takes them. Credentials in them are never displayed.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::gst::hide_credentials;
use crate::output::publish::template::Template;
use crate::{Error, Result};

/// Where a live output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `rtsp://HOST:PORT/NAME`, `rtsps://...`: served here.
    Serve(Address),
    /// `rtsp+push://...`, `rtsps+push://...`: sent to another server.
    Push(Address),
    /// `hls:DIR`
    Hls(PathBuf),
    /// `x.mp4`; with strftime fields in its name, in segments.
    Record(PathBuf),
    /// `display:`
    Display,
}

/// An RTSP address.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Encrypted (`rtsps`).
    pub tls: bool,
    /// Name or number, an IPv6 number without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Begins with `/`.
    pub path: String,
    /// User and password, decoded.
    pub(crate) credentials: Option<(String, String)>,
}

/// Ports when an address names none: to serve, any user may open these; to push, those of the standard.
const SERVE_PORTS: [u16; 2] = [8554, 8322];
const PUSH_PORTS: [u16; 2] = [554, 322];

impl Target {
    /// Takes `text` if it has the form of a live output: one of the addresses above, or a video file's name.
    ///
    /// # Errors
    /// It has the form, and is malformed; or it is an address of an unknown kind.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        // GStreamer's strings end there.
        if text.contains('\0') {
            return Err(Error::usage("an output holds a NUL character"));
        }
        if text == "display:" {
            return Ok(Some(Self::Display));
        }
        if let Some(folder) = text.strip_prefix("hls:") {
            if folder.is_empty() {
                return Err(Error::usage("hls: there is no folder in it").hint("hls:FOLDER"));
            }
            return Ok(Some(Self::Hls(PathBuf::from(folder))));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let (push, tls) = match scheme.to_ascii_lowercase().as_str() {
                "rtsp" => (false, false),
                "rtsps" => (false, true),
                "rtsp+push" => (true, false),
                "rtsps+push" => (true, true),
                _ => {
                    return Err(Error::usage(format!("{scheme}://: unknown kind of output"))
                        .hint("rtsp://, rtsps://, rtsp+push://, rtsps+push://, hls:FOLDER, display: or a file"));
                }
            };
            let ports = if push { PUSH_PORTS } else { SERVE_PORTS };
            let address = Address::parse(scheme, rest, tls, ports[usize::from(tls)])?;
            if push {
                return Ok(Some(Self::Push(address)));
            }
            if address.credentials.is_some() {
                return Err(Error::usage(format!("{address}: a served address cannot hold a password"))
                    .hint("name a file with one `user:password` per line in serve.users"));
            }
            return Ok(Some(Self::Serve(address)));
        }
        let path = Path::new(text);
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        if !matches!(extension.as_deref(), Some("mp4" | "m4v" | "mov" | "mkv")) {
            return Ok(None);
        }
        if Template::has_fields(path) {
            Template::parse(path)?;
        }
        Ok(Some(Self::Record(path.to_path_buf())))
    }

    /// The kind, for names of threads.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Serve(_) => "serve",
            Self::Push(_) => "push",
            Self::Hls(_) => "hls",
            Self::Record(_) => "record",
            Self::Display => "display",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve(address) => address.fmt(f),
            // After `rtsp` or `rtsps`.
            Self::Push(address) => f.write_str(&address.to_string().replacen("://", "+push://", 1)),
            Self::Hls(folder) => write!(f, "hls:{}", folder.display()),
            Self::Record(path) => path.display().fmt(f),
            Self::Display => f.write_str("display"),
        }
    }
}

impl Address {
    /// `rest` is what follows `scheme://`. No message holds the part before the `@`.
    fn parse(scheme: &str, rest: &str, tls: bool, default_port: u16) -> Result<Self> {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        let wrong = |what: &str| {
            Error::usage(format!("{}: {what}", hide_credentials(&format!("{scheme}://{rest}"))))
                .hint(format!("{scheme}://HOST:PORT/NAME, such as {scheme}://127.0.0.1:{default_port}/front"))
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| wrong("the `]` is missing"))?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong("what is in the brackets is no IPv6 address"))?;
                match port.strip_prefix(':') {
                    None if !port.is_empty() => return Err(wrong("a port is given as `:PORT`")),
                    port => (host, port),
                }
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || "?#%\\".contains(c)) {
            return Err(wrong("the host is not a name or number"));
        }
        let port = match port {
            None => default_port,
            Some(port) => match port.parse() {
                Ok(0) | Err(_) => return Err(wrong("the port is not a number from 1 to 65535")),
                Ok(port) => port,
            },
        };
        let path = path.trim_end_matches('/');
        if path.is_empty() {
            return Err(wrong("the name after the port is missing"));
        }
        if path.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\\".contains(c)) || path.contains("//") {
            return Err(wrong("the name has blanks, `?`, `#`, `\\` or an empty part"));
        }
        let credentials = match credentials {
            None => None,
            Some(text) => {
                let (user, password) = text.split_once(':').ok_or_else(|| wrong("credentials are `user:password`"))?;
                let decode = |part| decode(part).ok_or_else(|| wrong("the credentials have a malformed %-escape"));
                Some((decode(user)?, decode(password)?))
            }
        };
        Ok(Self { tls, host: host.to_owned(), port, path: path.to_owned(), credentials })
    }

    /// `HOST:PORT`
    pub fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rtsps" } else { "rtsp" };
        write!(f, "{scheme}://{}{}", self.place(), self.path)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Decodes `%XX`.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Target {
        Target::parse(text).unwrap().unwrap()
    }

    #[test]
    fn the_forms() {
        let Target::Serve(address) = parsed("rtsp://0.0.0.0/front") else { panic!() };
        assert_eq!((address.host.as_str(), address.port, address.path.as_str()), ("0.0.0.0", 8554, "/front"));
        assert_eq!(parsed("rtsps://[::1]/a/b/").to_string(), "rtsps://[::1]:8322/a/b");
        assert_eq!(parsed("RTSP://h:1/x").to_string(), "rtsp://h:1/x");
        assert_eq!(parsed("rtsp+push://server/live").to_string(), "rtsp+push://server:554/live");
        assert_eq!(parsed("hls:www/live"), Target::Hls("www/live".into()));
        assert_eq!(parsed("display:"), Target::Display);
        assert_eq!(parsed("out.mkv"), Target::Record("out.mkv".into()));
        assert_eq!(parsed("d/x-%Y%m%d-%H%M%S.mp4"), Target::Record("d/x-%Y%m%d-%H%M%S.mp4".into()));
        assert_eq!(Target::parse("events.jsonl").unwrap(), None);
        assert_eq!(Target::parse("folder").unwrap(), None);
    }

    #[test]
    fn credentials_are_taken_and_never_shown() {
        let target = parsed("rtsp+push://us%40er:p%3Aw:d@host:99/x");
        let Target::Push(address) = &target else { panic!() };
        assert_eq!(address.credentials, Some(("us@er".into(), "p:w:d".into())));
        for shown in [target.to_string(), format!("{target:?}"), format!("{address:?}")] {
            assert!(shown.contains("host:99/x") && !shown.contains("p:w") && !shown.contains("us@er"), "{shown}");
        }
        for text in ["rtsp://me:secret@host/x", "rtsp+push://me:secret%zz@host/x", "rtsp+push://me:secret@:9/x"] {
            let error = Target::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }

    #[test]
    fn malformed_addresses_say_what_is_wrong() {
        for (text, what) in [
            ("rtsp://", "host is missing"),
            ("rtsp://:8554/x", "host is missing"),
            ("rtsp://h:x/y", "port"),
            ("rtsp://h:0/y", "port"),
            ("rtsp://h:70000/y", "port"),
            ("rtsp://h:8554", "name after the port"),
            ("rtsp://h:8554/", "name after the port"),
            ("rtsp://h/a b", "blanks"),
            ("rtsp://[::1/x", "`]`"),
            ("rtsp://[::g]/x", "IPv6"),
            ("rtsp://[::1]8554/x", ":PORT"),
            ("rtmp://h/x", "unknown kind"),
            ("hls:", "no folder"),
            ("hls:a\0b", "NUL"),
            ("a\0b.mp4", "NUL"),
            ("x-%Q.mp4", "not known"),
            ("x-%H%M%S.mp4", "date"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
            assert!(error.to_string().contains(what), "{text}: {error}");
        }
    }
}
