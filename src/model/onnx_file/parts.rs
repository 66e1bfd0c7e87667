//! The parts of an ONNX graph, as a file lists them; they borrow the file's bytes.

use std::ops::Range;

/// `TensorProto.DataType` of the element types that pictures, logits and features come in.
pub const FLOAT: i64 = 1;
/// 8-bit unsigned integer.
pub const UINT8: i64 = 2;
/// 8-bit signed integer.
pub const INT8: i64 = 3;
/// 64-bit signed integer.
pub const INT64: i64 = 7;
/// 16-bit float.
pub const FLOAT16: i64 = 10;
/// 64-bit float.
pub const DOUBLE: i64 = 11;
/// 16-bit float with the exponent of [`FLOAT`].
pub const BFLOAT16: i64 = 16;

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
    /// Attributes that are one integer.
    pub integers: Vec<(&'a str, i64)>,
    /// Attributes that are short lists of integers.
    pub lists: Vec<(&'a str, Vec<i64>)>,
    /// Where it lies in the file.
    pub(super) field: Range<usize>,
}

impl<'a> Node<'a> {
    /// The integer attribute `name`.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.integers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// The attribute `name`, a list of integers.
    pub fn list(&self, name: &str) -> Option<&[i64]> {
        self.lists.iter().find(|(known, _)| *known == name).map(|(_, values)| values.as_slice())
    }

    /// The input at `index`, `None` where it is left out.
    pub fn input(&self, index: usize) -> Option<&'a str> {
        self.inputs.get(index).copied().filter(|name| !name.is_empty())
    }

    /// Whether it is the standard operator `name`.
    pub fn is(&self, name: &str) -> bool {
        self.domain.is_empty() && self.operator == name
    }
}

/// The content of a constant that has few values.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// `TensorProto.DataType`.
    pub element: i64,
    /// In the order of the file.
    pub list: Vec<f64>,
}

/// A file next to the model that holds weights.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct External<'a> {
    /// As the file has it: a path relative to the model's folder.
    pub location: &'a str,
    /// Bytes that must be there.
    pub end: u64,
}
