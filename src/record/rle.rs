//! Masks as COCO run lengths: column by column, alternately of background and of mask, written as text.
//!
//! The format is that of `pycocotools`: each length from the third on is stored as its difference to the one before the
//! last, in groups of 5 bits, the lowest first, with 0x20 for more to come, each plus 48.

use serde::Serialize;

/// Run lengths of one mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rle {
    /// Rows and columns.
    pub size: [usize; 2],
    /// The lengths as text.
    pub counts: String,
}

/// Run lengths of several disjoint masks of one size, filled column by column.
#[derive(Debug, Default)]
pub struct Runs {
    /// For each mask the ends of its runs: first pixel of the mask, first pixel behind it, and so on.
    bounds: Vec<Vec<usize>>,
    rows: usize,
    columns: usize,
}

impl Runs {
    /// Starts anew with `masks` empty masks of a size.
    pub fn start(&mut self, masks: usize, rows: usize, columns: usize) {
        self.bounds.iter_mut().for_each(Vec::clear);
        self.bounds.resize_with(masks, Vec::new);
        (self.rows, self.columns) = (rows, columns);
    }

    /// Puts a pixel into `mask`. Pixels come column by column, each column from the top.
    pub fn put(&mut self, mask: usize, row: usize, column: usize) {
        let at = column * self.rows + row;
        let bounds = &mut self.bounds[mask];
        match bounds.last_mut() {
            Some(end) if *end == at => *end += 1,
            _ => bounds.extend([at, at + 1]),
        }
    }

    /// Pixels of `mask`.
    pub fn area(&self, mask: usize) -> usize {
        self.bounds[mask].chunks_exact(2).map(|run| run[1] - run[0]).sum()
    }

    /// The run lengths of `mask`.
    pub fn rle(&self, mask: usize) -> Rle {
        let mut lengths = Vec::with_capacity(self.bounds[mask].len() + 1);
        let mut last = 0;
        for bound in &self.bounds[mask] {
            lengths.push((bound - last) as i64);
            last = *bound;
        }
        let all = self.rows * self.columns;
        if last < all {
            lengths.push((all - last) as i64);
        }
        Rle { size: [self.rows, self.columns], counts: text(&lengths) }
    }
}

fn text(lengths: &[i64]) -> String {
    let mut text = String::new();
    for (index, length) in lengths.iter().enumerate() {
        let mut value = if index > 2 { length - lengths[index - 2] } else { *length };
        loop {
            let bits = value & 0x1f;
            value >>= 5;
            // The highest bit of a group is its sign.
            let over = if bits & 0x10 == 0 { value == 0 } else { value == -1 };
            text.push(char::from((bits as u8 | if over { 0 } else { 0x20 }) + 48));
            if over {
                break;
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_pycocotools() {
        // pycocotools.mask.encode of these masks.
        let mut runs = Runs::default();
        runs.start(2, 4, 5);
        for (row, column) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
            runs.put(0, row, column);
        }
        assert_eq!((runs.rle(0).counts.as_str(), runs.area(0)), ("52207", 4));
        // An empty mask is one run of background.
        assert_eq!((runs.rle(1).counts.as_str(), runs.area(1)), ("d0", 0));
    }
}
