//! Cameras at this machine (`v4l2://`), through the binary. There is none here: `device/pretend.c`, preloaded, answers for one.

mod common;
mod live;
mod onnx;
mod running;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use common::Place;
use live::{metric, until};
use running::{Live, count, signals};

/// A camera at `video0` of the place.
struct Device {
    place: Place,
}

impl Device {
    fn new() -> Self {
        let place = Place::new();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/device/pretend.c");
        let compiled = Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", source, "-o"])
            .arg(place.path("pretend.so"))
            .output()
            .expect("there is a C compiler");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        place.clip("picture.jpg", "-f lavfi -i testsrc2=size=1280x720 -frames:v 1");
        let device = Self { place };
        device.plug_in();
        device
    }

    fn plug_in(&self) {
        symlink("/dev/null", self.place.path("video0")).unwrap();
    }

    fn unplug(&self) {
        fs::remove_file(self.place.path("video0")).unwrap();
    }

    fn start(&self, query: &str, arguments: &str) -> Live {
        let mut program = self.place.program();
        let address = self.place.path("video0");
        program
            .env("LD_PRELOAD", self.place.path("pretend.so"))
            .env("PRETEND_DEVICE", &address)
            .env("PRETEND_JPEG", self.place.path("picture.jpg"))
            .env("PRETEND_FAILS", self.place.path("fails"));
        Live::start_with(
            &self.place,
            program,
            &format!("run v4l2://{}{query} -o events:e.jsonl {arguments}", address.display()),
        )
    }

    fn count(&self, what: &str) -> usize {
        count(&self.place.path("e.jsonl"), what)
    }

    /// The last signal: a key of it.
    fn last(&self, key: &str) -> String {
        let told = signals(&self.place.path("e.jsonl"));
        told.last().and_then(|line| line[key].as_str()).unwrap_or_default().to_owned()
    }
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
        let device = Device::new();
        let mut run = device.start(query, "-o x.mkv");
        until("there are pictures", || device.count("back") == 1);
        assert_eq!(device.last("format"), format, "{query}");
        run.stop(130);
        assert!(run.log().contains(format), "{}", run.log());
    }
}

#[test]
fn a_camera_that_is_unplugged_comes_back() {
    let device = Device::new();
    let http = live::free_port();
    let mut run = device.start("?width=640", &format!("-o x.mkv --http {http}"));
    let frames = || metric(http, "oodstream_frames_in_total{stream=\"video0\"}");
    until("there are pictures", || frames() > 5.0);
    device.unplug();
    until("the loss is told", || device.count("lost") == 1);
    assert_eq!(device.last("reason"), format!("there is no device {}", device.place.path("video0").display()));
    device.plug_in();
    until("it is back", || device.count("back") == 2);
    let before = frames();
    until("there are pictures again", || frames() > before + 5.0);
    run.stop(130);
    assert!(live::decoded(&device.place.path("x.mkv")) > 10);
}

#[test]
fn what_the_camera_cannot_give_is_told() {
    let offer = "it has raw YUY2 1280x720 at 10 fps, raw YUY2 640x480 at 30 or 15 fps, JPEG 1280x720 at 30 or 15 fps, JPEG \
                 640x480 at 30 fps";
    for query in ["?width=800&height=600", "?fps=50", "?format=h264"] {
        let device = Device::new();
        let mut run = device.start(query, "-o none");
        until("it is told", || device.count("lost") == 1);
        assert_eq!(device.last("reason"), format!("the camera has no such pictures; {offer}"), "{query}");
        run.stop(130);
    }
}

#[test]
fn what_is_no_camera_is_told() {
    let place = Place::new();
    let mut run = Live::start(&place, "run v4l2:///dev/null -o none -o events:e.jsonl");
    until("it is told", || count(&place.path("e.jsonl"), "lost") == 1);
    assert_eq!(signals(&place.path("e.jsonl"))[0]["reason"], "/dev/null is no camera");
    run.stop(130);
}

#[test]
fn a_camera_that_cannot_be_had_is_waited_for() {
    // Error numbers of Linux: EBUSY where another program takes pictures, EACCES for who is not in the group.
    for (fails, reason) in [
        ("format 16", "the device is in use by another program"),
        ("open 16", "the device is in use by another program"),
        ("pictures 1", "video0 brings no pictures: of the devices of one camera mostly the first does"),
        ("open 13", "video0 may not be read: the user is not in its group, which is `video` on most systems"),
    ] {
        let device = Device::new();
        fs::write(device.place.path("fails"), fails).unwrap();
        let mut run = device.start("", "-o none");
        until("it is told", || device.count("lost") == 1);
        assert!(device.last("reason").ends_with(reason), "{}", device.last("reason"));
        fs::remove_file(device.place.path("fails")).unwrap();
        until("it is there", || device.count("back") == 1);
        run.stop(130);
    }
}
