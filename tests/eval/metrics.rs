//! The metrics against scikit-learn: recorded figures always, the library itself where it is installed.

use std::fmt::Write as _;
use std::process::Command;

use oodstream::eval::metrics::{PixelCounts, PixelMetrics, pixel_metrics};
use oodstream::eval::ranking::{Exact, Histogram, key};

fn keys(scores: &[f32], labels: &[u8]) -> (Vec<u32>, Vec<u32>, PixelCounts) {
    let of = |wanted: u8| -> Vec<u32> {
        scores.iter().zip(labels).filter(|(_, label)| **label == wanted).map(|(score, _)| key(*score)).collect()
    };
    let (positives, negatives) = (of(1), of(0));
    let counts = PixelCounts { anomalous: positives.len() as u64, known: negatives.len() as u64, void: 0 };
    (positives, negatives, counts)
}

fn exact(scores: &[f32], labels: &[u8]) -> PixelMetrics {
    let (positives, negatives, counts) = keys(scores, labels);
    pixel_metrics(Exact::new(positives, negatives).groups(), counts).expect("both kinds")
}

fn binned(scores: &[f32], labels: &[u8]) -> PixelMetrics {
    let (positives, negatives, counts) = keys(scores, labels);
    let mut histogram = Histogram::for_scores(scores.iter().step_by(5).copied());
    histogram.add(&positives, &negatives);
    pixel_metrics(histogram.groups(), counts).expect("both kinds")
}

#[track_caller]
fn assert_metrics(metrics: &PixelMetrics, expected: [f64; 3], within: f64) {
    for (name, got, want) in
        [("ap", metrics.ap, expected[0]), ("auroc", metrics.auroc, expected[1]), ("fpr95", metrics.fpr95, expected[2])]
    {
        assert!((got - want).abs() <= within, "{name}: {got} instead of {want}");
    }
}

/// Recorded with scikit-learn 1.9.1: `average_precision_score`, `roc_auc_score`, and of `roc_curve(drop_intermediate=False)`
/// the first point whose true-positive rate reaches 0.95.
#[test]
fn equal_to_recorded_scikit_learn_figures() {
    #[rustfmt::skip]
    let distinct = [0.156751, -0.186931, -2.51676, 0.261307, 0.751499, 0.113309, -0.730136, -0.477753, -0.978519, -0.808837, 1.860899, -0.007535, 0.767478, 0.88439, -0.5836, -0.111702, 0.110464, 0.063782, -1.225056, 0.07614, 2.158823, -0.747145, 0.859383, 0.919354];
    let labels = [0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 1];
    assert_metrics(
        &exact(&distinct, &labels),
        [0.722_445_001_392_369_8, 0.740_740_740_740_740_7, 0.733_333_333_333_333_3],
        1e-12,
    );
    #[rustfmt::skip]
    let ties = [-0.5, 0.75, 1.25, 1.5, 0.5, 0.5, 0.5, 1.5, 0.25, -0.25, 0.25, -0.0, -0.25, -1.0, 0.75, -0.5, 2.0, 0.75, 0.75, 0.75, 0.5, 1.0, 0.75, 0.5];
    let labels = [0, 1, 0, 1, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0];
    assert_metrics(
        &exact(&ties, &labels),
        [0.632_690_541_781_450_9, 0.685_314_685_314_685_2, 0.538_461_538_461_538_4],
        1e-12,
    );
    #[rustfmt::skip]
    let rare = [-0.1, 0.5, 0.6, -1.0, 1.1, -0.5, -0.1, -0.8, -0.6, -1.3, 1.3, -0.2, 1.0, 0.0, -0.7, -0.3, -0.6, 0.8, -0.4, -0.3, -0.6, -0.8, 1.7, 0.1, -1.1, 0.3, 1.4, -1.5, -0.2, -0.6, -1.8, 0.7, -0.0, 0.1, -0.8, 0.5, -0.5, -0.1, -1.1, -1.2];
    let mut labels = [0; 40];
    for index in [1, 2, 17, 20, 23] {
        labels[index] = 1;
    }
    assert_metrics(
        &exact(&rare, &labels),
        [0.239_354_553_492_484_55, 0.722_857_142_857_142_9, 0.685_714_285_714_285_7],
        1e-12,
    );
}

/// A deterministic stream of 32-bit numbers (xorshift).
fn numbers(mut state: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        Some(state)
    })
}

#[test]
fn equal_to_scikit_learn_where_it_is_installed() {
    let python = std::env::var("OODSTREAM_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let installed =
        Command::new(&python).args(["-c", "import sklearn"]).output().is_ok_and(|output| output.status.success());
    if !installed {
        eprintln!("skipped: {python} has no scikit-learn (OODSTREAM_PYTHON names another interpreter)");
        return;
    }
    let count = 20_000;
    let labels: Vec<u8> = numbers(7).take(count).map(|n| u8::from(n % 13 == 0)).collect();
    let scores: Vec<f32> = numbers(99)
        .zip(&labels)
        .map(|(n, label)| ((n % 4001) as f32 / 1000.0 - 2.0 + f32::from(*label)).powi(3))
        .collect();
    let mut script = String::from(
        "import sys, numpy as np\n\
         from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve\n\
         rows = [line.split() for line in open(sys.argv[1])]\n\
         s = np.array([float(r[0]) for r in rows], np.float32); y = np.array([int(r[1]) for r in rows])\n\
         fpr, tpr, _ = roc_curve(y, s, drop_intermediate=False)\n\
         print(repr(float(average_precision_score(y, s))), repr(float(roc_auc_score(y, s))), repr(float(fpr[np.argmax(tpr >= 0.95)])))\n",
    );
    script.push('\n');
    let mut rows = String::new();
    for (score, label) in scores.iter().zip(&labels) {
        writeln!(rows, "{score} {label}").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.txt");
    std::fs::write(&path, rows).unwrap();
    let output = Command::new(&python).arg("-c").arg(&script).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let expected: Vec<f64> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let expected = [expected[0], expected[1], expected[2]];
    assert_metrics(&exact(&scores, &labels), expected, 1e-9);
    let binned = binned(&scores, &labels);
    assert_metrics(&binned, expected, binned.binning_error);
    assert!(binned.binning_error < 1e-4, "{}", binned.binning_error);
}
