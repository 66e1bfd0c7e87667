//! Values of a pipeline file whose meaning depends on where the file is.

use std::ffi::OsString;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

/// The name of the newtype that a deserialiser knows located values by. One that knows the folder answers with the sequence
/// `[folder, value]`, the folder as bytes; any other with the value alone.
pub(crate) const LOCATED: &str = "oodstream::Located";

/// What a relative path in it starts at is the folder of the file that names it.
pub(crate) trait Anchor {
    /// Lets relative paths start at `folder`.
    fn anchor(&mut self, folder: &Path);
}

/// Reads a value, anchored at the folder of the file that it stands in.
///
/// # Errors
/// It is no `T`.
pub(crate) fn located<'de, D: Deserializer<'de>, T: Deserialize<'de> + Anchor>(deserializer: D) -> Result<T, D::Error> {
    struct Located<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de> + Anchor> Visitor<'de> for Located<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a path")
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
            T::deserialize(deserializer)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<T, A::Error> {
            let missing = |index| de::Error::invalid_length(index, &self);
            let folder: Vec<u8> = sequence.next_element()?.ok_or_else(|| missing(0))?;
            let mut value: T = sequence.next_element()?.ok_or_else(|| missing(1))?;
            let folder = of_bytes(folder).ok_or_else(|| de::Error::custom("the name of the folder is not UTF-8"))?;
            value.anchor(Path::new(&folder));
            Ok(value)
        }
    }

    deserializer.deserialize_newtype_struct(LOCATED, Located(PhantomData))
}

#[cfg(unix)]
fn of_bytes(name: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(name))
}

#[cfg(not(unix))]
fn of_bytes(name: Vec<u8>) -> Option<OsString> {
    String::from_utf8(name).ok().map(OsString::from)
}

/// A path in a pipeline file; a relative one starts at the folder of that file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedPath(PathBuf);

impl Deref for LocatedPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for LocatedPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl From<PathBuf> for LocatedPath {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl From<&Path> for LocatedPath {
    fn from(path: &Path) -> Self {
        Self(path.to_path_buf())
    }
}

impl Anchor for PathBuf {
    fn anchor(&mut self, folder: &Path) {
        // An absolute path takes the place of the folder.
        *self = folder.join(&*self);
    }
}

impl<'de> Deserialize<'de> for LocatedPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located(deserializer).map(Self)
    }
}
