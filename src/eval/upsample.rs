//! Score maps from the grid to the ground truth's size, bilinear with half-pixel centres (`docs/method.md`, M9).

use ndarray::ArrayView2;

/// For an output position the first of its two inputs and the weight of the second.
fn taps(cells: usize, pixels: usize) -> Vec<(usize, f32)> {
    (0..pixels)
        .map(|pixel| {
            let share = (pixel as f64 + 0.5) / pixels as f64;
            let position = (share * cells as f64 - 0.5).clamp(0.0, (cells - 1) as f64);
            let first = (position as usize).min(cells.saturating_sub(2));
            (first, (position - first as f64) as f32)
        })
        .collect()
}

/// Writes `grid` at `height x width` into `out`, row-major.
pub fn upsample(grid: ArrayView2<'_, f32>, height: usize, width: usize, out: &mut Vec<f32>) {
    let (rows, columns) = grid.dim();
    let (across, down) = (taps(columns, width), taps(rows, height));
    out.clear();
    out.resize(height * width, 0.0);
    let widen = |row: usize, wide: &mut Vec<f32>| {
        let row = grid.row(row);
        wide.clear();
        wide.extend(across.iter().map(|&(first, share)| {
            let (a, b) = (row[first], row[(first + 1).min(columns - 1)]);
            a + (b - a) * share
        }));
    };
    let (mut upper, mut lower) = (Vec::new(), Vec::new());
    let mut current = usize::MAX;
    for (line, &(first, share)) in out.chunks_exact_mut(width).zip(&down) {
        if first != current {
            if current != usize::MAX && first == current + 1 {
                std::mem::swap(&mut upper, &mut lower);
            } else {
                widen(first, &mut upper);
            }
            widen((first + 1).min(rows - 1), &mut lower);
            current = first;
        }
        for ((value, &a), &b) in line.iter_mut().zip(&upper).zip(&lower) {
            *value = a + (b - a) * share;
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn half_pixel_centres_and_clamped_edges() {
        let mut out = Vec::new();
        upsample(array![[0.0, 4.0]].view(), 1, 4, &mut out);
        assert_eq!(out, [0.0, 1.0, 3.0, 4.0]);
        upsample(array![[0.0], [4.0]].view(), 4, 1, &mut out);
        assert_eq!(out, [0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn equal_sizes_are_a_copy() {
        let grid = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let mut out = Vec::new();
        upsample(grid.view(), 2, 3, &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}
