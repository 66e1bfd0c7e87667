//! The number of pictures of a call at which the network takes the least time for each.

use std::time::{Duration, Instant};

use super::Network;
use crate::Result;

/// A larger batch is taken where a picture takes at most this share of the time that it takes in the best one so far.
const GAIN: f64 = 0.95;
/// Calls that are timed per size; one more comes before them.
const REPEATS: usize = 3;
/// No further size is tried after this time.
const LONGEST: Duration = Duration::from_secs(2);

/// A batch size, and what it gains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BestBatch {
    /// Pictures per call.
    pub size: usize,
    /// Time per picture, in milliseconds.
    pub ms: f64,
    /// The same for one picture per call.
    pub single_ms: f64,
}

/// The best size up to `most`, by measurement.
///
/// # Errors
/// The network does not run on a single picture; a larger size that fails is not taken.
pub fn best_batch(network: &mut Network, most: usize) -> Result<BestBatch> {
    let most = most.min(network.max_batch().unwrap_or(most)).max(1);
    let begin = Instant::now();
    choose(most, || begin.elapsed() < LONGEST, |size| batch_ms(network, size, REPEATS))
}

/// The median time per picture in milliseconds, of `repeats` calls with `size` pictures.
///
/// # Errors
/// See [`Network::infer_batch`].
pub fn batch_ms(network: &mut Network, size: usize, repeats: usize) -> Result<f64> {
    let tensor = vec![0.1; size * 3 * network.input().width * network.input().height];
    // The first run of a size builds what the provider keeps for it.
    drop(network.infer_batch(&tensor, size)?);
    let mut times = Vec::with_capacity(repeats);
    for _ in 0..repeats.max(1) {
        let begin = Instant::now();
        drop(network.infer_batch(&tensor, size)?);
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2] * 1e3 / size as f64)
}

/// Tries powers of two and `most` in turn, up to the first that does not gain.
fn choose(most: usize, in_time: impl Fn() -> bool, mut ms: impl FnMut(usize) -> Result<f64>) -> Result<BestBatch> {
    let single_ms = ms(1)?;
    let mut best = BestBatch { size: 1, ms: single_ms, single_ms };
    let doubled = (1..).map(|step| 1usize << step).take_while(|size| *size < most);
    for size in doubled.chain((most > 1).then_some(most)) {
        if !in_time() {
            break;
        }
        match ms(size) {
            Ok(ms) if ms <= GAIN * best.ms => best = BestBatch { size, ms, ..best },
            Ok(_) => break,
            Err(error) => {
                tracing::warn!("batches of {size} pictures are not used: {error}");
                break;
            }
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn found(most: usize, ms: impl Fn(usize) -> Result<f64>) -> (usize, Vec<usize>) {
        let mut tried = Vec::new();
        let best = choose(
            most,
            || true,
            |size| {
                tried.push(size);
                ms(size)
            },
        );
        (best.unwrap().size, tried)
    }

    #[test]
    fn sizes_are_doubled_as_long_as_that_gains() {
        // Some time per call, some per picture: a device that is not filled by one picture.
        let device = |size: usize| Ok(8.0 / size as f64 + 1.0);
        assert_eq!(found(16, device), (16, vec![1, 2, 4, 8, 16]));
        assert_eq!(found(6, device), (6, vec![1, 2, 4, 6]));
        assert_eq!(found(1, device), (1, vec![1]));
        // Full with four.
        assert_eq!(found(16, |size| Ok(8.0 / size.min(4) as f64)), (4, vec![1, 2, 4, 8]));
        // A processor gains nothing.
        assert_eq!(found(8, |_| Ok(40.0)), (1, vec![1, 2]));
    }

    #[test]
    fn a_size_that_fails_or_comes_too_late_is_not_taken() {
        let memory = |size: usize| if size > 4 { Err(Error::failed("out of memory")) } else { Ok(8.0 / size as f64) };
        assert_eq!(found(16, memory), (4, vec![1, 2, 4, 8]));
        assert!(choose(4, || true, |_| Err(Error::failed("no device"))).is_err());
        let late = choose(4, || false, |size| Ok(8.0 / size as f64)).unwrap();
        assert_eq!(late, BestBatch { size: 1, ms: 8.0, single_ms: 8.0 });
    }
}
