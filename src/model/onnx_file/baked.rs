//! Normalisation that a graph does by itself, right behind its input.

use crate::model::onnx_file::graph::{Model, Node};

/// Operators that may stand between the input and the normalisation.
const BETWEEN: [&str; 8] = ["Cast", "Transpose", "Identity", "Clip", "Unsqueeze", "Squeeze", "Reshape", "Resize"];
/// Operators that are examined, at most.
const LONGEST: usize = 16;

/// The range of values that a graph with its own normalisation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// 0 to 255.
    Codes,
    /// 0 to 1.
    Shares,
}

/// The range that the graph takes at its input `picture`, where it subtracts and divides by itself.
pub fn taken(model: &Model<'_>, picture: &str) -> Option<Taken> {
    // value = input * scale + shift
    let (mut scale, mut shift, mut found) = (1.0, 0.0, false);
    let mut at = picture;
    for _ in 0..LONGEST {
        let mut takers = model.nodes.iter().filter(|node| node.operator != "Shape" && node.inputs.contains(&at));
        let (Some(node), None) = (takers.next(), takers.next()) else { break };
        let constant = node.inputs.iter().find(|input| **input != at).and_then(|input| model.values(input));
        match (node.operator, constant) {
            ("Sub", Some(values)) if node.inputs[0] == at => shift -= mean(values),
            ("Add", Some(values)) => shift += mean(values),
            ("Mul", Some(values)) => (scale, shift) = (scale * mean(values), shift * mean(values)),
            ("Div", Some(values)) if node.inputs[0] == at && mean(values) != 0.0 => {
                (scale, shift) = (scale / mean(values), shift / mean(values));
            }
            (operator, _) if BETWEEN.contains(&operator) => {}
            _ => break,
        }
        found |= constant.is_some() && arithmetic(node);
        match node.outputs.first() {
            Some(output) => at = output,
            None => break,
        }
    }
    if !found {
        return None;
    }
    // A bright pixel comes out at a few units at most; with the other range it would be 255 times as much or as little.
    let brightest = |top: f64| (top * scale + shift).abs().max(shift.abs());
    Some(if brightest(255.0) <= 200.0 { Taken::Codes } else { Taken::Shares })
}

fn arithmetic(node: &Node<'_>) -> bool {
    matches!(node.operator, "Sub" | "Add" | "Mul" | "Div")
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
