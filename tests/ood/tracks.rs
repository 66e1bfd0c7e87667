//! Components, tracks and events through the public API.

use std::time::{Duration, SystemTime};

use oodstream::ood::alarm::event::{Gravity, nearness, severity};
use oodstream::ood::alarm::tracker::{Step, Tracker};
use oodstream::ood::alarm::{AlarmCounts, Event, EventType, EventsConfig, Moment, Rect, Region, Standing, rfc3339};
use oodstream::ood::components::{Components, DROPPED};
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

/// A region of a tenth of the picture's sides.
fn region(left: f32, level: f32) -> Region {
    Region {
        rect: Rect { left, top: 0.5, right: left + 0.1, bottom: 0.6 },
        area_share: 0.01,
        level,
        peak_score: level + 2.0,
        mean_confidence: 2.0,
        nearest_class: 1,
        certainty: 0.6,
        on_road: true,
        cut_off: false,
        peak_level: 1.0,
        needed_level: 0.0,
    }
}

fn rules() -> EventsConfig {
    EventsConfig { min_seconds: 0.2, window_s: 0.4, end_after_s: 0.5, update_s: 0.0, ..EventsConfig::default() }
}

fn tracker(settings: EventsConfig) -> Tracker {
    Tracker::new("drive.mp4", vec!["road".to_owned(), "car".to_owned()], settings)
}

/// Shows `regions` at `milliseconds`, `step` milliseconds after the frame before.
fn show(tracker: &mut Tracker, milliseconds: u64, step: u64, regions: &[Region]) -> Vec<(u64, Standing)> {
    let still = |_: f32, _: f32| (0.0, 0.0);
    let step = Step {
        moment: Moment { running: Duration::from_millis(milliseconds), wall: None },
        seconds: step as f64 / 1000.0,
        settled: true,
        shift: &still,
        size: (1000, 500),
    };
    tracker.update(&step, regions).iter().map(|sighting| (sighting.track_id, sighting.standing)).collect()
}

fn events(tracker: &mut Tracker) -> Vec<Event> {
    tracker.drain_events().collect()
}

#[test]
fn an_alarm_counts_seconds_and_not_frames() {
    // The same time at 100 and at 10 frames a second.
    for step in [10, 100] {
        let mut tracker = tracker(rules());
        let mut raised = None;
        for time in (step..=600).step_by(step as usize) {
            let seen = show(&mut tracker, time, step, &[region(0.4, time as f32 / 600.0)]);
            assert_eq!(seen[0].0, 1);
            if seen[0].1 == Standing::Alarm {
                raised.get_or_insert(time);
            }
        }
        assert_eq!(raised, Some(200), "{step}");
        tracker.finish((1000, 500));
        let lines = events(&mut tracker);
        assert_eq!(lines.iter().map(|line| line.kind).collect::<Vec<_>>(), [EventType::Start, EventType::End]);
        let end = &lines[1];
        assert_eq!((end.start_s, end.raised_s, end.end_s), (step as f64 / 1000.0, 0.2, 0.6));
        assert_eq!((end.bounding_box.x, end.bounding_box.y), (400, 250));
        assert_eq!((end.bounding_box.width, end.bounding_box.height), (100, 50));
        assert_eq!((end.peak_score, end.nearest_class.as_deref()), (3.0, Some("car")));
        assert!(end.alarm && end.label == "unknown" && lines[0].id == end.id && end.id.len() == 16);
        let json = serde_json::to_value(end).unwrap();
        for key in [
            "schema",
            "id",
            "type",
            "stream",
            "track_id",
            "alarm",
            "label",
            "start_s",
            "raised_s",
            "end_s",
            "start_wall",
            "end_wall",
            "time_source",
            "box",
            "area_share",
            "peak_score",
            "severity",
            "mean_confidence",
            "nearest_class",
            "classes_guessed",
            "snapshot",
            "clip",
            "thumbnail",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!((json["type"].as_str(), json["time_source"].as_str()), (Some("end"), Some("running")));
    }
}

/// Names by the number of classes alone are marked in each line that has one.
#[test]
fn guessed_classes_are_marked_in_events() {
    for (names, guessed, expected) in
        [(&["road", "car"][..], true, true), (&["road", "car"], false, false), (&[], true, false)]
    {
        let mut tracker = Tracker::new("a.mp4", names.iter().map(|name| (*name).to_owned()).collect(), rules());
        tracker.guess_classes(guessed);
        (1..=10).for_each(|i| drop(show(&mut tracker, 40 * i, 40, &[region(0.1, 1.0)])));
        tracker.finish((1000, 500));
        let lines = events(&mut tracker);
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.classes_guessed == expected), "{names:?} {guessed}");
    }
}

/// Without classes there is no confidence to speak of.
#[test]
fn events_without_classes_have_no_confidence() {
    let mut tracker = Tracker::new("a.mp4", Vec::new(), rules());
    let region = Region { mean_confidence: f32::NAN, nearest_class: 0, certainty: 0.0, ..region(0.1, 1.0) };
    (1..=10).for_each(|i| drop(show(&mut tracker, 40 * i, 40, &[region])));
    let lines = events(&mut tracker);
    let line = serde_json::to_value(&lines[0]).unwrap();
    assert!(line["mean_confidence"].is_null() && line["nearest_class"].is_null(), "{line}");
}

#[test]
fn ids_are_stable_and_differ_between_tracks() {
    let run = || {
        let mut tracker = tracker(rules());
        (1..=10).for_each(|i| drop(show(&mut tracker, 40 * i, 40, &[region(0.1, 1.0), region(0.7, 1.0)])));
        events(&mut tracker).into_iter().map(|event| event.id).collect::<Vec<_>>()
    };
    let ids = run();
    assert_eq!(ids, run());
    assert!(ids.len() == 2 && ids[0] != ids[1]);
}

#[test]
fn flicker_makes_no_event_and_gaps_end_no_event() {
    let mut tracker = tracker(rules());
    let mut time = 0;
    let mut step = |tracker: &mut Tracker, regions: &[Region]| {
        time += 40;
        show(tracker, time, 40, regions)
    };
    // 40 of every 200 ms.
    for _ in 0..10 {
        step(&mut tracker, &[region(0.4, 1.0)]);
        (0..4).for_each(|_| drop(step(&mut tracker, &[])));
    }
    assert_eq!(events(&mut tracker).len(), 0);
    // Seen, missed for less than `end_after_s`, seen again somewhat further: one event that goes on.
    (0..8).for_each(|_| drop(step(&mut tracker, &[region(0.4, 1.0)])));
    let id = events(&mut tracker)[0].track_id;
    (0..10).for_each(|_| drop(step(&mut tracker, &[])));
    assert_eq!(step(&mut tracker, &[region(0.42, 1.0)]), [(id, Standing::Alarm)]);
    assert_eq!(events(&mut tracker).len(), 0);
    (0..13).for_each(|_| drop(step(&mut tracker, &[])));
    let ended = events(&mut tracker);
    assert_eq!((ended.len(), ended[0].kind), (1, EventType::End));
}

#[test]
fn small_off_road_or_early_regions_raise_no_alarm() {
    let small = Region { area_share: 0.0005, ..region(0.4, 1.0) };
    let aside = Region { on_road: false, ..region(0.4, 1.0) };
    let own = Region { cut_off: true, ..region(0.4, 1.0) };
    for never in [small, aside, own] {
        let mut tracker = tracker(rules());
        for i in 1..=50 {
            assert_eq!(show(&mut tracker, 40 * i, 40, &[never])[0].1, Standing::Candidate);
        }
        tracker.finish((1000, 500));
        assert_eq!(events(&mut tracker).len(), 0);
    }
    let mut tracker = tracker(rules());
    let still = |_: f32, _: f32| (0.0, 0.0);
    for i in 1..=20_u64 {
        let step = Step {
            moment: Moment { running: Duration::from_millis(40 * i), wall: None },
            seconds: 0.04,
            settled: i > 10,
            shift: &still,
            size: (1000, 500),
        };
        let standing = tracker.update(&step, &[region(0.4, 1.0)])[0].standing;
        assert_eq!(standing == Standing::Alarm, i >= 15, "{i}");
    }
}

#[test]
fn an_alarm_goes_on_where_the_lower_edge_of_the_picture_cuts_its_thing_off() {
    let mut tracker = tracker(rules());
    (1..=8).for_each(|i| drop(show(&mut tracker, 40 * i, 40, &[region(0.4, 1.0)])));
    let leaving = Region { cut_off: true, ..region(0.4, 1.0) };
    for i in 9..=40 {
        assert_eq!(show(&mut tracker, 40 * i, 40, &[leaving]), [(1, Standing::Alarm)]);
    }
    tracker.finish((1000, 500));
    let kinds: Vec<_> = events(&mut tracker).iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventType::Start, EventType::End]);
    assert_eq!(tracker.counts(), AlarmCounts { raised: 1, ..AlarmCounts::default() });
}

#[test]
fn neighbours_keep_their_identities_by_the_best_assignment() {
    let mut tracker = tracker(rules());
    let ids = |seen: Vec<(u64, Standing)>| seen.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids(show(&mut tracker, 40, 40, &[region(0.1, 1.0), region(0.18, 1.0)])), [1, 2]);
    // Both moved to the right by more than half of their distance: the nearest pair alone would swap them.
    assert_eq!(ids(show(&mut tracker, 80, 40, &[region(0.23, 1.0), region(0.15, 1.0)])), [2, 1]);
}

#[test]
fn tracks_follow_the_cameras_motion() {
    let mut tracker = tracker(rules());
    let turn = |_: f32, _: f32| (0.2, 0.0);
    for i in 0..4_u64 {
        let step = Step {
            moment: Moment { running: Duration::from_millis(40 * i), wall: None },
            seconds: 0.04,
            settled: true,
            shift: &turn,
            size: (1000, 500),
        };
        // Twice its width from frame to frame.
        let seen = tracker.update(&step, &[region(0.1 + 0.2 * i as f32, 1.0)]);
        assert_eq!(seen[0].track_id, 1, "{i}");
    }
}

#[test]
fn parts_of_a_thing_are_one_event() {
    let mut tracker = tracker(rules());
    let whole = Region { rect: Rect { left: 0.3, top: 0.3, right: 0.6, bottom: 0.7 }, ..region(0.3, 1.0) };
    let upper = Region { rect: Rect { left: 0.32, top: 0.32, right: 0.5, bottom: 0.45 }, ..whole };
    let lower = Region { rect: Rect { left: 0.35, top: 0.5, right: 0.6, bottom: 0.7 }, ..whole };
    (1..=8).for_each(|i| drop(show(&mut tracker, 40 * i, 40, &[whole])));
    (9..=16).for_each(|i| assert!(show(&mut tracker, 40 * i, 40, &[upper, lower]).iter().all(|(id, _)| *id == 1)));
}

#[test]
fn a_region_below_the_level_that_it_needs_is_no_alarm() {
    let mut tracker = tracker(rules());
    let low = Region { needed_level: 1.1, ..region(0.1, 1.0) };
    let high = Region { needed_level: 1.0, ..region(0.7, 1.0) };
    (1..=10).for_each(|i| drop(show(&mut tracker, 40 * i, 40, &[low, high])));
    assert_eq!(events(&mut tracker).len(), 1);
    assert_eq!(tracker.counts(), AlarmCounts { raised: 1, below_level: 1, ..AlarmCounts::default() });
    // Counted no more once it reaches the level.
    (11..=20).for_each(|i| drop(show(&mut tracker, 40 * i, 40, &[Region { needed_level: 0.9, ..low }, high])));
    assert_eq!(tracker.counts(), AlarmCounts { raised: 2, ..AlarmCounts::default() });
}

#[test]
fn known_classes_are_unusual_and_no_alarm() {
    let mut tracker = tracker(EventsConfig { known: vec!["car".to_owned()], ..rules() });
    let doubtful = Region { certainty: 0.3, ..region(0.7, 1.0) };
    for i in 1..=10 {
        show(&mut tracker, 40 * i, 40, &[region(0.1, 1.0), doubtful]);
    }
    let lines = events(&mut tracker);
    let said: Vec<_> = lines.iter().map(|line| (line.alarm, line.label.as_str())).collect();
    assert_eq!(said, [(false, "unusual car"), (true, "unknown")]);
    assert_eq!(tracker.counts(), AlarmCounts { raised: 1, known: 1, ..AlarmCounts::default() });
}

#[test]
fn alarms_above_the_limit_are_withheld_and_counted() {
    let mut tracker = tracker(EventsConfig { max_per_minute: Some(2), ..rules() });
    let regions = [region(0.1, 1.0), region(0.4, 1.0), region(0.7, 1.0)];
    (1..=10).for_each(|i| drop(show(&mut tracker, 40 * i, 40, &regions)));
    let starts: Vec<_> = events(&mut tracker).iter().map(|event| event.track_id).collect();
    assert_eq!(starts.len(), 2);
    assert_eq!(tracker.counts(), AlarmCounts { raised: 2, over_limit: 1, ..AlarmCounts::default() });
    let still = |_: f32, _: f32| (0.0, 0.0);
    let moment = Moment { running: Duration::from_millis(440), wall: None };
    let step = Step { moment, seconds: 0.04, settled: true, shift: &still, size: (1000, 500) };
    let seen = tracker.update(&step, &regions);
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|sighting| sighting.has_event == starts.contains(&sighting.track_id)), "{seen:?}");
}

#[test]
fn what_the_road_gate_withholds_is_counted_once_and_no_more_when_it_comes_onto_the_road() {
    let mut tracker = tracker(rules());
    let aside = [Region { on_road: false, ..region(0.1, 1.0) }, Region { on_road: false, ..region(0.7, 1.0) }];
    let short = Region { on_road: false, ..region(0.4, 1.0) };
    show(&mut tracker, 40, 40, &[aside[0], aside[1], short]);
    (2..=10).for_each(|i| drop(show(&mut tracker, 40 * i, 40, &aside)));
    assert_eq!(tracker.counts(), AlarmCounts { off_road: 2, ..AlarmCounts::default() });
    (11..=20).for_each(|i| drop(show(&mut tracker, 40 * i, 40, &[region(0.1, 1.0), aside[1]])));
    assert_eq!(tracker.counts(), AlarmCounts { raised: 1, off_road: 1, ..AlarmCounts::default() });
    assert_eq!(events(&mut tracker).len(), 1);
}

#[test]
fn severity_ranks_by_each_of_its_inputs() {
    let usual = Gravity { level: 0.3, area_share: 0.01, nearness: 0.5, seconds: 1.0 };
    let base = severity(&usual);
    for graver in [
        Gravity { level: 0.8, ..usual },
        Gravity { area_share: 0.04, ..usual },
        Gravity { nearness: 0.9, ..usual },
        Gravity { seconds: 2.5, ..usual },
    ] {
        assert!(severity(&graver) > base && severity(&graver) <= 1.0);
    }
    let at = |left: f32, bottom: f32| nearness(&Rect { left, top: bottom - 0.1, right: left + 0.1, bottom });
    assert!(at(0.45, 0.95) > at(0.45, 0.5) && at(0.45, 0.95) > at(0.0, 0.95));
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
