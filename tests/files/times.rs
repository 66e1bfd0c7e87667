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
    assert!(notes(&ended).contains("frames a second are assumed"), "{}", notes(&ended));
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
fn a_gap_of_hours_keeps_frames_and_times() {
    let place = Place::new();
    let gap = "-vf setpts=if(gte(N\\,10)\\,N/25+28800\\,N/25)/TB -fps_mode vfr -enc_time_base 1/1000";
    let source = "-f lavfi -i testsrc2=size=160x96:rate=25:duration=1";
    let encode = format!("{source} {gap} -c:v libx264 -preset ultrafast -bf 0 -pix_fmt yuv420p");
    place.clip("stated.mkv", &encode);
    // A recording that was interrupted does not state its duration.
    place.clip("unstated.mkv", &format!("{encode} -live 1"));
    for input in ["stated", "unstated"] {
        for output in ["mp4", "mkv"] {
            println!("{input} {output}");
            let (input, output) = (format!("{input}.mkv"), format!("{input}-out.{output}"));
            pass(&place, &input, &output).code(0);
            let (wanted, got) = (frame_times(&place.path(&input)), frame_times(&place.path(&output)));
            assert_eq!(got.len(), 25);
            assert!(wanted.iter().zip(&got).all(|(a, b)| (a - b).abs() < 0.002), "{wanted:?} {got:?}");
        }
    }
    let long = encode.replace("28800", "72000");
    place.clip("long.mkv", &format!("{long} -live 1"));
    pass(&place, "long.mkv", "long.mp4").code(1).says(&["20.0 hours", "mkv"]);
    // The frames before the gap are kept, as after any error.
    assert_eq!(frame_times(&place.path("long.mp4")).len(), 10);
}

#[test]
fn a_late_start_counts_to_the_duration_of_a_matroska_file() {
    let place = Place::new();
    let encode = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac -output_ts_offset 300";
    let input = place.clip("late.mkv", &format!("{VIDEO} {SOUND} {encode}"));
    pass(&place, "late.mkv", "out.mkv").code(0);
    let length = |path| ffprobe(path, "-show_entries format=duration")[0].parse::<f64>().unwrap();
    let (wanted, got) = (length(&input), length(&place.path("out.mkv")));
    assert!((wanted - got).abs() < 0.1, "{wanted} s, then {got} s");
}

#[test]
fn frames_out_of_order_in_avi_keep_their_distance() {
    for codec in ["mpeg4", "libx264 -preset ultrafast -pix_fmt yuv420p"] {
        println!("{codec}");
        let place = Place::new();
        let input = place.clip("in.avi", &format!("{VIDEO} -c:v {codec} -bf 2 -g 12"));
        let ended = pass(&place, "in.avi", "out.mp4").code(0);
        assert!(!notes(&ended).contains("moved"), "{}", notes(&ended));
        let times = frame_times(&place.path("out.mp4"));
        assert_eq!(times.len(), 50);
        assert!(times.iter().enumerate().all(|(index, time)| (time - index as f64 * 0.04).abs() < 0.002), "{times:?}");
        assert!(difference(&pictures(&input, ""), &pictures(&place.path("out.mp4"), "")) < 3.0);
    }
}

#[test]
fn a_clock_that_jumps_is_a_note() {
    let place = Place::new();
    let encode = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 0 -c:a aac -muxdelay 0 -muxpreload 0";
    let part = |name: &str, offset: u32| {
        std::fs::read(place.clip(name, &format!("{VIDEO} {SOUND} {encode} -output_ts_offset {offset}"))).unwrap()
    };
    let (early, late) = (part("early.ts", 0), part("late.ts", 100));
    let soon = part("soon.ts", 4);
    for (name, parts) in [("forth.ts", [&early, &late]), ("back.ts", [&late, &early]), ("gap.ts", [&early, &soon])] {
        println!("{name}");
        std::fs::write(place.path(name), parts.map(Vec::as_slice).concat()).unwrap();
        let output = name.replace(".ts", ".mp4");
        let ended = pass(&place, name, &output).code(0);
        assert!(notes(&ended).contains("the parts are joined"), "{}", notes(&ended));
        let times = frame_times(&place.path(&output));
        assert_eq!(times.len(), 100);
        rises(&times);
    }
    let ended = pass(&place, "early.ts", "plain.mp4").code(0);
    assert_eq!(notes(&ended), "[]");
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

#[test]
fn the_start_of_a_clock_is_noted() {
    let place = Place::new();
    let encode = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -c:a aac -ar 44100";
    for (name, more) in [
        ("late.ts", "-output_ts_offset 300"),
        ("first.ts", ""),
        ("camera.m2ts", "-mpegts_m2ts_mode 1"),
        ("late.mpg", "-c:v mpeg2video -bf 0 -c:a mp2"),
        ("b.flv", ""),
    ] {
        let input = place.clip(name, &format!("{VIDEO} {SOUND} {encode} {more}"));
        let out = format!("{name}.mp4");
        let ended = pass(&place, name, &out).code(0);
        let start: f64 = ffprobe(&input, "-show_entries format=start_time")[0].parse().unwrap();
        let note = format!("the clock of the file starts at {start:.3} s, the output at 0");
        assert!(start > 0.01 && notes(&ended).contains(&note), "{name}: {start} {}", notes(&ended));
        let (wanted, got) = (frame_times(&input), frame_times(&place.path(&out)));
        // The priming of an audio encoder comes before 0.
        let moved = wanted[0] - got[0];
        assert!((moved - start).abs() < 0.03, "{name}: {start} {moved}");
        assert!(wanted.iter().zip(&got).all(|(a, b)| (a - moved - b).abs() < 0.002), "{wanted:?} {got:?}");
    }
    place.clip("zero.ts", &format!("{VIDEO} -c:v libx264 -preset ultrafast -bf 0 -muxdelay 0 -muxpreload 0"));
    let ended = pass(&place, "zero.ts", "zero.mp4").code(0);
    assert!(!notes(&ended).contains("clock"), "{}", notes(&ended));
}
