//! The choice of video decoders, and their pictures in ordinary memory.
//!
//! Decoders are chosen by GStreamer's rank. Those on hardware may leave pictures in the memory of their device; where
//! they cannot do otherwise, the element that downloads them is put behind the decoder.

use gst::glib;
use gst::prelude::*;
use gstreamer as gst;
use serde::{Deserialize, Serialize};

use super::gst_failed;
use crate::{Error, Result};

/// Whether video is decoded and encoded on hardware.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "kebab-case")]
pub enum Hardware {
    /// Where an element for it is installed and ranks first.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always; an error where that is not possible.
    Require,
}

impl Hardware {
    /// Whether elements of `factory` may be used.
    pub(crate) fn allows(self, factory: &gst::ElementFactory) -> bool {
        match self {
            Self::Auto => true,
            Self::Off => !is_hardware(factory),
            Self::Require => is_hardware(factory),
        }
    }
}

/// The decoders that may be used.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DecoderChoice {
    /// A GStreamer element, for the formats that it decodes; by rank when left out.
    pub element: Option<String>,
    /// On hardware or not.
    pub hardware: Hardware,
}

impl DecoderChoice {
    /// Checks the choice against what is installed.
    ///
    /// # Errors
    /// There is no such decoder, or none on hardware.
    pub fn check(&self) -> Result<()> {
        const LIST: &str = "`oodstream doctor` lists the decoders";
        if let Some(name) = &self.element {
            let factory = gst::ElementFactory::find(name)
                .ok_or_else(|| Error::usage(format!("decoder: GStreamer has no element `{name}`")).hint(LIST))?;
            if !is_video_decoder(&factory) {
                return Err(Error::usage(format!("decoder: {name} does not decode video")).hint(LIST));
            }
            if !self.hardware.allows(&factory) {
                let kind = if is_hardware(&factory) { "runs on hardware" } else { "does not run on hardware" };
                return Err(Error::usage(format!("decoder: {name} {kind}, hw says otherwise")));
            }
        }
        if self.hardware == Hardware::Require && !decoders().iter().any(|decoder| decoder.hardware) {
            return Err(Error::failed("hw: no hardware video decoder is installed")
                .hint("without it, video is decoded on the CPU; `oodstream doctor` lists the decoders"));
        }
        Ok(())
    }

    /// Makes `decodebin` keep to the choice.
    pub(crate) fn apply(&self, decodebin: &gst::Element) {
        if *self == Self::default() {
            return;
        }
        let choice = self.clone();
        decodebin.connect("autoplug-select", false, move |values| {
            let caps = values.get(2)?.get::<gst::Caps>().ok()?;
            let factory = values.get(3)?.get::<gst::ElementFactory>().ok()?;
            let skipped = is_video_decoder(&factory) && !choice.takes(&factory, &caps);
            select(if skipped { "skip" } else { "try" })
        });
    }

    fn takes(&self, factory: &gst::ElementFactory, caps: &gst::Caps) -> bool {
        let named = self.element.as_deref().and_then(gst::ElementFactory::find);
        match named.filter(|named| named.can_sink_any_caps(caps)) {
            Some(named) => named.name() == factory.name(),
            None => self.hardware.allows(factory),
        }
    }
}

/// A value of decodebin's enumeration of answers.
fn select(answer: &str) -> Option<glib::Value> {
    glib::EnumClass::with_type(glib::Type::from_name("GstAutoplugSelectResult")?)?.to_value_by_nick(answer)
}

/// An installed video decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderInfo {
    /// Element name, for `--decoder`.
    pub name: String,
    /// It runs on separate hardware.
    pub hardware: bool,
}

/// The installed decoders of video that are chosen by rank, by descending rank.
pub fn decoders() -> Vec<DecoderInfo> {
    let found = gst::ElementFactory::factories_with_type(gst::ElementFactoryType::DECODER, gst::Rank::MARGINAL);
    let mut found: Vec<_> = found.into_iter().filter(is_video_decoder).collect();
    found.sort_by_key(|factory| std::cmp::Reverse(factory.rank()));
    found
        .iter()
        .map(|factory| DecoderInfo { name: factory.name().to_string(), hardware: is_hardware(factory) })
        .collect()
}

fn class(factory: &gst::ElementFactory) -> &str {
    factory.metadata(gst::ELEMENT_METADATA_KLASS).unwrap_or_default()
}

/// Whether elements of `factory` decode video or still pictures.
pub(crate) fn is_video_decoder(factory: &gst::ElementFactory) -> bool {
    let class = class(factory);
    class.contains("Decoder") && (class.contains("Video") || class.contains("Image"))
}

/// Whether elements of `factory` run on separate hardware.
pub(crate) fn is_hardware(factory: &gst::ElementFactory) -> bool {
    class(factory).contains("Hardware")
}

/// Links decoded pictures to `entry`, which takes those in ordinary memory, by way of a download where they are in the
/// memory of a device.
///
/// # Errors
/// No installed element downloads them.
pub(crate) fn link_pictures(pipeline: &gst::Pipeline, pad: &gst::Pad, entry: &gst::Pad) -> Result<()> {
    let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
    let ordinary = gst::Caps::new_empty_simple("video/x-raw");
    if caps.can_intersect(&ordinary) {
        return pad.link(entry).map(|_| ()).map_err(|error| Error::failed(format!("the decoder's output: {error}")));
    }
    let factory = download(&caps, &ordinary).ok_or_else(|| {
        let memory = caps.features(0).map(|features| features.to_string()).unwrap_or_default();
        Error::failed(format!("the decoder leaves pictures in {memory}, and no installed element downloads them"))
    })?;
    tracing::debug!("{} downloads {caps}", factory.name());
    let element = factory.create().build().map_err(gst_failed)?;
    pipeline.add(&element).map_err(gst_failed)?;
    let ends = element.static_pad("sink").zip(element.static_pad("src"));
    let (into, out) = ends.ok_or_else(|| Error::failed(format!("{} has no pads", factory.name())))?;
    element.sync_state_with_parent().map_err(gst_failed)?;
    out.link(entry)
        .and_then(|_| pad.link(&into))
        .map(|_| ())
        .map_err(|error| Error::failed(format!("{}: the pictures cannot be downloaded: {error}", factory.name())))
}

/// The element that brings pictures of `caps` to ordinary memory: a pure download before a converter, then by rank.
fn download(caps: &gst::Caps, ordinary: &gst::Caps) -> Option<gst::ElementFactory> {
    let all = gst::Registry::get().features(gst::ElementFactory::static_type());
    let takes = |factory: &gst::ElementFactory| {
        let class = class(factory);
        (class.contains("Filter") || class.contains("Converter"))
            && class.contains("Video")
            && named(factory, gst::PadDirection::Sink, "sink", caps)
            && named(factory, gst::PadDirection::Src, "src", ordinary)
    };
    let rank = |factory: &gst::ElementFactory| (factory.name().contains("download"), factory.rank());
    all.into_iter().filter_map(|feature| feature.downcast().ok()).filter(takes).max_by_key(rank)
}

/// Whether a pad that is always there takes or gives some of `caps`, and names the memory instead of taking any.
fn named(factory: &gst::ElementFactory, direction: gst::PadDirection, name: &str, caps: &gst::Caps) -> bool {
    factory.static_pad_templates().iter().any(|template| {
        let mut known = gst::Caps::new_empty();
        for (structure, features) in template.caps().iter_with_features().filter(|(_, features)| !features.is_any()) {
            known.make_mut().append_structure_full(structure.to_owned(), Some(features.to_owned()));
        }
        template.direction() == direction
            && template.presence() == gst::PadPresence::Always
            && template.name_template() == name
            && !template.caps().is_any()
            && known.can_intersect(caps)
    })
}

/// Ends the run with `error`, which is met while the pipeline is linked.
pub(crate) fn fail(pipeline: &gst::Pipeline, error: &Error) {
    let text = error.to_string();
    let message = gst::message::Error::builder(gst::StreamError::CodecNotFound, &text).src(pipeline).build();
    let _ = pipeline.post_message(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_nothing_downloads_are_an_error() {
        crate::gst::init().unwrap();
        let pad = |direction, name, caps: &str| {
            let caps = caps.parse().unwrap();
            let template = gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).unwrap();
            gst::Pad::from_template(&template)
        };
        let pipeline = gst::Pipeline::new();
        let entry = pad(gst::PadDirection::Sink, "sink", "video/x-raw");
        let away = pad(gst::PadDirection::Src, "src", "video/x-raw(memory:Nowhere), format=(string)NV12");
        let error = link_pictures(&pipeline, &away, &entry).unwrap_err().to_string();
        assert!(error.contains("memory:Nowhere"), "{error}");
        let both = pad(gst::PadDirection::Src, "src", "video/x-raw(memory:Nowhere); video/x-raw");
        link_pictures(&pipeline, &both, &entry).unwrap();
        assert!(entry.is_linked() && pipeline.children().is_empty());
    }

    #[test]
    fn wrong_choices_are_named() {
        crate::gst::init().unwrap();
        let check = |element: &str, hardware| {
            let element = (!element.is_empty()).then(|| element.to_owned());
            DecoderChoice { element, hardware }.check().map_err(|error| error.to_string())
        };
        for (element, hardware, words) in [
            ("nodec", Hardware::Auto, "no element `nodec`"),
            ("x264enc", Hardware::Auto, "does not decode video"),
            ("avdec_h264", Hardware::Require, "does not run on hardware"),
        ] {
            let error = check(element, hardware).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!([check("avdec_h264", Hardware::Off), check("", Hardware::Off)], [Ok(()), Ok(())]);
    }
}
