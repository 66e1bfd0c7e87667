//! Names and folders.

use std::fs;
use std::process::Command;

use super::pass;
use support::common::Place;

#[test]
fn a_folder_run_twice_leaves_its_own_outputs_alone() {
    let place = Place::new();
    fs::create_dir(place.path("trip")).unwrap();
    place.moving("trip/a.mp4", 10);
    place.run("run trip -o trip/ --method max-logit").code(0);
    fs::copy(place.path("trip/a.mp4"), place.path("trip/a.ood.mp4")).unwrap();
    let again = place.run("run trip -o none --method max-logit --json -").code(0);
    assert_eq!(again.json()["inputs"].as_array().unwrap().len(), 1, "{}", again.stdout);
    assert!(again.stderr.contains("earlier run"), "{}", again.stderr);
}

#[test]
fn a_picture_beside_camera_folders_is_not_the_video() {
    let place = Place::new();
    fs::create_dir_all(place.path("card/DCIM/100MEDIA")).unwrap();
    place.moving("card/DCIM/100MEDIA/a.mp4", 10);
    fs::write(place.path("card/thumb.jpg"), "x").unwrap();
    place.run("run card -o none").code(1).says(&["100MEDIA"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let place = Place::new();
    assert!(Command::new("mkfifo").arg(place.path("pipe.mp4")).status().unwrap().success());
    pass(&place, "pipe.mp4", "out.mp4").code(1).says(&["pipe"]);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_are_names() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    fs::create_dir(place.path("z")).unwrap();
    let good = place.moving("z/good.mp4", 10);
    fs::copy(good, place.path("z").join(std::ffi::OsStr::from_bytes(b"caf\xe9.mp4"))).unwrap();
    let ended = place.run("run z/*.mp4 -o none --method max-logit --json -").code(0);
    assert_eq!(ended.json()["inputs"].as_array().unwrap().len(), 2, "{}", ended.stdout);
}
