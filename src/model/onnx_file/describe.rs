//! Ports of a graph in words.

use crate::model::onnx_file::graph::{Dim, Port};

/// `` `name` f32 [1, 19, h, w] `` for messages.
pub fn describe(port: &Port<'_>) -> String {
    format!("`{}` {} {}", port.name, element_name(port.element), shape_text(port.shape.as_deref().unwrap_or_default()))
}

/// `[1, 3, height, width]`, with free axes by name or as `?`.
pub fn shape_text(shape: &[Dim<'_>]) -> String {
    let axes = shape.iter().map(|dim| match dim {
        Dim::Fixed(length) => length.to_string(),
        Dim::Free("") => "?".to_owned(),
        Dim::Free(name) => (*name).to_owned(),
    });
    format!("[{}]", axes.collect::<Vec<_>>().join(", "))
}

/// Name of a `TensorProto.DataType`.
pub fn element_name(element: i64) -> &'static str {
    match element {
        1 => "f32",
        2 => "u8",
        3 => "i8",
        4 => "u16",
        5 => "i16",
        6 => "i32",
        7 => "i64",
        8 => "string",
        9 => "bool",
        10 => "f16",
        11 => "f64",
        12 => "u32",
        13 => "u64",
        16 => "bf16",
        _ => "unknown",
    }
}
