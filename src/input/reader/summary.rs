//! What is dropped, damaged or assumed in an input, reported at its end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::gst::clock::Clock;
use crate::gst::message::Trouble;
use crate::gst::track::InputTracks;
use crate::input::probe::{Format, Probe};
use crate::input::{EndOfInput, VideoInfo};

/// Least difference between the clock of a stream and its contents that is a jump of the clock.
const JUMP: Duration = Duration::from_secs(1);

/// What the reader counts and is given for the report.
#[derive(Default)]
pub(super) struct Summary {
    /// Damaged frames.
    pub corrupted: u64,
    /// Frames hidden by the edit list.
    pub hidden: u64,
    /// The requested frame rate.
    pub rate: Option<f64>,
    /// Nanoseconds from the first clock reference of a transport stream to the last one.
    pub clock_span: Option<u64>,
    /// The first time of a transport stream, in nanoseconds.
    pub clock_start: Option<u64>,
    /// Times of the first and the last frame, in nanoseconds.
    pub span: Option<(i64, i64)>,
    /// The missing end of the file, as text.
    pub cut: Option<String>,
    /// Searches the file for structural damage; the result is as text.
    pub broken: Option<Box<dyn FnOnce() -> Option<String> + Send>>,
}

impl Summary {
    /// A note if the clock of a transport stream jumps.
    fn jumps(&self, shared: &InputTracks) -> Option<String> {
        let tracks = shared.tracks();
        let spans = || self.span.into_iter().chain(tracks.iter().filter_map(|track| track.span()));
        let (first, last) = (spans().map(|span| span.0).min()?, spans().map(|span| span.1).max()?);
        let length = |(first, last): (i64, i64)| Some(Duration::from_nanos(u64::try_from(last - first).ok()?));
        let (clock, shown) = (Duration::from_nanos(self.clock_span?), length((first, last))?);
        // The clock may start later than audio, and go on after the last frame.
        let jumps = clock > shown + JUMP || clock + JUMP < length(self.span?)?;
        jumps.then(|| {
            format!(
                "the clock of the stream goes from its start to {:.1} s and the pictures and sound last {:.1} s: where it \
                 jumps, the parts are joined",
                clock.as_secs_f64(),
                shown.as_secs_f64()
            )
        })
    }

    /// The end of the input; `hdr` is the note on HDR video.
    pub fn end(
        &mut self,
        info: &VideoInfo,
        probe: &Probe,
        shared: &InputTracks,
        clock: &Clock,
        trouble: &Trouble,
        hdr: Option<String>,
    ) -> EndOfInput {
        let mut notes = Vec::new();
        let resized = probe.sizes.load(Ordering::Acquire).saturating_sub(1);
        let coded = probe.coded.load(Ordering::Acquire);
        let decoded = probe.decoded.load(Ordering::Acquire);
        let lost = coded.saturating_sub(decoded);
        if lost > 0 {
            notes.push(format!("{lost} of {coded} coded frames could not be decoded"));
        }
        if self.corrupted > 0 {
            notes.push(format!("{} frames were damaged and are shown as far as they can be decoded", self.corrupted));
        }
        if let Some((error, _)) = &trouble.error {
            notes.push(format!("reading stopped with an error: {}", error.message()));
        }
        if let Some(cut) = &self.cut {
            notes.push(format!("the file is cut off: {cut}"));
        }
        let broken = self.broken.take().and_then(|look| look());
        if let Some(broken) = &broken {
            notes.push(format!("the file is damaged: {broken}"));
        }
        if self.hidden > 0 {
            notes.push(format!("{} frames that the edit list of the file hides are left out", self.hidden));
        }
        let (videos, taken) = (probe.videos.load(Ordering::Acquire), probe.taken.load(Ordering::Acquire));
        if videos > 1 {
            notes.push(format!(
                "of {videos} video tracks number {taken} is read; --video-track selects another one, or all"
            ));
        }
        let (width, height) = (info.width, info.height);
        if resized > 0 {
            notes.push(format!(
                "the size of the pictures changes; they are scaled to {width}x{height}, with borders where \
                 their shape is another one"
            ));
        }
        if probe.format() == Format::Raw {
            let fps = info.fps.unwrap_or(25.0);
            let whose =
                if self.rate.is_some() { "as set by --fps" } else { "by the stream or else 25; --fps sets another" };
            notes.push(format!("the file has no timestamps: {fps} frames a second are assumed, {whose}"));
        } else {
            if self.rate.is_some() {
                notes.push("the file has timestamps: --fps has no effect".to_owned());
            }
            // Audio may come before the time at which the demuxer starts.
            let lead = u64::try_from(shared.fix_lead()).unwrap_or(0);
            let start = self.clock_start.or_else(|| Some(probe.clock_start()?.saturating_sub(lead)));
            if let Some(start) = start.map(Duration::from_nanos).filter(|start| start.as_millis() > 0) {
                notes.push(format!("the clock of the file starts at {:.3} s, the output at 0", start.as_secs_f64()));
            }
            notes.extend(clock.notes("frames"));
            notes.extend(self.jumps(shared));
        }
        if probe.format() == Format::Mxf {
            notes.push("the metadata of the MXF file (identifiers, names of programs) is left out".to_owned());
        }
        shared.tracks().iter().for_each(|track| notes.extend(track.notes()));
        let interlaced = probe.interlaced.load(Ordering::Acquire);
        if interlaced > 0 {
            notes.push(format!("{interlaced} interlaced frames are deinterlaced"));
        }
        if let Ok(reduced) = probe.reduced.lock() {
            notes.extend(reduced.iter().cloned());
        }
        notes.extend(hdr);
        notes.extend(shared.writer_notes());
        EndOfInput {
            // The number of frames lost in a damaged structure is unknown.
            damaged: (self.corrupted + lost).max(u64::from(broken.is_some())),
            truncated: self.cut.is_some() || trouble.error.is_some(),
            notes,
        }
    }
}
