//! A file made of packets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::packets::{Content, Packet};
use crate::gst::message::Trouble;
use crate::gst::mp4::matrix::{self, Matrix};
use crate::gst::{element, gst_failed, link};
use crate::output::file::target::{Container, Target};
use crate::output::file::{feed, mux};
use crate::{Error, Result};

/// Bytes that may wait for the muxer before more are handed to it.
const WAITING: u64 = 32 << 20;
/// Longest wait for room: a file may have its streams far apart from each other.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time limit of the end of a file.
const END: Duration = Duration::from_secs(30);

/// Writes one clip.
pub(super) struct Writer {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    sources: BTreeMap<usize, gst_app::AppSrc>,
    /// None once the file is finished.
    target: Option<Target>,
    trouble: Trouble,
    /// Subtracted from all times, in nanoseconds.
    start: i64,
    /// Which way up the pictures are shown, where the muxer does not say so.
    matrix: Option<Matrix>,
}

impl Writer {
    /// A file with the streams of `first`, a packet of each; `start` becomes its time 0. Only MP4 and MOV files have a
    /// `matrix`.
    pub fn open(target: Target, first: &[&Packet], start: i64, matrix: Option<Matrix>) -> Result<Self> {
        let pipeline = gst::Pipeline::new();
        let muxer = mux::muxer(target.container, 0)?;
        let sink = element("filesink")?;
        sink.set_property("location", target.location());
        sink.set_property("async", false);
        sink.set_property_from_str("buffer-mode", "unbuffered");
        link(&pipeline, &[muxer.clone(), sink])?;
        let mut sources = BTreeMap::new();
        for packet in first {
            let source = gst_app::AppSrc::builder().format(gst::Format::Time).max_bytes(0).block(false).build();
            source.set_caps(Some(&packet.caps));
            let queue = feed::packet_queue()?;
            let mut chain: Vec<gst::Element> = vec![source.clone().upcast(), queue];
            for name in parsers(packet, target.container) {
                chain.push(element(name)?);
            }
            link(&pipeline, &chain)?;
            let last = chain.last().ok_or_else(|| Error::failed("a chain without an element"))?;
            match packet.content {
                Content::Video => {
                    // Times are kept whatever the rate is.
                    let any = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 2, 2)
                        .fps(gst::Fraction::new(0, 1))
                        .build()
                        .map_err(gst_failed)?;
                    mux::link_video(last, &muxer, target.container, &any, None)?;
                }
                Content::Audio => {
                    let pad = muxer.request_pad_simple("audio_%u");
                    let pad = pad.ok_or_else(|| Error::failed("the muxer accepts no audio"))?;
                    let from =
                        last.static_pad("src").ok_or_else(|| Error::failed("an element without a source pad"))?;
                    from.link(&pad).map_err(|error| Error::failed(format!("GStreamer: {error}")))?;
                }
            }
            sources.insert(packet.stream, source);
        }
        let bus = pipeline.bus().ok_or_else(|| Error::failed("a GStreamer pipeline without a bus"))?;
        let matrix = matrix.filter(|_| target.container != Container::Matroska);
        let (target, trouble) = (Some(target), Trouble::default());
        let mut writer = Self { pipeline, bus, sources, target, trouble, start, matrix };
        if writer.pipeline.set_state(gst::State::Playing).is_err() {
            writer.check()?;
            return Err(writer.error());
        }
        for packet in first {
            if let (Some(source), Some(tags)) = (writer.sources.get(&packet.stream), &packet.tags) {
                source.send_event(gst::event::Tag::new(tags.clone()));
            }
        }
        Ok(writer)
    }

    /// Adds a packet; those of streams that were not there at the start are left out.
    pub fn push(&mut self, packet: &Packet) -> Result<()> {
        self.check()?;
        let Some(source) = self.sources.get(&packet.stream) else { return Ok(()) };
        let since = Instant::now();
        while self.sources.values().map(gst_app::AppSrc::current_level_bytes).sum::<u64>() > WAITING
            && since.elapsed() < PATIENCE
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        let time = |time: i64| gst::ClockTime::from_nseconds(u64::try_from(time - self.start).unwrap_or(0));
        let mut buffer = packet.buffer.clone();
        let stamp = buffer.make_mut();
        stamp.set_pts(packet.pts.map(time));
        stamp.set_dts(packet.dts.map(time));
        // An error is on the bus.
        let _ = source.push_buffer(buffer);
        Ok(())
    }

    /// Finishes the file and gives it its name.
    pub fn finish(mut self) -> Result<()> {
        self.check()?;
        for source in self.sources.values() {
            let _ = source.end_of_stream();
        }
        let since = Instant::now();
        loop {
            let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
            match self.bus.timed_pop_filtered(gst::ClockTime::from_mseconds(50), &kinds) {
                Some(message) if self.trouble.note(&message) => return Err(self.error()),
                Some(_) => break,
                None if since.elapsed() > END => {
                    return Err(self.error().at("the clip was not finished in time"));
                }
                None => {}
            }
        }
        if self.pipeline.set_state(gst::State::Null).is_err() {
            return Err(self.error());
        }
        match self.target.take() {
            Some(target) => {
                if let Some(matrix) = &self.matrix {
                    matrix::write(&target.temporary, matrix)
                        .map_err(|error| Error::io(format!("{}", target.path.display()), error))?;
                }
                target.publish().map(|_| ())
            }
            None => Ok(()),
        }
    }

    fn check(&mut self) -> Result<()> {
        while let Some(message) = self.bus.pop() {
            self.trouble.note(&message);
        }
        if self.trouble.error.is_some() { Err(self.error()) } else { Ok(()) }
    }

    fn error(&mut self) -> Error {
        match &self.target {
            Some(target) => self.trouble.output_error(&target.path, None),
            None => Error::failed("the clip is finished"),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// What brings packets into the form that the container takes.
fn parsers(packet: &Packet, container: Container) -> Vec<&'static str> {
    let name = packet.caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
    let (parser, timestamper) = match name.as_str() {
        "video/x-h264" => ("h264parse", "h264timestamper"),
        "video/x-h265" => ("h265parse", "h265timestamper"),
        _ if packet.content == Content::Audio => {
            let templates = element(container.muxer()).ok().and_then(|muxer| muxer.pad_template("audio_%u"));
            let wanted = templates.map_or_else(gst::Caps::new_any, |template| template.caps().clone());
            return feed::parser_for(&packet.caps, &wanted).into_iter().collect();
        }
        _ => return Vec::new(),
    };
    // Some containers have no decoding times, and others need them.
    if packet.dts.is_none() && container != Container::Matroska { vec![parser, timestamper] } else { vec![parser] }
}

/// Whether the container takes packets of these caps.
pub(super) fn takes(container: Container, packet: &Packet) -> bool {
    let Ok(muxer) = element(container.muxer()) else { return false };
    let template = muxer.pad_template(if packet.content == Content::Video { "video_%u" } else { "audio_%u" });
    let Some(template) = template else { return false };
    let name = packet.caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
    template.caps().can_intersect(&packet.caps)
        || matches!(name.as_str(), "video/x-h264" | "video/x-h265")
        || (packet.content == Content::Audio && feed::parser_for(&packet.caps, template.caps()).is_some())
}
