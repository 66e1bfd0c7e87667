//! The addresses of live outputs, as `-o` takes them. Credentials in them are never displayed.

use std::fmt;
use std::path::PathBuf;

use crate::address::{Address, Login, Remote, Server};
use crate::output::publish::clips::ClipFeed;
use crate::output::publish::template::Template;
use crate::{Error, Result};

/// Where a live output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `rtsp://HOST:PORT/NAME`, `rtsps://...`: served here.
    Serve(Server),
    /// `rtsp+push://...`, `rtsps+push://...`: sent to another server.
    Push(Server, Option<Login>),
    /// `hls:DIR`
    Hls(PathBuf),
    /// `x.mp4`; with strftime fields in its name, in segments.
    Record(PathBuf),
    /// `clips:DIR`
    Clips(ClipFeed),
    /// `display:`
    Display,
}

/// Ports when an address names none: to serve, any user may open these; to push, those of the standard.
const SERVE_PORTS: [u16; 2] = [8554, 8322];
const PUSH_PORTS: [u16; 2] = [554, 322];

impl Target {
    /// Reads `text` as [`Target::of`] does.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(test, feature = "internals"))]
    pub fn parse(text: &str) -> Result<Option<Self>> {
        Self::of(&Address::from(text))
    }

    /// Takes `address` if it has the form of a live output: one of the addresses above, or a video file's name.
    ///
    /// # Errors
    /// It has the form, and is malformed; or it is an address of an unknown kind.
    pub fn of(address: &Address) -> Result<Option<Self>> {
        // GStreamer's strings end at a NUL.
        if address.text().is_some_and(|text| text.contains('\0')) {
            return Err(Error::usage("an output holds a NUL character"));
        }
        if address.text() == Some("display:") {
            return Ok(Some(Self::Display));
        }
        if let Some(folder) = address.after("hls") {
            if folder.as_os_str().is_empty() {
                return Err(Error::usage("hls: there is no folder in it").hint("hls:FOLDER"));
            }
            return Ok(Some(Self::Hls(folder.to_path_buf())));
        }
        if let Some((scheme, rest)) = address.url() {
            let (push, tls) = match scheme.as_str() {
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
            let Remote { server, login, .. } = remote(&scheme, rest, ports[usize::from(tls)])?;
            if push {
                return Ok(Some(Self::Push(server, login)));
            }
            if login.is_some() {
                return Err(Error::usage(format!("{server}: a served address cannot hold a password"))
                    .hint("name a file with one `user:password` per line in serve.users"));
            }
            return Ok(Some(Self::Serve(server)));
        }
        let path = address.path();
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
            Self::Push(..) => "push",
            Self::Hls(_) => "hls",
            Self::Record(_) => "record",
            Self::Clips(_) => "clips",
            Self::Display => "display",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve(server) => server.fmt(f),
            // After `rtsp` or `rtsps`.
            Self::Push(server, _) => f.write_str(&server.to_string().replacen("://", "+push://", 1)),
            Self::Hls(folder) => write!(f, "hls:{}", folder.display()),
            Self::Record(path) => path.display().fmt(f),
            Self::Clips(feed) => write!(f, "clips:{}", feed.folder.display()),
            Self::Display => f.write_str("display"),
        }
    }
}

/// The server of an output: an RTSP address with a name after the port.
fn remote(scheme: &str, rest: &str, default_port: u16) -> Result<Remote> {
    let remote = Remote::parse(scheme, rest, default_port)?;
    let wrong = |what: &str| {
        Error::usage(format!("{}: {what}", remote.server))
            .hint(format!("{scheme}://HOST:PORT/NAME, such as {scheme}://127.0.0.1:{default_port}/front"))
    };
    let path = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let path = path.find(['/', '?', '#']).map_or("", |at| &path[at..]).trim_end_matches('/');
    if path.is_empty() {
        return Err(wrong("the name after the port is missing"));
    }
    if path.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\\".contains(c)) || path.contains("//") {
        return Err(wrong("the name has blanks, `?`, `#`, `\\` or an empty part"));
    }
    Ok(remote.with_port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Target {
        Target::parse(text).unwrap().unwrap()
    }

    #[test]
    fn the_forms() {
        let Target::Serve(server) = parsed("rtsp://0.0.0.0/front") else { panic!() };
        assert_eq!((server.host.as_str(), server.port, server.path()), ("0.0.0.0", 8554, "/front"));
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
        let Target::Push(_, Some(login)) = &target else { panic!() };
        assert_eq!((login.user.as_str(), login.password.as_str()), ("us@er", "p:w:d"));
        for shown in [target.to_string(), format!("{target:?}")] {
            assert!(shown.contains("host:99/x") && !shown.contains("p:w") && !shown.contains("us@er"), "{shown}");
        }
        for text in ["rtsp://me:secret@host/x", "rtsp+push://me:secret%ff@host/x", "rtsp+push://me:secret@:9/x"] {
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
            ("rtsp://[::1/x", "IPv6"),
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
