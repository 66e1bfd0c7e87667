//! Pictures of a live stream for those who look at it over HTTP: JPEG files of a bounded size and rate. Each is encoded
//! once for all viewers, and only while there are any; the stream never waits for any of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use hyper::body::Bytes;
use tokio::sync::watch;

use crate::gst::{Frame, bounded_source, element, gst_failed, link};
use crate::lock::lock;
use crate::{Error, Result};

/// Quality of the pictures, 0 to 100.
const QUALITY: i32 = 75;
/// Time that the encoder stays ready after the last request.
const LINGER: Duration = Duration::from_secs(3);
/// Longest time that one picture takes to encode, and pause after a failure.
const PATIENCE: Duration = Duration::from_secs(5);

/// Size and rate of the pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreviewOptions {
    /// Largest width in pixels; smaller pictures keep their size.
    pub width: u32,
    /// Most pictures in a second.
    pub fps: f64,
}

/// The newest picture.
#[derive(Debug, Clone, Default)]
pub struct Shot {
    /// Its number, from 1; 0 where there is none.
    pub number: u64,
    /// A JPEG file.
    pub jpeg: Bytes,
    /// When it was encoded.
    pub taken: Option<Instant>,
}

/// The pictures of one stream.
pub struct Preview {
    options: PreviewOptions,
    /// Whether a viewer waits for the next picture.
    wanted: AtomicBool,
    state: Mutex<State>,
    wake: Condvar,
    shots: watch::Sender<Shot>,
}

struct State {
    /// The next one to encode.
    frame: Option<Frame>,
    /// No frame is taken before this.
    due: Instant,
    /// Whether there is a thread that encodes.
    running: bool,
}

impl fmt::Debug for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Preview").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Preview {
    /// Nothing is encoded yet.
    pub fn new(options: PreviewOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            wanted: AtomicBool::new(false),
            state: Mutex::new(State { frame: None, due: Instant::now(), running: false }),
            wake: Condvar::new(),
            shots: watch::Sender::new(Shot::default()),
        })
    }

    /// Shows `frame` if a viewer waits for a picture and the rate allows one. Never waits.
    pub fn offer(&self, frame: &Frame) {
        if !self.wanted.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.lock();
        let now = Instant::now();
        if !state.running || now < state.due {
            return;
        }
        self.wanted.store(false, Ordering::Release);
        state.due = now + Duration::from_secs_f64(1.0 / self.options.fps);
        state.frame = Some(frame.share());
        self.wake.notify_one();
    }

    /// The pictures from now on. Each but the first must be requested by [`Preview::want`].
    pub fn watch(self: &Arc<Self>) -> watch::Receiver<Shot> {
        let shots = self.shots.subscribe();
        self.want();
        shots
    }

    /// Asks for the next picture.
    pub fn want(self: &Arc<Self>) {
        self.wanted.store(true, Ordering::Release);
        let mut state = self.lock();
        if state.running {
            return;
        }
        let this = Arc::clone(self);
        match thread::Builder::new().name("preview".to_owned()).spawn(move || this.work()) {
            Ok(_) => state.running = true,
            Err(error) => tracing::warn!("preview: {error}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The next frame to encode; `None` without a request for a while.
    fn next(&self) -> Option<Frame> {
        let mut state = self.lock();
        let since = Instant::now();
        loop {
            if let Some(frame) = state.frame.take() {
                return Some(frame);
            }
            let left = LINGER.saturating_sub(since.elapsed());
            if left.is_zero() {
                // A new look starts another thread.
                state.running = false;
                return None;
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn work(&self) {
        let mut encoder: Option<JpegEncoder> = None;
        let mut failing = false;
        while let Some(frame) = self.next() {
            let info = frame.video_info().clone();
            let made = match encoder.take().filter(|encoder| encoder.info == info) {
                Some(ready) => Ok(ready),
                None => JpegEncoder::start(&info, self.options.width),
            };
            let encoded = made.and_then(|made| {
                let jpeg = made.encode(frame)?;
                encoder = Some(made);
                Ok(jpeg)
            });
            match encoded {
                Ok(jpeg) => {
                    failing = false;
                    self.shots.send_modify(|shot| {
                        *shot = Shot { number: shot.number + 1, jpeg, taken: Some(Instant::now()) };
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!("preview: {error}");
                    }
                    self.lock().due = Instant::now() + PATIENCE;
                }
            }
        }
        // Nobody is shown an old picture later.
        self.shots.send_modify(|shot| *shot = Shot { number: shot.number, ..Shot::default() });
    }
}

/// Scales frames of one size and colour and encodes them as JPEG files. Stopped on drop.
struct JpegEncoder {
    info: gst_video::VideoInfo,
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
}

impl JpegEncoder {
    fn start(info: &gst_video::VideoInfo, widest: u32) -> Result<Self> {
        let source = bounded_source(&info.to_caps().map_err(gst_failed)?, 1);
        let (width, height) = fitted(info, widest);
        // JPEG is BT.601 in full range: the encoder makes it of RGB, and of I420 it would take the values as they are.
        let scaled = gst::Caps::builder("video/x-raw")
            .field("format", "BGRx")
            .field("width", width as i32)
            .field("height", height as i32)
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build();
        let filter = element("capsfilter")?;
        filter.set_property("caps", scaled);
        let encode = element("jpegenc")?;
        encode.set_property("quality", QUALITY);
        let sink = gst_app::AppSink::builder().sync(false).async_(false).enable_last_sample(false).build();
        let pipeline = gst::Pipeline::new();
        let chain = [source.clone().upcast(), element("videoconvertscale")?, filter, encode, sink.clone().upcast()];
        link(&pipeline, &chain)?;
        let encoder = Self { info: info.clone(), pipeline, source, sink };
        encoder.pipeline.set_state(gst::State::Playing).map_err(|error| Error::failed(error.to_string()))?;
        Ok(encoder)
    }

    fn encode(&self, frame: Frame) -> Result<Bytes> {
        self.source.push_buffer(frame.into_buffer()).map_err(|error| Error::failed(error.to_string()))?;
        let patience = gst::ClockTime::from_mseconds(PATIENCE.as_millis() as u64);
        let sample =
            self.sink.try_pull_sample(patience).ok_or_else(|| Error::failed("no picture came out of jpegenc"))?;
        let buffer = sample.buffer().ok_or_else(|| Error::failed("an empty picture came out of jpegenc"))?;
        let map = buffer.map_readable().map_err(gst_failed)?;
        Ok(Bytes::copy_from_slice(&map))
    }
}

impl Drop for JpegEncoder {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The size of a picture with square pixels that is at most `widest` wide.
fn fitted(info: &gst_video::VideoInfo, widest: u32) -> (u32, u32) {
    let par = info.par();
    let shown = f64::from(info.width()) * f64::from(par.numer()) / f64::from(par.denom().max(1));
    let factor = (f64::from(widest) / shown.max(1.0)).min(1.0);
    let at_least_two = |size: f64| (size.round() as u32).max(2);
    (at_least_two(shown * factor), at_least_two(f64::from(info.height()) * factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{self, Read};
    use crate::output;

    fn frames(spec: &str) -> Vec<Frame> {
        crate::gst::init().unwrap();
        let input::Input::Test(spec) = input::expand_input(&spec.into()).unwrap().remove(0) else { panic!() };
        let (mut reader, _) = output::file::open_test(&spec, None, &Default::default(), 0).unwrap();
        let mut frames = Vec::new();
        while let Read::Frame(frame) = reader.read(Duration::from_secs(20)).unwrap() {
            frames.push(frame);
        }
        frames
    }

    /// Waits for a picture after `number` while `frame` is shown.
    fn shot(preview: &Arc<Preview>, shots: &watch::Receiver<Shot>, number: u64, frame: &Frame) -> Shot {
        let start = Instant::now();
        loop {
            preview.offer(frame);
            let shot = shots.borrow().clone();
            if shot.number > number && shot.taken.is_some() {
                return shot;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no picture");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn pictures_are_scaled_and_encoded_only_on_request() {
        let frames = frames("test://ball?frames=3&width=320&height=180&fps=25");
        let preview = Preview::new(PreviewOptions { width: 161, fps: 1000.0 });
        preview.offer(&frames[0]);
        assert!(!preview.lock().running, "there are no viewers");
        let shots = preview.watch();
        let first = shot(&preview, &shots, 0, &frames[0]);
        let picture = image::load_from_memory(&first.jpeg).unwrap();
        assert_eq!((picture.width(), picture.height()), (161, 91));
        // One look is one picture.
        preview.offer(&frames[1]);
        assert!(preview.lock().frame.is_none());
        preview.want();
        let second = shot(&preview, &shots, first.number, &frames[2]);
        assert_eq!(second.number, 2);
        assert_ne!(first.jpeg, second.jpeg);
    }

    #[test]
    fn black_and_white_stay_what_they_are() {
        for (pattern, expected) in [("black", 0.0), ("white", 255.0)] {
            let frames = frames(&format!("test://{pattern}?frames=1&width=64&height=48"));
            let preview = Preview::new(PreviewOptions { width: 64, fps: 1000.0 });
            let shots = preview.watch();
            let shot = shot(&preview, &shots, 0, &frames[0]);
            let picture = image::load_from_memory(&shot.jpeg).unwrap().into_luma8();
            let mean = picture.pixels().map(|pixel| f64::from(pixel.0[0])).sum::<f64>() / f64::from(64 * 48);
            assert!((mean - expected).abs() < 3.0, "{pattern}: {mean}");
        }
    }
}
