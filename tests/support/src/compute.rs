//! Made-up maps and the method in plain f64, for the tests of the back ends.

use ndarray::{Array2, Array3, ArrayView2, ArrayView3};
use oodstream::compute::{Codebook, Grid, Luma, Maps, Recipe, Statistic, Term, Unit, Upsampling};
use oodstream::frame::{Plane, Range};

/// Deterministic noise in -1..1.
pub struct Noise(pub u64);

impl Noise {
    pub fn sample(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    pub fn map(&mut self, shape: [usize; 3], scale: f32) -> Array3<f32> {
        Array3::from_shape_simple_fn(shape, || scale * self.sample())
    }

    pub fn matrix(&mut self, shape: [usize; 2], scale: f32) -> Array2<f32> {
        Array2::from_shape_simple_fn(shape, || scale * self.sample())
    }
}

/// The maps of one frame.
#[derive(Clone)]
pub struct Frame {
    pub logits: Array3<f32>,
    pub features: Vec<Array3<f32>>,
    /// Luma of 73 columns.
    pub picture: Vec<u8>,
}

/// Columns of the pictures.
const COLUMNS: usize = 73;

impl Frame {
    pub fn random(seed: u64, logits: [usize; 3], features: &[[usize; 3]]) -> Self {
        let mut noise = Noise(seed);
        let logits = noise.map(logits, 6.0);
        let features = features.iter().map(|&shape| noise.map(shape, 1.0)).collect();
        // Blocks with noise on them: edges and flat places.
        let grey = |i: usize| 100.0 + 80.0 * ((i / COLUMNS / 9 + i % COLUMNS / 14) % 2) as f32;
        let picture = (0..COLUMNS * 41).map(|i| (grey(i) + 8.0 * noise.sample()) as u8).collect();
        Self { logits, features, picture }
    }

    /// Calls `f` with the views that the back ends take.
    pub fn with<R>(&self, f: impl FnOnce(&Maps<'_>) -> R) -> R {
        let features: Vec<ArrayView3<'_, f32>> = self.features.iter().map(|m| m.view()).collect();
        f(&Maps { logits: self.logits.view(), features: &features, picture: Some(self.luma()) })
    }

    /// The picture, in limited range.
    pub fn luma(&self) -> Luma<'_> {
        let rows = self.picture.len() / COLUMNS;
        Luma { plane: Plane { data: &self.picture, stride: COLUMNS, columns: COLUMNS, rows }, range: Range::Limited }
    }

    /// `(height, width)` of the grid.
    pub fn grid(&self, grid: Grid) -> (usize, usize) {
        let size = |map: &Array3<f32>| (map.dim().1, map.dim().2);
        let (features, logits) = (self.features.first().map(size), size(&self.logits));
        match (features, grid) {
            (Some(features), Grid::Features) => features,
            (Some(features), Grid::Finest) if features.0 * features.1 >= logits.0 * logits.1 => features,
            _ => logits,
        }
    }
}

pub fn term(statistic: Statistic, unit: Unit) -> Term {
    Term { statistic, unit, weight: 1.0, mean: 0.0, deviation: 1.0 }
}

pub fn recipe(terms: Vec<Term>, k: &[usize]) -> Recipe {
    Recipe {
        terms,
        k: k.to_vec(),
        seed: 5,
        max_iterations: 50,
        unit_length: true,
        codebook: None,
        warm_start: false,
        smoothing: None,
        grid: Grid::Features,
        upsampling: Upsampling::Bilinear,
    }
}

pub fn codebook(seed: u64, rows: usize, dims: usize) -> std::sync::Arc<Codebook> {
    std::sync::Arc::new(Codebook { centroids: Noise(seed).matrix([rows, dims], 0.3) })
}

/// Weights of the inputs of output `o`: area average when shrinking, bilinear when growing.
fn weights(o: usize, input: usize, output: usize, always_bilinear: bool) -> Vec<f64> {
    let scale = input as f64 / output as f64;
    let weight = |i: usize| {
        let i = i as f64;
        if output < input && !always_bilinear {
            let (low, high) = (o as f64 * scale, (o + 1) as f64 * scale);
            ((i + 1.0).min(high) - i.max(low)).max(0.0) / scale
        } else {
            let centre = ((o as f64 + 0.5) * scale - 0.5).clamp(0.0, (input - 1) as f64);
            (1.0 - (i - centre).abs()).max(0.0)
        }
    };
    (0..input).map(weight).collect()
}

/// One channel to another size.
pub fn resize(map: ArrayView2<'_, f32>, to: (usize, usize), always_bilinear: bool) -> Array2<f64> {
    let (h, w) = map.dim();
    let ys: Vec<_> = (0..to.0).map(|o| weights(o, h, to.0, always_bilinear)).collect();
    let xs: Vec<_> = (0..to.1).map(|o| weights(o, w, to.1, always_bilinear)).collect();
    Array2::from_shape_fn(to, |(oy, ox)| {
        let row = |y: usize| (0..w).map(|x| xs[ox][x] * f64::from(map[[y, x]])).sum::<f64>();
        (0..h).filter(|&y| ys[oy][y] > 0.0).map(|y| ys[oy][y] * row(y)).sum()
    })
}

/// The score at the target's size along the edges of the picture, written from the formulas of the guided filter.
pub fn guided(frame: &Frame, score: ArrayView2<'_, f32>, target: (usize, usize)) -> Array2<f64> {
    let (h, w) = score.dim();
    let single = |map: Array2<f64>| map.mapv(|v| v as f32);
    let luma = frame.luma();
    let picture = Array2::from_shape_fn((luma.plane.rows, luma.plane.columns), |(y, x)| {
        f32::from(luma.plane.row(y)[x]) / 219.0 - 16.0 / 219.0
    });
    let fine = resize(picture.view(), (4 * h, 4 * w), false);
    let guide = resize(single(fine.clone()).view(), (2 * h, 2 * w), false);
    let score = resize(score, (2 * h, 2 * w), true);
    let window = |of: &dyn Fn(usize, usize) -> f64| {
        Array2::from_shape_fn((2 * h, 2 * w), |(y, x)| {
            let place = |at: usize, step: usize, length: usize| (at + step).clamp(1, length) - 1;
            let values = (0..9).map(|i| of(place(y, i / 3, 2 * h), place(x, i % 3, 2 * w)));
            values.sum::<f64>() / 9.0
        })
    };
    let mean_guide = window(&|y, x| guide[[y, x]]);
    let mean_score = window(&|y, x| score[[y, x]]);
    let products = window(&|y, x| guide[[y, x]] * score[[y, x]]);
    let squares = window(&|y, x| guide[[y, x]] * guide[[y, x]]);
    let slope = Array2::from_shape_fn((2 * h, 2 * w), |at| {
        let covariance = products[at] - mean_guide[at] * mean_score[at];
        covariance / (squares[at] - mean_guide[at] * mean_guide[at] + 3e-4)
    });
    let offset = &mean_score - &(&slope * &mean_guide);
    let large = |map: &Array2<f64>| resize(single(window(&|y, x| map[[y, x]])).view(), (4 * h, 4 * w), true);
    let found = large(&slope) * fine + large(&offset);
    resize(single(found).view(), target, true)
}

/// Concatenated features on the grid, `[N, D]`.
pub fn grid_features(frame: &Frame, unit_length: bool) -> Array2<f64> {
    let grid = frame.grid(Grid::Features);
    let dims = frame.features.iter().map(|f| f.dim().0).sum();
    let mut points = Array2::zeros((grid.0 * grid.1, dims));
    let mut offset = 0;
    for map in &frame.features {
        let channels = map.dim().0;
        for c in 0..channels {
            let plane = resize(map.index_axis(ndarray::Axis(0), c), grid, false);
            plane.iter().enumerate().for_each(|(i, v)| points[[i, offset + c]] = *v);
        }
        if unit_length {
            for mut row in points.rows_mut() {
                let length = row.iter().skip(offset).take(channels).map(|v| v * v).sum::<f64>().sqrt();
                if length > 1e-20 {
                    row.iter_mut().skip(offset).take(channels).for_each(|v| *v /= length);
                }
            }
        }
        offset += channels;
    }
    points
}

/// One statistic on the grid, `[N]`.
pub fn statistic(frame: &Frame, recipe: &Recipe, which: Statistic) -> Vec<f64> {
    let grid = frame.grid(recipe.grid);
    if which == Statistic::Bank {
        let points = grid_features(frame, recipe.unit_length);
        let centroids = &recipe.codebook.as_ref().expect("a codebook").centroids;
        let distance = |x: ndarray::ArrayView1<'_, f64>, c: ndarray::ArrayView1<'_, f32>| {
            x.iter().zip(c).map(|(a, b)| (a - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
        };
        let nearest = |x| centroids.rows().into_iter().map(|c| distance(x, c)).fold(f64::MAX, f64::min);
        return points.rows().into_iter().map(nearest).collect();
    }
    let planes: Vec<_> = frame.logits.outer_iter().map(|plane| resize(plane, grid, false)).collect();
    (0..grid.0 * grid.1)
        .map(|i| {
            let logits: Vec<f64> = planes.iter().map(|p| p[[i / grid.1, i % grid.1]]).collect();
            let top = logits.iter().copied().fold(f64::MIN, f64::max);
            let z: f64 = logits.iter().map(|l| (l - top).exp()).sum();
            match which {
                Statistic::Msp => -1.0 / z,
                Statistic::MaxLogit => -top,
                Statistic::Entropy => logits.iter().map(|l| (l - top).exp() / z).map(|p| -p * p.max(1e-300).ln()).sum(),
                Statistic::Energy => -(top + z.ln()),
                Statistic::Rba => -logits.iter().map(|l| l.tanh()).sum::<f64>(),
                Statistic::NoObject => 1.0 - logits.iter().sum::<f64>(),
                Statistic::Bank => unreachable!(),
            }
        })
        .collect()
}

/// The grid score that belongs to given labels, `[N]`.
pub fn grid_score(frame: &Frame, recipe: &Recipe, labels: ArrayView2<'_, u32>) -> Vec<f64> {
    let (rows, columns) = frame.grid(recipe.grid);
    let n = rows * columns;
    let mut score = vec![0.0; n];
    for term in &recipe.terms {
        let values = statistic(frame, recipe, term.statistic);
        let standardised = |v: f64| f64::from(term.weight) * (v - f64::from(term.mean)) / f64::from(term.deviation);
        match term.unit {
            Unit::Pixel => score.iter_mut().zip(&values).for_each(|(s, v)| *s += standardised(*v)),
            Unit::Cluster => {
                for run in labels.rows() {
                    for (i, s) in score.iter_mut().enumerate() {
                        let members = || (0..n).filter(|&j| run[j] == run[i]);
                        let mean = members().map(|j| values[j]).sum::<f64>() / members().count() as f64;
                        *s += standardised(mean) / labels.nrows() as f64;
                    }
                }
            }
        }
    }
    score
}
