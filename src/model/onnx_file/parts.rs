//! The parts of an ONNX graph, as a file lists them; they borrow the file's bytes.

use std::ops::Range;

/// `TensorProto.DataType` of the element types that pictures, logits and features come in.
pub const FLOAT: i64 = 1;
/// 8-bit unsigned integer.
pub const UINT8: i64 = 2;
/// 16-bit float.
pub const FLOAT16: i64 = 10;

/// The length of one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim<'a> {
    /// Known.
    Fixed(i64),
    /// Free, with its name, which may be empty.
    Free(&'a str),
}

impl Dim<'_> {
    /// The length where it is known and positive.
    pub fn length(&self) -> Option<usize> {
        match self {
            Self::Fixed(length) => usize::try_from(*length).ok().filter(|&length| length > 0),
            Self::Free(_) => None,
        }
    }
}

/// An input or output of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Port<'a> {
    /// Name of the tensor.
    pub name: &'a str,
    /// `TensorProto.DataType`, 0 where the file does not say.
    pub element: i64,
    /// `None` where the file does not say.
    pub shape: Option<Vec<Dim<'a>>>,
    /// Where it lies in the file.
    pub(super) field: Range<usize>,
}

/// One operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Node<'a> {
    /// Its name, which may be empty.
    pub name: &'a str,
    /// `Conv`, `Softmax`, ...
    pub operator: &'a str,
    /// Empty for standard operators.
    pub domain: &'a str,
    /// Names of its input tensors; empty for one that is left out.
    pub inputs: Vec<&'a str>,
    /// Names of its output tensors.
    pub outputs: Vec<&'a str>,
    /// Attribute `axis`, where it has one.
    pub axis: Option<i64>,
    /// Where it lies in the file.
    pub(super) field: Range<usize>,
}

/// A file next to the model that holds weights.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct External<'a> {
    /// As the file has it: a path relative to the model's folder.
    pub location: &'a str,
    /// Bytes that must be there.
    pub end: u64,
}
