//! Missing, equal, backward and late times.

use super::{difference, frame_times, notes, pass, pictures};
use support::common::{Place, ffprobe};

const VIDEO: &str = "-f lavfi -i testsrc2=size=320x240:rate=25:duration=2";
const SOUND: &str = "-f lavfi -i sine=frequency=440:duration=2";

#[track_caller]
fn rises(times: &[f64]) {
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
}

#[test]
fn frames_without_times_are_all_kept() {
    let place = Place::new();
    let input = place.clip("raw.mjpg", &format!("{VIDEO} -c:v mjpeg -pix_fmt yuvj420p -f mjpeg"));
    let ended = pass(&place, "raw.mjpg", "out.mp4").code(0);
    assert!(notes(&ended).contains("without a time"), "{}", notes(&ended));
    let times = frame_times(&place.path("out.mp4"));
    assert_eq!(times.len(), 50);
    rises(&times);
    assert!(difference(&pictures(&input, ""), &pictures(&place.path("out.mp4"), "")) < 3.0);
}

#[test]
fn times_that_step_back_cost_no_frame() {
    let place = Place::new();
    let plain = place.clip("plain.mkv", &format!("{VIDEO} -c:v libx264 -preset ultrafast -bf 0 -pix_fmt yuv420p"));
    place.clip("back.mkv", &format!("-i {} -c copy -bsf:v setts=ts=TS-gte(N\\,25)*0.5/TB", plain.display()));
    let ended = pass(&place, "back.mkv", "out.mkv").code(0);
    assert!(notes(&ended).contains("did not rise"), "{}", notes(&ended));
    let times = frame_times(&place.path("out.mkv"));
    rises(&times);
    assert!(difference(&pictures(&plain, ""), &pictures(&place.path("out.mkv"), "")) < 3.0);
}

#[test]
fn the_first_frame_of_a_matroska_file_keeps_its_place() {
    let place = Place::new();
    let encode = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -c:a aac";
    let base = place.clip("base.mp4", &format!("{VIDEO} {SOUND} {encode}"));
    let input = place.clip("base.mkv", &format!("-i {} -c copy", base.display()));
    pass(&place, "base.mkv", "out.mkv").code(0);
    let (wanted, got) = (frame_times(&input), frame_times(&place.path("out.mkv")));
    assert!(wanted[0] > 0.01, "the input starts late: {}", wanted[0]);
    assert!(wanted.iter().zip(&got).all(|(a, b)| (a - b).abs() < 0.0012), "{wanted:?} {got:?}");
}

#[test]
fn a_clock_that_starts_late_is_no_wait() {
    let place = Place::new();
    let late = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -output_ts_offset 300";
    let input = place.clip("late.mp4", &format!("{VIDEO} {late}"));
    pass(&place, "late.mp4", "out.mp4").code(0);
    let (wanted, got) = (frame_times(&input), frame_times(&place.path("out.mp4")));
    assert_eq!(got.len(), 50);
    assert!(wanted.iter().zip(&got).all(|(a, b)| (a - b).abs() < 0.002), "{wanted:?} {got:?}");
}

#[test]
fn headers_of_sound_move_nothing() {
    for codec in ["libvorbis", "flac", "libopus"] {
        println!("{codec}");
        let place = Place::new();
        let encode = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 0";
        let input = place.clip("in.mkv", &format!("{VIDEO} {SOUND} {encode} -c:a {codec}"));
        let ended = pass(&place, "in.mkv", "out.mkv").code(0);
        let output = place.path("out.mkv");
        assert!(!notes(&ended).contains("moved"), "{}", notes(&ended));
        let times = |path| -> Vec<f64> {
            let all = ffprobe(path, "-select_streams a:0 -show_entries packet=pts_time");
            all.iter().map(|time| time.parse().unwrap()).collect()
        };
        let (wanted, got) = (times(&input), times(&output));
        assert_eq!(got.len(), wanted.len());
        assert!(wanted.iter().zip(&got).all(|(a, b)| (a - b).abs() < 0.0035), "{wanted:?} {got:?}");
    }
}
