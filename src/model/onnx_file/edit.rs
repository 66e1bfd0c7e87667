//! Changes to an ONNX file: inputs, outputs and operators added around a graph that otherwise stays byte for byte as it is.

use std::ops::Range;

use crate::Result;
use crate::model::onnx_file::graph::{Dim, FLOAT, INT64, Model, Node, Port};
use crate::model::onnx_file::wire::{Message, Reader, push_length};

/// Numbers of fields: an operator of a graph, an input of an operator.
const GRAPH_NODE: u32 = 1;
const NODE_INPUT: u32 = 1;

/// Changes to a graph, applied to a copy of the file's bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// Parts of the file, and what takes the place of each.
    replaced: Vec<(Range<usize>, Vec<u8>)>,
    first: Vec<u8>,
    last: Vec<u8>,
    outputs: Vec<(String, Message)>,
}

impl Edit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes an operator out.
    pub fn drop_node(&mut self, node: &Node<'_>) {
        self.replaced.push((node.field.clone(), Vec::new()));
    }

    /// Takes the empty names at the end of an operator's inputs out, which stand for inputs that are left out.
    ///
    /// # Errors
    /// The operator cannot be read.
    pub fn trim_inputs(&mut self, model: &Model<'_>, node: &Node<'_>) -> Result<()> {
        let kept = node.inputs.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
        let bytes = &model.bytes[node.field.clone()];
        let (mut fields, mut inputs) = (Vec::new(), 0);
        if let Some(whole) = Reader::new(bytes).field()? {
            let mut reader = whole.message()?;
            while let Some(field) = reader.field()? {
                inputs += usize::from(field.number == NODE_INPUT);
                if field.number != NODE_INPUT || inputs <= kept {
                    fields.extend_from_slice(&bytes[field.range]);
                }
            }
        }
        let mut operator = Vec::new();
        push_length(&mut operator, GRAPH_NODE, fields.len());
        operator.extend(fields);
        self.replaced.push((node.field.clone(), operator));
        Ok(())
    }

    /// Takes an input or output out of the graph's list.
    pub fn drop_port(&mut self, port: &Port<'_>) {
        self.replaced.push((port.field.clone(), Vec::new()));
    }

    /// Adds an input.
    pub fn input(&mut self, name: &str, element: i64, shape: &[Dim<'_>]) {
        append(&mut self.first, 11, &value_info(name, Some((element, shape))));
    }

    /// Adds an output, whose type ONNX Runtime infers.
    pub fn output(&mut self, name: &str) {
        self.outputs.push((name.to_owned(), value_info(name, None)));
    }

    /// Names of the added outputs.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|(name, _)| name.as_str())
    }

    /// Writes down the type of an added output, as the format wants it in files.
    pub fn set_type(&mut self, name: &str, element: i64, shape: &[Dim<'_>]) {
        for (output, info) in &mut self.outputs {
            if output == name {
                *info = value_info(name, Some((element, shape)));
            }
        }
    }

    /// Adds a constant list of integers.
    pub fn integers(&mut self, name: &str, values: &[i64]) {
        let tensor = Message::default()
            .integer(1, values.len() as i64)
            .integer(2, INT64)
            .bytes(8, name.as_bytes())
            .bytes(9, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
        append(&mut self.last, 5, &tensor);
    }

    /// Adds a constant number.
    pub fn number(&mut self, name: &str, value: f32) {
        let tensor = Message::default().integer(2, FLOAT).bytes(8, name.as_bytes()).bytes(9, &value.to_le_bytes());
        append(&mut self.last, 5, &tensor);
    }

    /// Puts another operator with the same output in the place of one that has one output.
    pub fn replace_node(&mut self, node: &Node<'_>, operator: &str, inputs: &[&str]) {
        let output = node.outputs.first().copied().unwrap_or_default();
        let mut other = Vec::new();
        append(&mut other, GRAPH_NODE, &encoded(operator, inputs, output, None));
        self.replaced.push((node.field.clone(), other));
    }

    /// Adds an operator with one output, before all others or after them.
    pub fn node(&mut self, at: Place, operator: &str, inputs: &[&str], output: &str, attribute: Option<Attribute<'_>>) {
        let node = encoded(operator, inputs, output, attribute);
        append(if at == Place::First { &mut self.first } else { &mut self.last }, GRAPH_NODE, &node);
    }

    /// The file with the changes in it.
    pub fn apply(&self, model: &Model<'_>) -> Vec<u8> {
        let mut replaced: Vec<_> = self.replaced.iter().collect();
        replaced.sort_by_key(|(range, _)| range.start);
        let gone: usize = replaced.iter().map(|(range, _)| range.len()).sum();
        let come: usize = replaced.iter().map(|(_, other)| other.len()).sum();
        let mut last = self.last.clone();
        for (_, info) in &self.outputs {
            append(&mut last, 12, info);
        }
        let length = self.first.len() + model.graph.len() - gone + come + last.len();
        let mut out = Vec::with_capacity(model.bytes.len() + self.first.len() + last.len() + 16);
        out.extend_from_slice(&model.bytes[..model.graph_field.start]);
        push_length(&mut out, 7, length);
        out.extend_from_slice(&self.first);
        let mut at = model.graph.start;
        for (range, other) in replaced {
            out.extend_from_slice(&model.bytes[at..range.start]);
            out.extend_from_slice(other);
            at = range.end;
        }
        out.extend_from_slice(&model.bytes[at..model.graph.end]);
        out.extend_from_slice(&last);
        out.extend_from_slice(&model.bytes[model.graph_field.end..]);
        out
    }
}

/// Where an operator is put: the format wants producers before consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before all others.
    First,
    /// After all others.
    Last,
}

/// An attribute of an added operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// Target type of a `Cast`.
    To(i64),
    /// Axis of a `Softmax`, `Gather` or `Concat`.
    Axis(i64),
    /// Order of the axes of a `Transpose`.
    Perm(&'a [i64]),
}

impl Attribute<'_> {
    fn encode(&self) -> Message {
        match self {
            Self::To(element) => Message::default().bytes(1, b"to").integer(3, *element).integer(20, 2),
            Self::Axis(axis) => Message::default().bytes(1, b"axis").integer(3, *axis).integer(20, 2),
            Self::Perm(axes) => {
                axes.iter().fold(Message::default().bytes(1, b"perm"), |all, &axis| all.integer(8, axis)).integer(20, 7)
            }
        }
    }
}

/// An operator with one output.
fn encoded(operator: &str, inputs: &[&str], output: &str, attribute: Option<Attribute<'_>>) -> Message {
    let node = inputs
        .iter()
        .fold(Message::default(), |node, input| node.bytes(1, input.as_bytes()))
        .bytes(2, output.as_bytes())
        .bytes(3, format!("oodstream/{output}").as_bytes())
        .bytes(4, operator.as_bytes());
    match attribute {
        Some(attribute) => node.message(5, &attribute.encode()),
        None => node,
    }
}

fn append(into: &mut Vec<u8>, number: u32, message: &Message) {
    push_length(into, number, message.encoded().len());
    into.extend_from_slice(message.encoded());
}

fn value_info(name: &str, known: Option<(i64, &[Dim<'_>])>) -> Message {
    let info = Message::default().bytes(1, name.as_bytes());
    let Some((element, shape)) = known else { return info };
    let dims = shape.iter().fold(Message::default(), |dims, dim| {
        let axis = match dim {
            Dim::Fixed(length) => Message::default().integer(1, *length),
            Dim::Free("") => Message::default(),
            Dim::Free(label) => Message::default().bytes(2, label.as_bytes()),
        };
        dims.message(1, &axis)
    });
    let tensor = Message::default().integer(1, element).message(2, &dims);
    info.message(2, &Message::default().message(1, &tensor))
}
