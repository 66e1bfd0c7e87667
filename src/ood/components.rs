//! 8-connected components of a binary mask, by runs and union-find.

/// The component index of runs whose component has fewer pixels than the smallest size requested.
pub const DROPPED: u32 = u32::MAX;

/// A horizontal stretch of set pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Row of the mask.
    pub row: u32,
    /// First column.
    pub start: u32,
    /// Column after the last one.
    pub end: u32,
    /// Index of its component, or [`DROPPED`].
    pub component: u32,
}

impl Run {
    /// Pixels in it.
    pub fn len(&self) -> u64 {
        u64::from(self.end - self.start)
    }

    /// Never true: a run has at least one pixel.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }
}

/// The labeller and its last result. Reused from mask to mask, it allocates nothing once its buffers have grown.
#[derive(Debug, Clone, Default)]
pub struct Components {
    runs: Vec<Run>,
    parent: Vec<u32>,
    root_area: Vec<u64>,
    areas: Vec<u64>,
}

impl Components {
    /// Labels the set (non-zero) pixels of a row-major mask of `width` columns; returns the number of components of at
    /// least `min_area` pixels, which are numbered in raster order of their first pixel.
    ///
    /// Pixels touch when they share an edge or a corner. An incomplete last row is ignored.
    pub fn label(&mut self, mask: &[u8], width: usize, min_area: u64) -> usize {
        self.runs.clear();
        self.parent.clear();
        let mut above = 0..0;
        for (y, row) in mask.chunks_exact(width.max(1)).enumerate() {
            let first = self.runs.len();
            self.scan_row(y as u32, row);
            self.join(above.clone(), first);
            above = first..self.runs.len();
        }
        self.number(min_area)
    }

    /// All runs in raster order, those of dropped components too.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Pixels of each kept component.
    pub fn areas(&self) -> &[u64] {
        &self.areas
    }

    fn scan_row(&mut self, y: u32, row: &[u8]) {
        let mut x = 0;
        while x < row.len() {
            // Most of a mask is empty: eight pixels are skipped at a time.
            if let Some(eight) = row.get(x..x + 8)
                && eight.iter().fold(0, |any, &value| any | value) == 0
            {
                x += 8;
                continue;
            }
            if row[x] == 0 {
                x += 1;
                continue;
            }
            let end = row[x..].iter().position(|&value| value == 0).map_or(row.len(), |length| x + length);
            self.parent.push(self.runs.len() as u32);
            self.runs.push(Run { row: y, start: x as u32, end: end as u32, component: DROPPED });
            x = end;
        }
    }

    /// Joins the runs from `first` on, one row's, with those that they touch in the row above.
    fn join(&mut self, above: std::ops::Range<usize>, first: usize) {
        let mut candidate = above.start;
        for current in first..self.runs.len() {
            let Run { start, end, .. } = self.runs[current];
            while candidate < above.end && self.runs[candidate].end < start {
                candidate += 1;
            }
            let mut touching = candidate;
            while touching < above.end && self.runs[touching].start <= end {
                self.unite(touching as u32, current as u32);
                touching += 1;
            }
        }
    }

    fn find(&mut self, mut node: u32) -> u32 {
        while self.parent[node as usize] != node {
            let grandparent = self.parent[self.parent[node as usize] as usize];
            self.parent[node as usize] = grandparent;
            node = grandparent;
        }
        node
    }

    fn unite(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        // The earlier run stays the root, so that components are numbered in raster order.
        self.parent[a.max(b) as usize] = a.min(b);
    }

    fn number(&mut self, min_area: u64) -> usize {
        self.root_area.clear();
        self.root_area.resize(self.runs.len(), 0);
        for index in 0..self.runs.len() {
            let root = self.find(index as u32);
            self.root_area[root as usize] += self.runs[index].len();
        }
        self.areas.clear();
        for index in 0..self.runs.len() {
            let root = self.find(index as u32) as usize;
            if root == index && self.root_area[root] >= min_area {
                self.runs[index].component = self.areas.len() as u32;
                self.areas.push(self.root_area[root]);
            } else {
                self.runs[index].component = self.runs[root].component;
            }
        }
        self.areas.len()
    }
}
