//! Cameras at this machine (`v4l2://`), through the binary. There is none here, so that one is pretended.

use std::fs;

use support::common::Place;
use support::device::Device;
use support::live;
use support::live::{metric, until};
use support::running::{Live, count, signals};

fn start(device: &Device, query: &str, arguments: &str) -> Live {
    let arguments = format!("run v4l2://{}{query} -o events:e.jsonl {arguments}", device.path());
    Live::start_with(device.place, device.program(), &arguments)
}

fn told(device: &Device, what: &str) -> usize {
    count(&device.place.path("e.jsonl"), what)
}

/// A key of the last signal.
fn last(device: &Device, key: &str) -> String {
    let told = signals(&device.place.path("e.jsonl"));
    told.last().and_then(|line| line[key].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn format_size_and_rate_are_chosen_and_shown() {
    for (query, format) in [
        // Of raw pictures at 10 a second and compressed ones at 30.
        ("", "JPEG 1280x720, 30 fps"),
        ("?width=640", "raw YUY2 640x480, 30 fps"),
        ("?width=640&fps=15", "raw YUY2 640x480, 15 fps"),
        ("?format=yuyv", "raw YUY2 640x480, 30 fps"),
        ("?format=yuyv&height=720", "raw YUY2 1280x720, 10 fps"),
        ("?format=mjpeg&fps=15", "JPEG 1280x720, 15 fps"),
    ] {
        let place = Place::new();
        let device = Device::new(&place);
        let mut run = start(&device, query, "-o x.mkv");
        until("there are pictures", || told(&device, "back") == 1);
        assert_eq!(last(&device, "format"), format, "{query}");
        run.stop(130);
        assert!(run.log().contains(format), "{}", run.log());
    }
}

#[test]
fn a_camera_that_is_unplugged_comes_back() {
    let place = Place::new();
    let device = Device::new(&place);
    let http = live::free_port();
    let mut run = start(&device, "?width=640", &format!("-o x.mkv --http {http}"));
    let frames = || metric(http, "oodstream_frames_in_total{stream=\"video0\"}");
    until("there are pictures", || frames() > 5.0);
    device.unplug();
    until("the loss is told", || told(&device, "lost") == 1);
    assert_eq!(last(&device, "reason"), format!("there is no device {}", device.path()));
    device.plug_in();
    until("it is back", || told(&device, "back") == 2);
    let before = frames();
    until("there are pictures again", || frames() > before + 5.0);
    run.stop(130);
    assert!(live::decoded(&place.path("x.mkv")) > 10);
}

#[test]
fn unsupported_camera_modes_are_reported() {
    let offer = "it has raw YUY2 1280x720 at 10 fps, raw YUY2 640x480 at 30 or 15 fps, JPEG 1280x720 at 30 or 15 fps, JPEG \
                 640x480 at 30 fps";
    for query in ["?width=800&height=600", "?fps=50", "?format=h264"] {
        let place = Place::new();
        let device = Device::new(&place);
        let mut run = start(&device, query, "-o none");
        until("it is told", || told(&device, "lost") == 1);
        assert_eq!(last(&device, "reason"), format!("the camera does not have this format; {offer}"), "{query}");
        run.stop(130);
    }
}

#[test]
fn a_device_that_is_no_camera_is_reported() {
    let place = Place::new();
    let mut run = Live::start(&place, "run v4l2:///dev/null -o none -o events:e.jsonl");
    until("it is told", || count(&place.path("e.jsonl"), "lost") == 1);
    assert_eq!(signals(&place.path("e.jsonl"))[0]["reason"], "/dev/null is not a camera");
    run.stop(130);
}

#[test]
fn a_camera_that_cannot_be_had_is_waited_for() {
    // Error numbers of Linux: EBUSY where another program takes pictures, EACCES for who is not in the group.
    for (fails, reason) in [
        ("format 16", "the device is in use, perhaps by another program"),
        ("open 16", "the device is in use, perhaps by another program"),
        ("pictures 1", "video0 is not a video capture device; usually the first device of a camera is"),
        (
            "open 13",
            "video0 cannot be read: permission denied; the user may have to be in its group, `video` on most systems",
        ),
    ] {
        let place = Place::new();
        let device = Device::new(&place);
        fs::write(place.path("fails"), fails).unwrap();
        let mut run = start(&device, "", "-o none");
        until("it is told", || told(&device, "lost") == 1);
        assert!(last(&device, "reason").ends_with(reason), "{}", last(&device, "reason"));
        fs::remove_file(place.path("fails")).unwrap();
        until("it is there", || told(&device, "back") == 1);
        run.stop(130);
    }
}
