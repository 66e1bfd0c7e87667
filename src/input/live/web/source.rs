//! The GStreamer element that delivers the downloads of a [`Fetcher`].

use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock};

use gst::glib;
use gstreamer as gst;
use gstreamer_base as gst_base;
use gstreamer_base::prelude::*;
use gstreamer_base::subclass::base_src::CreateSuccess;
use gstreamer_base::subclass::prelude::*;
use tokio::task::AbortHandle;

use crate::gst::gst_failed;
use crate::input::live::web::client::Failure;
use crate::input::live::web::{Download, Fetcher, Range, SCHEME};
use crate::lock::lock;
use crate::{Error, Result};

/// Name of the element's factory.
pub(crate) const FACTORY: &str = "oodstreamhttpsrc";

/// Registers the element, once per process.
pub(super) fn register() -> Result<()> {
    static DONE: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    DONE.get_or_init(|| {
        gst::Element::register(None, FACTORY, gst::Rank::PRIMARY, WebSource::static_type())
            .map_err(|e| gst_failed(e).to_string())
    })
    .clone()
    .map_err(Error::failed)
}

glib::wrapper! {
    pub(crate) struct WebSource(ObjectSubclass<Imp>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object,
        @implements gst::URIHandler;
}

#[derive(Default)]
struct State {
    location: String,
    range: Option<Range>,
    download: Option<Download>,
    /// Of the download being read.
    reading: Option<AbortHandle>,
    /// The element is to stop.
    unlocked: bool,
}

#[derive(Default)]
pub(crate) struct Imp {
    state: Mutex<State>,
}

impl Imp {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn fail(&self, failure: &Failure) -> gst::FlowError {
        let details = gst::Structure::builder("details").field("http-status-code", u32::from(failure.status)).build();
        let words = failure.words();
        match failure.status {
            404 | 410 => gst::element_imp_error!(self, gst::ResourceError::NotFound, ["{}", words], details: details),
            401 => gst::element_imp_error!(self, gst::ResourceError::NotAuthorized, ["{}", words], details: details),
            0 => gst::element_imp_error!(self, gst::ResourceError::Read, ["{}", words]),
            _ => gst::element_imp_error!(self, gst::ResourceError::OpenRead, ["{}", words], details: details),
        }
        gst::FlowError::Error
    }
}

#[glib::object_subclass]
impl ObjectSubclass for Imp {
    const NAME: &'static str = "OodstreamHttpSrc";
    type Type = WebSource;
    type ParentType = gst_base::PushSrc;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for Imp {
    fn constructed(&self) {
        self.parent_constructed();
        self.obj().set_format(gst::Format::Bytes);
    }
}

impl GstObjectImpl for Imp {}

impl ElementImpl for Imp {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "HTTP source",
                "Source/Network",
                "Reads what oodstream downloads",
                "oodstream",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let any = gst::Caps::new_any();
            gst::PadTemplate::new("src", gst::PadDirection::Src, gst::PadPresence::Always, &any).into_iter().collect()
        });
        &TEMPLATES
    }
}

impl URIHandlerImpl for Imp {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &[SCHEME]
    }

    fn uri(&self) -> Option<String> {
        Some(self.lock().location.clone()).filter(|location| !location.is_empty())
    }

    fn set_uri(&self, uri: &str) -> std::result::Result<(), glib::Error> {
        let mut state = self.lock();
        (state.location, state.range, state.download) = (uri.to_owned(), None, None);
        Ok(())
    }
}

impl BaseSrcImpl for Imp {
    fn start(&self) -> std::result::Result<(), gst::ErrorMessage> {
        self.lock().unlocked = false;
        Ok(())
    }

    fn stop(&self) -> std::result::Result<(), gst::ErrorMessage> {
        self.lock().download = None;
        Ok(())
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn do_seek(&self, segment: &mut gst::Segment) -> bool {
        let Some(bytes) = segment.downcast_ref::<gst::format::Bytes>() else { return false };
        let first = bytes.start().map_or(0, |first| *first);
        let length = bytes.stop().map(|stop| (*stop).saturating_sub(first));
        let mut state = self.lock();
        state.range = (first > 0 || length.is_some()).then_some((first, length));
        state.download = None;
        true
    }

    fn unlock(&self) -> std::result::Result<(), gst::ErrorMessage> {
        let mut state = self.lock();
        state.unlocked = true;
        if let Some(reading) = &state.reading {
            reading.abort();
        }
        Ok(())
    }

    fn unlock_stop(&self) -> std::result::Result<(), gst::ErrorMessage> {
        self.lock().unlocked = false;
        Ok(())
    }
}

impl PushSrcImpl for Imp {
    fn create(&self, _: Option<&mut gst::BufferRef>) -> std::result::Result<CreateSuccess, gst::FlowError> {
        let mut download = {
            let mut state = self.lock();
            if state.unlocked {
                return Err(gst::FlowError::Flushing);
            }
            let download = match state.download.take() {
                Some(download) => download,
                None => match Fetcher::open(&state.location, state.range) {
                    Some(download) => download,
                    None => return Err(self.fail(&Failure::refused("its connection has ended"))),
                },
            };
            state.reading = Some(download.abort_handle());
            download
        };
        // Without the lock: `unlock` ends the wait.
        let piece = download.next();
        let mut state = self.lock();
        state.reading = None;
        if state.unlocked {
            return Err(gst::FlowError::Flushing);
        }
        match piece {
            Some(Ok(bytes)) => {
                state.download = Some(download);
                Ok(CreateSuccess::NewBuffer(gst::Buffer::from_slice(bytes)))
            }
            Some(Err(failure)) => {
                drop(state);
                Err(self.fail(&failure))
            }
            None => Err(gst::FlowError::Eos),
        }
    }
}
