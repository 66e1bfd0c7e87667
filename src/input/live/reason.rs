//! Why a connection was lost, in words.

use std::path::Path;

use gstreamer as gst;

use crate::gst::message::Trouble;
use crate::input::live::address::{LiveInput, Source};
use crate::input::live::relay::Finding;

/// A reason and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    pub words: String,
    /// The credentials are wrong: cameras lock out who tries too often.
    pub refused: bool,
    /// The server has no room now.
    pub busy: bool,
    /// It says little; the server may be asked.
    pub vague: bool,
    /// Where the server said that the stream is now.
    pub moved: Option<String>,
}

impl Reason {
    pub fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), refused: false, busy: false, vague: false, moved: None }
    }

    /// From what a camera said to the relay.
    pub fn found(finding: Finding) -> Self {
        match finding {
            Finding::Unreachable(words) | Finding::Refused(words) => Self::new(words),
            Finding::Denied(words) => Self { refused: true, ..Self::new(words) },
            Finding::Busy(words) => Self { busy: true, ..Self::new(words) },
            Finding::Moved(address) => Self { moved: Some(address), ..Self::new("the stream is at another address") },
        }
    }

    /// From what the bus said.
    pub fn of(trouble: &Trouble, input: &LiveInput) -> Self {
        if let Some((what, package)) = &trouble.missing {
            if what.contains("html") || what.contains("HTML") {
                return Self::new(
                    "the server sends a web page, not a video: it may want a login, or the address is that of its pages",
                );
            }
            return Self::new(format!("the {what} is missing (apt-get install {package})"));
        }
        let Some((error, debug)) = &trouble.error else { return Self::new("the stream stopped") };
        // Without a detail the last line is a place in GStreamer's source.
        let detail = debug.lines().last().map(str::trim).filter(|line| !line.contains(".c(")).unwrap_or_default();
        let text = input.hide(&format!("{} {detail}", error.message()));
        let vague = Self { vague: true, ..Self::new(text.trim().trim_end_matches('.')) };
        if let Source::Device(device) = &input.source {
            return of_device(&device.path, error, &text).map_or(vague, Self::new);
        }
        match error.kind::<gst::ResourceError>() {
            Some(gst::ResourceError::NotFound) => return Self::new("404: there is nothing at this address"),
            Some(gst::ResourceError::NotAuthorized) => {}
            _ if text.contains("Unauthorized") || text.contains("(401)") => {}
            _ => return vague,
        }
        let denied = match input.login {
            Some(_) => "401: wrong user or password",
            None => "401: it wants a user and a password, and none are given",
        };
        Self { refused: true, ..Self::new(denied) }
    }
}

/// What an error of the device at `path` comes down to.
fn of_device(path: &str, error: &gst::glib::Error, text: &str) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let kind = error.kind::<gst::ResourceError>();
    if says(&["not a capture device"]) {
        Some(format!("{path} brings no pictures: of the devices of one camera mostly the first does"))
    } else if says(&["Inappropriate ioctl"]) {
        Some(format!("{path} is no camera"))
    } else if says(&["Permission denied", "Operation not permitted"]) {
        Some(format!("{path} may not be read; perhaps the user is not in its group, which is `video` on most systems"))
    } else if kind == Some(gst::ResourceError::Busy) || says(&["Device or resource busy"]) {
        Some("the device is in use, perhaps by another program".to_owned())
    // Of one that is unplugged the driver tells whatever it was at.
    } else if kind == Some(gst::ResourceError::NotFound) || !Path::new(path).exists() {
        Some(format!("there is no device {path}"))
    } else {
        None
    }
}
