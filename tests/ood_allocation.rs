//! Regions and tracks allocate nothing once their buffers have grown.

mod counting;

use std::time::Duration;

use counting::of_this_thread;
use ndarray::{Array2, Array3};
use oodstream::compute::Detection;
use oodstream::ood::region::RegionFinder;
use oodstream::ood::track::{Moment, TrackSettings, Tracker};

/// A mask with two boxes that move with `step` and come back after 20.
fn draw(detection: &mut Detection, step: usize) {
    detection.mask.fill(0);
    detection.score.fill(0.0);
    let shift = if step % 20 < 10 { step % 20 } else { 20 - step % 20 };
    for (x, y) in [(10 + shift, 20), (200 - 2 * shift, 60)] {
        for row in y..y + 30 {
            for column in x..x + 40 {
                detection.mask[(row, column)] = 1;
                detection.score[(row, column)] = (row + column) as f32;
            }
        }
    }
}

#[test]
fn nothing_is_allocated_per_frame() {
    let logits = Array3::from_shape_fn((11, 23, 40), |(c, y, x)| ((c * 7 + y + x) % 13) as f32);
    let mut detection =
        Detection { score: Array2::zeros((180, 320)), mask: Array2::zeros((180, 320)), ..Detection::default() };
    let mut finder = RegionFinder::new(0.001);
    let mut tracker = Tracker::new("s", Vec::new(), TrackSettings::default());
    let mut frame = |step: usize| {
        draw(&mut detection, step);
        let regions = finder.find(&detection, logits.view()).unwrap();
        assert_eq!(regions.len(), 2);
        let moment = Moment { running: Duration::from_millis(40 * step as u64), wall: None };
        assert_eq!(tracker.update(moment, regions).len(), 2);
        // What starts is told once; here that is within the first frames.
        let changes = tracker.drain_changes().count();
        assert!(step < 40 || changes == 0);
    };
    assert!(of_this_thread(|| (0..40).for_each(&mut frame)) > 0, "the counter counts");
    assert_eq!(of_this_thread(|| (40..200).for_each(&mut frame)), 0);
}
