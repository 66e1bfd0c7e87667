//! Why a connection was lost, in words.

use gstreamer as gst;

use super::super::message::Trouble;
use super::address::{LiveInput, Source};

/// A reason and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    pub words: String,
    /// The credentials are wrong: cameras lock out who tries too often.
    pub refused: bool,
    /// It says little; the server may be asked.
    pub vague: bool,
}

impl Reason {
    pub fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), refused: false, vague: false }
    }

    /// From what the bus said.
    pub fn of(trouble: &Trouble, input: &LiveInput) -> Self {
        if let Some((what, package)) = &trouble.missing {
            return Self::new(format!("the {what} is missing (apt-get install {package})"));
        }
        let Some((error, debug)) = &trouble.error else { return Self::new("the stream stopped") };
        // Without a detail the last line is a place in GStreamer's source.
        let detail = debug.lines().last().map(str::trim).filter(|line| !line.contains(".c(")).unwrap_or_default();
        let text = input.hide(&format!("{} {detail}", error.message()));
        let refused = Self { refused: true, ..Self::new("") };
        let denied = match input.login {
            Some(_) => "401: wrong user or password",
            None => "401: it wants a user and a password, and none are given",
        };
        match error.kind::<gst::ResourceError>() {
            Some(gst::ResourceError::NotAuthorized) => return Self { words: denied.to_string(), ..refused },
            Some(gst::ResourceError::NotFound) => {
                return Self::new(match &input.source {
                    Source::Device(device) => format!("there is no device {}", device.path),
                    _ => "404: there is nothing at this address".to_string(),
                });
            }
            Some(gst::ResourceError::Busy) => return Self::new("the device is in use by another program"),
            _ => {}
        }
        if text.contains("Unauthorized") || text.contains("(401)") {
            return Self { words: denied.to_string(), ..refused };
        }
        if let Source::Device(device) = &input.source
            && (text.contains("No such file or directory") || text.contains("No such device"))
        {
            return Self::new(format!("there is no device {}", device.path));
        }
        Self { vague: true, ..Self::new(text.trim().trim_end_matches('.')) }
    }
}
