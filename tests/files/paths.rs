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

#[test]
fn folders_in_folders_and_files_of_other_kinds_are_named() {
    let place = Place::new();
    fs::create_dir_all(place.path("card/inner")).unwrap();
    place.moving("card/a.mp4", 10);
    fs::copy(place.path("card/a.mp4"), place.path("card/inner/b.mp4")).unwrap();
    fs::write(place.path("card/a.lrv"), "x").unwrap();
    let ended = place.run("run card -o none --method max-logit --json -").code(0).says(&["inner", "a.lrv"]);
    assert_eq!(ended.json()["inputs"].as_array().unwrap().len(), 1);
}

#[test]
fn a_name_with_the_signs_of_a_pattern_is_a_name_where_it_exists() {
    let place = Place::new();
    place.moving("trip[1].mp4", 10);
    place.moving("trip1.mp4", 10);
    let ended = place.run("run trip[1].mp4 -o none --method max-logit --json -").code(0);
    assert_eq!(ended.json()["inputs"][0]["path"], "trip[1].mp4");
    let both = place.run("run trip[12].mp4 -o none --method max-logit --json -").code(0);
    assert_eq!(both.json()["inputs"][0]["path"], "trip1.mp4");
}

#[test]
fn a_name_that_becomes_too_long_is_called_that() {
    let place = Place::new();
    let name = format!("{}.mp4", "n".repeat(248));
    place.moving("a.mp4", 10);
    fs::rename(place.path("a.mp4"), place.path(&name)).unwrap();
    place.run(&format!("run {name} --method max-logit")).code(1).says(&["too long", "-o"]);
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

#[cfg(target_os = "linux")]
#[test]
fn arguments_need_not_be_utf8() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;

    let place = Place::new();
    let name = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    fs::create_dir_all(place.path("cards").join(name(b"karte\xff"))).unwrap();
    place.moving("good.mp4", 10);
    fs::rename(place.path("good.mp4"), place.path("cards").join(name(b"karte\xff/caf\xe9.mp4"))).unwrap();
    let run = |arguments: &[&OsStr]| -> support::common::Ended {
        let mut program = place.program();
        program.args(["run", "--method", "max-logit", "--json", "-"]).args(arguments);
        program.output().unwrap().into()
    };
    let input = name(b"cards/karte\xff/caf\xe9.mp4");

    let ended = run(&[input]).code(0);
    let by_default = place.path("").join(name(b"caf\xe9.ood.mp4"));
    assert_eq!(support::common::video_times(&by_default).len(), 10, "{}", ended.stderr);

    let mut events = OsString::from("events:");
    events.push(name(b"e\xfe.jsonl"));
    let mut output = OsString::from("m\u{fc}");
    output.push(name(b"\xfe.mkv"));
    run(&[input, "-o".as_ref(), &output, "-o".as_ref(), &events]).code(0);
    assert_eq!(support::common::video_times(&place.path("").join(&output)).len(), 10);
    assert!(place.path("").join(name(b"e\xfe.jsonl")).exists());

    run(&[name(b"cards/karte\xff"), "-o".as_ref(), "none".as_ref()]).code(0);
    run(&[name(b"gone\xff.mp4")]).code(1).says(&["gone", "no such file"]);
    run(&[input, "-o".as_ref(), name(b"\xff.gif")]).code(2).says(&["not an output"]);
}
