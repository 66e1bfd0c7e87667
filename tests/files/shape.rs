//! The shape of pixels.

use super::{difference, notes, pass, pictures};
use support::common::{Place, ffprobe};

#[test]
fn the_container_states_the_shape_of_pixels() {
    let video = "-f lavfi -i testsrc2=size=176x144:rate=15:duration=1";
    // H.263 has pixels of 12:11 in its own header, MPEG-4 those that it was encoded with.
    for (name, encode, stated) in [
        ("square.3gp", "-c:v h263", "1:1"),
        ("wide.3gp", "-c:v h263 -vf setsar=16/11", "16:11"),
        ("coded.mp4", "-c:v mpeg4 -vf setsar=16/11", "16:11"),
        ("avc.mp4", "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -vf setsar=4/3", "4:3"),
    ] {
        let place = Place::new();
        let input = place.clip(name, &format!("{video} {encode}"));
        let shape = |path| ffprobe(path, "-select_streams v:0 -show_entries stream=width,height,sample_aspect_ratio");
        assert!(shape(&input)[0].ends_with(stated), "{name}: {:?}", shape(&input));
        let ended = pass(&place, name, "out.mp4").code(0);
        let output = place.path("out.mp4");
        assert_eq!(shape(&output), shape(&input), "{name}");
        assert_eq!(notes(&ended), "[]", "{name}");
        assert!(difference(&pictures(&input, ""), &pictures(&output, "")) < 4.0);
    }
}
