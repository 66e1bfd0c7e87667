//! The last result on frames that are not analysed: moved along with the camera since its own frame.

use crate::compute::Detection;
use crate::frame::Plane;
use crate::ood::alarm::field::read_luma;
use crate::ood::alarm::motion::{Motion, MotionFinder};
use crate::ood::alarm::{Rect, Scene};

/// Most columns of the grid on which motion is found.
const COLUMNS: usize = 160;

/// Where places of a frame are in an earlier one, both as `(x, y)` from the picture's centre in the same unit:
/// `x' = x[0] + x[1] x + x[2] y`, and `y'` likewise.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Affine {
    x: [f32; 3],
    y: [f32; 3],
}

impl Affine {
    const NONE: Self = Self { x: [0.0, 1.0, 0.0], y: [0.0, 0.0, 1.0] };

    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        let value = |c: &[f32; 3]| c[0] + c[1] * x + c[2] * y;
        (value(&self.x), value(&self.y))
    }

    /// The map from a frame, by its `motion` since the one before it, and from there on by `self`.
    fn after(&self, motion: &Motion) -> Self {
        let [x, y] = [&motion.across, &motion.down];
        let step = Self { x: [x[0], 1.0 + x[1], x[2]], y: [y[0], y[1], 1.0 + y[2]] };
        let line = |c: &[f32; 3]| {
            [
                c[0] + c[1] * step.x[0] + c[2] * step.y[0],
                c[1] * step.x[1] + c[2] * step.y[1],
                c[1] * step.x[2] + c[2] * step.y[2],
            ]
        };
        Self { x: line(&self.x), y: line(&self.y) }
    }

    /// The map back; none where there is none.
    fn inverse(&self) -> Option<Self> {
        let determinant = self.x[1] * self.y[2] - self.x[2] * self.y[1];
        if determinant.abs() < 1e-3 {
            return None;
        }
        let linear =
            [[self.y[2] / determinant, -self.x[2] / determinant], [-self.y[1] / determinant, self.x[1] / determinant]];
        let line = |[a, b]: [f32; 2]| [-(a * self.x[0] + b * self.y[0]), a, b];
        Some(Self { x: line(linear[0]), y: line(linear[1]) })
    }

    /// In units of which `factor` are one of those before.
    fn scaled(&self, factor: f32) -> Self {
        let line = |[c, a, b]: [f32; 3]| [c * factor, a, b];
        Self { x: line(self.x), y: line(self.y) }
    }
}

/// Follows the camera from the frame of a result on, and moves the result. Buffers are kept.
pub(super) struct Aligner {
    finder: MotionFinder,
    luma: Vec<u8>,
    /// Columns and rows of the grid.
    grid: (usize, usize),
    /// From the present frame to that of the result, in cells.
    since: Affine,
    /// The result as it is shown.
    pub detection: Detection,
    /// Its regions.
    pub scene: Scene,
}

impl Default for Aligner {
    fn default() -> Self {
        Self {
            finder: MotionFinder::default(),
            luma: Vec::new(),
            grid: (0, 0),
            since: Affine::NONE,
            detection: Detection::default(),
            scene: Scene::default(),
        }
    }
}

impl Aligner {
    fn read(&mut self, luma: Plane<'_>) -> Option<Motion> {
        let columns = luma.columns.min(COLUMNS);
        self.grid = (columns, (luma.rows * columns / luma.columns.max(1)).max(1));
        read_luma(luma, self.grid.0, self.grid.1, &mut self.luma);
        self.finder.update(&self.luma, self.grid.0, self.grid.1)
    }

    /// A frame with a result of its own: motion counts from here.
    pub fn start(&mut self, luma: Plane<'_>) {
        self.finder.reset();
        self.read(luma);
        self.since = Affine::NONE;
    }

    /// The next frame without one; false where the scene was cut, so that the last result has no place in it.
    pub fn follow(&mut self, luma: Plane<'_>) -> bool {
        match self.read(luma) {
            Some(motion) => self.since = self.since.after(&motion),
            // Too small to find motion in, rather than a cut.
            None if self.grid.0 < MotionFinder::LEAST_COLUMNS => {}
            None => return false,
        }
        true
    }

    /// Moves `detection` and `scene` to where they are in the present frame.
    pub fn apply(&mut self, detection: &Detection, scene: &Scene) {
        let (rows, columns) = detection.score.dim();
        let per_cell = columns as f32 / self.grid.0.max(1) as f32;
        let moved = &mut self.detection;
        moved.grid_score.clone_from(&detection.grid_score);
        (moved.threshold, moved.ood_share) = (detection.threshold, detection.ood_share);
        if moved.score.dim() != (rows, columns) {
            moved.score.clone_from(&detection.score);
            moved.mask.clone_from(&detection.mask);
        }
        let of_pixels = self.since.scaled(per_cell);
        let from = (detection.score.as_slice(), detection.mask.as_slice());
        let to = (moved.score.as_slice_mut(), moved.mask.as_slice_mut());
        if let ((Some(scores), Some(masks)), (Some(score), Some(mask))) = (from, to) {
            // Places of a line are added up in 1/65536 of a pixel.
            let fixed = |value: f32| (value * 65536.0) as i64;
            let step = (fixed(of_pixels.x[1]), fixed(of_pixels.y[1]));
            let (half_x, half_y) = (columns as f32 / 2.0, rows as f32 / 2.0);
            let lines = score.chunks_exact_mut(columns.max(1)).zip(mask.chunks_exact_mut(columns.max(1)));
            for (y, (score, mask)) in lines.enumerate() {
                let (u, v) = of_pixels.at(0.5 - half_x, y as f32 + 0.5 - half_y);
                let (mut u, mut v) = (fixed(u + half_x), fixed(v + half_y));
                for (score, mask) in score.iter_mut().zip(mask) {
                    let (column, row) = (u >> 16, v >> 16);
                    let within = column >= 0 && row >= 0 && column < columns as i64 && row < rows as i64;
                    // What has come into the picture was not analysed.
                    (*score, *mask) = if within {
                        let at = row as usize * columns + column as usize;
                        (scores[at], masks[at])
                    } else {
                        (f32::NAN, 0)
                    };
                    u += step.0;
                    v += step.1;
                }
            }
        }
        self.move_scene(scene);
    }

    fn move_scene(&mut self, scene: &Scene) {
        self.scene.clone_from(scene);
        let (columns, rows) = scene.grid;
        if columns == 0 || scene.level.len() < columns * rows {
            return;
        }
        let of_cells = self.since.scaled(columns as f32 / self.grid.0.max(1) as f32);
        let (half_x, half_y) = (columns as f32 / 2.0, rows as f32 / 2.0);
        for y in 0..rows {
            for x in 0..columns {
                let (u, v) = of_cells.at(x as f32 + 0.5 - half_x, y as f32 + 0.5 - half_y);
                let (u, v) = (u + half_x - 0.5, v + half_y - 0.5);
                let within = u > -0.5 && v > -0.5 && u < columns as f32 - 0.5 && v < rows as f32 - 0.5;
                let at = y * columns + x;
                let clamped = |value: f32, size: usize| (value.max(0.0) as usize).min(size - 1);
                let nearest = clamped((v + 0.5).floor(), rows) * columns + clamped((u + 0.5).floor(), columns);
                self.scene.labels[at] = if within { scene.labels[nearest] } else { 0 };
                let (left, top) = (clamped(u.floor(), columns), clamped(v.floor(), rows));
                let (right, bottom) = ((left + 1).min(columns - 1), (top + 1).min(rows - 1));
                let (fx, fy) = ((u - left as f32).clamp(0.0, 1.0), (v - top as f32).clamp(0.0, 1.0));
                let line = |row: usize| {
                    let (a, b) = (scene.level[row * columns + left], scene.level[row * columns + right]);
                    a + fx * (b - a)
                };
                let (upper, lower) = (line(top), line(bottom));
                self.scene.level[at] = upper + fy * (lower - upper);
            }
        }
        let Some(forward) = self.since.inverse() else { return };
        let (width, height) = (self.grid.0 as f32, self.grid.1 as f32);
        let place = |x: f32, y: f32| {
            let (x, y) = forward.at((x - 0.5) * width, (y - 0.5) * height);
            (x / width + 0.5, y / height + 0.5)
        };
        for sighting in &mut self.scene.sightings {
            let Rect { left, top, right, bottom } = sighting.region.rect;
            let corners = [place(left, top), place(right, top), place(left, bottom), place(right, bottom)];
            let (mut low, mut high) = (corners[0], corners[0]);
            for (x, y) in corners {
                low = (low.0.min(x), low.1.min(y));
                high = (high.0.max(x), high.1.max(y));
            }
            sighting.region.rect = Rect { left: low.0, top: low.1, right: high.0, bottom: high.1 };
        }
        for (x, y) in &mut self.scene.trails {
            (*x, *y) = place(*x, *y);
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn maps_are_chained_and_undone() {
        let right = Motion { across: [2.0, 0.0, 0.0], down: [0.0; 3] };
        let zoom = Motion { across: [0.0, 0.5, 0.0], down: [0.0, 0.0, 0.5] };
        let both = Affine::NONE.after(&right).after(&zoom);
        // The newest step comes first: 4 is at 6 in the frame before, and at 8 in the one before that.
        assert_eq!(both.at(4.0, 2.0), (8.0, 3.0));
        let (x, y) = both.inverse().unwrap().at(8.0, 3.0);
        assert!((x - 4.0).abs() < 1e-5 && (y - 2.0).abs() < 1e-5, "{x} {y}");
        assert_eq!(both.scaled(3.0).at(12.0, 6.0), (24.0, 9.0));
    }

    /// A textured picture whose content has moved `shift` columns to the left.
    fn picture(shift: usize) -> Vec<u8> {
        let noise = |x: usize, y: usize| {
            let value = (x / 6 * 7919 + y / 6 * 104_729 + (x / 6) * (y / 6) * 31) % 251;
            value as u8
        };
        (0..180).flat_map(|y| (0..320).map(move |x| noise(x + shift, y))).collect()
    }

    #[test]
    fn a_result_follows_the_picture_and_is_gone_after_a_cut() {
        fn plane(data: &[u8]) -> Plane<'_> {
            Plane { data, stride: 320, columns: 320, rows: 180 }
        }
        let mut mask = Array2::zeros((180, 320));
        mask.slice_mut(ndarray::s![80..100, 150..170]).fill(1);
        let detection = Detection { score: mask.mapv(f32::from), mask, ..Detection::default() };
        let mut aligner = Aligner::default();
        aligner.start(plane(&picture(0)));
        for step in 1..=4 {
            assert!(aligner.follow(plane(&picture(6 * step))), "{step}");
        }
        aligner.apply(&detection, &Scene::default());
        let columns: Vec<usize> = (0..320).filter(|x| aligner.detection.mask[(90, *x)] == 1).collect();
        let (first, last) = (columns[0] as f32, columns[columns.len() - 1] as f32);
        assert!((first - 126.0).abs() <= 3.0 && (last - 145.0).abs() <= 3.0, "{first} {last}");
        // The right border has come into the picture.
        assert!(aligner.detection.score[(90, 318)].is_nan() && aligner.detection.mask[(90, 318)] == 0);
        let other: Vec<u8> = picture(0).iter().map(|value| 255 - value).rev().collect();
        assert!(!aligner.follow(plane(&other)));
    }
}
