//! Edit lists of MP4 and MOV files.

use super::{difference, frame_times, pass, pictures};
use support::common::{Place, audio_hash, ffprobe};

const ENCODE: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -bf 2 -g 25 -c:a aac";

fn whole(place: &Place) -> String {
    let source = "-f lavfi -i testsrc2=size=320x240:rate=25:duration=4 -f lavfi -i sine=frequency=440:duration=4";
    place.clip("whole.mp4", &format!("{source} {ENCODE}")).display().to_string()
}

#[test]
fn a_cut_in_the_middle_of_a_group_of_pictures() {
    for extension in ["mp4", "mov"] {
        let place = Place::new();
        let whole = whole(&place);
        let name = format!("cut.{extension}");
        let input = place.clip(&name, &format!("-ss 0.52 -i {whole} -t 2 -c copy"));
        let out = format!("out.{extension}");
        pass(&place, &name, &out).code(0);
        let output = place.path(&out);
        assert!(difference(&pictures(&input, ""), &pictures(&output, "")) < 3.0);
        assert_eq!(audio_hash(&output), audio_hash(&input));
        let (wanted, got) = (frame_times(&input), frame_times(&output));
        assert!(wanted.iter().zip(&got).all(|(a, b)| (a - b).abs() < 0.002), "{wanted:?} {got:?}");
        let length = |path| ffprobe(path, "-show_entries format=duration")[0].parse::<f64>().unwrap();
        assert!((length(&input) - length(&output)).abs() < 0.1);
    }
}

#[test]
fn frames_out_of_order_without_an_edit_list() {
    let place = Place::new();
    let whole = whole(&place);
    let input = place.clip("noedit.mp4", &format!("-i {whole} -c copy -use_editlist 0"));
    pass(&place, "noedit.mp4", "out.mp4").code(0);
    assert!(difference(&pictures(&input, ""), &pictures(&place.path("out.mp4"), "")) < 3.0);
}

#[test]
fn full_range_of_code_values_stays() {
    let place = Place::new();
    let colour = "-color_range pc -colorspace bt709 -color_primaries bt709 -color_trc bt709";
    let source = "-f lavfi -i testsrc2=size=320x240:rate=25:duration=1";
    let filter = "-vf scale=out_range=full,format=yuvj420p";
    let input = place.clip("full.mp4", &format!("{source} {filter} -c:v libx264 -preset ultrafast {colour}"));
    pass(&place, "full.mp4", "out.mp4").code(0);
    let output = place.path("out.mp4");
    assert_eq!(ffprobe(&output, "-show_entries stream=color_range"), ["pc"]);
    assert!(difference(&pictures(&input, ""), &pictures(&output, "")) < 3.0);
}
