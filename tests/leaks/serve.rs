//! What clients of served streams leave behind.

use oodstream::output::Encoding;
use oodstream::output::publish::{PublishOptions, ServeOptions, Servers};
use support::live::*;

const BALL: &str = "test://ball?width=160&height=90&frames=50";

/// Connects and goes away in all the ways there are.
fn come_and_go(port: u16, round: usize) {
    let url = format!("rtsp://127.0.0.1:{port}/x");
    let mut client = Rtsp::play(port, "x");
    for _ in 0..5 {
        client.packet();
    }
    if round.is_multiple_of(2) {
        assert_eq!(client.ask("TEARDOWN", &url, "").status, 200);
    }
}

#[test]
fn coming_and_going_leaves_nothing_behind() {
    let _alone = alone();
    let port = free_port();
    let feeder = Feeder::serve(&format!("rtsp://127.0.0.1:{port}/x"), BALL);
    until_served(port, "x", "");
    let rounds = |count| {
        for round in 0..count {
            come_and_go(port, round);
        }
        until("all are gone", || feeder.clients(0) == 0);
    };
    rounds(6);
    let settled = |limit: usize| until("descriptors are closed", || descriptors() <= limit);
    // What stays open for good (thread pools) is there by now.
    feeder.go_on(25);
    let before = descriptors();
    rounds(20);
    settled(before + 4);
    println!("{before} descriptors before, {} after", descriptors());
    feeder.finish().unwrap();
}

#[test]
#[ignore = "takes minutes; prints figures"]
fn two_hundred_connects() {
    let _alone = alone();
    let connects = std::env::var("OODSTREAM_CONNECTS").ok().and_then(|count| count.parse().ok()).unwrap_or(200);
    let port = free_port();
    let feeder = Feeder::serve(&format!("rtsp://127.0.0.1:{port}/x"), BALL);
    until_served(port, "x", "");
    let mut seen = Vec::new();
    for round in 0..=connects {
        if round % 20 == 0 {
            until("all are gone", || feeder.clients(0) == 0);
            feeder.go_on(25);
            println!("{round} connects: {} kB resident, {} descriptors", resident_kb(), descriptors());
            seen.push((resident_kb(), descriptors()));
        }
        come_and_go(port, round);
    }
    // The first half warms up.
    let (middle, last) = (seen[seen.len() / 2], seen[seen.len() - 1]);
    assert!(last.0 <= middle.0 + 512 && last.1 <= middle.1, "{seen:?}");
    feeder.finish().unwrap();
}

#[test]
#[ignore = "takes a minute; prints figures"]
fn memory_beside_stopped_monitors() {
    let _alone = alone();
    let port = free_port();
    let url = format!("rtsp://127.0.0.1:{port}/x");
    let encoding = Encoding { bitrate_kbps: Some(12_000), ..Encoding::default() };
    let options = PublishOptions { encoding, ..PublishOptions::default() };
    let noise = "test://snow?width=320&height=180&frames=50";
    let feeder = Feeder::start(&[target(&url)], &Servers::new(&ServeOptions::default()), &options, noise).unwrap();
    until_served(port, "x", "");
    let monitors = [(); 3].map(|()| Monitor::start(&url, "tcp"));
    monitors.iter().for_each(|monitor| monitor.sees(5));
    monitors[..2].iter().for_each(|monitor| monitor.signal("-STOP"));
    for _ in 0..12 {
        println!("{} kB resident, {} clients, {} frames", resident_kb(), feeder.clients(0), monitors[2].frames());
        feeder.go_on(100);
    }
    monitors[..2].iter().for_each(|monitor| monitor.signal("-CONT"));
    feeder.finish().unwrap();
}
