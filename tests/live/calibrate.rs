//! `calibrate` on live inputs, through the binary: what `run` knows of cameras reaches it, and no password comes out.

use std::fs;
use std::process::{Command, Stdio};

use support::camera::{Camera, CameraOptions, wait_for};
use support::common::Place;

const PASSWORD: &str = "pa55-phrase";

fn guarded() -> Camera {
    let (login, pattern) = (Some(("viewer".to_owned(), PASSWORD.to_owned())), "snow".to_owned());
    Camera::start(CameraOptions { width: 128, height: 64, pattern, login, tcp_only: true, ..CameraOptions::default() })
}

#[test]
fn a_camera_with_a_password() {
    let camera = guarded();
    let place = Place::new();
    fs::create_dir(place.path("site")).unwrap();
    fs::write(place.path("site/camera.login"), format!("viewer:{PASSWORD}\n")).unwrap();
    fs::write(
        place.path("site/pipeline.toml"),
        "[source]\ncredentials = \"camera.login\"\ntransport = \"tcp\"\n[model]\nresize = \"letterbox\"\n",
    )
    .unwrap();
    let (plain, full) = (camera.address(), camera.address_for(&format!("viewer:{PASSWORD}")));
    let ways = [
        format!("{plain} --credentials site/camera.login --transport tcp"),
        format!("{plain} -c site/pipeline.toml"),
        format!("{plain} --set source.credentials=site/camera.login"),
        full,
    ];
    for (number, way) in ways.iter().enumerate() {
        let ended = place
            .run(&format!("calibrate {way} --calibrate-for 8s --every 0.05 -o {number}.toml -vv"))
            .code(0)
            .says(&["128x64"]);
        let written = fs::read_to_string(place.path(&format!("{number}.toml"))).unwrap();
        assert!(written.contains(&plain) && written.contains("threshold"), "{written}");
        assert_eq!(written.contains("letterbox"), number == 1, "{written}");
        for text in [&ended.stdout, &ended.stderr, &written] {
            assert!(!text.contains(PASSWORD), "{way}: {text}");
        }
    }
}

#[test]
fn a_camera_that_cannot_be_read_is_told_and_a_stop_writes_nothing() {
    let camera = guarded();
    let place = Place::new();
    fs::write(place.path("right"), format!("viewer:{PASSWORD}\n")).unwrap();
    fs::write(place.path("wrong"), "viewer:another-phrase\n").unwrap();
    // The camera takes TCP only: with `auto` this would work.
    for (options, reason) in
        [("--credentials right --transport udp", "the camera answers 461"), ("--credentials wrong", "401")]
    {
        let log = place.path("log.txt");
        let mut child = place
            .program()
            .args(["calibrate", &camera.address(), "--calibrate-for", "1s", "-o", "c.toml"])
            .args(options.split(' '))
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let said = || fs::read_to_string(&log).unwrap();
        wait_for(40, "the loss is told", || said().contains(&format!("no signal: {reason}")));
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{}", said());
        assert!(said().contains("no calibration was written") && !said().contains("phrase"), "{}", said());
        assert!(!place.path("c.toml").exists());
    }
}

#[test]
fn a_live_input_without_a_length_is_refused() {
    let place = Place::new();
    let address = format!("rtsp://viewer:{PASSWORD}@127.0.0.1:9/x");
    let ended = place.run(&format!("calibrate {address} -o c.toml")).code(2).says(&["--calibrate-for", ":9/x"]);
    assert!(!ended.stderr.contains(PASSWORD), "{}", ended.stderr);
}
