//! Inputs and outputs as the command line and pipeline files name them.
//!
//! An [`Address`] is what was written; rooms above take it apart by kind: files, folders and patterns, `rtsp://`, `http://`,
//! `v4l2://` and `test://` as inputs, files and `rtsp://`, `rtsp+push://`, `hls:`, `events:` and others as outputs.

mod located;
mod secret;
mod server;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

pub use located::LocatedPath;
pub(crate) use located::{Anchor, LOCATED, located};
pub use secret::hide_credentials;
pub(crate) use secret::mask;
pub(crate) use server::Remote;
pub use server::{Login, Server};

/// An input or an output by its name: a path, which need not be UTF-8, or an address such as `rtsp://HOST/NAME`.
///
/// Displayed and debugged it has no credentials, and no secrets of a path or query.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(OsString);

impl Address {
    /// The scheme in lower case and what follows its `://`; `None` for paths and outputs with a prefix.
    pub(crate) fn url(&self) -> Option<(String, &str)> {
        let (scheme, rest) = self.text()?.split_once("://")?;
        Some((scheme.to_ascii_lowercase(), rest))
    }

    /// What follows `prefix` and a colon.
    pub(crate) fn after(&self, prefix: &str) -> Option<&Path> {
        let rest = self.0.as_encoded_bytes().strip_prefix(prefix.as_bytes())?.strip_prefix(b":")?;
        // SAFETY: the bytes come from an `OsStr`, split after a colon, which is valid UTF-8.
        Some(Path::new(unsafe { OsStr::from_encoded_bytes_unchecked(rest) }))
    }

    /// The whole as a path.
    pub(crate) fn path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The whole as text, where it is UTF-8.
    pub(crate) fn text(&self) -> Option<&str> {
        self.0.to_str()
    }

    /// Whether `{name}` is in it.
    pub(crate) fn has_name(&self) -> bool {
        self.0.as_encoded_bytes().windows(NAME.len()).any(|part| part == NAME.as_bytes())
    }

    /// With `name` in place of each `{name}`.
    #[must_use]
    pub(crate) fn with_name(&self, name: &str) -> Self {
        let (mut rest, mut replaced) = (self.0.as_encoded_bytes(), Vec::new());
        while let Some(at) = rest.windows(NAME.len()).position(|part| part == NAME.as_bytes()) {
            replaced.extend_from_slice(&rest[..at]);
            replaced.extend_from_slice(name.as_bytes());
            rest = &rest[at + NAME.len()..];
        }
        replaced.extend_from_slice(rest);
        // SAFETY: pieces of an `OsStr`, split before and after valid UTF-8, with valid UTF-8 between them.
        Self(unsafe { OsString::from_encoded_bytes_unchecked(replaced) })
    }
}

/// What stands for the stream's name in an output.
const NAME: &str = "{name}";

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        let Some((scheme, rest)) = text.split_once("://") else { return f.write_str(&text) };
        // Up to the last `@`, wherever it is: in a malformed address a password may hold anything.
        let place = match Remote::parse(&scheme.to_ascii_lowercase(), rest, 554) {
            Ok(remote) if remote.login.is_none() => rest,
            _ => rest.rsplit_once('@').map_or(rest, |(_, place)| place),
        };
        write!(f, "{scheme}://{}", secret::mask_path(place, &mut Vec::new()))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for Address {
    fn from(address: &T) -> Self {
        Self(address.as_ref().to_owned())
    }
}

impl From<String> for Address {
    fn from(address: String) -> Self {
        Self(address.into())
    }
}

impl From<OsString> for Address {
    fn from(address: OsString) -> Self {
        Self(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self(path.into())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl Anchor for Address {
    fn anchor(&mut self, folder: &Path) {
        if self.url().is_none() {
            *self = Self(folder.join(&self.0).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        for (address, shown) in [
            ("rtsp://u:secret@h/x", "rtsp://h/x"),
            ("rtsp://u:secret@h:port/x", "rtsp://h:port/x"),
            ("rtsp://u:12/secret@h/x", "rtsp://h/x"),
            ("rtsp+push://u:sec@ret@h/x?token=secret", "rtsp+push://h/x?token=***"),
            ("nope://u:secret@h", "nope://h"),
            ("http://h/x?mail=a@b", "http://h/x?mail=a@b"),
            ("rtsp://h/{name}", "rtsp://h/{name}"),
            ("me@work.mp4", "me@work.mp4"),
        ] {
            assert_eq!(Address::from(address).to_string(), shown);
            assert_eq!(format!("{:?}", Address::from(address)), shown);
        }
    }

    #[test]
    fn names_need_not_be_utf_8() {
        let address = Address::from(OsStr::from_bytes(b"events:{name}/\xff{name}.jsonl"));
        let named = address.with_name("front");
        assert_eq!(named.after("events"), Some(Path::new(OsStr::from_bytes(b"front/\xfffront.jsonl"))));
        assert!(address.has_name() && !named.has_name() && named.url().is_none());
        assert_eq!(address.after("masks"), None);
    }

    #[test]
    fn addresses_have_no_folder() {
        let folder = Path::new("/etc");
        for (address, anchored) in [("a.mp4", "/etc/a.mp4"), ("/b", "/b"), ("test://ball", "test://ball")] {
            let mut address = Address::from(address);
            address.anchor(folder);
            assert_eq!(address, Address::from(anchored));
        }
    }
}
