//! `--save-scores`: score maps at the ground truth's size, for other programs and for `--from-scores`.

use std::path::Path;

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::gather::Gathered;
use crate::npy::{self, FloatType};
use crate::{Error, Result};

/// Writes `folder/METHOD/NAME.npy` for every method and image.
///
/// # Errors
/// A folder or file cannot be written.
pub fn save_scores(folder: &Path, methods: &[&str], gathered: &Gathered, float: FloatType) -> Result<()> {
    for (index, method) in methods.iter().enumerate() {
        let folder = folder.join(file_name(method));
        std::fs::create_dir_all(&folder)
            .map_err(|error| Error::failed(format!("--save-scores {}: {error}", folder.display())))?;
        gathered.samples.par_iter().zip(&gathered.truths).enumerate().try_for_each(|(image, (sample, truth))| {
            let mut scores = Vec::new();
            gathered.scores.load(index, image, truth.height(), truth.width(), &mut scores)?;
            let map = ArrayView2::from_shape((truth.height(), truth.width()), &scores)
                .map_err(|error| Error::failed(format!("--save-scores: {error}")))?;
            npy::write(&folder.join(format!("{}.npy", sample.name)), map, float)
        })?;
    }
    Ok(())
}

/// The method's name as a folder on any file system.
fn file_name(method: &str) -> String {
    method.chars().map(|c| if c.is_ascii_alphanumeric() || "-+.@,".contains(c) { c } else { '_' }).collect()
}
