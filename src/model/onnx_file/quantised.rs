//! Graphs that are quantised to 8 bits by pairs of `QuantizeLinear` and `DequantizeLinear`, and the same graphs in floats.

use std::collections::HashSet;

use crate::model::onnx_file::edit::Edit;
use crate::model::onnx_file::graph::{FLOAT, INT8, Model, Node, UINT8};

/// The first operator set whose `Clip` takes its bounds as inputs.
const CLIP_BY_INPUTS: i64 = 11;

/// Operators that exporters leave out where the range of 8 bits does their work.
const ACTIVATIONS: [&str; 2] = ["Relu", "Clip"];

/// Whether any tensor of the graph is brought to 8 bits and back.
pub fn is_quantised(model: &Model<'_>) -> bool {
    model.nodes.iter().any(|node| pair(model, node).is_some())
}

/// The graph with all such tensors left in floats; weights stay rounded. A range that begins at 0 may stand for an
/// activation that the exporter left out: there the tensor keeps to its range.
pub fn in_floats(model: &Model<'_>) -> Vec<u8> {
    let mut edit = Edit::default();
    let mut taken: HashSet<&str> = model.outputs.iter().map(|port| port.name).collect();
    for node in &model.nodes {
        let Some(Pair { tensor, low, high }) = pair(model, node) else {
            taken.extend(&node.inputs);
            continue;
        };
        let activated = model.producer(tensor).is_some_and(|before| ACTIVATIONS.iter().any(|name| before.is(name)));
        if low < 0.0 || activated {
            edit.replace_node(node, "Identity", &[tensor]);
        } else if model.opset >= CLIP_BY_INPUTS {
            let bounds = [("low", low), ("high", high)].map(|(bound, value)| {
                let name = format!("oodstream/{}.{bound}", node.outputs.first().unwrap_or(&""));
                edit.number(&name, value);
                name
            });
            edit.replace_node(node, "Clip", &[tensor, &bounds[0], &bounds[1]]);
        } else {
            taken.extend(&node.inputs);
        }
    }
    let unneeded =
        |node: &&Node<'_>| node.is("QuantizeLinear") && !node.outputs.iter().any(|output| taken.contains(output));
    if !model.has_inner_graphs {
        model.nodes.iter().filter(unneeded).for_each(|node| edit.drop_node(node));
    }
    edit.apply(model)
}

/// A tensor that is brought to 8 bits and back, and the range that it keeps to.
struct Pair<'a> {
    tensor: &'a str,
    low: f32,
    high: f32,
}

/// What a `DequantizeLinear` right behind a `QuantizeLinear` of 8 bits with one scale stands for.
fn pair<'a>(model: &Model<'a>, node: &Node<'a>) -> Option<Pair<'a>> {
    let before = node.is("DequantizeLinear").then(|| model.producer(node.inputs.first()?))??;
    if !before.is("QuantizeLinear") || before.inputs.get(1..) != node.inputs.get(1..) {
        return None;
    }
    let scale = model.values.get(node.input(1)?).filter(|scale| scale.element == FLOAT)?;
    let scale = only(&scale.list)?;
    let (element, zero) = match node.input(2).map(|name| model.values.get(name)) {
        None => (UINT8, 0.0),
        Some(zero) => (zero?.element, only(&zero?.list)?),
    };
    let codes = match element {
        UINT8 => [0.0, 255.0],
        INT8 => [-128.0, 127.0],
        _ => return None,
    };
    let [low, high] = codes.map(|code: f64| ((code - zero) * scale) as f32);
    Some(Pair { tensor: before.input(0)?, low, high })
}

fn only(values: &[f64]) -> Option<f64> {
    match values {
        [value] => Some(*value),
        _ => None,
    }
}
