//! Recordings: one file, or segments named after the time at which they start.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::gst::element;
use crate::output::Encoding;
use crate::output::file::mux;
use crate::output::file::target::Target;
use crate::output::publish::chain::Chain;
use crate::output::publish::sink_queue::{AbortFlag, Packet, Sink};
use crate::output::publish::template::Template;
use crate::output::publish::{OutputStatus, PublishOptions, RecordOptions};
use crate::{Error, Result};

const MB: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// A file ended by an error before this duration, in nanoseconds, is not playable.
const WORTH_KEEPING: u64 = 2 * SECOND;

/// The names of the files.
enum Names {
    /// A single name; numbered when the recording had to be restarted.
    One(PathBuf),
    Segments(Template),
}

impl Names {
    /// The `tries`th candidate for the name of a new file.
    fn propose(&self, tries: u32) -> PathBuf {
        match self {
            Self::Segments(template) => template.name_now(tries),
            Self::One(path) if tries == 0 => path.clone(),
            Self::One(path) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                let extension = path.extension().unwrap_or_default().to_string_lossy();
                path.with_file_name(format!("{stem}-{tries}.{extension}"))
            }
        }
    }
}

/// A file being written.
struct Segment {
    chain: Chain,
    target: Target,
    /// Running time of its first picture, in nanoseconds.
    start: u64,
    /// Of its last one.
    last: u64,
    bytes: u64,
}

pub(crate) struct Recorder {
    names: Names,
    options: RecordOptions,
    encoding: Encoding,
    status: Arc<OutputStatus>,
    abort: Arc<AbortFlag>,
    /// The first file, created when the output was opened.
    claimed: Option<Target>,
    segment: Option<Segment>,
    /// Size of the finished segments at the last count, in bytes.
    finished: u64,
}

impl Recorder {
    /// Checks that files can be created there.
    ///
    /// # Errors
    /// An existing file, or a folder that cannot be created or, for a single file, does not exist.
    pub fn open(
        path: &Path,
        options: &PublishOptions,
        status: &Arc<OutputStatus>,
        abort: &Arc<AbortFlag>,
    ) -> Result<Self> {
        let record = options.record.clone();
        if record.segment_s == 0 || record.segment_mb == Some(0) || record.budget_mb == Some(0) {
            return Err(Error::usage("record: segment_s, segment_mb and budget_mb are at least 1"));
        }
        let mut encoding = options.encoding.clone();
        let (names, claimed) = if Template::has_fields(path) {
            // Segments never replace an existing file.
            encoding.overwrite = false;
            let template = Template::parse(path)?;
            fs::create_dir_all(template.folder()).map_err(|e| {
                let folder = template.folder().display();
                Error::failed(format!("{}: the folder {folder} cannot be created: {e}", path.display()))
            })?;
            recover(&template);
            drop(claim(&Names::Segments(template.clone()), &encoding)?);
            (Names::Segments(template), None)
        } else {
            let target = Target::check(path, None, &encoding)?;
            (Names::One(path.to_path_buf()), Some(target))
        };
        Ok(Self {
            names,
            options: record,
            encoding,
            status: Arc::clone(status),
            abort: Arc::clone(abort),
            claimed,
            segment: None,
            finished: 0,
        })
    }

    fn begin(&mut self, first: &Packet) -> Result<()> {
        self.keep_budget(0);
        let target = match self.claimed.take() {
            Some(target) => {
                // `--overwrite` covers files of earlier runs, not of this one.
                self.encoding.overwrite = false;
                target
            }
            None => claim(&self.names, &self.encoding)?,
        };
        let muxer = mux::muxer(target.container, 0)?;
        let parser = element(parser_of(&first.caps))?;
        let sink = element("filesink")?;
        sink.set_property("location", target.location());
        sink.set_property("async", false);
        // Unbuffered, so that the file is complete up to the moment of a kill.
        sink.set_property_from_str("buffer-mode", "unbuffered");
        let chain = Chain::new(&first.caps, false, std::slice::from_ref(&parser))?;
        chain.add(&[muxer.clone(), sink.clone()])?;
        let video = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 2, 2)
            .fps(gst::Fraction::new(0, 1))
            .build()
            .map_err(|e| Error::failed(format!("GStreamer: {}", e.message)))?;
        mux::link_video(&parser, &muxer, target.container, &video, None)?;
        muxer.link(&sink).map_err(|e| Error::failed(format!("GStreamer: {}", e.message)))?;
        chain.play()?;
        tracing::debug!("recording {}", target.path.display());
        self.status.recordings.begin(&target.path, first.time, true);
        self.segment = Some(Segment { chain, target, start: first.time, last: first.time, bytes: 0 });
        Ok(())
    }

    /// Whether the segment is to end before `packet`.
    fn is_over(&self, packet: &Packet) -> bool {
        let Some(segment) = &self.segment else { return false };
        if !packet.key {
            return false;
        }
        if !segment.chain.takes(&packet.caps) {
            return true;
        }
        matches!(self.names, Names::Segments(_))
            && (packet.time.saturating_sub(segment.start) >= self.options.segment_s.saturating_mul(SECOND)
                || self.options.segment_mb.is_some_and(|limit| segment.bytes >= limit.saturating_mul(MB)))
    }

    /// Finishes the file and gives it its name.
    fn end(&mut self) -> Result<()> {
        let Some(mut segment) = self.segment.take() else { return Ok(()) };
        self.status.recordings.end(segment.last);
        segment.target.keep(true);
        let ended = segment.chain.end(&self.abort);
        drop(segment.chain);
        let path = segment.target.path.clone();
        // An unfinished file is playable up to its end.
        segment.target.publish()?;
        ended.map_err(|e| e.at(path.display()))
    }

    /// Deletes the oldest segments until the finished ones, `more` bytes and the one being written fit in the budget.
    fn keep_budget(&mut self, more: u64) {
        let (Names::Segments(template), Some(budget)) = (&self.names, self.options.budget_mb) else { return };
        let budget = budget.saturating_mul(MB);
        let segments = template.segments();
        self.finished = segments.iter().map(|segment| segment.bytes).sum();
        for segment in segments {
            if self.finished.saturating_add(more) <= budget {
                break;
            }
            match fs::remove_file(&segment.path) {
                Ok(()) => {
                    tracing::info!("{} was deleted to keep to record.budget_mb", segment.path.display());
                    self.finished -= segment.bytes;
                }
                Err(e) => {
                    tracing::warn!("{} cannot be deleted to keep to record.budget_mb: {e}", segment.path.display());
                }
            }
        }
    }
}

impl Sink for Recorder {
    fn start(&mut self, first: &Packet) -> Result<()> {
        self.begin(first)
    }

    fn take(&mut self, packet: Packet) -> Result<()> {
        if self.is_over(&packet) {
            self.end()?;
            self.begin(&packet)?;
        }
        let Some(segment) = &mut self.segment else { return Err(Error::failed("no file is open")) };
        segment.last = packet.time;
        segment.bytes += packet.buffer.size() as u64;
        let written = segment.bytes;
        let mut buffer = packet.buffer;
        shift(buffer.make_mut(), segment.start);
        segment.chain.push(buffer, &self.abort)?;
        let limit = self.options.budget_mb.map(|budget| budget.saturating_mul(MB));
        if packet.key && limit.is_some_and(|limit| self.finished.saturating_add(written) > limit) {
            self.keep_budget(written);
        }
        Ok(())
    }

    fn check(&mut self) -> Result<bool> {
        let Some(segment) = &self.segment else { return Ok(false) };
        segment.chain.check(&mut |_| {})?;
        if !segment.target.temporary.exists() {
            return Err(Error::failed(format!("{} was removed while it was written", segment.target.path.display())));
        }
        Ok(true)
    }

    fn finish(&mut self, _: &AbortFlag) -> Result<()> {
        self.end()
    }

    fn must_be_complete(&self) -> bool {
        true
    }

    fn abandon(&mut self) {
        let Some(mut segment) = self.segment.take() else { return };
        self.status.recordings.end(segment.last);
        // On abort a single file is discarded; segments are kept.
        let wanted = matches!(self.names, Names::Segments(_)) || !self.abort.is_raised();
        drop(segment.chain);
        if wanted && segment.last.saturating_sub(segment.start) >= WORTH_KEEPING {
            segment.target.keep(true);
            if segment.target.temporary.exists()
                && let Err(e) = segment.target.publish()
            {
                tracing::warn!("{e}");
            }
        }
    }
}

/// Creates the first file whose name is free.
fn claim(names: &Names, encoding: &Encoding) -> Result<Target> {
    let mut tries = 0;
    loop {
        let path = names.propose(tries);
        match Target::check(&path, None, encoding) {
            Ok(target) => return Ok(target),
            Err(e) if tries >= 999 || !(path.exists() || Target::temporary_of(&path).exists()) => return Err(e),
            Err(_) => tries += 1,
        }
    }
}

/// Gives the files of a killed run their final names: they are playable up to the end.
fn recover(template: &Template) {
    for (temporary, path) in template.unfinished() {
        let encoding = Encoding::default();
        let empty = fs::metadata(&temporary).is_ok_and(|meta| meta.len() == 0);
        // Refused while another run writes to it.
        let Ok(mut target) = Target::claim(&path, None, &encoding) else { continue };
        if empty {
            continue;
        }
        target.keep(true);
        match target.publish() {
            Ok(path) => tracing::info!("{}: recovered from a run that was killed", path.display()),
            Err(e) => tracing::warn!("{e}"),
        }
    }
}

/// Times from the start of the file.
pub(crate) fn shift(buffer: &mut gst::BufferRef, start: u64) {
    let start = gst::ClockTime::from_nseconds(start);
    buffer.set_pts(buffer.pts().map(|time| time.saturating_sub(start)));
    buffer.set_dts(buffer.dts().map(|time| time.saturating_sub(start)));
}

/// The parser for packets of `caps`.
pub(crate) fn parser_of(caps: &gst::Caps) -> &'static str {
    if caps.structure(0).is_some_and(|s| s.name() == "video/x-h265") { "h265parse" } else { "h264parse" }
}
