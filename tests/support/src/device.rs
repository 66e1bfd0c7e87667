//! A camera at this machine that is pretended: `pretend.c`, preloaded, answers for it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::Place;

/// A camera at `video0` of a place.
pub struct Device<'a> {
    pub place: &'a Place,
}

impl<'a> Device<'a> {
    pub fn new(place: &'a Place) -> Self {
        let device = Self { place };
        device.plug_in();
        device
    }

    pub fn plug_in(&self) {
        symlink("/dev/null", self.path()).unwrap();
    }

    pub fn unplug(&self) {
        fs::remove_file(self.path()).unwrap();
    }

    pub fn path(&self) -> String {
        self.place.path("video0").display().to_string()
    }

    /// The binary, for which the camera is there.
    pub fn program(&self) -> Command {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let built = BUILT.get_or_init(build);
        let mut program = self.place.program();
        program
            .env("LD_PRELOAD", built.join("pretend.so"))
            .env("PRETEND_DEVICE", self.path())
            .env("PRETEND_JPEG", built.join("picture.jpg"))
            .env("PRETEND_FAILS", self.place.path("fails"));
        program
    }
}

/// The library and the picture that it shows, in a folder.
fn build() -> PathBuf {
    let folder = crate::scratch().join("device");
    fs::create_dir_all(&folder).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pretend.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC"]).arg(source);
    let mut painter = Command::new("ffmpeg");
    painter.args(["-loglevel", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=1280x720", "-frames:v", "1"]);
    compiler.arg("-o").arg(folder.join("pretend.so"));
    painter.arg(folder.join("picture.jpg"));
    for command in [&mut compiler, &mut painter] {
        let done = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    folder
}
