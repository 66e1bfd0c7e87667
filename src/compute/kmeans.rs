//! K-Means on its own, for codebooks and for benchmarks.

use ndarray::{Array2, ArrayView2};

use super::plan::{check_k, first_not_finite};
use crate::{Error, Result};

/// Where Lloyd's iterations start from.
#[derive(Debug, Clone, Copy)]
pub enum Seeds<'a> {
    /// k-means++ from a seed.
    PlusPlus {
        /// Number of clusters.
        k: usize,
        /// Seed of the draws.
        seed: u64,
    },
    /// Given centroids, `[K, D]`.
    Given(ArrayView2<'a, f32>),
}

/// The result of K-Means.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeans {
    /// Cluster of each point, `[N]`; the nearest of `centroids`.
    pub labels: Vec<u32>,
    /// `[K, D]`; when it converged, the means of their points.
    pub centroids: Array2<f32>,
    /// Assignments made before it converged or reached its bound.
    pub iterations: usize,
}

/// K-Means over any points; both back ends give equal labels from equal seeds.
pub trait Clustering {
    /// Lloyd's K-Means over `points`, `[N, D]`, at most `max_iterations` of assignment and update, fewer when no label
    /// changes; then the labels are brought in line with the centroids. Empty clusters take the farthest points.
    ///
    /// # Errors
    /// No points, fewer points than clusters, seeds of another width, values that are not finite, a lost device.
    fn kmeans(&mut self, points: ArrayView2<'_, f32>, seeds: Seeds<'_>, max_iterations: usize) -> Result<KMeans>;
}

/// The checked K.
pub(crate) fn check(points: &ArrayView2<'_, f32>, seeds: &Seeds<'_>) -> Result<usize> {
    let (n, dims) = points.dim();
    if n == 0 || dims == 0 {
        return Err(Error::failed(format!("K-Means over [{n}, {dims}]: there are no points")));
    }
    let k = match seeds {
        Seeds::PlusPlus { k, .. } => *k,
        Seeds::Given(rows) if rows.ncols() != dims => {
            let message = format!("seeds have {} dimensions, the points have {dims}", rows.ncols());
            return Err(Error::failed(message));
        }
        Seeds::Given(rows) => match rows.iter().position(|v| !v.is_finite()) {
            Some(at) => return Err(Error::failed(format!("seed {} has a value that is not finite", at / dims))),
            None => rows.nrows(),
        },
    };
    check_k(k, n)?;
    let found = match points.as_slice() {
        Some(values) => first_not_finite(values),
        None => points.iter().position(|v| !v.is_finite()),
    };
    match found {
        Some(at) => {
            Err(Error::failed(format!("point {} has a value that is not finite in dimension {}", at / dims, at % dims)))
        }
        None => Ok(k),
    }
}

/// Mean of `values` over each cluster, 0 for an empty one. `sums` is scratch.
pub(crate) fn cluster_means(labels: &[u32], sizes: &[u32], values: &[f32], sums: &mut Vec<f64>, means: &mut Vec<f32>) {
    sums.clear();
    sums.resize(sizes.len(), 0.0);
    for (&label, &value) in labels.iter().zip(values) {
        sums[label as usize] += f64::from(value);
    }
    means.clear();
    means.extend(sums.iter().zip(sizes).map(|(&sum, &size)| (sum / f64::from(size.max(1))) as f32));
}
