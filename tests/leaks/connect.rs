//! What connections to cameras leave behind.

use std::time::{Duration, Instant};

use oodstream::input::live::{SourceOptions, Transport};
use oodstream::input::{FrameReader, LiveInput, Read, open_live};
use support::camera::{Camera, CameraOptions, wait_for};
use support::live::alone;

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[track_caller]
fn first_frame(reader: &mut dyn FrameReader) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while Instant::now() < deadline {
        if let Read::Frame(_) = reader.read(Duration::from_millis(100)).unwrap() {
            return;
        }
    }
    panic!("no frame came");
}

#[test]
fn nothing_stays_open() {
    let _alone = alone();
    let camera = Camera::start(CameraOptions { width: 64, height: 48, ..CameraOptions::default() });
    let closed = LiveInput::parse("rtsp://127.0.0.1:9/cam").unwrap().unwrap();
    let input = LiveInput::parse(&camera.address()).unwrap().unwrap();
    let visit = |transport| {
        let options = SourceOptions { transport, ..SourceOptions::default() };
        first_frame(open_live(&input, &options, 0).unwrap().as_mut());
        // And one to a closed port, dropped while it connects.
        let mut reader = open_live(&closed, &options, 0).unwrap();
        assert!(matches!(reader.read(Duration::from_millis(10)).unwrap(), Read::TimedOut | Read::Signal(_)));
    };
    // Thread pools and plugins come with the first ones.
    for transport in [Transport::Tcp, Transport::Udp, Transport::Tcp] {
        visit(transport);
    }
    let mut counts = (0, 0);
    wait_for(20, "the first connections are closed", || {
        let before = std::mem::replace(&mut counts, (entries("/proc/self/fd"), entries("/proc/self/task")));
        std::thread::sleep(Duration::from_millis(300));
        before == counts
    });
    for round in 0..20 {
        visit(if round % 2 == 0 { Transport::Tcp } else { Transport::Udp });
    }
    let mut now = (0, 0);
    let settled = || {
        now = (entries("/proc/self/fd"), entries("/proc/self/task"));
        now.0 <= counts.0 + 4 && now.1 <= counts.1 + 4
    };
    wait_for(20, "40 connections leave no descriptors and threads", settled);
    println!("descriptors and threads: {counts:?} before, {now:?} after");
}
