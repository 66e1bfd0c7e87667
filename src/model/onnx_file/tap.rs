//! Where in a graph logits and features can be taken: walks from an output back towards the picture.

use std::collections::{HashSet, VecDeque};

use crate::model::onnx_file::graph::{Model, Node};

/// What lies at the end of a network, seen from an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    /// The tensor that holds the raw logits: the input of the first operator that turns them into something else.
    pub logits: &'a str,
    /// The same values before their axes were moved for that operator, which is `logits` where they were not.
    pub unmoved: &'a str,
    /// What was gone back over.
    pub over: Option<Over>,
}

/// Operators that turn logits into something of less use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// The last of them.
    pub kind: Squash,
    /// The axis of the classes in [`Head::logits`], where the first of them says it.
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

/// Operators that only move or rename axes.
const MOVING: [&str; 7] = ["Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Flatten"];

/// Goes back from the output `tensor` over argmax, softmax and sigmoid to the raw logits.
///
/// An argmax over a softmax is gone back over as a whole: both keep the order of the logits.
pub fn head<'a>(model: &Model<'a>, tensor: &'a str) -> Head<'a> {
    let mut head = Head { logits: tensor, unmoved: tensor, over: None };
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
            let last = head.over.map_or(kind, |over| over.kind);
            head.logits = input;
            head.over = Some(Over { kind: last, axis: class_axis(model, node) });
        }
        at = input;
    }
    head.unmoved = if head.over.is_some() { unmoved(model, head.logits) } else { head.logits };
    head
}

/// The tensor that `tensor` is a rearrangement of.
pub fn unmoved<'a>(model: &Model<'a>, tensor: &'a str) -> &'a str {
    let mut at = tensor;
    for _ in 0..=model.nodes.len() {
        let Some(node) = model.producer(at).filter(|node| node.domain.is_empty()) else { break };
        match node.input(0) {
            Some(input) if MOVING.contains(&node.operator) && !model.constants.contains(input) => at = input,
            _ => break,
        }
    }
    at
}

/// The axis over which `node` takes its maximum or sum; the defaults of the operators' versions.
fn class_axis(model: &Model<'_>, node: &Node<'_>) -> Option<i64> {
    let axis = node.integer("axis");
    match node.operator {
        "Sigmoid" => None,
        "ArgMax" => Some(axis.unwrap_or(0)),
        _ => Some(axis.unwrap_or(if model.opset >= 13 { -1 } else { 1 })),
    }
}

/// A place to take features from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tap<'m, 'a> {
    /// The tensor.
    pub tensor: &'a str,
    /// Scale and zero point where it holds integer codes.
    pub codes: Option<[&'a str; 2]>,
    /// The operator that takes it.
    pub taker: &'m Node<'a>,
    /// Operators between it and the logits.
    pub distance: usize,
}

impl Tap<'_, '_> {
    /// Whether its taker is a convolution, so that its axes are `[N, D, h, w]`.
    pub fn is_map(&self) -> bool {
        self.taker.operator.contains("Conv") && self.taker.operator != "NhwcConv"
    }
}

/// Inputs of convolutions and of products with constant weights, the nearest to the logits first: the first one is what
/// the classifier sees.
///
/// Transposed convolutions only enlarge at the end of some networks and are passed over. What comes from the picture by
/// elementwise operators alone is the picture, not features.
pub fn taps<'m, 'a>(model: &'m Model<'a>, logits: &'a str) -> Vec<Tap<'m, 'a>> {
    let origin = Origin::of(model);
    let mut found: Vec<Tap<'m, 'a>> = Vec::new();
    let mut seen = HashSet::from([logits]);
    let mut queue = VecDeque::from([(logits, 0)]);
    while let Some((tensor, distance)) = queue.pop_front() {
        let Some(node) = model.producer(tensor) else { continue };
        if let Some((tensor, codes)) = taken(model, node, &origin)
            && origin.learned.contains(tensor)
            && found.iter().all(|tap| tap.tensor != tensor)
        {
            found.push(Tap { tensor, codes, taker: node, distance });
        }
        for &input in node.inputs.iter().filter(|input| !input.is_empty()) {
            if seen.insert(input) {
                queue.push_back((input, distance + 1));
            }
        }
    }
    found
}

/// The features that `node` multiplies by its weights, with scale and zero point where they are integer codes.
fn taken<'a>(model: &Model<'a>, node: &Node<'a>, origin: &Origin<'a>) -> Option<(&'a str, Option<[&'a str; 2]>)> {
    let (weights, codes) = match (node.domain, node.operator) {
        ("", "Conv") | ("com.microsoft", "FusedConv" | "NhwcConv") => (None, None),
        ("", "MatMul" | "Gemm") | ("com.microsoft", "FusedMatMul" | "MatMulNBits" | "DynamicQuantizeMatMul") => {
            (Some(1), None)
        }
        ("", "QLinearConv") => (None, node.input(1).zip(node.input(2))),
        ("", "QLinearMatMul") => (Some(3), node.input(1).zip(node.input(2))),
        ("", "ConvInteger") => (None, None),
        ("", "MatMulInteger") => (Some(1), None),
        _ => return None,
    };
    if weights.is_some_and(|at| node.input(at).is_none_or(|weights| !origin.fixed.contains(weights))) {
        return None;
    }
    let tensor = node.input(0).filter(|input| !origin.fixed.contains(input))?;
    let quantised = matches!(node.operator, "QLinearConv" | "QLinearMatMul" | "ConvInteger" | "MatMulInteger");
    if !quantised {
        return Some((tensor, None));
    }
    let maker = model.producer(tensor)?;
    if maker.is("QuantizeLinear") || maker.is("DynamicQuantizeLinear") {
        return maker.input(0).map(|values| (values, None));
    }
    codes.map(|(scale, zero)| (tensor, Some([scale, zero])))
}

/// Operators between a tensor and the normalisation that it is, at most.
const NORMALISED_DEPTH: usize = 8;

/// Whether `tensor` is a layer normalisation with scale and shift: features of a transformer, and no sums of a classifier.
pub fn is_normalised(model: &Model<'_>, tensor: &str) -> bool {
    let origin = |node: &Node<'_>| {
        let mut inputs = node.inputs.iter().copied().filter(|input| !model.constants.contains(input));
        inputs.next().filter(|_| inputs.next().is_none()).map(str::to_owned)
    };
    let mut at = tensor.to_owned();
    for _ in 0..NORMALISED_DEPTH {
        let Some(node) = model.producer(&at) else { return false };
        let next = match node.operator {
            "LayerNormalization" | "SkipLayerNormalization" | "SimplifiedLayerNormalization" | "RMSNormalization" => {
                return true;
            }
            // As it is written before operator set 17.
            "Div" => return node.input(1).and_then(|by| model.producer(by)).is_some_and(|by| by.is("Sqrt")),
            "Add" | "Mul" => origin(node),
            operator if MOVING.contains(&operator) || operator == "Slice" => node.input(0).map(str::to_owned),
            _ => return false,
        };
        let Some(next) = next else { return false };
        at = next;
    }
    false
}

/// Scale and zero point of `tensor`, where a convolution or product takes it as integer codes.
pub fn codes<'a>(model: &Model<'a>, tensor: &str) -> Option<[&'a str; 2]> {
    let quantised = |node: &&Node<'_>| {
        matches!(node.operator, "QLinearConv" | "QLinearMatMul") && node.inputs.first() == Some(&tensor)
    };
    let taker = model.nodes.iter().find(quantised)?;
    taker.input(1).zip(taker.input(2)).map(|(scale, zero)| [scale, zero])
}

/// Where the tensors of a graph come from.
struct Origin<'a> {
    /// Those that do not depend on the picture.
    fixed: HashSet<&'a str>,
    /// Those that depend on the picture by way of weights.
    learned: HashSet<&'a str>,
}

impl<'a> Origin<'a> {
    fn of(model: &Model<'a>) -> Self {
        let mut fixed = model.constants.clone();
        let mut learned = HashSet::new();
        // The format wants producers before consumers.
        for node in &model.nodes {
            let mut inputs = node.inputs.iter().filter(|input| !input.is_empty());
            if inputs.clone().all(|input| fixed.contains(input)) {
                fixed.extend(&node.outputs);
            } else if is_learned(node) || inputs.any(|input| learned.contains(input)) {
                learned.extend(node.outputs.iter().copied());
            }
        }
        Self { fixed, learned }
    }
}

/// Whether an operator has weights, or mixes all of a picture.
fn is_learned(node: &Node<'_>) -> bool {
    ["Conv", "MatMul", "Gemm", "Attention", "LSTM", "GRU", "Einsum"].iter().any(|kind| node.operator.contains(kind))
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
