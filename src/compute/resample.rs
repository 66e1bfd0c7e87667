//! Resampling along one axis: which inputs each output takes, and with what weight (`docs/method.md` M2).

/// For each output position, `taps` neighbouring inputs from `start` on and their weights, which sum to 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    pub input: usize,
    pub output: usize,
    /// Inputs per output, the same for all; unused ones have weight 0.
    pub taps: usize,
    /// First input of each output, `[output]`.
    pub start: Vec<u32>,
    /// `[output, taps]`.
    pub weights: Vec<f32>,
}

impl Axis {
    /// To the grid: area average when shrinking, bilinear with half-pixel centres when growing.
    pub fn to_grid(input: usize, output: usize) -> Self {
        if output < input { Self::area(input, output) } else { Self::bilinear(input, output) }
    }

    /// Bilinear with half-pixel centres, edges clamped; exact copy for equal sizes.
    pub fn bilinear(input: usize, output: usize) -> Self {
        let taps = if input == 1 || input == output { 1 } else { 2 };
        Self::build(input, output, taps, |o| {
            let centre = ((o as f64 + 0.5) * input as f64 / output as f64 - 0.5).clamp(0.0, (input - 1) as f64);
            (centre - 1.0, move |i: f64| (1.0 - (i - centre).abs()).max(0.0))
        })
    }

    /// Each output is the mean of the stretch of inputs that it covers, with fractions at both ends.
    fn area(input: usize, output: usize) -> Self {
        let scale = input as f64 / output as f64;
        let taps = if input.is_multiple_of(output) { input / output } else { (scale.ceil() as usize + 1).min(input) };
        Self::build(input, output, taps, |o| {
            let (low, high) = (o as f64 * scale, (o + 1) as f64 * scale);
            (low - 1.0, move |i: f64| ((i + 1.0).min(high) - i.max(low)).max(0.0) / scale)
        })
    }

    /// `support` gives for an output the input below which all weights are 0, and the weight of an input.
    fn build<W: Fn(f64) -> f64>(input: usize, output: usize, taps: usize, support: impl Fn(usize) -> (f64, W)) -> Self {
        let mut axis =
            Self { input, output, taps, start: Vec::with_capacity(output), weights: Vec::with_capacity(output * taps) };
        for o in 0..output {
            let (low, weight) = support(o);
            let first = ((low + 1e-9).floor() + 1.0).max(0.0) as usize;
            let start = first.min(input - taps);
            axis.start.push(start as u32);
            axis.weights.extend((start..start + taps).map(|i| weight(i as f64) as f32));
        }
        axis
    }

    /// Whether it changes nothing.
    pub fn is_identity(&self) -> bool {
        self.input == self.output
    }
}

/// Both axes of a map.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resample {
    pub x: Axis,
    pub y: Axis,
}

impl Resample {
    /// From `[height, width]` to the grid's `[height, width]`.
    pub fn to_grid(from: (usize, usize), to: (usize, usize)) -> Self {
        Self { x: Axis::to_grid(from.1, to.1), y: Axis::to_grid(from.0, to.0) }
    }

    /// Bilinear both ways, for the score map.
    pub fn bilinear(from: (usize, usize), to: (usize, usize)) -> Self {
        Self { x: Axis::bilinear(from.1, to.1), y: Axis::bilinear(from.0, to.0) }
    }

    pub fn from(&self) -> (usize, usize) {
        (self.y.input, self.x.input)
    }

    pub fn to(&self) -> (usize, usize) {
        (self.y.output, self.x.output)
    }

    pub fn is_identity(&self) -> bool {
        self.x.is_identity() && self.y.is_identity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(axis: &Axis, input: &[f32]) -> Vec<f32> {
        (0..axis.output)
            .map(|o| (0..axis.taps).map(|t| axis.weights[o * axis.taps + t] * input[axis.start[o] as usize + t]).sum())
            .collect()
    }

    #[test]
    fn halving_averages_pairs() {
        assert_eq!(apply(&Axis::to_grid(6, 3), &[1.0, 3.0, 5.0, 7.0, 0.0, 8.0]), [2.0, 6.0, 4.0]);
    }

    #[test]
    fn shrinking_by_a_fraction_weighs_what_is_covered() {
        // 5 -> 2: the first output covers 0..2.5, the second 2.5..5.
        let out = apply(&Axis::to_grid(5, 2), &[1.0, 1.0, 6.0, 2.0, 2.0]);
        assert!((out[0] - 2.0).abs() < 1e-6 && (out[1] - 2.8).abs() < 1e-6, "{out:?}");
    }

    #[test]
    fn growing_is_bilinear_with_clamped_edges() {
        let out = apply(&Axis::to_grid(2, 4), &[0.0, 4.0]);
        assert_eq!(out, [0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn weights_sum_to_one_for_any_sizes() {
        for input in 1..40 {
            for output in 1..40 {
                for axis in [Axis::to_grid(input, output), Axis::bilinear(input, output)] {
                    for o in 0..output {
                        let weights = &axis.weights[o * axis.taps..][..axis.taps];
                        let sum: f32 = weights.iter().sum();
                        assert!((sum - 1.0).abs() < 1e-5, "{input} -> {output} at {o}: {weights:?}");
                        assert!(axis.start[o] as usize + axis.taps <= input);
                    }
                }
            }
        }
    }
}
