//! Assignment of regions to tracks, with the highest sum of similarities over all pairs.

use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;

/// Steps of a similarity in the integers of the solver.
const STEPS: f32 = 10_000.0;

/// A track and a region that may be the same thing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Index of the track.
    pub track: usize,
    /// Index of the region.
    pub region: usize,
    /// Their similarity, above 0.
    pub similarity: f32,
}

/// Solves one assignment after the other. Allocates only where several tracks and regions compete, which is rare.
#[derive(Debug, Clone, Default)]
pub struct Assignment {
    pairs: Vec<Pair>,
    of_track: Vec<u16>,
    of_region: Vec<u16>,
    found: Vec<(usize, usize)>,
}

impl Assignment {
    /// Starts anew.
    pub fn clear(&mut self, tracks: usize, regions: usize) {
        self.pairs.clear();
        for (counts, count) in [(&mut self.of_track, tracks), (&mut self.of_region, regions)] {
            counts.clear();
            counts.resize(count, 0);
        }
    }

    /// Adds a possible pair.
    pub fn push(&mut self, pair: Pair) {
        self.of_track[pair.track] += 1;
        self.of_region[pair.region] += 1;
        self.pairs.push(pair);
    }

    /// The chosen pairs, track first.
    pub fn solve(&mut self) -> &[(usize, usize)] {
        self.found.clear();
        let alone = |pair: &Pair| self.of_track[pair.track] == 1 && self.of_region[pair.region] == 1;
        self.found.extend(self.pairs.iter().filter(|pair| alone(pair)).map(|pair| (pair.track, pair.region)));
        if self.found.len() < self.pairs.len() {
            let (of_track, of_region) = (&self.of_track, &self.of_region);
            self.pairs.retain(|pair| of_track[pair.track] > 1 || of_region[pair.region] > 1);
            self.compete();
        }
        &self.found
    }

    /// The pairs that exclude each other, by the Hungarian method.
    fn compete(&mut self) {
        let number = |of: fn(&Pair) -> usize, pairs: &[Pair]| {
            let mut all: Vec<usize> = pairs.iter().map(of).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let tracks = number(|pair| pair.track, &self.pairs);
        let regions = number(|pair| pair.region, &self.pairs);
        // The solver wants no more rows than columns; the columns of padding have no weight.
        let mut weights = Matrix::new(tracks.len(), regions.len().max(tracks.len()), 0_i64);
        for pair in &self.pairs {
            if let (Ok(row), Ok(column)) = (tracks.binary_search(&pair.track), regions.binary_search(&pair.region)) {
                weights[(row, column)] = (pair.similarity * STEPS) as i64;
            }
        }
        let (_, columns) = kuhn_munkres(&weights);
        for (row, column) in columns.into_iter().enumerate() {
            if weights[(row, column)] > 0 {
                self.found.push((tracks[row], regions[column]));
            }
        }
    }
}
