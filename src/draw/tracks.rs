//! Alarms on the picture: the outline of each in the colour of its track, its number, and the trail of its foot.

use std::fmt::Write as _;
use std::ops::Range;

use ndarray::Array2;

use super::canvas::{Canvas, Rect, Sprite};
use super::colour::{Ycc, encode};
use super::text::{Font, Weight};
use crate::Result;
use crate::frame::{Colour, I420Mut};
use crate::ood::alarm::{Scene, Sighting, Standing};

/// Colours of tracks, in turn; bright, and apart from each other for all common kinds of colour vision.
const COLOURS: [[u8; 3]; 8] = [
    [255, 96, 64],
    [64, 208, 255],
    [255, 208, 0],
    [200, 120, 255],
    [0, 230, 150],
    [255, 128, 200],
    [120, 150, 255],
    [190, 235, 60],
];
/// Unusual members of known classes.
const UNUSUAL: [u8; 3] = [215, 215, 215];
/// The level assumed for cells beside a region, below the growing level, so that its edge runs between cells.
const DROP: f32 = 0.3;
/// Number plates in the cache.
const PLATES: usize = 32;

/// Draws the tracks of one stream. Allocates for new numbers and sizes only.
#[derive(Debug)]
pub(super) struct Tracks {
    scene: Scene,
    shown: bool,
    mask: Array2<u8>,
    coverage: [Vec<f32>; 2],
    /// Levels of three rows, less that of the edge.
    levels: [Vec<f32>; 3],
    font: Font,
    canvas: Canvas,
    plates: Vec<Plate>,
    text: String,
}

/// A number on a plate in the colour of its track.
#[derive(Debug)]
struct Plate {
    track: u64,
    unusual: bool,
    class: usize,
    lettering: (u32, Colour),
    size: (usize, usize),
    sprite: Sprite,
}

/// The colour of a track: the same for as long as it lasts.
fn colour_of(sighting: &Sighting) -> [u8; 3] {
    if sighting.standing == Standing::Unusual {
        return UNUSUAL;
    }
    COLOURS[(sighting.track_id % COLOURS.len() as u64) as usize]
}

fn is_drawn(sighting: &Sighting) -> bool {
    sighting.standing != Standing::Candidate
}

impl Tracks {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            scene: Scene::default(),
            shown: false,
            mask: Array2::default((0, 0)),
            coverage: Default::default(),
            levels: Default::default(),
            font: Font::new()?,
            canvas: Canvas::default(),
            plates: Vec::new(),
            text: String::new(),
        })
    }

    /// Sets the scene for the following frames; without one, marked pixels are drawn as they are.
    pub(super) fn set(&mut self, scene: Option<&Scene>) {
        self.shown = scene.is_some_and(|scene| scene.grid.0 > 0);
        if let Some(scene) = scene {
            self.scene.clone_from(scene);
        }
    }

    /// Whether there is a scene to draw.
    pub(super) fn is_shown(&self) -> bool {
        self.shown
    }

    /// The pixels of a `width` x `height` picture that alarms and unusual regions cover.
    pub(super) fn mask(&mut self, width: usize, height: usize) -> &Array2<u8> {
        if self.mask.dim() != (height, width) {
            self.mask = Array2::default((height, width));
        } else {
            self.mask.fill(0);
        }
        for (index, sighting) in self.scene.sightings.iter().enumerate().filter(|(_, sighting)| is_drawn(sighting)) {
            let surface = Surface::new(&self.scene, index, width, height);
            let (columns, rows) = surface.pixels(sighting);
            for y in rows {
                for x in columns.clone() {
                    if surface.at(x as f32, y as f32) >= self.scene.grow_level {
                        self.mask[(y, x)] = 1;
                    }
                }
            }
        }
        &self.mask
    }

    /// Draws outlines, trails and numbers.
    pub(super) fn draw(&mut self, picture: &mut I420Mut<'_>, classes: &[String]) {
        let line = (picture.height() as f32 / 360.0).clamp(1.2, 6.0);
        for index in 0..self.scene.sightings.len() {
            let sighting = self.scene.sightings[index];
            if !is_drawn(&sighting) {
                continue;
            }
            let ink = encode(colour_of(&sighting), picture.colour);
            self.outline(picture, index, &sighting, ink, line);
            // Parts of one thing share its trail and its number.
            let first = self.scene.sightings.iter().position(|other| other.track_id == sighting.track_id);
            if first == Some(index) {
                self.trail(picture, &sighting, ink, line);
                self.plate(picture, &sighting, classes);
            }
        }
    }

    fn outline(&mut self, picture: &mut I420Mut<'_>, index: usize, sighting: &Sighting, ink: Ycc, line: f32) {
        let (width, height) = (picture.width(), picture.height());
        let surface = Surface::new(&self.scene, index, width, height);
        let (columns, rows) = surface.pixels(sighting);
        // Whole chroma samples.
        let columns = columns.start & !1..columns.end.next_multiple_of(2).min(width);
        let rows = rows.start & !1..rows.end.next_multiple_of(2).min(height);
        let edge = self.scene.grow_level;
        let fill = |row: &mut Vec<f32>, y: f32| {
            row.clear();
            row.extend((columns.start..columns.end + 2).map(|x| surface.at(x as f32 - 1.0, y) - edge));
        };
        let [above, here, below] = &mut self.levels;
        fill(above, rows.start as f32 - 1.0);
        fill(here, rows.start as f32);
        for y in rows {
            fill(below, y as f32 + 1.0);
            let cover = &mut self.coverage[y % 2];
            cover.clear();
            cover.extend((0..columns.len()).map(|x| {
                // Distance to the edge in pixels: the level over its slope.
                let slope = (here[x + 2] - here[x]).hypot(below[x + 1] - above[x + 1]) / 2.0;
                let distance = here[x + 1].abs() / slope.max(1e-4);
                (line / 2.0 + 0.5 - distance).clamp(0.0, 1.0)
            }));
            std::mem::swap(above, here);
            std::mem::swap(here, below);
            for (value, cover) in picture.y.row_mut(y)[columns.clone()].iter_mut().zip(&*cover) {
                *value = mix(*value, ink.y, *cover);
            }
            if y % 2 == 1 || y + 1 == height {
                if y.is_multiple_of(2) {
                    let [upper, lower] = &mut self.coverage;
                    lower.clone_from(upper);
                }
                let [upper, lower] = &self.coverage;
                let half = columns.start / 2..columns.end.div_ceil(2);
                for (plane, code) in [(&mut picture.u, ink.u), (&mut picture.v, ink.v)] {
                    let pairs = upper.chunks(2).zip(lower.chunks(2));
                    for (value, (a, b)) in plane.row_mut(y / 2)[half.clone()].iter_mut().zip(pairs) {
                        let sum: f32 = a.iter().chain(b).sum();
                        *value = mix(*value, code, sum / (a.len() + b.len()) as f32);
                    }
                }
            }
        }
    }

    /// Dots where the foot of the thing was, fainter the older they are.
    fn trail(&self, picture: &mut I420Mut<'_>, sighting: &Sighting, ink: Ycc, line: f32) {
        let places = self.scene.trails.get(sighting.trail.0..sighting.trail.1).unwrap_or_default();
        let (width, height) = (picture.width() as f32, picture.height() as f32);
        for (age, &(x, y)) in places.iter().rev().enumerate() {
            let fade = 0.9 * (1.0 - age as f32 / places.len() as f32);
            dot(picture, (x * width, y * height), 1.6 * line, ink, fade);
        }
    }

    fn plate(&mut self, picture: &mut I420Mut<'_>, sighting: &Sighting, classes: &[String]) {
        let (width, height) = (picture.width(), picture.height());
        let em = (0.019 * (height as f32).min(width as f32 * 9.0 / 16.0)).max(11.0);
        let unusual = sighting.standing == Standing::Unusual;
        let class = if unusual { sighting.region.nearest_class } else { 0 };
        let lettering = (em.to_bits(), picture.colour);
        let known = |plate: &Plate| (plate.track, plate.unusual, plate.class, plate.lettering);
        let wanted = (sighting.track_id, unusual, class, lettering);
        let place = match self.plates.iter().position(|plate| known(plate) == wanted) {
            Some(place) => place,
            None => {
                if self.plates.len() == PLATES {
                    self.plates.remove(0);
                }
                self.text.clear();
                // Writing to a String cannot fail.
                let _ = write!(self.text, "{}", sighting.track_id);
                if unusual {
                    let name = classes.get(class).map_or("region", String::as_str);
                    let _ = write!(self.text, " unusual {name}");
                }
                let plate = self.new_plate(sighting, picture.colour, em, (unusual, class));
                self.plates.push(plate);
                self.plates.len() - 1
            }
        };
        let plate = &self.plates[place];
        if plate.size.0 + 2 > width || plate.size.1 + 2 > height {
            return;
        }
        let at = |share: f32, size: usize, own: usize| ((share * size as f32).max(0.0) as usize).min(size - own) & !1;
        let above = (sighting.region.rect.top * height as f32 - plate.size.1 as f32 - 4.0) / height as f32;
        let (x, y) = (at(sighting.region.rect.left, width, plate.size.0), at(above, height, plate.size.1));
        plate.sprite.lay(picture, x, y);
    }

    fn new_plate(&mut self, sighting: &Sighting, colour: Colour, em: f32, (unusual, class): (bool, usize)) -> Plate {
        let length = self.font.width(Weight::Bold, em, &self.text);
        let (width, height) = (length + 0.9 * em, 1.45 * em);
        let size = [width, height].map(|side| (side.ceil() as usize).next_multiple_of(2));
        self.canvas.clear(size[0], size[1]);
        let ink = encode(colour_of(sighting), colour);
        self.canvas.fill(Rect { x: 0.0, y: 0.0, width, height, radius: 0.35 * em }, |_| (ink, 0.92));
        let black = encode([0; 3], colour);
        self.canvas.text(&mut self.font, Weight::Bold, em, &self.text, (0.45 * em, 1.07 * em), (black, 1.0));
        let mut sprite = Sprite::default();
        sprite.set(&self.canvas);
        Plate {
            track: sighting.track_id,
            unusual,
            class,
            lettering: (em.to_bits(), colour),
            size: (size[0], size[1]),
            sprite,
        }
    }
}

fn mix(old: u8, new: u8, share: f32) -> u8 {
    (f32::from(old) + share * (f32::from(new) - f32::from(old)) + 0.5) as u8
}

/// A soft disc around `at`, cut off at the picture's border.
fn dot(picture: &mut I420Mut<'_>, at: (f32, f32), radius: f32, ink: Ycc, share: f32) {
    let [span_x, span_y] = [(at.0, picture.width()), (at.1, picture.height())].map(|(at, size)| {
        let low = (at - radius - 1.0).floor().max(0.0) as usize;
        low..((at + radius + 2.0).max(0.0) as usize).min(size)
    });
    let cover = |x: usize, y: usize| {
        let distance = (x as f32 + 0.5 - at.0).hypot(y as f32 + 0.5 - at.1);
        share * (radius + 0.5 - distance).clamp(0.0, 1.0)
    };
    for y in span_y {
        for x in span_x.clone() {
            let cover = cover(x, y);
            let luma = &mut picture.y.row_mut(y)[x];
            *luma = mix(*luma, ink.y, cover);
            if x % 2 == 0 && y % 2 == 0 {
                for (plane, code) in [(&mut picture.u, ink.u), (&mut picture.v, ink.v)] {
                    let value = &mut plane.row_mut(y / 2)[x / 2];
                    *value = mix(*value, code, cover);
                }
            }
        }
    }
}

/// The levels of one region as a surface over the picture's pixels.
struct Surface<'a> {
    scene: &'a Scene,
    label: u16,
    /// Cells per pixel.
    across: f32,
    down: f32,
    width: usize,
    height: usize,
}

impl<'a> Surface<'a> {
    fn new(scene: &'a Scene, index: usize, width: usize, height: usize) -> Self {
        let (columns, rows) = scene.grid;
        let (across, down) = (columns as f32 / width as f32, rows as f32 / height as f32);
        Self { scene, label: index as u16 + 1, across, down, width, height }
    }

    /// Columns and rows of the pixels that the region can reach.
    fn pixels(&self, sighting: &Sighting) -> (Range<usize>, Range<usize>) {
        let rect = sighting.region.rect;
        let span = |low: f32, high: f32, per_pixel: f32, size: usize| {
            let reach = 1.0 / per_pixel;
            let from = (low * size as f32 - reach).floor().max(0.0) as usize;
            from..((high * size as f32 + reach).ceil() as usize).min(size)
        };
        (span(rect.left, rect.right, self.across, self.width), span(rect.top, rect.bottom, self.down, self.height))
    }

    fn cell(&self, x: isize, y: isize) -> f32 {
        let (columns, rows) = self.scene.grid;
        let (x, y) = (x.clamp(0, columns as isize - 1) as usize, y.clamp(0, rows as isize - 1) as usize);
        let at = y * columns + x;
        let level = self.scene.level[at];
        if self.scene.labels[at] == self.label { level } else { level.min(self.scene.grow_level - DROP) }
    }

    /// Level at a pixel.
    fn at(&self, x: f32, y: f32) -> f32 {
        let (x, y) = ((x + 0.5) * self.across - 0.5, (y + 0.5) * self.down - 0.5);
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let (left, top) = (left as isize, top as isize);
        let line = |row: isize| {
            let (a, b) = (self.cell(left, row), self.cell(left + 1, row));
            a + fx * (b - a)
        };
        let (upper, lower) = (line(top), line(top + 1));
        upper + fy * (lower - upper)
    }
}
