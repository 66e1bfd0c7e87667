//! One decoded picture with its time, owned by its holder.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst_video::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::frame::{Colour, I420, I420Mut, Matrix, Plane, PlaneMut, Range};
use crate::{Error, Result};

/// A decoded I420 picture. Its times stay with it from input to output.
pub struct Frame {
    /// The number of its input.
    pub stream: u32,
    /// Its index in that input, from 0.
    pub index: u64,
    /// Nanoseconds since the start of the input.
    pub running_time: u64,
    /// Duration in nanoseconds, where the input has one.
    pub duration: Option<u64>,
    /// Time of capture by a live input, on this machine's clock; none for files.
    pub captured: Option<Instant>,
    /// The signal is lost: this repeats the last picture of a live input, which is this old.
    pub lost: Option<Duration>,
    buffer: gst::Buffer,
    info: gst_video::VideoInfo,
    canvas: FramePool,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("stream", &self.stream)
            .field("index", &self.index)
            .field("running_time", &self.running_time)
            .field("size", &(self.width(), self.height()))
            .finish_non_exhaustive()
    }
}

impl Frame {
    pub(crate) fn new(
        stream: u32,
        index: u64,
        running_time: u64,
        buffer: gst::Buffer,
        info: gst_video::VideoInfo,
        canvas: FramePool,
    ) -> Self {
        let duration = buffer.duration().map(gst::ClockTime::nseconds);
        Self { stream, index, running_time, duration, captured: None, lost: None, buffer, info, canvas }
    }

    pub(crate) fn set_index_and_time(&mut self, stream: u32, index: u64, running_time: u64, duration: u64) {
        (self.stream, self.index, self.running_time, self.duration) = (stream, index, running_time, Some(duration));
    }

    /// Width of the luma plane, in pixels.
    pub fn width(&self) -> u32 {
        self.info.width()
    }

    /// Height of the luma plane, in pixels.
    pub fn height(&self) -> u32 {
        self.info.height()
    }

    /// Maps the picture for reading.
    ///
    /// # Errors
    /// The memory cannot be mapped.
    pub fn map(&self) -> Result<FrameView<'_>> {
        let mapped = gst_video::VideoFrameRef::from_buffer_ref_readable(&self.buffer, &self.info)
            .map_err(|_| self.error("cannot be mapped for reading"))?;
        Ok(FrameView { mapped, colour: colour_of(&self.info) })
    }

    /// Maps the picture for reading and writing in place. Copies it only if it is shared (with a decoder that predicts
    /// from it).
    ///
    /// # Errors
    /// The memory cannot be mapped.
    pub fn map_mut(&mut self) -> Result<FrameViewMut<'_>> {
        let failed = self.error("cannot be mapped for writing");
        let mapped = gst_video::VideoFrameRef::from_buffer_ref_writable(self.buffer.make_mut(), &self.info)
            .map_err(|_| failed)?;
        Ok(FrameViewMut { mapped, colour: colour_of(&self.info) })
    }

    /// A black picture of another size with the times of this one, allocated from a pool.
    ///
    /// # Errors
    /// The size is invalid or memory runs out.
    pub fn new_like(&self, width: u32, height: u32) -> Result<Frame> {
        let (buffer, info) = self.canvas.acquire(&self.info, width, height)?;
        let mut frame = Frame { buffer, info, canvas: self.canvas.clone(), ..*self };
        let black = if colour_of(&frame.info).range == Range::Full { 0 } else { 16 };
        let mut view = frame.map_mut()?;
        let picture = view.i420();
        picture.y.data.fill(black);
        picture.u.data.fill(128);
        picture.v.data.fill(128);
        drop(view);
        Ok(frame)
    }

    /// Another reference to the same picture. Writing to either copies the picture first.
    #[must_use]
    pub fn share(&self) -> Frame {
        Frame { buffer: self.buffer.clone(), info: self.info.clone(), canvas: self.canvas.clone(), ..*self }
    }

    /// The caps of the picture.
    pub(crate) fn video_info(&self) -> &gst_video::VideoInfo {
        &self.info
    }

    /// The buffer with the frame's times.
    pub(crate) fn into_buffer(mut self) -> gst::Buffer {
        let buffer = self.buffer.make_mut();
        buffer.set_pts(gst::ClockTime::from_nseconds(self.running_time));
        buffer.set_dts(None);
        buffer.set_duration(self.duration.map(gst::ClockTime::from_nseconds));
        self.buffer
    }

    fn error(&self, what: &str) -> Error {
        Error::failed(format!("frame {} of stream {} {what}", self.index, self.stream))
    }
}

/// A picture mapped for reading.
pub struct FrameView<'a> {
    mapped: gst_video::VideoFrameRef<&'a gst::BufferRef>,
    colour: Colour,
}

impl FrameView<'_> {
    /// Its planes.
    pub fn i420(&self) -> I420<'_> {
        let [y, u, v, _] = self.mapped.planes_data();
        let plane = |index: usize, data| {
            let (stride, columns, rows) = layout(self.mapped.info(), index);
            Plane { data, stride, columns, rows }
        };
        I420 { y: plane(0, y), u: plane(1, u), v: plane(2, v), colour: self.colour }
    }
}

/// A picture mapped for reading and writing.
pub struct FrameViewMut<'a> {
    mapped: gst_video::VideoFrameRef<&'a mut gst::BufferRef>,
    colour: Colour,
}

impl FrameViewMut<'_> {
    /// Its planes.
    pub fn i420(&mut self) -> I420Mut<'_> {
        let [a, b, c] = [0, 1, 2].map(|index| layout(self.mapped.info(), index));
        let colour = self.colour;
        let [y, u, v, _] = self.mapped.planes_data_mut();
        let plane = |(stride, columns, rows), data| PlaneMut { data, stride, columns, rows };
        I420Mut { y: plane(a, y), u: plane(b, u), v: plane(c, v), colour }
    }
}

/// Stride, width and height of a plane. `info` is that of the mapped frame, with the strides of the buffer's meta.
fn layout(info: &gst_video::VideoInfo, plane: usize) -> (usize, usize, usize) {
    let component = plane as u8;
    let size = (info.comp_width(component) as usize, info.comp_height(component) as usize);
    (info.stride()[plane].unsigned_abs() as usize, size.0, size.1)
}

/// The colorimetry of the caps, reduced to what the converters support: BT.601 for everything but BT.709 and BT.2020.
pub(crate) fn colour_of(info: &gst_video::VideoInfo) -> Colour {
    let colorimetry = info.colorimetry();
    let matrix = match colorimetry.matrix() {
        gst_video::VideoColorMatrix::Bt709 | gst_video::VideoColorMatrix::Bt2020 => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let full = colorimetry.range() == gst_video::VideoColorRange::Range0_255;
    Colour { matrix, range: if full { Range::Full } else { Range::Limited } }
}

/// The buffer pool of [`Frame::new_like`], shared by the frames of one reader.
#[derive(Clone, Default)]
pub(crate) struct FramePool(Arc<Mutex<Option<(gst_video::VideoInfo, gst::BufferPool)>>>);

impl FramePool {
    pub fn acquire(
        &self,
        like: &gst_video::VideoInfo,
        width: u32,
        height: u32,
    ) -> Result<(gst::Buffer, gst_video::VideoInfo)> {
        let failed = || Error::failed(format!("no picture of {width}x{height} can be made"));
        let mut slot = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fits = |info: &gst_video::VideoInfo| {
            (info.width(), info.height()) == (width, height) && info.colorimetry() == like.colorimetry()
        };
        if slot.as_ref().is_none_or(|(info, _)| !fits(info)) {
            let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, height)
                .colorimetry(&like.colorimetry())
                .par(like.par())
                .fps(like.fps())
                .build()
                .map_err(|_| failed())?;
            let pool = gst_video::VideoBufferPool::new();
            let mut config = pool.config();
            let caps = info.to_caps().map_err(|_| failed())?;
            config.set_params(Some(&caps), u32::try_from(info.size()).map_err(|_| failed())?, 0, 0);
            config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META);
            pool.set_config(config).map_err(|_| failed())?;
            pool.set_active(true).map_err(|_| failed())?;
            if let Some((_, old)) = slot.replace((info, pool.upcast())) {
                // Buffers in use keep their memory; the pool frees them when they return.
                let _ = old.set_active(false);
            }
        }
        let (info, pool) = slot.as_ref().ok_or_else(failed)?;
        let buffer = pool.acquire_buffer(None).map_err(|_| failed())?;
        Ok((buffer, info.clone()))
    }
}

impl Drop for FramePool {
    fn drop(&mut self) {
        // The last holder: an active pool would never free its memory.
        if Arc::strong_count(&self.0) == 1
            && let Ok(mut slot) = self.0.lock()
            && let Some((_, pool)) = slot.take()
        {
            let _ = pool.set_active(false);
        }
    }
}
