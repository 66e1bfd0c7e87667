//! The random draws of k-means++, the same numbers on both back ends.
//!
//! A point is drawn with probability proportional to its weight by an exponential race: each point draws
//! `e_i ~ Exp(1)` and the smallest `e_i / w_i` wins (Efraimidis & Spirakis 2006, one winner). A race needs no prefix
//! sum, so the order of work does not matter and a shader can run it as one reduction.

/// Mixes 32 bits so that neighbouring inputs give unrelated outputs (two rounds of xor-shift and multiply).
#[inline(always)]
pub(crate) fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The key of one round of seeding.
pub(crate) fn round_key(seed: u64, round: usize) -> u32 {
    let high = mix((seed >> 32) as u32 ^ (round as u32).wrapping_mul(0x9e37_79b9));
    mix(seed as u32 ^ high)
}

/// `e_i`: a draw from Exp(1) for point `index` in the round with `key`; never 0.
///
/// `-ln(1 - u)` with `u` in (0, 1), by the series of `atanh` around the exactly known `1 - u`, so that small draws, the
/// only ones that can win, keep full relative accuracy on every device.
#[inline(always)]
pub(crate) fn exponential(key: u32, index: u32) -> f32 {
    let bits = mix(key ^ mix(index));
    let u = ((bits >> 9) as f32 + 0.5) * (1.0 / 8_388_608.0);
    let x = (1.0 - u).to_bits();
    let halvings = 126 - (x >> 23) as i32;
    let m = f32::from_bits((x & 0x007f_ffff) | 0x3f00_0000);
    let t = (1.0 - m) / (1.0 + m);
    let s = t * t;
    let series = 1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0 + s * (1.0 / 9.0 + s * (1.0 / 11.0)))));
    halvings as f32 * std::f32::consts::LN_2 + 2.0 * t * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_exponential_distribution() {
        let draws: Vec<f32> = (0..100_000).map(|i| exponential(round_key(7, 3), i)).collect();
        let mean = draws.iter().sum::<f32>() / draws.len() as f32;
        let above_two = draws.iter().filter(|&&e| e > 2.0).count() as f32 / draws.len() as f32;
        assert!((mean - 1.0).abs() < 0.02, "mean {mean}");
        assert!((above_two - (-2.0f32).exp()).abs() < 0.005, "share above 2: {above_two}");
        assert!(draws.iter().all(|&e| e > 0.0 && e.is_finite()));
    }

    #[test]
    fn rounds_and_seeds_are_unrelated() {
        let key = round_key(1, 0);
        assert_ne!(key, round_key(1, 1));
        assert_ne!(key, round_key(2, 0));
        assert_ne!(key, round_key(1 << 32, 0));
    }
}
