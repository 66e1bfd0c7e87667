//! The reader, the walk to the features and the editor of ONNX graphs, on any bytes.
//!
//!     RUSTC_BOOTSTRAP=1 cargo fuzz run graph
//!
//! `tests/model/hostile.rs` does the same with a fixed number of mutations on the stable compiler.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oodstream::model::onnx_file::graph::Model;
use oodstream::model::manifest::Manifest;
use oodstream::model::onnx_file::plan::{Keep, Shapes, plan};
use oodstream::model::onnx_file::{quantised, tap};

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::read(bytes) else { return };
    for output in &model.outputs {
        let _ = tap::taps(&model, tap::head(&model, output.name).logits);
    }
    // Without operators that nobody needs a file is shorter, and a tensor that lies about its size is found out.
    let is_whole = |edited: &[u8]| Model::read(edited).map_or_else(|error| error.to_string().contains("announces"), |_| true);
    assert!(is_whole(&quantised::in_floats(&model)));
    if let Ok(plan) = plan(&model, &Manifest::default(), &[], Keep::Needed, &Shapes::default()) {
        assert!(is_whole(&plan.edit.apply(&model)));
    }
});
