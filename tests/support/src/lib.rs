//! What the integration tests of oodstream share: small networks and clips, pretended cameras and servers, and the
//! program while it runs.

use std::path::{Path, PathBuf};

pub mod adapter;
pub mod broker;
pub mod browser;
pub mod camera;
pub mod clips;
pub mod common;
pub mod compute;
pub mod counting;
pub mod device;
pub mod live;
pub mod onnx;
pub mod pretended;
pub mod running;
pub mod web;

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program under test: where Cargo says, else beside the folder of the test binary.
pub fn binary() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_oodstream")
        .map_or_else(|| profile_folder().join(format!("oodstream{}", std::env::consts::EXE_SUFFIX)), PathBuf::from)
}

/// A folder for what tests keep between runs, in the target folder.
pub fn scratch() -> PathBuf {
    let folder = profile_folder().join("test-data");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// `target/release` or its like: the test binary is in its `deps`.
fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).expect("a test binary is in a folder of the target folder").to_owned()
}
