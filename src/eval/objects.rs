//! Labelled things in the frames of a clip, with identities over time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::GrayImage;

use super::challenge::leading_number;
use super::components::VOID;
use crate::ood::alarm::Rect;
use crate::ood::components::{Components, DROPPED};
use crate::{Error, Result};

/// Things below this share of the picture are left out: a few pixels in the distance.
const MIN_AREA: f32 = 0.0001;
/// A thing that is away for longer is another one when it comes back, in seconds.
const AWAY_S: f64 = 1.0;

/// The masks of a clip: `0` known, `255` void, anything else a thing.
#[derive(Debug, Clone)]
pub struct ClipTruth {
    masks: BTreeMap<u64, PathBuf>,
    /// Values are identities, the same in all frames.
    instances: bool,
    known: Vec<Thing>,
    components: Components,
    next: u16,
}

#[derive(Debug, Clone)]
struct Thing {
    id: u16,
    rect: Rect,
    last_s: f64,
}

/// The ground truth of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelledFrame {
    /// Columns of the mask.
    pub width: usize,
    /// Rows of the mask.
    pub height: usize,
    /// Per pixel 0 known, `u16::MAX` void, else the identity of a thing.
    pub things: Vec<u16>,
}

/// The value of void pixels in [`LabelledFrame::things`].
pub const VOID_THING: u16 = u16::MAX;

impl ClipTruth {
    /// Finds the masks in `folder`: files whose names begin with the number of their frame, such as `0012.png` or
    /// `000012_instance_ood.png`. Frames without a mask are not labelled. With `instances` the values are identities.
    ///
    /// # Errors
    /// The folder cannot be read, holds no masks, or has two for one frame.
    pub fn open(folder: &Path, instances: bool) -> Result<Self> {
        let place = || format!("--truth {}", folder.display());
        let entries = std::fs::read_dir(folder).map_err(|error| Error::usage(format!("{}: {error}", place())))?;
        let mut masks = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(|error| Error::usage(format!("{}: {error}", place())))?.path();
            let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
            let (true, Some(frame)) = (is_png, leading_number(&path)) else { continue };
            if let Some(other) = masks.insert(frame, path.clone()) {
                return Err(Error::usage(format!(
                    "{}: {} and {} are both of frame {frame}",
                    place(),
                    other.display(),
                    path.display()
                )));
            }
        }
        if masks.is_empty() {
            return Err(Error::usage(format!("{}: there is no mask", place()))
                .hint("masks are PNG files named after the number of their frame, from 0: 0000.png, 0001.png, ..."));
        }
        Ok(Self { masks, instances, known: Vec::new(), components: Components::default(), next: 1 })
    }

    /// Masks.
    #[cfg(any(test, feature = "internals"))]
    pub fn len(&self) -> usize {
        self.masks.len()
    }

    /// Never true: a clip without masks cannot be opened.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_empty(&self) -> bool {
        self.masks.is_empty()
    }

    /// Checks the first mask against the size of the video, before anything is decoded.
    ///
    /// # Errors
    /// It cannot be read, or is of another size.
    pub fn check_size(&self, width: u32, height: u32) -> Result<()> {
        let Some(path) = self.masks.values().next() else { return Ok(()) };
        let (columns, rows) =
            image::image_dimensions(path).map_err(|error| Error::usage(format!("mask {}: {error}", path.display())))?;
        if (columns, rows) == (width, height) {
            return Ok(());
        }
        Err(Error::usage(format!("mask {} is {columns}x{rows} and the picture {width}x{height}", path.display())))
    }

    /// The things of frame `index` at `time_s`; none where it is not labelled. Frames come in order.
    ///
    /// # Errors
    /// The mask cannot be read.
    pub fn frame(&mut self, index: u64, time_s: f64) -> Result<Option<LabelledFrame>> {
        let Some(path) = self.masks.get(&index) else { return Ok(None) };
        let mask = image::open(path).map_err(|error| Error::usage(format!("mask {}: {error}", path.display())))?;
        let mask = mask.into_luma8();
        Ok(Some(if self.instances { by_value(&mask) } else { self.by_place(&mask, time_s) }))
    }

    /// Components are the same thing when their boxes overlap from frame to frame.
    fn by_place(&mut self, mask: &GrayImage, time_s: f64) -> LabelledFrame {
        let (width, height) = (mask.width() as usize, mask.height() as usize);
        let set: Vec<u8> = mask.as_raw().iter().map(|&value| u8::from(value != 0 && value != VOID)).collect();
        let mut things: Vec<u16> = mask.as_raw().iter().map(|&v| if v == VOID { VOID_THING } else { 0 }).collect();
        let least = ((MIN_AREA * set.len() as f32) as u64).max(1);
        let count = self.components.label(&set, width, least);
        let mut rects = vec![Rect { left: 1.0, top: 1.0, right: 0.0, bottom: 0.0 }; count];
        let kept = |component: u32| component != DROPPED;
        for run in self.components.runs().iter().filter(|run| kept(run.component)) {
            let (x, y) = (width as f32, height as f32);
            let rect = &mut rects[run.component as usize];
            *rect = rect.union(&Rect {
                left: run.start as f32 / x,
                top: run.row as f32 / y,
                right: run.end as f32 / x,
                bottom: (run.row + 1) as f32 / y,
            });
        }
        let ids = self.identities(&rects, time_s);
        for run in self.components.runs().iter().filter(|run| kept(run.component)) {
            things[run.row as usize * width..][run.start as usize..run.end as usize].fill(ids[run.component as usize]);
        }
        LabelledFrame { width, height, things }
    }

    /// The thing of each box: pairs of boxes that touch, the largest overlap first; what is left is new.
    fn identities(&mut self, rects: &[Rect], time_s: f64) -> Vec<u16> {
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (thing, known) in self.known.iter().enumerate().filter(|(_, known)| time_s - known.last_s <= AWAY_S) {
            let overlaps = rects.iter().map(|rect| known.rect.iou(rect)).enumerate();
            pairs.extend(overlaps.filter(|(_, iou)| *iou > 0.0).map(|(place, iou)| (iou, thing, place)));
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut ids = vec![0; rects.len()];
        for (_, thing, place) in pairs {
            let known = &mut self.known[thing];
            if ids[place] == 0 && known.last_s < time_s {
                (known.rect, known.last_s, ids[place]) = (rects[place], time_s, known.id);
            }
        }
        for (rect, id) in rects.iter().zip(&mut ids).filter(|(_, id)| **id == 0) {
            *id = self.next;
            self.known.push(Thing { id: self.next, rect: *rect, last_s: time_s });
            self.next += 1;
        }
        ids
    }
}

fn by_value(mask: &GrayImage) -> LabelledFrame {
    let thing = |&value: &u8| if value == VOID { VOID_THING } else { u16::from(value) };
    LabelledFrame {
        width: mask.width() as usize,
        height: mask.height() as usize,
        things: mask.as_raw().iter().map(thing).collect(),
    }
}
