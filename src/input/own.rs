//! Frames from the caller as an input.

use std::path::PathBuf;
use std::time::Duration;

use gstreamer as gst;
use gstreamer_video as gst_video;

use super::{EndOfInput, FrameReader, Read, VideoInfo};
use crate::frame::I420Mut;
use crate::gst::Frame;
use crate::gst::frame::colour_of;
use crate::{Error, Result};

/// A picture in packed RGB, 8 bits per channel, with its running time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbFrame {
    /// Width in pixels, at least 2.
    pub width: u32,
    /// Height in pixels, at least 2.
    pub height: u32,
    /// `height * width * 3` bytes, row by row without padding.
    pub data: Vec<u8>,
    /// Time since the start of the input; strictly increasing.
    pub running_time: Duration,
}

/// A source of frames outside this crate.
///
/// Closures that return `Result<Option<RgbFrame>>` are sources.
pub trait FrameSource: Send {
    /// Returns the next frame, all of one size, or `None` after the last one. May block.
    ///
    /// # Errors
    /// Any error ends the input; the frames before it are written.
    fn next(&mut self) -> Result<Option<RgbFrame>>;
}

impl<F: FnMut() -> Result<Option<RgbFrame>> + Send> FrameSource for F {
    fn next(&mut self) -> Result<Option<RgbFrame>> {
        self()
    }
}

/// A [`FrameSource`] and its name, before its first frame.
pub(crate) struct OwnReader {
    name: String,
    source: Box<dyn FrameSource>,
}

/// An open source; its first frame defines the size of all.
pub(crate) struct OpenReader {
    name: String,
    source: Box<dyn FrameSource>,
    /// The next frame to return; its duration is known once its successor is read.
    ahead: Option<RgbFrame>,
    caps: gst_video::VideoInfo,
    info: VideoInfo,
    stream: u32,
    index: u64,
    last: Option<Duration>,
    /// The error of the source, returned after all frames before it.
    failed: Option<Error>,
    /// Duration of the previous frame, used for the last one.
    step: Duration,
}

impl OwnReader {
    pub fn new(name: String, source: Box<dyn FrameSource>) -> Self {
        Self { name, source }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file name from which that of the output is derived.
    pub fn file_name(&self) -> PathBuf {
        PathBuf::from(&self.name)
    }

    /// Reads the first frame.
    ///
    /// # Errors
    /// The source has no frames, or their size is invalid.
    pub fn open(self, stream: u32) -> Result<OpenReader> {
        let Self { name, mut source } = self;
        let first = source
            .next()
            .map_err(|error| error.at(&name))?
            .ok_or_else(|| Error::failed("the source has no frames").at(&name))?;
        let impossible = || Error::usage(format!("frames of {}x{}", first.width, first.height)).at(&name);
        if first.width < 2 || first.height < 2 {
            return Err(impossible());
        }
        let caps = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, first.width, first.height)
            .fps(gst::Fraction::new(0, 1))
            .build()
            .map_err(|_| impossible())?;
        let info = VideoInfo {
            width: first.width,
            height: first.height,
            par: (1, 1),
            fps: None,
            duration: None,
            frames: None,
            codec: "RGB".to_owned(),
            container: "frames of the caller".to_owned(),
            colour: colour_of(&caps),
            audio_tracks: 0,
            subtitle_tracks: 0,
        };
        Ok(OpenReader {
            name,
            source,
            ahead: Some(first),
            caps,
            info,
            stream,
            index: 0,
            last: None,
            failed: None,
            step: Duration::ZERO,
        })
    }
}

impl OpenReader {
    /// The caps of the frames.
    pub fn caps(&self) -> &gst_video::VideoInfo {
        &self.caps
    }

    fn frame(&mut self, rgb: &RgbFrame) -> Result<Frame> {
        let size = (self.info.width, self.info.height);
        if (rgb.width, rgb.height) != size {
            return Err(Error::usage(format!(
                "frame {} is {}x{}, the first one {}x{}",
                self.index, rgb.width, rgb.height, size.0, size.1
            )));
        }
        let expected = size.0 as usize * size.1 as usize * 3;
        if rgb.data.len() != expected {
            return Err(Error::usage(format!(
                "frame {} has {} bytes, {}x{} RGB has {expected}",
                self.index,
                rgb.data.len(),
                size.0,
                size.1
            )));
        }
        if self.last.is_some_and(|last| rgb.running_time <= last) {
            return Err(Error::usage(format!("the running time of frame {} does not rise", self.index)));
        }
        self.last = Some(rgb.running_time);
        let buffer = gst::Buffer::with_size(self.caps.size())
            .map_err(|_| Error::failed(format!("no memory is left for a frame of {}x{}", size.0, size.1)))?;
        let time = u64::try_from(rgb.running_time.as_nanos()).unwrap_or(u64::MAX);
        let mut frame = Frame::new(self.stream, self.index, time, buffer, self.caps.clone(), Default::default());
        frame.duration = u64::try_from(self.step.as_nanos()).ok().filter(|step| *step > 0);
        fill(&mut frame.map_mut()?.i420(), rgb);
        self.index += 1;
        Ok(frame)
    }
}

impl FrameReader for OpenReader {
    fn read(&mut self, _timeout: Duration) -> Result<Read> {
        let Some(rgb) = self.ahead.take() else {
            let end = self.failed.take().map_or(Ok(Read::End(EndOfInput::default())), Err);
            return end.map_err(|error| error.at(&self.name));
        };
        match self.source.next() {
            Ok(next) => {
                if let Some(next) = &next {
                    self.step = next.running_time.saturating_sub(rgb.running_time);
                }
                self.ahead = next;
            }
            // The frame before the error is intact.
            Err(error) => self.failed = Some(error),
        }
        self.frame(&rgb).map(Read::Frame).map_err(|error| error.at(&self.name))
    }

    fn info(&self) -> Option<&VideoInfo> {
        Some(&self.info)
    }
}

/// Converts RGB to the planes of `picture` in limited range BT.601, as in the default caps; a chroma sample is that of
/// the mean colour of its 2x2 pixels.
fn fill(picture: &mut I420Mut<'_>, rgb: &RgbFrame) {
    let (width, height) = (rgb.width as usize, rgb.height as usize);
    let at = |x: usize, y: usize| {
        let start = (y * width + x) * 3;
        [0, 1, 2].map(|channel| i32::from(rgb.data[start + channel]))
    };
    for y in 0..height {
        let row = picture.y.row_mut(y);
        for (x, luma) in row.iter_mut().enumerate().take(width) {
            let [r, g, b] = at(x, y);
            *luma = (((66 * r + 129 * g + 25 * b + 128) >> 8) + 16) as u8;
        }
    }
    for y in 0..height.div_ceil(2) {
        let (u_row, v_row) = (picture.u.row_mut(y), picture.v.row_mut(y));
        for x in 0..width.div_ceil(2) {
            let (right, below) = ((2 * x + 1).min(width - 1), (2 * y + 1).min(height - 1));
            let corners = [at(2 * x, 2 * y), at(right, 2 * y), at(2 * x, below), at(right, below)];
            let [r, g, b] = [0, 1, 2].map(|channel| (corners.iter().map(|c| c[channel]).sum::<i32>() + 2) / 4);
            u_row[x] = (((-38 * r - 74 * g + 112 * b + 128) >> 8) + 128) as u8;
            v_row[x] = (((112 * r - 94 * g - 18 * b + 128) >> 8) + 128) as u8;
        }
    }
}
