//! Clips out of a file.

use std::collections::BTreeMap;
use std::path::Path;

use gstreamer as gst;

use super::cutter::{Cutter, SKEW};
use super::packets::{Content, Packet, Packets};
use super::windows::Window;
use super::write::takes;
use crate::gst::init;
use crate::gst::mp4::matrix;
use crate::output::file::target::Container;
use crate::{Error, Result};

/// Packets that are kept for a clip that has not begun, in bytes: the pictures since the last key frame.
const ROOM: usize = 256 << 20;
/// Packets of a file that are looked at for its streams.
const LOOKED_AT: usize = 500;

/// What is cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'a> {
    /// The video.
    pub path: &'a Path,
    /// Number of its video stream, from 0.
    pub video: u64,
    /// Time of its first frame in the times of the windows, in seconds.
    pub first_s: f64,
    /// The parts.
    pub windows: &'a [Window],
    /// Whether existing files are replaced.
    pub overwrite: bool,
}

/// The extension of clips of a video: `mp4`, or `mkv` where MP4 cannot hold its streams.
///
/// # Errors
/// The file cannot be read.
pub fn extension(path: &Path, video: u64) -> Result<&'static str> {
    let fits = streams(path, video)?.values().all(|packet| takes(Container::Mp4, packet));
    Ok(if fits { "mp4" } else { "mkv" })
}

/// The first packet of each stream, by its number.
fn streams(path: &Path, video: u64) -> Result<BTreeMap<usize, Packet>> {
    init()?;
    let mut packets = Packets::open(path, video)?;
    let mut streams = BTreeMap::new();
    for _ in 0..LOOKED_AT {
        let Some(packet) = packets.next(path)? else { break };
        streams.entry(packet.stream).or_insert(packet);
    }
    Ok(streams)
}

/// Writes a file for each window; `stop` ends the work. What could not be copied is returned, a sentence each.
///
/// # Errors
/// The video cannot be read, or a clip not written; clips that were finished before stay.
pub fn cut(cut: &Cut<'_>, stop: &dyn Fn() -> bool) -> Result<Vec<String>> {
    let Some(last) = cut.windows.last() else { return Ok(Vec::new()) };
    let mut cutter = Cutter::new(Some(cut.path), cut.overwrite, SKEW, ROOM);
    cutter.set_streams(streams(cut.path, cut.video)?);
    cutter.update(cut.windows);
    let matrix = matrix::read(cut.path, cut.video);
    cutter.set_matrix(matrix);
    let mut packets = Packets::open(cut.path, cut.video)?;
    let mut begun = false;
    let mut turned = matrix.is_some();
    while !cutter.is_done()
        && let Some(packet) = packets.next(cut.path)?
    {
        if stop() {
            return Err(Error::failed("the clips are not finished: the run was stopped"));
        }
        if let (false, Content::Video, Some(first)) = (begun, packet.content, packet.shown()) {
            cutter.set_offset(first - (cut.first_s * 1e9) as i64);
            begun = true;
            let orientation = packet.tags.as_ref().and_then(|tags| tags.get::<gst::tags::ImageOrientation>());
            turned |= orientation.is_some_and(|orientation| orientation.get() != "rotate-0");
        }
        cutter.take(packet)?;
    }
    let mut notes: Vec<String> = cutter
        .finish()?
        .iter()
        .map(|path| format!("{} is not written: there is no key frame for it", path.display()))
        .collect();
    let mkv = last.path.extension().is_some_and(|extension| extension == "mkv");
    let container = if mkv { Container::Matroska } else { Container::Mp4 };
    notes.extend(cutter.left_out(container).map(|packet| {
        let name = packet.caps.structure(0).map(|structure| structure.name().to_string()).unwrap_or_default();
        format!("clips are without the stream {} ({name}): {} cannot hold it", packet.stream, container.name())
    }));
    if turned && (mkv || matrix.is_none()) {
        notes.push("clips are not turned as the video is: their container does not say so".to_owned());
    }
    Ok(notes)
}
