//! The one error type of the crate: what was wrong, where, and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What sort of thing went wrong, for programs that react to it. The words of a message may change, a kind does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The command line, the configuration or a manifest asks for something impossible.
    Usage,
    /// An output exists and may not be replaced.
    AlreadyExists,
    /// A file, folder or device does not exist.
    NotFound,
    /// The system denies access.
    PermissionDenied,
    /// A disk is full, or a quota used up.
    StorageFull,
    /// The work itself failed.
    Failed,
}

/// An error that a person can act on: a message that names the thing and the place, and often a hint.
///
/// Displayed as `place: message: cause`, with the hint on a line of its own. [`Error::kind`] is what a program matches on,
/// [`source`](StdError::source) the error of the system or library underneath, where there is one.
#[derive(Debug, Clone)]
pub struct Error(Arc<Inner>);

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    /// From the outermost to the innermost: a stream, an input, a key.
    places: Vec<String>,
    message: String,
    hint: Option<String>,
    cause: Option<Cause>,
}

/// What lies underneath.
#[derive(Debug, Clone)]
enum Cause {
    Io(Arc<std::io::Error>),
    Other(Arc<dyn StdError + Send + Sync>),
}

impl Error {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self(Arc::new(Inner { kind, places: Vec::new(), message, hint: None, cause: None }))
    }

    /// The work failed; `message` names the file, stage or device and what went wrong there.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message.into())
    }

    /// The request is impossible; `message` names the option or key.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message.into())
    }

    /// An error of the given kind.
    pub fn of_kind(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::new(kind, message.into())
    }

    /// A failed operation of the system; `message` says which. The kind follows from `error`.
    pub fn io(message: impl Into<String>, error: std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::PermissionDenied
            }
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
            _ => ErrorKind::Failed,
        };
        Self::new(kind, message.into()).with(|inner| inner.cause = Some(Cause::Io(Arc::new(error))))
    }

    /// Adds the error of a library underneath; its words follow the message.
    #[must_use]
    pub fn caused_by(self, error: impl StdError + Send + Sync + 'static) -> Self {
        self.with(|inner| inner.cause = Some(Cause::Other(Arc::new(error))))
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.with(|inner| inner.hint = Some(hint.into()))
    }

    /// Adds the place: an input, a stream, a section. The last one added comes first in the message.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Self {
        self.with(|inner| inner.places.insert(0, place.to_string()))
    }

    /// The sort of error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The places, from the outermost to the innermost.
    pub fn places(&self) -> &[String] {
        &self.0.places
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Other(error) => error.fmt(f),
        }
    }
}

/// The error of an enum's parser.
pub(crate) fn unknown_name(name: &str) -> Error {
    Error::usage(format!("`{name}` is not known here"))
}

/// Two errors are equal when they are of one kind and read the same.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.kind() == other.kind() && self.to_string() == other.to_string())
    }
}

impl Eq for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in &self.0.places {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(cause) = &self.0.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.0.cause.as_ref()? {
            Cause::Io(error) => Some(error.as_ref()),
            Cause::Other(error) => Some(error.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_places_cause_and_hint() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = Error::io("a.mp4", missing).at("front").at("[[stream]]").hint("look for it");
        assert_eq!(error.to_string(), "[[stream]]: front: a.mp4: entity not found\n  hint: look for it");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.places(), ["[[stream]]", "front"]);
        let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        assert_eq!(source.map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
    }
}
