//! Decoders on hardware, by pretended ones: pictures in the memory of a device arrive as they are.

use std::path::Path;
use std::time::Duration;

use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_base::subclass::BaseTransformMode;
use gstreamer_base::subclass::prelude::*;
use oodstream::gst::{DecoderChoice, Frame, Hardware};
use oodstream::input::Read;
use oodstream::input::file::FileOptions;
use oodstream::output::Encoding;
use oodstream::output::file::{OpenFile, open_file};
use support::common::Place;

/// The memory of the pretended device.
const DEVICE: &str = "video/x-raw(memory:Pretended), format=(string)I420";
const ORDINARY: &str = "video/x-raw, format=(string)I420";

fn template(name: &str, direction: gstreamer::PadDirection, caps: &str) -> gstreamer::PadTemplate {
    let caps = caps.parse().unwrap();
    gstreamer::PadTemplate::new(name, direction, gstreamer::PadPresence::Always, &caps).unwrap()
}

fn metadata(class: &str) -> gstreamer::subclass::ElementMetadata {
    gstreamer::subclass::ElementMetadata::new("Pretended", class, "Stands for a driver's element", "oodstream")
}

/// An element that says that pictures are in another memory, and leaves them where they are.
macro_rules! relabel {
    ($name:ident, $wrapper:ident, $class:literal, $from:expr, $to:expr) => {
        #[derive(Default)]
        struct $name;

        #[glib::object_subclass]
        impl ObjectSubclass for $name {
            const NAME: &'static str = concat!("Test", stringify!($name));
            type Type = $wrapper;
            type ParentType = gstreamer_base::BaseTransform;
        }

        glib::wrapper! {
            struct $wrapper(ObjectSubclass<$name>)
                @extends gstreamer_base::BaseTransform, gstreamer::Element, gstreamer::Object;
        }

        impl ObjectImpl for $name {}
        impl GstObjectImpl for $name {}

        impl ElementImpl for $name {
            fn metadata() -> Option<&'static gstreamer::subclass::ElementMetadata> {
                static METADATA: std::sync::OnceLock<gstreamer::subclass::ElementMetadata> = std::sync::OnceLock::new();
                Some(METADATA.get_or_init(|| metadata($class)))
            }

            fn pad_templates() -> &'static [gstreamer::PadTemplate] {
                static TEMPLATES: std::sync::OnceLock<[gstreamer::PadTemplate; 2]> = std::sync::OnceLock::new();
                TEMPLATES.get_or_init(|| {
                    [
                        template("sink", gstreamer::PadDirection::Sink, $from),
                        template("src", gstreamer::PadDirection::Src, $to),
                    ]
                })
            }
        }

        impl BaseTransformImpl for $name {
            const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
            const PASSTHROUGH_ON_SAME_CAPS: bool = false;
            const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

            fn transform_caps(
                &self,
                direction: gstreamer::PadDirection,
                caps: &gstreamer::Caps,
                filter: Option<&gstreamer::Caps>,
            ) -> Option<gstreamer::Caps> {
                let to: gstreamer::Caps =
                    if direction == gstreamer::PadDirection::Sink { $to } else { $from }.parse().ok()?;
                let features = to.features(0)?.to_owned();
                let mut other = gstreamer::Caps::new_empty();
                for structure in caps.iter() {
                    other.make_mut().append_structure_full(structure.to_owned(), Some(features.clone()));
                }
                Some(filter.map_or(other.clone(), |filter| other.intersect(filter)))
            }

            fn transform_ip(
                &self,
                _: &mut gstreamer::BufferRef,
            ) -> Result<gstreamer::FlowSuccess, gstreamer::FlowError> {
                Ok(gstreamer::FlowSuccess::Ok)
            }
        }
    };
}

relabel!(Upload, UploadElement, "Generic", ORDINARY, DEVICE);
relabel!(Download, DownloadElement, "Filter/Converter/Video", DEVICE, ORDINARY);

/// A decoder of VP8 whose pictures are in the memory of the device.
#[derive(Default)]
struct Decoder;

#[glib::object_subclass]
impl ObjectSubclass for Decoder {
    const NAME: &'static str = "TestDeviceDecoder";
    type Type = DecoderElement;
    type ParentType = gstreamer::Bin;
}

glib::wrapper! {
    struct DecoderElement(ObjectSubclass<Decoder>) @extends gstreamer::Bin, gstreamer::Element, gstreamer::Object;
}

impl ObjectImpl for Decoder {
    fn constructed(&self) {
        self.parent_constructed();
        let bin = self.obj();
        let make = |name| gstreamer::ElementFactory::make(name).build().unwrap();
        let (decoder, upload) = (make("vp8dec"), make("testupload"));
        bin.add_many([&decoder, &upload]).unwrap();
        decoder.link(&upload).unwrap();
        for (name, pad) in [("sink", decoder.static_pad("sink")), ("src", upload.static_pad("src"))] {
            let template = bin.pad_template(name).unwrap();
            let ghost = gstreamer::GhostPad::builder_from_template_with_target(&template, &pad.unwrap()).unwrap();
            bin.add_pad(&ghost.name(name).build()).unwrap();
        }
    }
}

impl GstObjectImpl for Decoder {}

impl ElementImpl for Decoder {
    fn metadata() -> Option<&'static gstreamer::subclass::ElementMetadata> {
        static METADATA: std::sync::OnceLock<gstreamer::subclass::ElementMetadata> = std::sync::OnceLock::new();
        Some(METADATA.get_or_init(|| metadata("Codec/Decoder/Video/Hardware")))
    }

    fn pad_templates() -> &'static [gstreamer::PadTemplate] {
        static TEMPLATES: std::sync::OnceLock<[gstreamer::PadTemplate; 2]> = std::sync::OnceLock::new();
        TEMPLATES.get_or_init(|| {
            [
                template("sink", gstreamer::PadDirection::Sink, "video/x-vp8"),
                template("src", gstreamer::PadDirection::Src, DEVICE),
            ]
        })
    }
}

impl BinImpl for Decoder {}

fn install() {
    oodstream::gst::init().unwrap();
    let none = gstreamer::Rank::NONE;
    gstreamer::Element::register(None, "testupload", none, UploadElement::static_type()).unwrap();
    gstreamer::Element::register(None, "testdownload", none, DownloadElement::static_type()).unwrap();
    let first = gstreamer::Rank::PRIMARY + 100;
    gstreamer::Element::register(None, "testdevicedec", first, DecoderElement::static_type()).unwrap();
}

/// All pictures of a file, and the elements that have made them.
fn read(path: &Path, element: Option<&str>, hardware: Hardware) -> Vec<Vec<u8>> {
    let decoder = DecoderChoice { element: element.map(str::to_owned), hardware };
    let encoding = Encoding::default();
    let open = OpenFile { path, output: None, encoding: &encoding, stream: 0 };
    let (mut reader, _) = open_file(&open, FileOptions { decoder, ..FileOptions::default() }).unwrap();
    let mut pictures = Vec::new();
    loop {
        match reader.read(Duration::from_secs(10)).unwrap() {
            Read::Frame(frame) => pictures.push(luma(&frame)),
            Read::End(_) => return pictures,
            other => panic!("{other:?}"),
        }
    }
}

fn luma(frame: &Frame) -> Vec<u8> {
    let view = frame.map().unwrap();
    let plane = view.i420().y;
    (0..plane.rows).flat_map(|row| plane.row(row).to_vec()).collect()
}

#[test]
fn pictures_in_the_memory_of_a_device_are_downloaded() {
    install();
    let place = Place::new();
    let clip = place.clip("in.webm", "-f lavfi -i testsrc2=size=162x90:rate=10:duration=1 -c:v libvpx -b:v 1M");
    let software = read(&clip, None, Hardware::Off);
    assert_eq!(software.len(), 10);
    for (element, hardware) in
        [(None, Hardware::Auto), (None, Hardware::Require), (Some("testdevicedec"), Hardware::Auto)]
    {
        assert!(read(&clip, element, hardware) == software, "{element:?} {hardware:?}");
    }
    assert!(read(&clip, Some("vp8dec"), Hardware::Auto) == software);
}

#[test]
fn wrong_decoders_are_named() {
    let place = Place::new();
    place.clip("in.mp4", "-f lavfi -i testsrc2=size=64x32:rate=10:duration=0.5 -c:v libx264 -pix_fmt yuv420p");
    support::onnx::tiny(64, 32).save(&place.path("model.onnx"));
    let rest = "-o none --method max-logit";
    place.run(&format!("run in.mp4 {rest} --decoder nodec")).code(2).says(&["nodec", "doctor"]);
    place.run(&format!("run in.mp4 {rest} --decoder x264enc")).code(2).says(&["x264enc does not decode video"]);
    place.run(&format!("run in.mp4 {rest} --hw sometimes")).code(2).says(&["sometimes", "require"]);
    place.run(&format!("run in.mp4 {rest} --hw off --decoder avdec_h264")).code(0);
    // This machine may have a hardware decoder of its own.
    if !place.run("doctor").stdout.contains("hardware: ") {
        place.run(&format!("run in.mp4 {rest} --hw require")).code(1).says(&["no hardware video decoder"]);
    }
}
