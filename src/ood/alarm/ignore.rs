//! Ignored parts of the picture: a bonnet, a time stamp, the wall of a tunnel.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::Array3;
use serde::{Deserialize, Deserializer};

use crate::address::{Anchor, located};
use crate::{Error, Result};

/// One part to leave out, as it is written: `MASK.png` or `poly:x,y x,y x,y ...`.
#[derive(Debug, Clone, PartialEq)]
pub enum Ignored {
    /// A grey picture of the video's size; what is not black is left out.
    Mask(PathBuf),
    /// Corners in shares of the picture, in turn.
    Polygon(Vec<(f32, f32)>),
}

impl Ignored {
    /// Parses a mask's path or a polygon.
    ///
    /// # Errors
    /// A polygon with fewer than three corners, corners off the picture, or sides that cross.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(corners) = text.strip_prefix("poly:") else {
            if text.trim().is_empty() {
                return Err(Error::usage("--ignore: the path is empty"));
            }
            return Ok(Self::Mask(PathBuf::from(text)));
        };
        let invalid = |message: String| Error::usage(format!("--ignore {text}: {message}"));
        let corner = |pair: &str| -> Result<(f32, f32)> {
            let number = |text: &str| text.trim().parse::<f32>().ok().filter(|value| value.is_finite());
            let (x, y) = pair
                .split_once(',')
                .and_then(|(x, y)| Some((number(x)?, number(y)?)))
                .ok_or_else(|| invalid(format!("`{pair}` is not a corner x,y")))?;
            if (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y) {
                return Ok((x, y));
            }
            Err(invalid(format!("corner {x},{y} lies outside the picture; shares of it are 0 to 1")))
        };
        let corners = corners.split_whitespace().map(corner).collect::<Result<Vec<_>>>()?;
        if corners.len() < 3 {
            return Err(invalid(format!("a polygon needs three corners, this one has {}", corners.len())));
        }
        if let Some((first, second)) = crossing(&corners) {
            return Err(invalid(format!("the polygon crosses itself: side {} and side {}", first + 1, second + 1)));
        }
        Ok(Self::Polygon(corners))
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mask(path) => write!(f, "{}", path.display()),
            Self::Polygon(corners) => {
                f.write_str("poly:")?;
                for (index, (x, y)) in corners.iter().enumerate() {
                    write!(f, "{}{x},{y}", if index == 0 { "" } else { " " })?;
                }
                Ok(())
            }
        }
    }
}

/// A part as a pipeline file has it, before it is anchored.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Part(Ignored);

impl TryFrom<String> for Part {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Ignored::parse(&text).map(Self)
    }
}

impl Anchor for Part {
    fn anchor(&mut self, folder: &Path) {
        if let Ignored::Mask(path) = &mut self.0 {
            path.anchor(folder);
        }
    }
}

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::<_, Part>(deserializer).map(|part| part.0)
    }
}

/// The first two sides of a polygon that cross or touch, other than neighbours at their common corner.
fn crossing(corners: &[(f32, f32)]) -> Option<(usize, usize)> {
    let count = corners.len();
    let side = |index: usize| (corners[index], corners[(index + 1) % count]);
    for first in 0..count {
        for second in first + 1..count {
            let neighbours = second == first + 1 || (first == 0 && second == count - 1);
            if !neighbours && cross(side(first), side(second)) {
                return Some((first, second));
            }
        }
    }
    None
}

type Corner = (f32, f32);

fn cross((a, b): (Corner, Corner), (c, d): (Corner, Corner)) -> bool {
    let turn = |a: Corner, b: Corner, c: Corner| (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0);
    let between = |a: Corner, b: Corner, p: Corner| {
        turn(a, b, p) == 0.0
            && (a.0.min(b.0)..=a.0.max(b.0)).contains(&p.0)
            && (a.1.min(b.1)..=a.1.max(b.1)).contains(&p.1)
    };
    let apart = |p: f32, q: f32| (p > 0.0 && q < 0.0) || (p < 0.0 && q > 0.0);
    (apart(turn(a, b, c), turn(a, b, d)) && apart(turn(c, d, a), turn(c, d, b)))
        || between(a, b, c)
        || between(a, b, d)
        || between(c, d, a)
        || between(c, d, b)
}

/// All parts to leave out, with the masks read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IgnoreMap {
    polygons: Vec<Vec<Corner>>,
    masks: Vec<(PathBuf, image::GrayImage)>,
}

impl IgnoreMap {
    /// Reads the masks of `parts`.
    ///
    /// # Errors
    /// A mask cannot be read.
    pub fn load(parts: &[Ignored]) -> Result<Self> {
        let mut map = Self::default();
        for part in parts {
            match part {
                Ignored::Polygon(corners) => map.polygons.push(corners.clone()),
                Ignored::Mask(path) => {
                    let place = || format!("--ignore {}", path.display());
                    let mask = image::open(path).map_err(|error| Error::usage(format!("{}: {error}", place())))?;
                    map.masks.push((path.clone(), mask.into_luma8()));
                }
            }
        }
        Ok(map)
    }

    /// The same masks, with other polygons.
    #[must_use]
    pub fn with_polygons(&self, polygons: Vec<Vec<(f32, f32)>>) -> Self {
        Self { polygons, masks: self.masks.clone() }
    }

    /// The corners of each polygon, in shares of the picture.
    pub fn polygons(&self) -> &[Vec<(f32, f32)>] {
        &self.polygons
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.polygons.is_empty() && self.masks.is_empty()
    }

    /// Checks the masks against the size of a video.
    ///
    /// # Errors
    /// A mask is of another size.
    pub fn check_size(&self, width: u32, height: u32) -> Result<()> {
        for (path, mask) in &self.masks {
            if mask.dimensions() != (width, height) {
                let (columns, rows) = mask.dimensions();
                return Err(Error::usage(format!(
                    "--ignore {}: the mask is {columns}x{rows} and the picture {width}x{height}",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// Share of the picture that is left out, 0..1, on a fine grid.
    pub fn share(&self) -> f32 {
        const SIDE: usize = 200;
        let mut cells = Vec::new();
        self.fill(SIDE, SIDE, &mut cells);
        cells.iter().filter(|left_out| **left_out).count() as f32 / cells.len() as f32
    }

    /// Fills `out` for a grid of `width` x `height` cells: a cell is left out when its centre is.
    pub fn fill(&self, width: usize, height: usize, out: &mut Vec<bool>) {
        out.clear();
        for row in 0..height {
            let y = (row as f32 + 0.5) / height as f32;
            out.extend((0..width).map(|column| self.contains((column as f32 + 0.5) / width as f32, y)));
        }
    }

    fn contains(&self, x: f32, y: f32) -> bool {
        let in_mask = |mask: &image::GrayImage| {
            let at = |share: f32, size: u32| ((share * size as f32) as u32).min(size.saturating_sub(1));
            mask.get_pixel(at(x, mask.width()), at(y, mask.height())).0[0] > 0
        };
        self.polygons.iter().any(|corners| inside(corners, x, y)) || self.masks.iter().any(|(_, mask)| in_mask(mask))
    }
}

/// Even-odd rule.
fn inside(corners: &[Corner], x: f32, y: f32) -> bool {
    let mut inside = false;
    let mut last = corners[corners.len() - 1];
    for &corner in corners {
        if (corner.1 > y) != (last.1 > y) && x < (last.0 - corner.0) * (y - corner.1) / (last.1 - corner.1) + corner.0 {
            inside = !inside;
        }
        last = corner;
    }
    inside
}

/// Removes ignored parts from the statistics of a frame: its cells get the values of their nearest neighbours in
/// the row, so that clusters, means and thresholds are unaffected.
#[derive(Debug, Clone, Default)]
pub struct Filler {
    map: Arc<IgnoreMap>,
    /// Per size of a map: cells and where their values come from.
    tables: HashMap<(usize, usize), Vec<(u32, u32)>>,
}

impl Filler {
    /// For the parts that `map` leaves out.
    pub fn new(map: Arc<IgnoreMap>) -> Self {
        Self { map, tables: HashMap::new() }
    }

    /// Leaves out other parts from the next map on.
    pub fn set(&mut self, map: Arc<IgnoreMap>) {
        if *map != *self.map {
            *self = Self::new(map);
        }
    }

    /// Whether there is anything to do.
    pub fn is_needed(&self) -> bool {
        !self.map.is_empty()
    }

    /// Changes a map `[C, h, w]`.
    pub fn fill(&mut self, map: &mut Array3<f32>) {
        let (_, height, width) = map.dim();
        let ignore = &self.map;
        let table = self.tables.entry((height, width)).or_insert_with(|| table(ignore, width, height));
        let Some(values) = map.as_slice_mut() else { return };
        for channel in values.chunks_exact_mut((width * height).max(1)) {
            for &(to, from) in table.iter() {
                channel[to as usize] = channel[from as usize];
            }
        }
    }
}

fn table(ignore: &IgnoreMap, width: usize, height: usize) -> Vec<(u32, u32)> {
    let mut left_out = Vec::new();
    ignore.fill(width, height, &mut left_out);
    let nearest_in = |row: usize, column: usize| {
        let cells = &left_out[row * width..][..width];
        let kept = |column: &usize| !cells[*column];
        (0..width).filter(kept).min_by_key(|at| at.abs_diff(column)).map(|at| row * width + at)
    };
    let mut table = Vec::new();
    for cell in (0..left_out.len()).filter(|&cell| left_out[cell]) {
        let (row, column) = (cell / width, cell % width);
        // A row that is left out as a whole takes the nearest one that is not.
        let from = nearest_in(row, column).or_else(|| {
            let rows = (0..height).filter(|other| left_out[other * width..][..width].contains(&false));
            rows.min_by_key(|other| other.abs_diff(row)).and_then(|other| nearest_in(other, column))
        });
        if let Some(from) = from {
            table.push((cell as u32, from as u32));
        }
    }
    table
}
