//! Storage for the scores of a set between passes: the small grids in a temporary file, or the files of
//! `--from-scores`.
//!
//! Component metrics need the best threshold of the whole set before any image can be measured, so every score map is
//! needed more than once. A grid is about a hundredth of its picture; upsampling it again costs less than keeping it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ndarray::{Array2, ArrayView2};

use super::upsample::upsample;
use crate::lock::lock;
use crate::npy;
use crate::{Error, Result};

/// A place in the temporary file.
#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: u64,
    rows: usize,
    columns: usize,
}

/// Grids of scores by method and image, in a temporary file that vanishes with the program.
#[derive(Debug)]
pub struct GridStore {
    file: Mutex<File>,
    end: u64,
    entries: Vec<Vec<Option<Entry>>>,
}

impl GridStore {
    /// An empty store.
    ///
    /// # Errors
    /// No temporary file can be created.
    pub fn new(methods: usize, images: usize) -> Result<Self> {
        let file = tempfile::tempfile().map_err(failed)?;
        Ok(Self { file: Mutex::new(file), end: 0, entries: vec![vec![None; images]; methods] })
    }

    /// Keeps the grid of one method and image.
    ///
    /// # Errors
    /// A value is NaN, or the temporary file cannot be written.
    pub fn put(&mut self, method: usize, image: usize, grid: ArrayView2<'_, f32>) -> Result<()> {
        let (rows, columns) = grid.dim();
        if grid.iter().any(|value| value.is_nan()) {
            return Err(Error::failed("the score map has NaN values"));
        }
        let values: Vec<f32> = grid.iter().copied().collect();
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.end)).map_err(failed)?;
        file.write_all(bytemuck::cast_slice(&values)).map_err(failed)?;
        self.entries[method][image] = Some(Entry { offset: self.end, rows, columns });
        self.end += (values.len() * 4) as u64;
        Ok(())
    }

    /// Removes the images whose place in `keep` is false; those after them move up.
    pub fn retain(&mut self, keep: &[bool]) {
        for entries in &mut self.entries {
            let mut kept = keep.iter();
            entries.retain(|_| kept.next().copied().unwrap_or(false));
        }
    }

    fn get(&self, method: usize, image: usize) -> Result<Array2<f32>> {
        let entry = self.entries[method][image].ok_or_else(|| Error::failed("an image has no score map"))?;
        let mut grid = Array2::<f32>::zeros((entry.rows, entry.columns));
        if let Some(values) = grid.as_slice_mut() {
            let mut file = lock(&self.file);
            file.seek(SeekFrom::Start(entry.offset)).map_err(failed)?;
            file.read_exact(bytemuck::cast_slice_mut(values)).map_err(failed)?;
        }
        Ok(grid)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::failed(format!("temporary file for score maps: {error}"))
        .hint("TMPDIR names another folder for temporary files")
}

/// Score maps of methods and images, readable from any thread any number of times.
#[derive(Debug)]
pub enum Scores {
    /// Grids of a network.
    Grids(GridStore),
    /// `.npy` files at the ground truth's size, by method and image.
    Files(Vec<Vec<PathBuf>>),
}

impl Scores {
    /// The score map of one method and image at `height x width`, row-major, into `out`.
    ///
    /// # Errors
    /// A file cannot be read, has another size, or has NaN values.
    pub fn load(&self, method: usize, image: usize, height: usize, width: usize, out: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Grids(store) => {
                upsample(store.get(method, image)?.view(), height, width, out);
            }
            Self::Files(paths) => {
                let path = &paths[method][image];
                let array = npy::read(path)?;
                let place = path.display();
                if array.dim() != (height, width) {
                    let (rows, columns) = array.dim();
                    return Err(Error::failed(format!(
                        "{place}: scores are {columns}x{rows}, the mask is {width}x{height}"
                    )));
                }
                if array.iter().any(|value| value.is_nan()) {
                    return Err(Error::failed(format!("{place}: it has NaN values")));
                }
                out.clear();
                out.extend(array.iter());
            }
        }
        Ok(())
    }

    /// Scores of one method and image that span their range well, for laying out a histogram.
    ///
    /// # Errors
    /// As [`Scores::load`].
    pub fn sample(&self, method: usize, image: usize) -> Result<Vec<f32>> {
        match self {
            Self::Grids(store) => Ok(store.get(method, image)?.into_iter().collect()),
            Self::Files(paths) => Ok(npy::read(&paths[method][image])?.into_iter().step_by(97).collect()),
        }
    }
}
