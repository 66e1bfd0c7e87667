//! The passes over a real set, where it is available, with a score that needs no network.

use std::path::PathBuf;

use image::RgbImage;
use image::imageops::{self, FilterType};
use ndarray::Array2;
use oodstream::Result;
use oodstream::eval::components::SizeLimits;
use oodstream::eval::dataset::{Dataset, SetLayout};
use oodstream::eval::gather::{GatherOptions, GridSink, ScoreSource, gather};
use oodstream::eval::measure::{EXACT_PIXELS, measure};

/// How much brighter a place is than its surroundings, from method 1 in five levels: smooth and no good.
struct Brightness;

impl ScoreSource for Brightness {
    fn score(&mut self, picture: &RgbImage, sink: &mut GridSink<'_>) -> Result<()> {
        let near = imageops::resize(picture, 80, 46, FilterType::Triangle);
        let far = imageops::blur(&near, 9.0);
        let grid = Array2::from_shape_fn((46, 80), |(y, x)| {
            let sum = |picture: &RgbImage| -> f32 {
                let weights = [0.299, 0.587, 0.114];
                picture.get_pixel(x as u32, y as u32).0.iter().zip(weights).map(|(&v, w)| f32::from(v) * w).sum()
            };
            sum(&near) - sum(&far)
        });
        sink(0, grid.view())?;
        sink(1, grid.mapv(|value| (value / 10.0).round().clamp(-2.0, 2.0)).view())
    }
}

#[test]
fn binned_metrics_are_within_their_stated_error_on_real_masks() {
    let shared = std::env::var_os("OODSTREAM_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let root = shared.join("data/dev_eval/road_anomaly21_val");
    if !root.is_dir() {
        eprintln!("skipped: {} is missing", root.display());
        return;
    }
    let dataset = Dataset::open(&root, SetLayout::Pairs, None).unwrap();
    dataset.check().unwrap();
    let options = GatherOptions { skip_bad: false, decoders: 2 };
    let gathered = gather(&dataset, 2, &mut Brightness, options, |_| {}).unwrap();
    assert_eq!(gathered.samples.len(), 10);
    let limits = SizeLimits::default();
    for method in 0..2 {
        let measured = |exact| measure(&gathered, method, "brightness", limits, exact, &|| {}).unwrap().pixels.unwrap();
        let (exact, binned) = (measured(EXACT_PIXELS), measured(0));
        assert_eq!(exact.binning_error, 0.0);
        assert!(binned.binning_error < 1e-4, "method {method}: {}", binned.binning_error);
        for (a, b) in [(exact.ap, binned.ap), (exact.auroc, binned.auroc), (exact.fpr95, binned.fpr95)] {
            assert!((a - b).abs() <= binned.binning_error + 1e-12, "{a} {b} {}", binned.binning_error);
        }
    }
}
