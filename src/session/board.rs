//! What a live run shows to those who look at it: pictures, scores and events. It exists where a server of a page does.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::body::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder as _, RgbImage, imageops};
use tokio::sync::broadcast;

use crate::Result;
use crate::frame::{I420, Plane};
use crate::lock::lock;
use crate::ood::alarm::{Event, EventType};
use crate::ood::region::BoundingBox;
use crate::output::preview::{Preview, PreviewOptions};
use crate::record::snapshots::rgb;
use crate::record::{FrameResults, Recorder};

/// Events that are remembered.
const EVENTS: usize = 100;
/// Changes of events that a slow follower may be behind.
const BEHIND: usize = 256;
/// Width and height of the picture of an event.
const THUMBNAIL: (u32, u32) = (320, 180);
/// Quality of the picture of an event, 1 to 100.
const QUALITY: u8 = 80;

/// The board of a run.
#[derive(Debug)]
pub(crate) struct Board {
    options: PreviewOptions,
    events: Mutex<VecDeque<Arc<Notice>>>,
    news: broadcast::Sender<Arc<Notice>>,
}

/// An event as it is known.
#[derive(Debug)]
pub(crate) struct Notice {
    /// Its newest line.
    pub event: Event,
    /// A JPEG file of the place where it began.
    pub thumbnail: Bytes,
}

/// What is shown of one stream.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Its pictures.
    pub preview: Arc<Preview>,
    scores: [AtomicU32; 2],
}

impl Watched {
    /// The lowest and the highest score in the last frame; none before the first one.
    pub fn scores(&self) -> Option<(f32, f32)> {
        let [low, high] = self.scores.each_ref().map(|bits| f32::from_bits(bits.load(Ordering::Relaxed)));
        (low.is_finite() && high.is_finite()).then_some((low, high))
    }
}

impl Board {
    /// An empty board, with pictures by `options`.
    pub fn new(options: PreviewOptions) -> Self {
        Self { options, events: Mutex::default(), news: broadcast::Sender::new(BEHIND) }
    }

    /// The events that are remembered, the oldest first.
    pub fn events(&self) -> Vec<Arc<Notice>> {
        self.lock().iter().cloned().collect()
    }

    /// The event of that identity, if it is remembered.
    pub fn event(&self, id: &str) -> Option<Arc<Notice>> {
        self.lock().iter().find(|notice| notice.event.id == id).cloned()
    }

    /// The changes of events from now on.
    pub fn news(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.news.subscribe()
    }

    pub(super) fn stream(&self) -> Arc<Watched> {
        Arc::new(Watched {
            preview: Preview::new(self.options),
            scores: [f32::NAN, f32::NAN].map(|none| AtomicU32::new(none.to_bits())),
        })
    }

    /// Puts the events of a stream on the board, and its scores.
    pub(super) fn recorder(self: &Arc<Self>, watched: &Arc<Watched>) -> Box<dyn Recorder> {
        Box::new(Poster { board: Arc::clone(self), watched: Arc::clone(watched), pictures: Vec::new() })
    }

    fn post(&self, event: &Event, picture: Option<Bytes>) {
        let mut events = self.lock();
        let known = events.iter().position(|notice| notice.event.id == event.id);
        let before = known.and_then(|at| events.remove(at)).map(|notice| notice.thumbnail.clone());
        let notice = Arc::new(Notice { event: event.clone(), thumbnail: picture.or(before).unwrap_or_default() });
        if events.len() == EVENTS {
            events.pop_front();
        }
        events.push_back(Arc::clone(&notice));
        // Without followers nothing is sent.
        let _ = self.news.send(notice);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Notice>>> {
        lock(&self.events)
    }
}

struct Poster {
    board: Arc<Board>,
    watched: Arc<Watched>,
    /// Of the events that begin with this frame.
    pictures: Vec<(String, Bytes)>,
}

impl Recorder for Poster {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        let (low, high) = seen
            .detection
            .grid_score
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &score| (low.min(score), high.max(score)));
        for (bits, score) in self.watched.scores.iter().zip([low, high]) {
            bits.store(score.to_bits(), Ordering::Relaxed);
        }
        self.pictures.clear();
        let Some(picture) = seen.picture else { return Ok(()) };
        for event in seen.scene.events.iter().filter(|event| event.kind == EventType::Start) {
            if let Some(jpeg) = thumbnail(picture, &event.bounding_box) {
                self.pictures.push((event.id.clone(), jpeg));
            }
        }
        Ok(())
    }

    fn events(&mut self, events: &[Event]) -> Result<()> {
        for event in events {
            let picture = self.pictures.iter().find(|(id, _)| *id == event.id).map(|(_, jpeg)| jpeg.clone());
            self.board.post(event, picture);
        }
        Ok(())
    }

    fn keeps(&self) -> bool {
        false
    }
}

/// A JPEG file of the surroundings of `place`; none where it cannot be encoded.
fn thumbnail(picture: &I420<'_>, place: &BoundingBox) -> Option<Bytes> {
    let (x, y, width, height) = surroundings(picture.width(), picture.height(), place);
    let (columns, rows) = (width.div_ceil(2), height.div_ceil(2));
    let part = I420 {
        y: cut(picture.y, (x, y), (width, height)),
        u: cut(picture.u, (x / 2, y / 2), (columns, rows)),
        v: cut(picture.v, (x / 2, y / 2), (columns, rows)),
        colour: picture.colour,
    };
    part.check().ok()?;
    let image = RgbImage::from_raw(width as u32, height as u32, rgb(&part))?;
    let small = imageops::thumbnail(&image, THUMBNAIL.0, THUMBNAIL.1);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .write_image(small.as_raw(), small.width(), small.height(), ExtendedColorType::Rgb8)
        .ok()?;
    Some(jpeg.into())
}

/// The part of a plane from `x`, `y` on.
fn cut<'a>(plane: Plane<'a>, (x, y): (usize, usize), (columns, rows): (usize, usize)) -> Plane<'a> {
    Plane { data: &plane.data[y * plane.stride + x..], columns, rows, ..plane }
}

/// The part of a `width` x `height` picture around `place`, in the shape of a thumbnail as far as the picture goes:
/// left, top, width and height, the first two even.
fn surroundings(width: usize, height: usize, place: &BoundingBox) -> (usize, usize, usize, usize) {
    let shape = THUMBNAIL.0 as usize * 1000 / THUMBNAIL.1 as usize;
    let (wide, tall) = (place.width as usize, place.height as usize);
    // Twice the box, and not less than a quarter of the picture.
    let across = (2 * wide).max(2 * tall * shape / 1000).max(width / 4).clamp(2.min(width), width);
    let down = (across * 1000 / shape).clamp(2.min(height), height);
    let start = |at: usize, size: usize, part: usize, whole: usize| {
        ((at + size / 2).saturating_sub(part / 2)).min(whole - part) / 2 * 2
    };
    let x = start(place.x as usize, wide, across, width);
    let y = start(place.y as usize, tall, down, height);
    // What was cut off on the right and below by an even start.
    (x, y, (across + 1).min(width - x), (down + 1).min(height - y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Colour, Matrix, Range};

    #[test]
    fn the_surroundings_of_a_box_lie_within_the_picture() {
        for (width, height) in [(1280, 720), (161, 91), (64, 48), (3, 2), (90, 400)] {
            for (x, y, wide, tall) in [(0, 0, 1, 1), (width - 1, height - 1, 1, 1), (0, 0, width, height)] {
                let place = BoundingBox { x: x as u32, y: y as u32, width: wide as u32, height: tall as u32 };
                let (left, top, across, down) = surroundings(width, height, &place);
                assert!(left % 2 == 0 && top % 2 == 0, "{left} {top}");
                assert!(across > 0 && down > 0 && left + across <= width && top + down <= height);
                let middle = (x + wide / 2, y + tall / 2);
                assert!((left..left + across).contains(&middle.0), "{width}x{height} {place:?}");
                assert!((top..top + down).contains(&middle.1), "{width}x{height} {place:?}");
            }
        }
    }

    #[test]
    fn a_thumbnail_shows_the_place() {
        let (width, height) = (640, 360);
        // Dark, with a bright square.
        let y: Vec<u8> = (0..width * height)
            .map(|i| if (500..540).contains(&(i % width)) && (200..240).contains(&(i / width)) { 235 } else { 16 })
            .collect();
        let chroma = vec![128; width * height / 4];
        let plane = |data, columns, rows| Plane { data, stride: columns, columns, rows };
        let picture = I420 {
            y: plane(&y, width, height),
            u: plane(&chroma, width / 2, height / 2),
            v: plane(&chroma, width / 2, height / 2),
            colour: Colour { matrix: Matrix::Bt601, range: Range::Limited },
        };
        let jpeg = thumbnail(&picture, &BoundingBox { x: 500, y: 200, width: 40, height: 40 }).unwrap();
        let image = image::load_from_memory(&jpeg).unwrap().into_luma8();
        assert_eq!(image.dimensions(), THUMBNAIL);
        assert!(image.get_pixel(160, 90).0[0] > 200 && image.get_pixel(10, 10).0[0] < 40);
    }
}
