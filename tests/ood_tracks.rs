//! Components, regions and tracks through the public API.

use std::time::{Duration, SystemTime};

use ndarray::{Array2, Array3};
use oodstream::compute::Detection;
use oodstream::ood::components::{Components, DROPPED};
use oodstream::ood::region::{BoundingBox, Region, RegionFinder};
use oodstream::ood::track::{Change, Event, Moment, TrackSettings, Tracker, rfc3339};
use proptest::prelude::*;

fn mask_of(rows: &[&str]) -> (Vec<u8>, usize) {
    (rows.concat().bytes().map(|c| u8::from(c == b'#')).collect(), rows[0].len())
}

#[test]
fn components_of_a_hand_drawn_mask() {
    let (mask, width) = mask_of(&["##...#....#", "..#.###...#", "...#......#", "#.........."]);
    let mut components = Components::default();
    // The first two runs join by corners into one of 7 + 1; the column on the right; the lone pixel.
    assert_eq!(components.label(&mask, width, 1), 3);
    assert_eq!(components.areas(), [8, 3, 1]);
    assert_eq!(components.label(&mask, width, 2), 2);
    assert_eq!(components.runs().last().unwrap().component, DROPPED);
}

/// Flood fill, the slow and obvious way.
fn flood(mask: &[u8], width: usize) -> Vec<u64> {
    let height = mask.len() / width;
    let mut seen = vec![false; mask.len()];
    let mut areas = Vec::new();
    for start in 0..mask.len() {
        if mask[start] == 0 || seen[start] {
            continue;
        }
        let (mut stack, mut area) = (vec![start], 0);
        seen[start] = true;
        while let Some(pixel) = stack.pop() {
            area += 1;
            let (x, y) = ((pixel % width) as i64, (pixel / width) as i64);
            for (dx, dy) in [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)] {
                let (nx, ny) = (x + dx, y + dy);
                if nx >= 0 && ny >= 0 && nx < width as i64 && ny < height as i64 {
                    let neighbour = ny as usize * width + nx as usize;
                    if mask[neighbour] != 0 && !seen[neighbour] {
                        seen[neighbour] = true;
                        stack.push(neighbour);
                    }
                }
            }
        }
        areas.push(area);
    }
    areas
}

proptest! {
    #[test]
    fn components_equal_a_flood_fill(width in 1_usize..40, bits in proptest::collection::vec(0_u8..5, 1..1200), reach in 1_u8..5) {
        let mask: Vec<u8> = bits.iter().map(|&bit| u8::from(bit < reach)).collect();
        let mask = &mask[..mask.len() / width * width];
        let mut components = Components::default();
        let count = components.label(mask, width, 1);
        let expected = flood(mask, width);
        prop_assert_eq!(count, expected.len());
        prop_assert_eq!(components.areas(), &expected[..]);
        let covered: u64 = components.runs().iter().map(|run| run.len()).sum();
        prop_assert_eq!(covered, mask.iter().filter(|value| **value != 0).count() as u64);
    }
}

fn detection(width: usize, height: usize, boxes: &[(usize, usize, usize, usize, f32)]) -> Detection {
    let mut detection = Detection {
        score: Array2::zeros((height, width)),
        mask: Array2::zeros((height, width)),
        ..Detection::default()
    };
    for &(x, y, w, h, score) in boxes {
        for row in y..y + h {
            for column in x..x + w {
                detection.mask[(row, column)] = 1;
                detection.score[(row, column)] = score;
            }
        }
    }
    detection
}

#[test]
fn regions_know_their_box_share_peak_confidence_and_class() {
    let mut found = detection(40, 20, &[(2, 4, 10, 6, 1.5), (30, 1, 1, 1, 3.0)]);
    found.score[(5, 3)] = 2.5;
    // Three classes on a grid a quarter the size; class 2 is highest on the left, class 1 on the right.
    let logits = Array3::from_shape_fn((3, 5, 10), |(class, _, x)| match (class, x < 5) {
        (2, true) => 4.0,
        (1, false) => 7.0,
        _ => 1.0,
    });
    let mut finder = RegionFinder::new(0.0);
    let regions = finder.find(&found, logits.view()).unwrap();
    assert_eq!(regions.len(), 2);
    let small = regions[0];
    assert_eq!((small.bounding_box, small.area), (BoundingBox { x: 30, y: 1, width: 1, height: 1 }, 1));
    assert_eq!((small.peak_score, small.mean_confidence, small.nearest_class), (3.0, 7.0, 1));
    let large = regions[1];
    assert_eq!((large.bounding_box, large.area), (BoundingBox { x: 2, y: 4, width: 10, height: 6 }, 60));
    assert!((large.area_share - 60.0 / 800.0).abs() < 1e-6);
    assert_eq!((large.peak_score, large.mean_confidence, large.nearest_class), (2.5, 4.0, 2));
    assert_eq!(RegionFinder::new(0.05).find(&found, logits.view()).unwrap().len(), 1);
}

fn region(x: u32, score: f32) -> Region {
    Region {
        bounding_box: BoundingBox { x, y: 10, width: 20, height: 20 },
        area: 400,
        area_share: 0.01,
        peak_score: score,
        mean_confidence: 2.0,
        nearest_class: 1,
    }
}

fn at(milliseconds: u64) -> Moment {
    Moment { running: Duration::from_millis(milliseconds), wall: None }
}

fn ended(tracker: &mut Tracker) -> Vec<Event> {
    tracker
        .drain_changes()
        .filter_map(|change| if let Change::Ended(event) = change { Some(event) } else { None })
        .collect()
}

#[test]
fn an_event_has_the_times_of_its_frames() {
    let classes = vec!["road".to_owned(), "car".to_owned()];
    let mut tracker = Tracker::new("drive.mp4", classes, TrackSettings::default());
    // Frames at uneven times: nothing is counted in frames.
    for (index, time) in [100, 133, 220, 450, 460].into_iter().enumerate() {
        let regions = [region(100 + 3 * index as u32, index as f32)];
        let identities = tracker.update(at(time), &regions);
        assert_eq!(identities[0].track_id, 1);
        assert_eq!(identities[0].is_event, index >= 2);
    }
    tracker.finish();
    let events = ended(&mut tracker);
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((event.start_s, event.end_s), (0.1, 0.46));
    assert_eq!((event.peak_score, event.bounding_box.x), (4.0, 112));
    assert_eq!(event.nearest_class.as_deref(), Some("car"));
    let json: serde_json::Value = serde_json::to_value(event).unwrap();
    for key in [
        "stream",
        "start_s",
        "end_s",
        "start_wall",
        "end_wall",
        "track_id",
        "box",
        "area_share",
        "peak_score",
        "mean_confidence",
        "nearest_class",
        "thumbnail",
    ] {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert_eq!(json["box"]["width"], 20);
}

#[test]
fn flicker_makes_no_event_and_gaps_end_none() {
    let mut tracker = Tracker::new("s", Vec::new(), TrackSettings { min_iou: 0.2, start_after: 3, end_after: 4 });
    let mut time = 0;
    let mut step = |tracker: &mut Tracker, regions: &[Region]| {
        time += 40;
        tracker.update(at(time), regions).to_vec()
    };
    // Seen twice, then gone: no event.
    step(&mut tracker, &[region(0, 1.0)]);
    step(&mut tracker, &[region(0, 1.0)]);
    for _ in 0..4 {
        step(&mut tracker, &[]);
    }
    assert_eq!(tracker.drain_changes().count(), 0);
    // Seen three times, missed three times, seen again: one event that goes on.
    for _ in 0..3 {
        step(&mut tracker, &[region(0, 1.0)]);
    }
    for _ in 0..3 {
        step(&mut tracker, &[]);
    }
    let identity = step(&mut tracker, &[region(4, 1.0)])[0];
    assert!(identity.is_event);
    assert_eq!(tracker.drain_changes().count(), 1);
    for _ in 0..4 {
        step(&mut tracker, &[]);
    }
    assert_eq!(ended(&mut tracker).len(), 1);
}

#[test]
fn neighbours_keep_their_identities() {
    let mut tracker = Tracker::new("s", Vec::new(), TrackSettings::default());
    let first: Vec<u64> =
        tracker.update(at(0), &[region(0, 1.0), region(100, 1.0)]).iter().map(|i| i.track_id).collect();
    assert_eq!(first, [1, 2]);
    // The order of the regions changes, a third one appears.
    let second: Vec<u64> = tracker
        .update(at(40), &[region(103, 1.0), region(300, 1.0), region(2, 1.0)])
        .iter()
        .map(|i| i.track_id)
        .collect();
    assert_eq!(second, [2, 3, 1]);
}

#[test]
fn wall_times_are_rfc_3339() {
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_827_696, "2000-02-29T12:34:56.000Z"),
        (1_709_210_096, "2024-02-29T12:34:56.000Z"),
        (4_107_542_399, "2100-02-28T23:59:59.000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), expected);
    }
}
