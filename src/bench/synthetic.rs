//! Synthetic data with realistic structure: overlapping clusters, and maps that change a little from frame to frame.

use ndarray::{Array2, Array3};

use super::{FrameMaps, Grey};
use crate::frame::Range;

/// Small deterministic generator (splitmix64).
struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Close to normal, mean 0, deviation 1: a sum of four uniforms.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.uniform()).sum();
        (sum - 2.0) * 3.0f32.sqrt()
    }
}

/// `n` points of `d` dimensions in `groups` overlapping groups, `[n, d]`.
pub fn points(n: usize, d: usize, groups: usize, seed: u64) -> Array2<f32> {
    let mut noise = Noise(seed);
    let centres = Array2::from_shape_simple_fn((groups, d), || noise.normal());
    let mut points = Array2::zeros((n, d));
    for mut row in points.rows_mut() {
        let group = (noise.bits() % groups as u64) as usize;
        row.iter_mut().zip(centres.row(group)).for_each(|(v, c)| *v = c + 1.5 * noise.normal());
    }
    points
}

/// Sizes of the maps of a network.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MapShapes {
    /// `[C, h, w]`
    pub logits: [usize; 3],
    /// `[D_i, h_i, w_i]`, the first one's size is the grid.
    pub features: Vec<[usize; 3]>,
}

/// The regions of the scene in greys, at the size of the other benches' frames.
fn picture(sites: &[(f32, f32)], frame: usize, noise: &mut Noise) -> Grey {
    const BLOCK: usize = 8;
    let (width, height) = (1280, 720);
    let mut samples = vec![0; width * height];
    for (y, rows) in samples.chunks_exact_mut(BLOCK * width).enumerate() {
        for x in 0..width / BLOCK {
            let at = ((y * BLOCK) as f32 / height as f32, (x * BLOCK) as f32 / width as f32 + frame as f32 * 0.002);
            let distance = |s: &(f32, f32)| (s.0 - at.0).powi(2) + (s.1 - at.1).powi(2);
            let near = (0..sites.len()).min_by(|&a, &b| distance(&sites[a]).total_cmp(&distance(&sites[b])));
            let grey = (near.unwrap_or(0) * 37 % 200) as f32 + 5.0 * noise.normal() + 30.0;
            for row in rows.chunks_exact_mut(width) {
                row[x * BLOCK..(x + 1) * BLOCK].fill(grey as u8);
            }
        }
    }
    Grey { width, samples, range: Range::Full }
}

/// `frames` frames of a scene of regions that drift to the left by a fraction of a grid pixel per frame, with a little
/// noise.
pub fn scene(shapes: &MapShapes, frames: usize, seed: u64) -> Vec<FrameMaps> {
    const REGIONS: usize = 24;
    let mut noise = Noise(seed);
    let sites: Vec<(f32, f32)> = (0..REGIONS).map(|_| (noise.uniform(), noise.uniform() * 1.3)).collect();
    let styles: Vec<Vec<f32>> = std::iter::once(&shapes.logits)
        .chain(&shapes.features)
        .map(|shape| (0..REGIONS * shape[0]).map(|_| noise.normal()).collect())
        .collect();
    let map = |[channels, height, width]: [usize; 3], style: &[f32], frame: usize, noise: &mut Noise| {
        let mut map = Array3::zeros((channels, height, width));
        for y in 0..height {
            for x in 0..width {
                let at = ((y as f32 + 0.5) / height as f32, (x as f32 + 0.5) / width as f32 + frame as f32 * 0.002);
                let distance = |s: &(f32, f32)| (s.0 - at.0).powi(2) + (s.1 - at.1).powi(2);
                let mut near = [(f32::MAX, 0), (f32::MAX, 0)];
                for (r, site) in sites.iter().enumerate() {
                    let d = distance(site);
                    if d < near[0].0 {
                        near = [(d, r), near[0]];
                    } else if d < near[1].0 {
                        near[1] = (d, r);
                    }
                }
                // Regions blend into each other, as a network's features do.
                let share = 0.5 + 0.5 * ((near[1].0 - near[0].0) * 60.0).min(1.0);
                for c in 0..channels {
                    let (a, b) = (style[near[0].1 * channels + c], style[near[1].1 * channels + c]);
                    map[[c, y, x]] = share * a + (1.0 - share) * b + 0.3 * noise.normal();
                }
            }
        }
        map
    };
    (0..frames)
        .map(|frame| {
            let mut maps = std::iter::once(&shapes.logits)
                .chain(&shapes.features)
                .zip(&styles)
                .map(|(shape, style)| map(*shape, style, frame, &mut noise));
            let logits = maps.next().unwrap_or_default();
            FrameMaps { logits, features: maps.collect(), picture: picture(&sites, frame, &mut noise) }
        })
        .collect()
}
