//! `regions:FILE`: one JSON object a line for each frame with something marked, its pixels as COCO run lengths. A frame
//! without regions has a line where the frame before it, of those that were analysed, had some: it ends them.

use std::sync::Arc;

use serde::Serialize;

use super::lines::Lines;
use super::rle::{Rle, Runs};
use crate::Result;
use crate::ood::alarm::{Scene, Standing, rfc3339};
use crate::ood::region::BoundingBox;
use crate::record::{FrameResults, Recorder};

/// Version of the lines. A reader of version n reads n + 1 by ignoring what it does not know.
pub const SCHEMA: u32 = 1;

/// The marked pixels of a frame: together they are its mask, and none belongs to two regions.
#[derive(Debug, Serialize)]
struct FrameLine<'a> {
    schema: u32,
    stream: &'a str,
    frame: u64,
    time_s: f64,
    wall: Option<String>,
    width: usize,
    height: usize,
    regions: Vec<RegionLine>,
}

#[derive(Debug, Serialize)]
struct RegionLine {
    /// None for marked pixels that belong to no track.
    track_id: Option<u64>,
    /// Of the event of the track, once it is raised.
    standing: Option<&'static str>,
    #[serde(rename = "box")]
    bounding_box: BoundingBox,
    /// Marked pixels.
    area: usize,
    peak_score: Option<f32>,
    mean_confidence: Option<f32>,
    segmentation: Rle,
}

/// Writes the regions of one stream.
pub struct RegionRecorder {
    stream: String,
    lines: Arc<Lines>,
    runs: Runs,
    /// Whether the last frame had regions.
    going: bool,
}

impl RegionRecorder {
    /// A recorder of `stream` that writes to `lines`.
    pub fn new(stream: String, lines: Arc<Lines>) -> Self {
        Self { stream, lines, runs: Runs::default(), going: false }
    }
}

impl Recorder for RegionRecorder {
    fn record(&mut self, seen: &FrameResults<'_>) -> Result<()> {
        let mask = &seen.detection.mask;
        let (height, width) = mask.dim();
        // Rows and columns with something in them.
        let (mut top, mut bottom, mut left, mut right) = (height, 0, width, 0);
        for (y, row) in mask.rows().into_iter().enumerate() {
            let Some(first) = row.iter().position(|pixel| *pixel != 0) else { continue };
            let last = row.iter().rposition(|pixel| *pixel != 0).unwrap_or(first);
            (top, bottom, left, right) = (top.min(y), y + 1, left.min(first), right.max(last + 1));
        }
        let marked = top < bottom;
        if !std::mem::replace(&mut self.going, marked) && !marked {
            return Ok(());
        }
        let Scene { sightings, grid: (columns, rows), labels, .. } = seen.scene;
        // What belongs to no sighting comes last.
        let rest = sightings.len();
        self.runs.start(rest + 1, height, width);
        let mut boxes = vec![[usize::MAX, usize::MAX, 0, 0]; rest + 1];
        for x in left..right {
            for y in top..bottom {
                if mask[(y, x)] == 0 {
                    continue;
                }
                let cell = (y * rows / height) * columns + x * columns / width;
                let region = match labels.get(cell) {
                    Some(label) if *label > 0 && usize::from(*label) <= rest => usize::from(*label) - 1,
                    _ => rest,
                };
                self.runs.put(region, y, x);
                let [x0, y0, x1, y1] = &mut boxes[region];
                (*x0, *y0, *x1, *y1) = ((*x0).min(x), (*y0).min(y), (*x1).max(x + 1), (*y1).max(y + 1));
            }
        }
        let line = |region: usize| {
            let [x0, y0, x1, y1] = boxes[region];
            let sighting = sightings.get(region);
            RegionLine {
                track_id: sighting.map(|sighting| sighting.track_id),
                standing: sighting.map(|sighting| match sighting.standing {
                    Standing::Candidate => "candidate",
                    Standing::Unusual => "unusual",
                    Standing::Alarm => "alarm",
                }),
                bounding_box: BoundingBox {
                    x: x0 as u32,
                    y: y0 as u32,
                    width: (x1 - x0) as u32,
                    height: (y1 - y0) as u32,
                },
                area: self.runs.area(region),
                peak_score: sighting.map(|sighting| sighting.region.peak_score),
                mean_confidence: sighting.map(|sighting| sighting.region.mean_confidence),
                segmentation: self.runs.rle(region),
            }
        };
        let regions = (0..=rest).filter(|region| self.runs.area(*region) > 0).map(line).collect();
        self.lines.write(&FrameLine {
            schema: SCHEMA,
            stream: &self.stream,
            frame: seen.index,
            time_s: seen.running_time.as_secs_f64(),
            wall: seen.wall.map(rfc3339),
            width,
            height,
            regions,
        })
    }
}
