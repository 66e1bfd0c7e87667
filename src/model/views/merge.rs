//! The maps of a frame's views brought together: one canvas of logits and one of each feature map, which cover the frame exactly.
//!
//! A canvas has the cells of the finest level, and cell centres at half pixels as any map has, so that what comes after sees
//! no difference to a single map of a large network. Where tiles overlap, their shares fall linearly to zero at their edges;
//! scales and mirror images count the same each.

use std::ops::Range;

use ndarray::{Array3, ArrayView3};

use crate::compute::Maps;
use crate::model::runtime::network::Outputs;
use crate::model::views::layout::{Layout, ViewScale};
use crate::{Error, Result};

/// Pairs of a frame size and a map size whose tables are kept.
const TABLES: usize = 48;
/// Positions closer than this to a cell's centre are on it: aligned grids are copied, not resampled.
const ON_CENTRE: f64 = 1e-6;

/// One axis of one view: the cells of the canvas that it has a share in, and for each of these a pair of neighbouring cells of
/// the map with their weights, the share included.
#[derive(Debug)]
struct Axis {
    canvas: Range<usize>,
    first: Vec<usize>,
    weights: Vec<[f32; 2]>,
}

impl Axis {
    /// `across` or `down` of a level in view `index`, for a map of `cells` and a canvas of `canvas` cells.
    fn new(size: usize, starts: &[isize], index: usize, input: usize, cells: usize, canvas: usize) -> Self {
        let start = starts[index] as f64;
        let per_pixel = cells as f64 / input as f64;
        // Cells that are padding in part say nothing about the frame's edge.
        let inside =
            ((-start * per_pixel - ON_CENTRE).ceil(), ((size as f64 - start) * per_pixel + ON_CENTRE).floor() - 1.0);
        let middle = ((size as f64 / 2.0 - start) * per_pixel).floor();
        let (low, high) = if inside.0 <= inside.1 { inside } else { (middle, middle) };
        let (low, high) = (low.max(0.0), high.min((cells - 1) as f64));
        let centre = |cell: usize| (cell as f64 + 0.5) * size as f64 / canvas as f64;
        let shares: Vec<f64> = (0..canvas).map(|cell| share(starts, index, input, centre(cell))).collect();
        let begin = shares.iter().position(|&share| share > 0.0).unwrap_or(canvas);
        let end = shares.iter().rposition(|&share| share > 0.0).map_or(begin, |last| last + 1);
        let mut axis = Self { canvas: begin..end, first: Vec::new(), weights: Vec::new() };
        for (cell, share) in shares.iter().enumerate().take(end).skip(begin) {
            let place = ((centre(cell) - start) * per_pixel - 0.5).clamp(low, high);
            let place = if (place - place.round()).abs() < ON_CENTRE { place.round() } else { place };
            let first = place.floor().min(cells.saturating_sub(2) as f64);
            let [a, b] = [1.0 - (place - first), place - first].map(|weight| (weight * share) as f32);
            axis.first.push(first as usize);
            axis.weights.push([a, b]);
        }
        axis
    }

    /// The same for the mirror image's map.
    fn mirrored(&self, cells: usize) -> Self {
        let (first, weights) = if cells == 1 {
            (self.first.clone(), self.weights.clone())
        } else {
            (
                self.first.iter().map(|first| cells - 2 - first).collect(),
                self.weights.iter().map(|&[a, b]| [b, a]).collect(),
            )
        };
        Self { canvas: self.canvas.clone(), first, weights }
    }

    fn weighted(mut self, weight: f32) -> Self {
        self.weights.iter_mut().flatten().for_each(|w| *w *= weight);
        self
    }
}

/// The share of window `index` of those that begin at `starts` at the position `at`; the shares of all are 1 together.
fn share(starts: &[isize], index: usize, window: usize, at: f64) -> f64 {
    let raw = |index: usize| {
        let (start, end) = (starts[index] as f64, starts[index] as f64 + window as f64);
        let mut share: f64 = 1.0;
        if index > 0 {
            share = share.min(ramp(at - start, starts[index - 1] as f64 + window as f64 - start));
        }
        if let Some(&next) = starts.get(index + 1) {
            share = share.min(ramp(end - at, end - next as f64));
        }
        share
    };
    let sum: f64 = (0..starts.len()).map(raw).sum();
    if sum > 0.0 { raw(index) / sum } else { 0.0 }
}

/// 0 up to the edge of a window, 1 from `width` on.
fn ramp(inside: f64, width: f64) -> f64 {
    if inside <= 0.0 {
        0.0
    } else if width <= inside {
        1.0
    } else {
        inside / width
    }
}

/// The tables of one level for maps of one size.
#[derive(Debug)]
struct LevelTables {
    across: Vec<[Axis; 2]>,
    down: Vec<Axis>,
}

/// The tables of one frame size for maps of one size.
#[derive(Debug)]
struct Tables {
    frame: (usize, usize),
    /// Rows and columns of the map.
    cells: (usize, usize),
    /// Rows and columns of the canvas.
    canvas: (usize, usize),
    levels: Vec<LevelTables>,
}

impl Tables {
    fn new(layout: &Layout, cells: (usize, usize)) -> Self {
        let input = layout.input();
        let finest = |side: fn(&ViewScale) -> usize, cells: usize, input: usize| {
            let most = layout.levels().iter().map(side).max().unwrap_or(input);
            ((most as f64 * cells as f64 / input as f64).round() as usize).max(1)
        };
        let canvas = (finest(|level| level.size.1, cells.0, input.1), finest(|level| level.size.0, cells.1, input.0));
        let images =
            layout.views().len() / layout.levels().iter().map(|l| l.across.len() * l.down.len()).sum::<usize>();
        let weight = 1.0 / (layout.levels().len() * images) as f32;
        let level = |level: &ViewScale| LevelTables {
            across: (0..level.across.len())
                .map(|index| Axis::new(level.size.0, &level.across, index, input.0, cells.1, canvas.1))
                .map(|axis| [axis.mirrored(cells.1), axis])
                .map(|[mirrored, plain]| [plain, mirrored])
                .collect(),
            down: (0..level.down.len())
                .map(|index| Axis::new(level.size.1, &level.down, index, input.1, cells.0, canvas.0).weighted(weight))
                .collect(),
        };
        Self { frame: layout.frame(), cells, canvas, levels: layout.levels().iter().map(level).collect() }
    }
}

/// Brings maps together. Belongs to one network and one way of looking at frames; allocates only for a new size.
#[derive(Debug, Default)]
pub struct Merge {
    tables: Vec<Tables>,
    line: Vec<f32>,
}

impl Merge {
    /// Adds the maps of view `index` to `canvas`; the first one empties it.
    ///
    /// # Errors
    /// The maps have other shapes than those of the first view.
    pub fn add(&mut self, layout: &Layout, index: usize, maps: &Maps<'_>, canvas: &mut MergedMaps) -> Result<()> {
        if index == 0 {
            canvas.maps.resize_with(1 + maps.features.len(), || Array3::zeros((0, 0, 0)));
        }
        if canvas.maps.len() != 1 + maps.features.len() {
            return Err(Error::failed("the network gave another number of maps for another part of the frame"));
        }
        for (map, to) in std::iter::once(&maps.logits).chain(maps.features).zip(&mut canvas.maps) {
            let (channels, rows, columns) = map.dim();
            if rows * columns == 0 {
                return Err(Error::failed(format!("the network gave a map of {channels} x {rows} x {columns}")));
            }
            let table = self.table(layout, (rows, columns));
            let tables = &self.tables[table];
            let shape = (channels, tables.canvas.0, tables.canvas.1);
            if index == 0 && to.dim() == shape {
                to.fill(0.0);
            } else if index == 0 {
                *to = Array3::zeros(shape);
            } else if to.dim() != shape {
                return Err(Error::failed(format!(
                    "the network gave a map of {channels} x {rows} x {columns} after others for the same frame"
                )));
            }
            let view = layout.views()[index];
            let level = &tables.levels[view.level];
            let across = &level.across[view.place.0][usize::from(view.mirrored)];
            add(map, to, across, &level.down[view.place.1], &mut self.line);
        }
        Ok(())
    }

    fn table(&mut self, layout: &Layout, cells: (usize, usize)) -> usize {
        let known = self.tables.iter().position(|known| (known.frame, known.cells) == (layout.frame(), cells));
        known.unwrap_or_else(|| {
            if self.tables.len() == TABLES {
                self.tables.remove(0);
            }
            self.tables.push(Tables::new(layout, cells));
            self.tables.len() - 1
        })
    }
}

/// The maps of all views of a frame in one; the memory is used again for the next frame.
#[derive(Debug, Default)]
pub struct MergedMaps {
    /// Logits, then features.
    maps: Vec<Array3<f32>>,
}

impl MergedMaps {
    /// Takes over `maps`.
    fn copy(&mut self, maps: &Maps<'_>) {
        let count = 1 + maps.features.len();
        self.maps.resize_with(count, || Array3::default((0, 0, 0)));
        for (to, from) in self.maps.iter_mut().zip(std::iter::once(&maps.logits).chain(maps.features)) {
            if to.dim() == from.dim() {
                to.assign(from);
            } else {
                *to = from.to_owned();
            }
        }
    }

    /// Hands the maps to `use_maps`.
    ///
    /// # Errors
    /// Nothing was added, or `use_maps` fails.
    pub fn with_maps<R>(&self, use_maps: impl FnOnce(&Maps<'_>) -> Result<R>) -> Result<R> {
        match self.maps.as_slice() {
            [] => Err(Error::failed("no maps were brought together")),
            [logits] => use_maps(&Maps { logits: logits.view(), features: &[], picture: None }),
            [logits, features] => {
                use_maps(&Maps { logits: logits.view(), features: &[features.view()], picture: None })
            }
            [logits, features @ ..] => {
                let features: Vec<_> = features.iter().map(|map| map.view()).collect();
                use_maps(&Maps { logits: logits.view(), features: &features, picture: None })
            }
        }
    }
}

/// The network's outputs for one frame: its own tensors where one view covers the frame, else the canvas.
#[derive(Debug, Default)]
pub struct NetworkOutputs {
    /// One for each view, in order.
    outputs: Vec<Outputs>,
    canvas: MergedMaps,
    merged: bool,
}

impl NetworkOutputs {
    /// Adds the outputs of the next view.
    pub fn push(&mut self, outputs: Outputs) {
        self.outputs.push(outputs);
    }

    /// Whether there are no outputs.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty() && !self.merged
    }

    /// Lets go of the network's tensors; the memory of the canvas is kept.
    pub fn clear(&mut self) {
        self.outputs.clear();
        self.merged = false;
    }

    /// Brings the views together where there are several, or one that does not cover the frame exactly.
    ///
    /// # Errors
    /// What was pushed are not the outputs of the layout's views.
    pub fn merge(&mut self, layout: &Layout, merge: &mut Merge) -> Result<()> {
        if self.outputs.len() != layout.views().len() {
            return Err(Error::failed(format!("{} outputs for {} views", self.outputs.len(), layout.views().len())));
        }
        if layout.is_plain() {
            return Ok(());
        }
        for (index, output) in self.outputs.iter().enumerate() {
            output.with_maps(|maps| merge.add(layout, index, maps, &mut self.canvas))?;
        }
        self.outputs.clear();
        self.merged = true;
        Ok(())
    }

    /// Changes the maps of the frame, in memory of their own.
    ///
    /// # Errors
    /// As [`NetworkOutputs::with_maps`].
    pub fn edit(&mut self, change: impl FnMut(&mut Array3<f32>)) -> Result<()> {
        if !self.merged {
            let [output] = self.outputs.as_slice() else {
                return Err(Error::failed("the views of the frame were not brought together"));
            };
            output.with_maps(|maps| {
                self.canvas.copy(maps);
                Ok(())
            })?;
            self.outputs.clear();
            self.merged = true;
        }
        self.canvas.maps.iter_mut().for_each(change);
        Ok(())
    }

    /// Hands the maps of the frame to `use_maps`.
    ///
    /// # Errors
    /// There are none, or `use_maps` fails.
    pub fn with_maps<R>(&self, use_maps: impl FnOnce(&Maps<'_>) -> Result<R>) -> Result<R> {
        match self.outputs.as_slice() {
            [output] if !self.merged => output.with_maps(use_maps),
            _ if self.merged => self.canvas.with_maps(use_maps),
            _ => Err(Error::failed("the views of the frame were not brought together")),
        }
    }
}

/// `canvas += share * map`, resampled.
fn add(map: &ArrayView3<'_, f32>, canvas: &mut Array3<f32>, across: &Axis, down: &Axis, line: &mut Vec<f32>) {
    let (_, rows, columns) = map.dim();
    let map = map.as_standard_layout();
    let (Some(from), (_, height, width)) = (map.as_slice(), canvas.dim()) else { return };
    let Some(to) = canvas.as_slice_mut() else { return };
    // One more than the map has: the second of a pair may lie there, with weight 0.
    line.clear();
    line.resize(columns + 1, 0.0);
    for (from, to) in from.chunks_exact(rows * columns).zip(to.chunks_exact_mut(height * width)) {
        let to = to.chunks_exact_mut(width).skip(down.canvas.start);
        for ((to, &row), &[a, b]) in to.zip(&down.first).zip(&down.weights) {
            let upper = &from[row * columns..][..columns];
            if b == 0.0 {
                line.iter_mut().zip(upper).for_each(|(value, upper)| *value = a * upper);
            } else {
                let lower = &from[(row + 1).min(rows - 1) * columns..][..columns];
                line.iter_mut().zip(upper).zip(lower).for_each(|((value, u), l)| *value = a * u + b * l);
            }
            for ((to, &first), &[a, b]) in to[across.canvas.clone()].iter_mut().zip(&across.first).zip(&across.weights)
            {
                *to += a * line[first] + b * line[first + 1];
            }
        }
    }
}
