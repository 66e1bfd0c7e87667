//! The rules for alarms allocate nothing once their buffers have grown.

use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array2, Array3};
use oodstream::compute::Detection;
use oodstream::frame::Plane;
use oodstream::ood::alarm::{EventsConfig, Frame, IgnoreMap, Moment, Scene, Watcher};
use support::counting::{self, of_this_thread};

/// Two boxes that move with `step` and come back after 20.
fn draw(detection: &mut Detection, step: usize) {
    detection.score.fill(0.0);
    let shift = if step % 20 < 10 { step % 20 } else { 20 - step % 20 };
    for (x, y) in [(10 + shift, 20), (200 - 2 * shift, 60)] {
        for row in y..y + 30 {
            for column in x..x + 40 {
                detection.score[(row, column)] = 2.0 + (row + column) as f32 / 100.0;
            }
        }
    }
}

#[test]
fn nothing_is_allocated_per_frame() {
    let _alone = counting::alone();
    let logits = Array3::from_shape_fn((11, 45, 80), |(c, y, x)| ((c * 7 + y + x) % 13) as f32);
    let mut detection = Detection { score: Array2::zeros((180, 320)), ..Detection::default() };
    let luma: Vec<u8> = (0..320 * 180).map(|i| (i % 320 / 5 * 37 + i / 320 / 7 * 53) as u8).collect();
    let classes: Vec<String> = (0..11).map(|i| if i == 3 { "road".to_owned() } else { i.to_string() }).collect();
    let rules = EventsConfig { road_gate: false, update_s: 0.0, ..EventsConfig::default() };
    let mut watcher = Watcher::new("s", &classes, rules, Arc::new(IgnoreMap::default()));
    let mut scene = Scene::default();
    let mut frame = |step: usize| {
        draw(&mut detection, step);
        let frame = Frame {
            moment: Moment { running: Duration::from_millis(40 * step as u64), wall: None },
            detection: &detection,
            logits: logits.view(),
            luma: Plane { data: &luma, stride: 320, columns: 320, rows: 180 },
            threshold: 1.0,
            fresh: false,
        };
        watcher.observe(&frame, &mut scene).unwrap();
        assert_eq!(scene.sightings.len(), 2);
        // What starts is reported once; here that is within the first frames.
        assert!(step < 60 || scene.events.is_empty());
    };
    assert!(of_this_thread(|| (0..60).for_each(&mut frame)) > 0, "the counter counts");
    assert_eq!(of_this_thread(|| (60..200).for_each(&mut frame)), 0);
}
