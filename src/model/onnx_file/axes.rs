//! What the axes of a tensor are, as far as the operators say: a convolution's classes are axis 1 whatever the file calls
//! its input, and what moves axes afterwards is followed step by step.

use std::collections::HashMap;

use crate::model::onnx_file::graph::{Model, Node};

/// One axis of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Pictures.
    Batch,
    /// Classes, or the dimensions of features.
    Channel,
    /// Down the picture.
    Row,
    /// Across the picture.
    Column,
    /// Of length 1.
    One,
}

use Axis::{Batch, Channel, Column, One, Row};

/// `[N, C, h, w]`
pub const CHANNELS_FIRST: [Axis; 4] = [Batch, Channel, Row, Column];
/// `[N, h, w, C]`
pub const CHANNELS_LAST: [Axis; 4] = [Batch, Row, Column, Channel];

/// Operators between a tensor and what says its axes, at most.
const DEEPEST: usize = 256;

/// Operators whose output has channels on axis 1 by their definition, with two further axes unless their kernel says
/// otherwise.
const CHANNELS_FIRST_BY_DEFINITION: [&str; 13] = [
    "Conv",
    "ConvTranspose",
    "QLinearConv",
    "ConvInteger",
    "FusedConv",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "DepthToSpace",
    "SpaceToDepth",
    "GridSample",
    "QLinearAveragePool",
];

/// Operators that leave the axes what they are.
const KEEPING: [&str; 69] = [
    "Abs",
    "Add",
    "BatchNormalization",
    "BiasAdd",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Concat",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "FastGelu",
    "Floor",
    "Gelu",
    "Greater",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "Not",
    "PRelu",
    "Pad",
    "Pow",
    "QLinearAdd",
    "QLinearConcat",
    "QLinearLeakyRelu",
    "QLinearMul",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "QuantizeLinear",
    "QuickGelu",
    "Reciprocal",
    "Relu",
    "Resize",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "Upsample",
    "Where",
];

/// Says what the axes of tensors are.
#[derive(Debug)]
pub struct Axes<'m, 'a> {
    model: &'m Model<'a>,
    /// The input that is the picture, and its axes.
    picture: (&'a str, [Axis; 4]),
    known: HashMap<&'a str, Option<Vec<Axis>>>,
}

impl<'m, 'a> Axes<'m, 'a> {
    /// For a graph whose picture is the input of that name, with those axes.
    pub fn new(model: &'m Model<'a>, picture: (&'a str, [Axis; 4])) -> Self {
        Self { model, picture, known: HashMap::new() }
    }

    /// The axes of `tensor`; `None` where an operator on the way mixes them, such as Reshape.
    pub fn of(&mut self, tensor: &'a str) -> Option<Vec<Axis>> {
        self.search(tensor, 0)
    }

    fn search(&mut self, tensor: &'a str, depth: usize) -> Option<Vec<Axis>> {
        if tensor == self.picture.0 {
            return Some(self.picture.1.to_vec());
        }
        if let Some(known) = self.known.get(tensor) {
            return known.clone();
        }
        // Also what a cycle comes back to.
        self.known.insert(tensor, None);
        let model = self.model;
        let node = model.producer(tensor)?;
        let found = match anchor(node) {
            Some(axes) => Some(axes),
            None if depth == DEEPEST || !follows(node) => None,
            None => node
                .inputs
                .iter()
                .filter(|input| !input.is_empty() && !model.constants.contains(*input))
                .find_map(|input| self.search(input, depth + 1))
                .and_then(|axes| after(model, node, axes)),
        };
        self.known.insert(tensor, found.clone());
        found
    }
}

/// The axes of the output of an operator that fixes them.
fn anchor(node: &Node<'_>) -> Option<Vec<Axis>> {
    if node.domain == "com.microsoft" && node.operator == "NhwcConv" {
        return Some(CHANNELS_LAST.to_vec());
    }
    let flat = node.list("kernel_shape").is_none_or(|kernel| kernel.len() == 2);
    (CHANNELS_FIRST_BY_DEFINITION.contains(&node.operator) && flat && node.integer("channels_last") != Some(1))
        .then(|| CHANNELS_FIRST.to_vec())
}

fn follows(node: &Node<'_>) -> bool {
    KEEPING.contains(&node.operator)
        || matches!(node.operator, "Transpose" | "Squeeze" | "Unsqueeze" | "ArgMax" | "MatMul" | "FusedMatMul")
}

/// The axes of the output of `node` for an input with `axes`.
fn after(model: &Model<'_>, node: &Node<'_>, axes: Vec<Axis>) -> Option<Vec<Axis>> {
    let place = |axis: i64, rank: usize| {
        usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok().filter(|&axis| axis < rank)
    };
    match node.operator {
        "Transpose" => match node.list("perm") {
            Some(order) if order.len() == axes.len() => {
                order.iter().map(|&from| place(from, axes.len()).map(|from| axes[from])).collect()
            }
            Some(_) => None,
            None => Some(axes.into_iter().rev().collect()),
        },
        "Squeeze" => {
            let gone = listed_axes(model, node)?;
            let gone = gone.iter().map(|&axis| place(axis, axes.len())).collect::<Option<Vec<_>>>()?;
            Some(axes.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, axis)| *axis).collect())
        }
        "Unsqueeze" => {
            let new = listed_axes(model, node)?;
            let rank = axes.len() + new.len();
            let new = new.iter().map(|&axis| place(axis, rank)).collect::<Option<Vec<_>>>()?;
            let mut old = axes.into_iter();
            (0..rank).map(|at| if new.contains(&at) { Some(One) } else { old.next() }).collect()
        }
        "ArgMax" => {
            let axis = place(node.integer("axis").unwrap_or(0), axes.len())?;
            let mut axes = axes;
            if node.integer("keepdims").unwrap_or(1) == 0 {
                axes.remove(axis);
            } else {
                axes[axis] = One;
            }
            Some(axes)
        }
        // Another number of channels, on the same axis.
        "MatMul" | "FusedMatMul" => Some(axes).filter(|axes| axes.last() == Some(&Channel)),
        _ => Some(axes),
    }
}

/// The axes that a Squeeze or Unsqueeze names: an attribute up to operator set 12, a constant since.
fn listed_axes(model: &Model<'_>, node: &Node<'_>) -> Option<Vec<i64>> {
    let constant = || Some(model.values(node.input(1)?)?.iter().map(|&axis| axis as i64).collect());
    node.list("axes").map(<[i64]>::to_vec).or_else(constant)
}

/// The order of axes that brings `axes` to `[N, C, h, w]`, or `[C, h, w]` without a batch; `None` where it is no map.
pub fn to_channels_first(axes: &[Axis]) -> Option<Vec<i64>> {
    let wanted = &CHANNELS_FIRST[usize::from(!axes.contains(&Batch))..];
    if axes.len() != wanted.len() {
        return None;
    }
    wanted.iter().map(|axis| axes.iter().position(|known| known == axis).map(|at| at as i64)).collect()
}
