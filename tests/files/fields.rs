//! Interlaced pictures.

use super::{difference, frame_times, notes, pass, pictures};
use support::common::Place;

#[test]
fn both_field_orders_and_padded_widths() {
    for (size, order, filter) in [
        ("320x240", "top", "interleave_top,fieldorder=tff"),
        ("322x240", "bottom", "interleave_bottom,fieldorder=bff"),
        ("720x576", "top", "interleave_top,fieldorder=tff"),
    ] {
        println!("{size} {order}");
        let place = Place::new();
        let flags = if order == "top" { "tff=1" } else { "bff=1" };
        let input = place.clip(
            "in.mp4",
            &format!(
                "-f lavfi -i testsrc2=size={size}:rate=50:duration=0.8 -vf tinterlace={filter} -c:v libx264 \
                 -preset ultrafast -pix_fmt yuv420p -flags +ildct+ilme -x264opts {flags} -bf 2"
            ),
        );
        let ended = pass(&place, "in.mp4", "out.mp4").code(0);
        assert!(notes(&ended).contains("20 interlaced frames are deinterlaced"), "{}", notes(&ended));
        let output = place.path("out.mp4");
        assert!(difference(&pictures(&input, "yadif=0,"), &pictures(&output, "")) < 3.0);
        let (wanted, got) = (frame_times(&input), frame_times(&output));
        assert_eq!(got.len(), wanted.len());
        assert!(wanted.iter().zip(&got).all(|(a, b)| (a - b).abs() < 0.002), "{wanted:?} {got:?}");
    }
}

#[test]
fn the_field_order_of_each_frame() {
    for (order, top, wrong) in [("top", 1, "bff"), ("bottom", 0, "tff")] {
        println!("{order}");
        let place = Place::new();
        // MPEG-2 states the order with each picture, and may mix interlaced and progressive ones.
        let fields = format!("tinterlace=interleave_{order},fieldorder={}", if top == 1 { "tff" } else { "bff" });
        let input = place.clip(
            "in.ts",
            &format!(
                "-f lavfi -i testsrc2=size=320x240:rate=50:duration=0.8 -vf {fields} -c:v mpeg2video -q:v 2 \
                 -flags +ildct+ilme -top {top}"
            ),
        );
        let ended = pass(&place, "in.ts", "out.mp4").code(0);
        assert!(notes(&ended).contains("20 interlaced frames are deinterlaced"), "{}", notes(&ended));
        let shown = pictures(&place.path("out.mp4"), "");
        let to = |parity: &str| difference(&pictures(&input, &format!("yadif=0:{parity},")), &shown);
        assert!(to("auto") < 3.0 && to("auto") < to(wrong), "{order}: {} {}", to("auto"), to(wrong));
    }
}
