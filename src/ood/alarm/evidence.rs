//! From scores to levels: relative to the usual score, without class borders and speckles, smoothed along the camera's
//! motion.

use super::field::Field;
use super::motion::Motion;

/// Levels lie within this range, so that one extreme frame does not outweigh its neighbours.
const RANGE: (f32, f32) = (-2.0, 2.0);
/// Time constant of the usual score, in seconds.
const USUAL_S: f64 = 5.0;
/// Cells across and down in which a border cell is compared with its surroundings.
const NEAR: usize = 2;

/// The level of each cell: -1 is the stream's usual score, 0 the threshold.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Smoothed levels, row by row.
    pub level: Vec<f32>,
    last: Vec<f32>,
    border: Vec<bool>,
    now: Vec<f32>,
    scratch: Vec<f32>,
    usual: Option<f32>,
}

impl Evidence {
    /// Forgets the frames before.
    pub fn reset(&mut self) {
        self.last.clear();
    }

    /// The stream's usual score.
    pub fn usual(&self) -> Option<f32> {
        self.usual
    }

    /// Takes a frame that came `step` seconds after the last one; `left_out` cells get the lowest level.
    pub fn update(
        &mut self,
        field: &Field,
        threshold: f32,
        left_out: &[bool],
        motion: Option<Motion>,
        step: f64,
        smoothing_s: f64,
    ) {
        self.follow_usual(field, left_out, step);
        let usual = self.usual.unwrap_or(threshold);
        let spread = (threshold - usual).max(1e-3 * (1.0 + threshold.abs()));
        self.now.clear();
        self.now.extend(field.score.iter().map(|score| ((score - threshold) / spread).clamp(RANGE.0, RANGE.1)));
        for (level, _) in self.now.iter_mut().zip(left_out).filter(|(_, left_out)| **left_out) {
            *level = RANGE.0;
        }
        self.suppress_borders(field);
        open(&mut self.now, &mut self.scratch, field.width, field.height);
        self.smooth(field, motion, step, smoothing_s);
    }

    /// The median score, followed slowly.
    fn follow_usual(&mut self, field: &Field, left_out: &[bool], step: f64) {
        self.scratch.clear();
        let kept = |index: &usize| left_out.get(*index).is_none_or(|left_out| !left_out);
        self.scratch.extend((0..field.len()).step_by(3).filter(kept).map(|index| field.score[index]));
        if self.scratch.is_empty() {
            return;
        }
        let middle = self.scratch.len() / 2;
        let (_, median, _) = self.scratch.select_nth_unstable_by(middle, f32::total_cmp);
        let share = (1.0 - (-step / USUAL_S).exp()) as f32;
        self.usual = Some(self.usual.map_or(*median, |usual| usual + share * (*median - usual)));
    }

    /// Gives the cells on the border of two classes the level of their surroundings off the border: there a score is
    /// high because the classes change, not because something is unknown. Where there are hardly any such surroundings
    /// the classes are in disorder, and the level stays.
    fn suppress_borders(&mut self, field: &Field) {
        let (width, height) = (field.width, field.height);
        self.border.clear();
        self.border.resize(field.len(), false);
        for y in 0..height {
            for x in 0..width {
                let here = y * width + x;
                let differs = |there: usize| field.class[there] != field.class[here];
                if x + 1 < width && differs(here + 1) {
                    self.border[here] = true;
                    self.border[here + 1] = true;
                }
                if y + 1 < height && differs(here + width) {
                    self.border[here] = true;
                    self.border[here + width] = true;
                }
            }
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.now);
        for y in 0..height {
            for x in 0..width {
                if !self.border[y * width + x] {
                    continue;
                }
                let (mut sum, mut count, mut all) = (0.0, 0, 0);
                for row in y.saturating_sub(NEAR)..(y + NEAR + 1).min(height) {
                    for at in row * width + x.saturating_sub(NEAR)..row * width + (x + NEAR + 1).min(width) {
                        all += 1;
                        if !self.border[at] {
                            sum += self.scratch[at];
                            count += 1;
                        }
                    }
                }
                if 4 * count >= all {
                    self.now[y * width + x] = sum / count as f32;
                }
            }
        }
    }

    /// Exponential mean over time, with the past moved to where it is now.
    fn smooth(&mut self, field: &Field, motion: Option<Motion>, step: f64, smoothing_s: f64) {
        let share = if smoothing_s > 0.0 { (1.0 - (-step / smoothing_s).exp()) as f32 } else { 1.0 };
        self.level.clear();
        let (Some(motion), true) = (motion, self.last.len() == field.len()) else {
            self.level.extend_from_slice(&self.now);
            self.last.clear();
            self.last.extend_from_slice(&self.now);
            return;
        };
        let (width, height) = (field.width, field.height);
        let centre = (width as f32 / 2.0 - 0.5, height as f32 / 2.0 - 0.5);
        for y in 0..height {
            for x in 0..width {
                let (dx, dy) = motion.at(x as f32 - centre.0, y as f32 - centre.1);
                let old = sample(&self.last, width, height, x as f32 + dx, y as f32 + dy);
                let new = self.now[y * width + x];
                // What comes into the picture has no past.
                self.level.push(old.map_or(new, |old| old + share * (new - old)));
            }
        }
        self.last.clear();
        self.last.extend_from_slice(&self.level);
    }
}

/// The value at `(x, y)` by bilinear interpolation; none off the map.
fn sample(map: &[f32], width: usize, height: usize, x: f32, y: f32) -> Option<f32> {
    let (right, bottom) = ((width - 1) as f32, (height - 1) as f32);
    if !(-0.5..=right + 0.5).contains(&x) || !(-0.5..=bottom + 0.5).contains(&y) {
        return None;
    }
    let (x, y) = (x.clamp(0.0, right), y.clamp(0.0, bottom));
    let (left, top) = (x as usize, y as usize);
    let (fx, fy) = (x - left as f32, y - top as f32);
    let (next, below) = ((left + 1).min(width - 1), (top + 1).min(height - 1));
    let line = |row: usize| map[row * width + left] + fx * (map[row * width + next] - map[row * width + left]);
    Some(line(top) + fy * (line(below) - line(top)))
}

/// Grey-scale opening with a 3 x 3 window: what is thinner than three cells goes.
fn open(map: &mut [f32], scratch: &mut Vec<f32>, width: usize, height: usize) {
    scratch.clear();
    scratch.resize(map.len(), 0.0);
    for pick in [f32::min, f32::max] {
        for (to, from) in scratch.chunks_exact_mut(width).zip(map.chunks_exact(width)) {
            for x in 0..width {
                to[x] = pick(pick(from[x.saturating_sub(1)], from[x]), from[(x + 1).min(width - 1)]);
            }
        }
        for y in 0..height {
            let (above, below) = (y.saturating_sub(1) * width, (y + 1).min(height - 1) * width);
            for x in 0..width {
                map[y * width + x] = pick(pick(scratch[above + x], scratch[y * width + x]), scratch[below + x]);
            }
        }
    }
}
