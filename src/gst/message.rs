//! Messages of GStreamer's bus as errors that name the file, the fault and the remedy.

use std::path::Path;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_pbutils::MissingPluginMessage;

use crate::gst::doctor;
use crate::gst::mp4::index::Fault;
use crate::{Error, ErrorKind};

/// The messages of a bus that bear on a failure, collected as they arrive.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// The missing plugin as pbutils describes it ("H.264 (High Profile) decoder"), and the package that contains it.
    pub missing: Option<(String, String)>,
    /// The first error.
    pub error: Option<(gst::glib::Error, String)>,
}

impl Trouble {
    /// Collects and logs a message. True for an error.
    pub fn note(&mut self, message: &gst::Message) -> bool {
        if let Some(text) = text_of(message) {
            tracing::debug!("{text}");
        }
        self.gather(message)
    }

    /// Collects a message without logging it. True for an error.
    pub fn gather(&mut self, message: &gst::Message) -> bool {
        match message.view() {
            gst::MessageView::Error(error) => {
                let detail = error.debug().map(|d| d.to_string()).unwrap_or_default();
                self.error.get_or_insert((error.error(), detail));
                true
            }
            gst::MessageView::Element(_) => {
                if let Ok(missing) = MissingPluginMessage::parse(message) {
                    let what = missing.description().to_string();
                    let package = doctor::package_for_description(&what);
                    self.missing.get_or_insert((what, package.to_string()));
                }
                false
            }
            _ => false,
        }
    }

    /// The error for an input from which no frame could be read.
    pub fn input_error(&self, path: &Path) -> Error {
        let name = path.display();
        if let Some((what, package)) = &self.missing {
            let error = Error::failed(format!("{name}: it cannot be decoded, GStreamer has no {}", readable(what)));
            return error.hint(if package == LIBAV && gst::Registry::get().find_plugin("libav").is_some() {
                "convert it first: ffmpeg -i INPUT -c:v libx264 -crf 12 -c:a copy OUTPUT.mkv".to_owned()
            } else {
                format!("apt-get install {package}")
            });
        }
        let Some((error, debug)) = &self.error else {
            return Error::failed(format!("{name}: no frame could be decoded"))
                .hint("the file is damaged or has no pictures; `ffprobe` may show more");
        };
        let stream = error.kind::<gst::StreamError>();
        if stream == Some(gst::StreamError::CodecNotFound) {
            // Said by `gst::decoder`.
            return Error::failed(format!("{name}: {}", error.message())).hint("--hw off decodes on the CPU");
        }
        if matches!(stream, Some(gst::StreamError::TypeNotFound | gst::StreamError::WrongType)) {
            return Error::failed(format!("{name}: this is not a video file"))
                .hint("give a video (mp4, mov, mkv, avi, webm, ts) or a folder of images");
        }
        if debug.contains("moov") || debug.contains("no playable streams") || error.message().contains("no playable") {
            return unplayable(path, Fault::NoIndex);
        }
        if let Some(gst::ResourceError::OpenRead | gst::ResourceError::Read | gst::ResourceError::NotFound) =
            error.kind::<gst::ResourceError>()
        {
            return Error::failed(format!("{name}: cannot be read: {}", error.message()));
        }
        let detail = debug.lines().last().map(str::trim).unwrap_or_default();
        Error::failed(format!("{name}: cannot be decoded: {} {detail}", error.message()))
            .hint("the file is damaged or not a video")
    }

    /// The error for a failed output; `kept` is the temporary file with the part written so far.
    pub fn output_error(&self, output: &Path, kept: Option<&Path>) -> Error {
        let name = output.display();
        let hint = kept.map(|kept| format!("what was written so far is in {}", kept.display()));
        let hinted = |error: Error| hint.as_ref().map_or(error.clone(), |hint| error.hint(hint));
        let Some((error, debug)) = &self.error else {
            return hinted(Error::failed(format!("{name}: writing stopped")));
        };
        if error.kind::<gst::ResourceError>() == Some(gst::ResourceError::NoSpaceLeft) {
            let rest = hint.map_or_else(String::new, |hint| format!("{hint}; "));
            return Error::of_kind(ErrorKind::StorageFull, format!("{name}: no space left on the disk"))
                .hint(format!("{rest}free some space and run again"));
        }
        let detail = debug.lines().last().map(str::trim).unwrap_or_default();
        hinted(Error::failed(format!("{name}: cannot be written: {} {detail}", error.message())))
    }
}

/// The package to suggest when no other is known.
const LIBAV: &str = "gstreamer1.0-libav";

/// The description of a missing plugin, completed by the codec tag of the file where the plugin's name is unknown.
fn readable(what: &str) -> String {
    match what.split_once("fourcc-") {
        Some((_, rest)) => match rest.split_once(' ') {
            Some((code, kind)) => format!("{kind} for `{code}`"),
            None => what.to_owned(),
        },
        None => what.to_owned(),
    }
}

/// The text of an error or a warning with its source element, for the log.
pub(crate) fn text_of(message: &gst::Message) -> Option<String> {
    let (error, detail) = match message.view() {
        gst::MessageView::Error(error) => (error.error(), error.debug()),
        gst::MessageView::Warning(warning) => (warning.error(), warning.debug()),
        _ => return None,
    };
    Some(format!("{}: {error} ({})", source_of(message), detail.unwrap_or_default()))
}

/// Code and text of a progress message, such as `connect`.
///
/// Both are read from the message's fields: `Progress::get` of gstreamer-rs 0.25 leaks its copies of them.
pub(crate) fn progress_of(message: &gst::Message) -> Option<(&str, &str)> {
    let fields = message.structure().filter(|_| message.type_() == gst::MessageType::Progress)?;
    Some((fields.get("code").ok()?, fields.get("text").ok()?))
}

fn source_of(message: &gst::Message) -> String {
    message.src().map(|s| s.name().to_string()).unwrap_or_default()
}

/// The error for an MP4 or MOV file that cannot be played.
pub(crate) fn unplayable(path: &Path, fault: Fault) -> Error {
    let (what, hint) = match fault {
        Fault::NoIndex => (
            "the index of the file is missing (no `moov` box)",
            "the recording was interrupted; a tool such as `untrunc` can rebuild it from a whole file \
             of the same camera",
        ),
        Fault::IndexCut => (
            "the file ends inside its index (`moov` box)",
            "the copy or the download was cut off; fetch the file again",
        ),
        Fault::NoStart => (
            "this is a fragment of a stream without the part that says what it holds (no `moov` box)",
            "join it to the initialisation segment of its stream: cat init.mp4 fragment.m4s > whole.mp4",
        ),
        Fault::Encrypted => (
            "the video is encrypted (DRM)",
            "it can only be read with its key: decrypt it first, for example with `ffmpeg -decryption_key`",
        ),
    };
    Error::failed(format!("{}: {what}", path.display())).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_where_it_is() {
        gst::init().unwrap();
        let message = gst::message::Progress::new(gst::ProgressType::Start, "connect", "Connecting to the camera");
        let once = progress_of(&message).unwrap();
        assert_eq!(once, ("connect", "Connecting to the camera"));
        // The same address again: nothing was copied, so nothing has to be freed.
        let again = progress_of(&message).unwrap();
        assert!(std::ptr::eq(once.0, again.0) && std::ptr::eq(once.1, again.1));
        assert_eq!(progress_of(&gst::message::Eos::new()), None);
    }
}
