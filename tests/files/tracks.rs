//! Files with several videos, and coded streams without a container.

use super::{difference, frame_times, notes, pass, pictures};
use support::common::{Place, ffprobe};

const BOTH: &str = "-f lavfi -i testsrc2=size=160x96:rate=25:duration=1 -f lavfi -i smptebars=size=96x64:rate=25:duration=1 \
                    -map 0 -map 1 -c:v libx264 -preset ultrafast -pix_fmt yuv420p";

fn size(place: &Place, name: &str) -> String {
    ffprobe(&place.path(name), "-select_streams v:0 -show_entries stream=width,height").concat()
}

#[test]
fn a_video_track_is_chosen_by_its_number() {
    let options = "--method max-logit --json -";
    for input in ["two.mp4", "two.mkv", "two.ts"] {
        let place = Place::new();
        place.clip(input, BOTH);
        let ended = pass(&place, input, "first.mp4").code(0);
        assert!(notes(&ended).contains("of 2 video tracks number 1"), "{}", notes(&ended));
        assert_eq!(size(&place, "first.mp4"), "160,96");
        place.run(&format!("run {input} -o second.mp4 {options} --video-track 2")).code(0);
        assert_eq!(size(&place, "second.mp4"), "96,64");
        let all = place.run(&format!("run {input} -o all/ {options} --video-track all")).code(0);
        assert_eq!(all.json()["inputs"].as_array().unwrap().len(), 2);
        assert_eq!(
            (size(&place, "all/two.1.ood.mp4"), size(&place, "all/two.2.ood.mp4")),
            ("160,96".into(), "96,64".into())
        );
        place.run(&format!("run {input} -o none {options} --video-track 3")).code(2).says(&["2 video tracks"]);
    }
    Place::new().run("run x.mp4 -o none --video-track 0").code(2).says(&["video track"]);
}

#[test]
fn a_cover_is_not_the_video() {
    let place = Place::new();
    let jpeg = place.clip("cover.jpg", "-f lavfi -i testsrc2=size=64x64:duration=1 -frames:v 1");
    let base =
        place.clip("base.mp4", "-f lavfi -i testsrc2=size=160x96:rate=25:duration=1 -c:v libx264 -pix_fmt yuv420p");
    place.clip("in.mp4", &format!("-i {} -i {} -map 0 -map 1 -c copy", jpeg.display(), base.display()));
    pass(&place, "in.mp4", "out.mp4").code(0);
    assert_eq!(frame_times(&place.path("out.mp4")).len(), 25);
}

#[test]
fn a_stream_without_times_has_an_assumed_rate() {
    let place = Place::new();
    let x265 = "-c:v libx265 -preset ultrafast -x265-params log-level=none:bframes=0:vui-timing-info=0 -f hevc";
    let input = place.clip("raw.hevc", &format!("-f lavfi -i testsrc2=size=160x96:rate=25:duration=1 {x265}"));
    let ended = pass(&place, "raw.hevc", "plain.mp4").code(0);
    assert!(notes(&ended).contains("25 frames a second are assumed"), "{}", notes(&ended));
    place.run("run raw.hevc -o slow.mp4 --method max-logit --threshold 1000000 --no-legend --fps 10").code(0);
    let times = frame_times(&place.path("slow.mp4"));
    assert_eq!(times.len(), 25);
    assert!(times.iter().enumerate().all(|(index, time)| (time - index as f64 * 0.1).abs() < 0.001), "{times:?}");
    assert!(difference(&pictures(&input, ""), &pictures(&place.path("slow.mp4"), "")) < 3.0);
}
