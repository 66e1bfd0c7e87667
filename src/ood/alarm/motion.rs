//! The camera's motion between two frames, as an affine map of the small grid, by block matching on the luma.

/// Cells of a block's side.
const BLOCK: usize = 8;
/// Cells by which a block may have moved.
const REACH: isize = 4;
/// Cells by which the whole picture may have moved, across and down, on top of which blocks move.
const FAR: [isize; 2] = [16, 8];
/// A block takes part when its difference grows by at least this many code values per cell on both axes.
const MIN_TEXTURE: f32 = 1.0;
/// Blocks further than about this many cells from the fitted map lose their weight.
const OUTLIER: f32 = 0.5;
/// Rounds of the robust fit.
const ROUNDS: usize = 4;
/// Pull of zoom and shear towards none, in block weights.
const RIDGE: f32 = 4.0;
/// Mean difference of the best matches, in code values, above which the scene was cut.
const CUT: f32 = 28.0;

/// Where a place of this frame was in the frame before: `x' = a0 + a1 x + a2 y`, in cells from the grid's centre.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Motion {
    /// Displacement across: constant, per cell across, per cell down.
    pub across: [f32; 3],
    /// Displacement down, likewise.
    pub down: [f32; 3],
}

impl Motion {
    /// How far the content at `(x, y)`, in cells from the grid's centre, is from where it was in the frame before.
    pub fn at(&self, x: f32, y: f32) -> (f32, f32) {
        let value = |c: &[f32; 3]| c[0] + c[1] * x + c[2] * y;
        (value(&self.across), value(&self.down))
    }
}

#[derive(Debug, Clone, Copy)]
struct Match {
    x: f32,
    y: f32,
    dx: f32,
    dy: f32,
    weight: f32,
}

/// Estimates the motion from frame to frame. Buffers are kept.
#[derive(Debug, Clone, Default)]
pub struct MotionFinder {
    last: Vec<u8>,
    size: (usize, usize),
    matches: Vec<Match>,
    profiles: [Vec<f32>; 2],
}

impl MotionFinder {
    /// In grids of fewer columns no motion is found.
    pub const LEAST_COLUMNS: usize = 3 * BLOCK;

    /// Forgets the last frame.
    pub fn reset(&mut self) {
        self.last.clear();
    }

    /// The motion from the frame before to this one; `None` for the first frame and after a cut.
    pub fn update(&mut self, luma: &[u8], width: usize, height: usize) -> Option<Motion> {
        let known = self.size == (width, height) && self.last.len() == luma.len() && width >= Self::LEAST_COLUMNS;
        let found = if known { self.find(luma, width, height) } else { None };
        self.size = (width, height);
        self.last.clear();
        self.last.extend_from_slice(luma);
        found
    }

    fn find(&mut self, luma: &[u8], width: usize, height: usize) -> Option<Motion> {
        self.matches.clear();
        let (mut difference, mut blocks) = (0.0, 0);
        let shift = [self.shift(luma, width, height, 0), self.shift(luma, width, height, 1)];
        // Blocks whose search stays within the last frame.
        let within = |shift: isize, size: usize| {
            let low = (REACH - shift).max(0) as usize;
            let high = (size as isize - REACH - shift.max(0)).max(0) as usize;
            (low..(high + 1).saturating_sub(BLOCK)).step_by(BLOCK)
        };
        for top in within(shift[1], height) {
            for left in within(shift[0], width) {
                let (best, found) = self.match_block(luma, width, left, top, shift);
                difference += best;
                blocks += 1;
                if let Some((dx, dy, weight)) = found {
                    let middle = BLOCK as f32 / 2.0;
                    let (x, y) = (left as f32 + middle - width as f32 / 2.0, top as f32 + middle - height as f32 / 2.0);
                    self.matches.push(Match { x, y, dx, dy, weight });
                }
            }
        }
        if blocks == 0 || difference / blocks as f32 > CUT {
            return None;
        }
        Some(self.fit(width as f32 / 2.0))
    }

    /// The smallest mean difference of the block at `(left, top)`, and its displacement with a weight where it is
    /// distinct.
    fn match_block(
        &self,
        luma: &[u8],
        width: usize,
        left: usize,
        top: usize,
        shift: [isize; 2],
    ) -> (f32, Option<(f32, f32, f32)>) {
        const SIDE: usize = 2 * REACH as usize + 1;
        let mut sums = [[0_u32; SIDE]; SIDE];
        let mut best = (u32::MAX, 0, 0);
        for (down, sums) in sums.iter_mut().enumerate() {
            for (across, sum) in sums.iter_mut().enumerate() {
                let row = (top + down) as isize - REACH + shift[1];
                let from = (row * width as isize + (left + across) as isize - REACH + shift[0]) as usize;
                for row in 0..BLOCK {
                    let new = &luma[(top + row) * width + left..][..BLOCK];
                    let old = &self.last[from + row * width..][..BLOCK];
                    *sum += new.iter().zip(old).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
                }
                // No motion wins among equals.
                let rest = (across as isize - REACH).unsigned_abs() + (down as isize - REACH).unsigned_abs();
                if (*sum, rest) < (best.0, if best.0 == u32::MAX { usize::MAX } else { best_rest(best.1, best.2) }) {
                    best = (*sum, across, down);
                }
            }
        }
        let pixels = (BLOCK * BLOCK) as f32;
        let (sum, across, down) = best;
        let mean = sum as f32 / pixels;
        if across == 0 || down == 0 || across == SIDE - 1 || down == SIDE - 1 {
            return (mean, None);
        }
        let value = |x: usize, y: usize| sums[y][x] as f32 / pixels;
        let (dx, bend_x) = vertex(value(across - 1, down), mean, value(across + 1, down));
        let (dy, bend_y) = vertex(value(across, down - 1), mean, value(across, down + 1));
        let weight = bend_x.min(bend_y);
        if weight < MIN_TEXTURE {
            return (mean, None);
        }
        let moved = |at: usize, shift: isize, part: f32| (at as isize - REACH + shift) as f32 + part;
        (mean, Some((moved(across, shift[0], dx), moved(down, shift[1], dy), weight.min(8.0))))
    }

    /// By how many cells the whole picture moved along an axis (0 across, 1 down), from the means of columns or rows.
    fn shift(&mut self, luma: &[u8], width: usize, height: usize, axis: usize) -> isize {
        let size = [width, height][axis];
        for (profile, picture) in self.profiles.iter_mut().zip([luma, &self.last]) {
            profile.clear();
            profile.resize(size, 0.0);
            for (y, row) in picture.chunks_exact(width).enumerate() {
                if axis == 0 {
                    profile.iter_mut().zip(row).for_each(|(sum, value)| *sum += f32::from(*value) / height as f32);
                } else {
                    profile[y] = row.iter().map(|&value| u32::from(value)).sum::<u32>() as f32 / width as f32;
                }
            }
        }
        let [new, old] = &self.profiles;
        let difference = |shift: isize| {
            let overlap = size - shift.unsigned_abs();
            let (a, b) = if shift >= 0 { (new, &old[shift as usize..]) } else { (old, &new[-shift as usize..]) };
            let sum: f32 = a[..overlap].iter().zip(&b[..overlap]).map(|(a, b)| (a - b).abs()).sum();
            // A slight pull towards no motion.
            sum / overlap as f32 * (1.0 + 0.01 * shift.unsigned_abs() as f32)
        };
        let far = FAR[axis].min(size as isize / 4);
        (-far..=far).min_by(|a, b| difference(*a).total_cmp(&difference(*b))).unwrap_or(0)
    }

    /// The affine map through all matches, by iteratively reweighted least squares.
    fn fit(&self, scale: f32) -> Motion {
        let mut motion = Motion::default();
        for round in 0..ROUNDS {
            let mut normal = [[0.0_f32; 3]; 3];
            let (mut right_x, mut right_y) = ([0.0_f32; 3], [0.0_f32; 3]);
            for found in &self.matches {
                let weight = if round == 0 {
                    found.weight
                } else {
                    let (x, y) = motion.at(found.x, found.y);
                    let error = ((found.dx - x).powi(2) + (found.dy - y).powi(2)) / (OUTLIER * OUTLIER);
                    found.weight / (1.0 + error).powi(2)
                };
                let base = [1.0, found.x / scale, found.y / scale];
                for i in 0..3 {
                    for j in 0..3 {
                        normal[i][j] += weight * base[i] * base[j];
                    }
                    right_x[i] += weight * base[i] * found.dx;
                    right_y[i] += weight * base[i] * found.dy;
                }
            }
            for (i, row) in normal.iter_mut().enumerate() {
                row[i] += if i == 0 { RIDGE / 4.0 } else { RIDGE };
            }
            let unscale = |c: [f32; 3]| [c[0], c[1] / scale, c[2] / scale];
            motion = Motion { across: unscale(solve(normal, right_x)), down: unscale(solve(normal, right_y)) };
        }
        motion
    }
}

fn best_rest(across: usize, down: usize) -> usize {
    (across as isize - REACH).unsigned_abs() + (down as isize - REACH).unsigned_abs()
}

/// Place (-0.5..0.5) of the lowest point between three values, and the rise to its side. Absolute differences have a V
/// around their lowest point, not a parabola: both sides rise by the same slope.
fn vertex(before: f32, at: f32, after: f32) -> (f32, f32) {
    let rise = before.max(after) - at;
    let place = if rise > 1e-6 { ((before - after) / (2.0 * rise)).clamp(-0.5, 0.5) } else { 0.0 };
    (place, rise.min(before + after - 2.0 * at))
}

/// Solves a symmetric positive definite system by elimination.
fn solve(mut a: [[f32; 3]; 3], mut b: [f32; 3]) -> [f32; 3] {
    for i in 0..3 {
        for j in i + 1..3 {
            let (pivot, factor) = (a[i], a[j][i] / a[i][i]);
            for (below, above) in a[j].iter_mut().zip(pivot) {
                *below -= factor * above;
            }
            b[j] -= factor * b[i];
        }
    }
    for i in (0..3).rev() {
        let rest: f32 = (i + 1..3).map(|k| a[i][k] * b[k]).sum();
        b[i] = (b[i] - rest) / a[i][i];
    }
    b
}
