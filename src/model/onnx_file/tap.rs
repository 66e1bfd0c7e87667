//! Where in a graph logits and features can be taken: walks from an output back towards the picture.

use std::collections::{HashSet, VecDeque};

use crate::model::onnx_file::graph::{Model, Node};

/// What lies at the end of a network, seen from an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    /// The tensor that holds the raw logits.
    pub logits: &'a str,
    /// The operator behind them that was gone back over, and its axis.
    pub over: Option<Over>,
}

/// An operator that turns logits into something of less use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// Which one.
    pub kind: Squash,
    /// The axis of the classes.
    pub axis: Option<i64>,
}

/// The operator that turns logits into probabilities or labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Squash {
    /// The index of the largest.
    Argmax,
    /// Probabilities over all classes.
    Softmax,
    /// A probability for each class by itself.
    Sigmoid,
}

impl Squash {
    /// Name for display.
    pub fn name(self) -> &'static str {
        match self {
            Self::Argmax => "argmax",
            Self::Softmax => "softmax",
            Self::Sigmoid => "sigmoid",
        }
    }
}

/// Operators that leave the classes what they are.
const PASSING: [&str; 10] =
    ["Identity", "Cast", "Resize", "Upsample", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Slice"];

/// Goes back from the output `tensor` over argmax, softmax and sigmoid to the raw logits.
///
/// An argmax over a softmax is gone back over as a whole: both keep the order of the logits.
pub fn head<'a>(model: &Model<'a>, tensor: &'a str) -> Head<'a> {
    let mut head = Head { logits: tensor, over: None };
    let mut at = tensor;
    // A cycle cannot be longer than the graph.
    for _ in 0..=model.nodes.len() {
        let Some(node) = model.producer(at).filter(|node| node.domain.is_empty()) else { break };
        let Some(&input) = node.inputs.first() else { break };
        let kind = match node.operator {
            "ArgMax" => Some(Squash::Argmax),
            "Softmax" | "LogSoftmax" => Some(Squash::Softmax),
            "Sigmoid" => Some(Squash::Sigmoid),
            operator if PASSING.contains(&operator) => None,
            _ => break,
        };
        if let Some(kind) = kind {
            head =
                Head { logits: input, over: Some(head.over.unwrap_or(Over { kind, axis: class_axis(model, node) })) };
        }
        at = input;
    }
    head
}

/// The axis over which `node` takes its maximum or sum; the defaults of the operators' versions.
fn class_axis(model: &Model<'_>, node: &Node<'_>) -> Option<i64> {
    match node.operator {
        "Sigmoid" => None,
        "ArgMax" => Some(node.axis.unwrap_or(0)),
        _ => Some(node.axis.unwrap_or(if model.opset >= 13 { -1 } else { 1 })),
    }
}

/// A place to take features from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap<'a> {
    /// The tensor.
    pub tensor: &'a str,
    /// The convolution that takes it.
    pub taker: &'a str,
    /// Operators between it and the logits.
    pub distance: usize,
}

/// Inputs of convolutions, the nearest to the logits first: the first one is what the classifier sees.
///
/// Transposed convolutions only enlarge at the end of some networks and are passed over.
pub fn taps<'a>(model: &Model<'a>, logits: &'a str) -> Vec<Tap<'a>> {
    let mut found: Vec<Tap<'a>> = Vec::new();
    let mut seen = HashSet::from([logits]);
    let mut queue = VecDeque::from([(logits, 0)]);
    while let Some((tensor, distance)) = queue.pop_front() {
        let Some(node) = model.producer(tensor) else { continue };
        let is_convolution = node.domain.is_empty() && node.operator == "Conv";
        if let Some(&input) = node.inputs.first().filter(|_| is_convolution)
            && model.producer(input).is_some()
            && !model.constants.contains(input)
            && found.iter().all(|tap| tap.tensor != input)
        {
            found.push(Tap { tensor: input, taker: node.name, distance });
        }
        for &input in node.inputs.iter().filter(|input| !input.is_empty()) {
            if seen.insert(input) {
                queue.push_back((input, distance + 1));
            }
        }
    }
    found
}

/// Operators that none of `tensors` needs. ONNX Runtime runs them all the same when they are in the graph.
///
/// None where operators hold graphs: what those take is not listed.
pub fn unneeded<'m, 'a>(model: &'m Model<'a>, tensors: &[&'a str]) -> Vec<&'m Node<'a>> {
    if model.has_inner_graphs {
        return Vec::new();
    }
    let mut needed: HashSet<&str> = tensors.iter().copied().collect();
    let mut queue: VecDeque<&str> = tensors.iter().copied().collect();
    while let Some(tensor) = queue.pop_front() {
        let inputs = model.producer(tensor).map_or(&[][..], |node| &node.inputs);
        queue.extend(inputs.iter().filter(|input| needed.insert(input)));
    }
    model.nodes.iter().filter(|node| !node.outputs.iter().any(|output| needed.contains(output))).collect()
}

/// The tensor that `name` stands for: a tensor, or an operator's first output.
pub fn resolve<'a>(model: &Model<'a>, name: &str) -> Option<&'a str> {
    let tensor = model.nodes.iter().flat_map(|node| &node.outputs).find(|output| **output == name);
    let by_node =
        || model.nodes.iter().find(|node| node.name == name && !name.is_empty()).and_then(|node| node.outputs.first());
    tensor.or_else(by_node).copied()
}
