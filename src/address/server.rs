//! Addresses of servers: `rtsp://`, `http://` and their kin, read by the `url` crate.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use percent_encoding::percent_decode_str;
use url::{Host, ParseError, Url};

use super::secret::mask_path;
use crate::{Error, Result};

/// A server and the requested resource, without credentials. Shown, it has no secret of its path or query either.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// The address as the server gets it, in the schemes `rtsp`, `rtsps`, `http` and `https`.
    pub(crate) location: String,
    /// Name or number, an IPv6 number without its brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    shown: String,
}

/// An address of a server, taken apart.
pub(crate) struct Remote {
    pub(crate) server: Server,
    pub(crate) login: Option<Login>,
    /// What no message may hold, as written and decoded.
    pub(crate) secrets: Vec<String>,
}

/// User and password. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Remote {
    /// Reads what follows `scheme://`. `default_port` holds where the address names none.
    ///
    /// Credentials go up to the last `@` before the path, so that they may hold an `@`; `%40` and the like in them are decoded,
    /// a `%` by itself stays. A fragment is left out.
    ///
    /// # Errors
    /// It is malformed. The message holds no part of it: the credentials may be anywhere in it.
    pub(crate) fn parse(scheme: &str, rest: &str, default_port: u16) -> Result<Self> {
        let wrong = |what: &str| {
            Error::usage(format!("{scheme}://...: {what}")).hint(format!(
                "{scheme}://user:password@host:port/path; in user and password write %40 for @, %2F for /, %3A for :"
            ))
        };
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None if broken_off(authority, path, fragment) => {
                return Err(wrong("there seems to be a /, ? or # in the user or the password"));
            }
            None => (None, authority),
        };
        let mut secrets = Vec::new();
        let login = match login {
            Some(login) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let decoded = |text| {
                    let text =
                        percent_decode_str(text).decode_utf8().ok().filter(|text| !text.contains(char::is_control));
                    text.map(String::from).ok_or_else(|| wrong("user or password is no valid text"))
                };
                let login = Login { user: decoded(user)?, password: decoded(password)? };
                secrets.extend([password.to_owned(), login.password.clone()]);
                Some(login)
            }
            None => None,
        };
        // `rtsp+push` is how outputs name the direction; on the wire it is `rtsp`.
        let wire = scheme.split('+').next().unwrap_or(scheme);
        let url = Url::parse(&format!("{wire}://{place}{path}")).map_err(|error| wrong(reason(error)))?;
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(number)) => IpAddr::from(number).to_string(),
            Some(Host::Ipv6(number)) => IpAddr::from(number).to_string(),
            _ => return Err(wrong(reason(ParseError::EmptyHost))),
        };
        let port = url.port_or_known_default().unwrap_or(default_port);
        if port == 0 {
            return Err(wrong(reason(ParseError::InvalidPort)));
        }
        let location = String::from(url);
        let path = location.find("://").and_then(|at| Some(at + 3 + location[at + 3..].find(['/', '?'])?));
        let (place, path) = location.split_at(path.unwrap_or(location.len()));
        let shown = format!("{place}{}", mask_path(path, &mut secrets));
        secrets.retain(|secret| !secret.is_empty());
        Ok(Self { server: Server { location, host, port, shown }, login, secrets })
    }
}

impl Remote {
    /// With the port in the address, named or not.
    pub(crate) fn with_port(mut self) -> Self {
        let server = &mut self.server;
        let scheme = if server.tls() { "rtsps" } else { "rtsp" };
        let path = server.path().trim_end_matches('/').to_owned();
        server.shown = format!("{scheme}://{}{}", server.place(), mask_path(&path, &mut Vec::new()));
        server.location = format!("{scheme}://{}{path}", server.place());
        self
    }
}

impl Server {
    /// The connection to it is encrypted.
    pub(crate) fn tls(&self) -> bool {
        self.location.starts_with("rtsps:") || self.location.starts_with("https:")
    }

    /// The same host and port, and not less encrypted than `other`: who may see its login.
    pub(crate) fn is_trusted_by(&self, other: &Self) -> bool {
        self.host.eq_ignore_ascii_case(&other.host) && self.port == other.port && (self.tls() || !other.tls())
    }

    /// Scheme, host and port as RTSP requests have them.
    pub(crate) fn origin(&self) -> String {
        format!("rtsp://{}", self.split().0)
    }

    /// What follows the port.
    pub(crate) fn path(&self) -> &str {
        self.split().1
    }

    /// `HOST:PORT`
    pub(crate) fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn split(&self) -> (&str, &str) {
        let rest = self.location.split_once("://").map_or("", |(_, rest)| rest);
        rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    /// From the first line of a file: `user:password`.
    ///
    /// # Errors
    /// The file cannot be read or its first line is not of that kind. The message holds no part of it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::failed(format!("{name}: the credentials cannot be read: {e}")))?;
        let line = text.lines().next().unwrap_or_default().trim_end();
        match line.split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Ok(Self { user: user.to_string(), password: password.to_string() })
            }
            _ => Err(Error::failed(format!("{name}: there are no credentials on its first line"))
                .hint("write `user:password` there")),
        }
    }
}

fn reason(error: ParseError) -> &'static str {
    match error {
        ParseError::EmptyHost => "the host is missing",
        ParseError::InvalidPort => "the port is not a number from 1 to 65535",
        ParseError::InvalidIpv4Address => "the host is no valid IPv4 address",
        ParseError::InvalidIpv6Address => "an IPv6 address is written as [ADDRESS]:PORT, and this is none",
        _ => "the host is not a name or number",
    }
}

/// Whether what looks like host and port (`user:12`) may be the beginning of `user:12/3@host`.
fn broken_off(authority: &str, path: &str, fragment: &str) -> bool {
    let place = path.split('?').next().unwrap_or_default();
    let colon = authority.rsplit(']').next().is_some_and(|port| port.contains(':')) || place.contains(':');
    fragment.contains('@') || colon && (place.contains('@') || place.is_empty() && path.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Result<Remote> {
        let (scheme, rest) = address.split_once("://").unwrap();
        Remote::parse(scheme, rest, 554)
    }

    #[test]
    fn any_character_of_a_password_is_possible() {
        for (written, password) in [
            ("s%3Aecret%2F1", "s:ecret/1"),
            ("p@ss", "p@ss"),
            ("50%", "50%"),
            ("%zz%4", "%zz%4"),
            ("a b|{}<>^`\"", "a b|{}<>^`\""),
            ("ü%C3%BC", "üü"),
            ("a:b", "a:b"),
            ("", ""),
        ] {
            for scheme in ["rtsp", "https", "rtsps+push"] {
                let remote = parse(&format!("{scheme}://us%40er:{written}@[::1]:99/x")).unwrap();
                let login = remote.login.unwrap();
                assert_eq!((login.user.as_str(), login.password.as_str()), ("us@er", password));
                assert_eq!((remote.server.host.as_str(), remote.server.port), ("::1", 99));
                assert_eq!(remote.server.path(), "/x");
                let shown = format!("{} {:?} {login:?}", remote.server, remote.server);
                assert!(!shown.contains("er"), "{shown}");
            }
        }
        assert!(parse("rtsp://u:%ff@h/x").is_err() && parse("rtsp://u:a%0d%0ab@h/x").is_err());
    }

    #[test]
    fn paths_reach_the_server_as_they_are() {
        for (address, location, path) in [
            ("rtsp://cam", "rtsp://cam", ""),
            ("rtsp://cam:554/a%20b/50%?x=%", "rtsp://cam:554/a%20b/50%?x=%", "/a%20b/50%?x=%"),
            ("rtsp://cam/a b#part", "rtsp://cam/a%20b", "/a%20b"),
            ("http://CAM:80/x?y=1", "http://cam/x?y=1", "/x?y=1"),
            ("rtsps+push://[fe80::1]/live", "rtsps://[fe80::1]/live", "/live"),
        ] {
            let server = parse(address).unwrap().server;
            assert_eq!((server.location.as_str(), server.path()), (location, path));
        }
    }

    #[test]
    fn credentials_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("login");
        std::fs::write(&path, "user:se:cret\nmore\n").unwrap();
        let login = Login::read(&path).unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("user", "se:cret"));
        for text in ["", "\n", "onlysecret", ":secret"] {
            std::fs::write(&path, text).unwrap();
            let error = Login::read(&path).unwrap_err().to_string();
            assert!(error.contains("login") && !error.contains("secret"), "{error}");
        }
        assert!(Login::read(&folder.path().join("gone")).unwrap_err().to_string().contains("gone"));
    }
}
