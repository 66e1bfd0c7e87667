//! Reads the messages of an ONNX file into what [`Model`](crate::model::onnx_file::graph::Model) keeps of them.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::model::onnx_file::parts::{Dim, External, INT8, Node, Port, UINT8, Values};
use crate::model::onnx_file::wire::Field;
use crate::{Error, Result};

/// Entries of all lists of a file together; the largest networks have some ten thousand.
const MAX_ENTRIES: usize = 2_000_000;
/// Axes of a tensor.
const MAX_RANK: usize = 64;
/// Graphs within graphs (branches of If, bodies of Loop).
const MAX_DEPTH: usize = 16;
/// Elements of a constant whose values are kept, and of a list among the attributes.
const MAX_VALUES: usize = 16;

/// Gathers what the messages of a file say.
#[derive(Default)]
pub(super) struct Collector<'a> {
    /// Bytes in the file.
    pub(super) file: u64,
    pub(super) entries: usize,
    pub(super) nodes: Vec<Node<'a>>,
    pub(super) inputs: Vec<Port<'a>>,
    pub(super) outputs: Vec<Port<'a>>,
    pub(super) constants: HashSet<&'a str>,
    pub(super) values: HashMap<&'a str, Values>,
    pub(super) parameters: u64,
    pub(super) external: BTreeSet<External<'a>>,
    pub(super) has_inner_graphs: bool,
}

impl<'a> Collector<'a> {
    /// Counts an entry of some list: a small file must not become a huge structure.
    pub(super) fn count(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(Error::failed(format!("it lists more than {MAX_ENTRIES} entries, which no network does")));
        }
        Ok(())
    }

    pub(super) fn graph(&mut self, field: &Field<'a>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::failed(format!("its graphs are nested more than {MAX_DEPTH} deep")));
        }
        self.has_inner_graphs |= depth > 0;
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            match field.number {
                1 => {
                    let (node, values) = self.node(&field, depth)?;
                    if depth == 0 {
                        if node.operator == "Constant" {
                            self.constants.extend(&node.outputs);
                            if let (Some(&name), Some(values)) = (node.outputs.first(), values) {
                                self.values.insert(name, values);
                            }
                        }
                        self.nodes.push(node);
                    }
                }
                5 => {
                    let (name, values) = self.tensor(&field)?;
                    if depth == 0 {
                        self.constants.insert(name);
                        self.values.extend(values.map(|values| (name, values)));
                    }
                }
                11 | 12 if depth == 0 => {
                    self.count()?;
                    let port = port(&field)?;
                    if field.number == 11 { self.inputs.push(port) } else { self.outputs.push(port) }
                }
                15 => self.sparse(&field)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A model's own operator; its nodes may hold tensors.
    pub(super) fn function(&mut self, field: &Field<'a>) -> Result<()> {
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            if field.number == 7 {
                self.node(&field, 1)?;
            }
        }
        Ok(())
    }

    /// An operator, and the values of the constant that it is where it is one with few.
    fn node(&mut self, field: &Field<'a>, depth: usize) -> Result<(Node<'a>, Option<Values>)> {
        self.count()?;
        let mut constant = None;
        let mut node = Node {
            name: "",
            operator: "",
            domain: "",
            inputs: Vec::new(),
            outputs: Vec::new(),
            integers: Vec::new(),
            lists: Vec::new(),
            field: field.range.clone(),
        };
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            match field.number {
                1 | 2 => {
                    self.count()?;
                    if field.number == 1 { node.inputs.push(field.text()?) } else { node.outputs.push(field.text()?) }
                }
                3 => node.name = field.text()?,
                4 => node.operator = field.text()?,
                5 => match self.attribute(&field, depth)? {
                    (name, Attribute::Integer(value)) => node.integers.push((name, value)),
                    (name, Attribute::List(values)) => node.lists.push((name, values)),
                    (_, Attribute::Constant(values)) => constant = Some(values),
                    (_, Attribute::Other) => {}
                },
                7 => node.domain = field.text()?,
                _ => {}
            }
        }
        if node.domain == "ai.onnx" {
            node.domain = "";
        }
        Ok((node, constant))
    }

    /// Name and value of an attribute; tensors and graphs in attributes are searched for weights in other files.
    fn attribute(&mut self, field: &Field<'a>, depth: usize) -> Result<(&'a str, Attribute)> {
        self.count()?;
        let (mut name, mut value, mut list) = ("", Attribute::Other, Some(Vec::new()));
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            match field.number {
                1 => name = field.text()?,
                3 => value = Attribute::Integer(field.integer()?),
                // A longer list than is kept is no error: weights may come as one.
                8 => {
                    list =
                        list.take().and_then(|mut list| field.integers(&mut list, MAX_VALUES).is_ok().then_some(list));
                }
                5 | 10 => {
                    if let (_, Some(values)) = self.tensor(&field)? {
                        value = Attribute::Constant(values);
                    }
                }
                6 | 11 => self.graph(&field, depth + 1)?,
                22 | 23 => self.sparse(&field)?,
                _ => {}
            }
        }
        match list {
            Some(list) if !list.is_empty() => Ok((name, Attribute::List(list))),
            _ => Ok((name, value)),
        }
    }

    fn sparse(&mut self, field: &Field<'a>) -> Result<()> {
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            if matches!(field.number, 1 | 2) {
                self.tensor(&field)?;
            }
        }
        Ok(())
    }

    /// Counts the elements of a tensor, notes the file they are in, and gives its name, and its values if they are few.
    fn tensor(&mut self, field: &Field<'a>) -> Result<(&'a str, Option<Values>)> {
        self.count()?;
        let mut data = None;
        let (mut name, mut shape, mut element) = ("", Vec::new(), 0);
        let (mut is_external, mut location, mut offset, mut length) = (false, None, 0u64, None);
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            match field.number {
                1 => field.integers(&mut shape, MAX_RANK)?,
                2 => element = field.integer()?,
                4 | 5 | 7 | 9 | 10 => data = Some(field.clone()),
                8 => name = field.text()?,
                13 => {
                    let (key, value) = text_pair(&field)?;
                    let number = || {
                        value.parse::<u64>().map_err(|_| Error::failed(format!("tensor `{name}`: {key} is `{value}`")))
                    };
                    match key {
                        "location" => location = Some(value),
                        "offset" => offset = number()?,
                        "length" => length = Some(number()?),
                        _ => {}
                    }
                }
                14 => is_external = field.integer()? == 1,
                _ => {}
            }
        }
        let count = shape
            .iter()
            .try_fold(1u64, |count, &size| u64::try_from(size).ok().and_then(|size| count.checked_mul(size)));
        let Some(count) = count else {
            return Err(Error::failed(format!("tensor `{name}` has the impossible shape {shape:?}")));
        };
        if is_external {
            let location = location
                .ok_or_else(|| Error::failed(format!("tensor `{name}` is in another file, which is not named")))?;
            let needed = count.checked_mul(element_bits(element)).map(|bits| bits.div_ceil(8));
            let end = needed.map(|needed| length.unwrap_or(needed)).and_then(|length| offset.checked_add(length));
            let end =
                end.ok_or_else(|| Error::failed(format!("tensor `{name}` announces more than any file can hold")))?;
            self.external.insert(External { location, end });
        } else if count > self.file.saturating_mul(2) {
            // Two elements to the byte is the densest there is.
            return Err(Error::failed(format!(
                "tensor `{name}` announces {count} elements in a file of {} bytes",
                self.file
            )));
        }
        self.parameters = self.parameters.saturating_add(count);
        let few = count as usize <= MAX_VALUES && !is_external;
        Ok((
            name,
            data.filter(|_| few)
                .and_then(|data| values(&data, element, count as usize))
                .map(|list| Values { element, list }),
        ))
    }
}

/// The value of an attribute, as far as it is kept.
enum Attribute {
    Integer(i64),
    List(Vec<i64>),
    /// A tensor of few values.
    Constant(Values),
    Other,
}

/// The `count` values of a tensor whose content is `data`, for the types that axes, shapes and colour statistics come in.
fn values(data: &Field<'_>, element: i64, count: usize) -> Option<Vec<f64>> {
    if matches!(data.number, 5 | 7) {
        let mut list = Vec::new();
        data.integers(&mut list, MAX_VALUES).ok()?;
        return (list.len() == count).then(|| list.iter().map(|&value| value as f64).collect());
    }
    let bytes = data.bytes().ok()?;
    fn read<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|&chunk| value(chunk)).collect()
    }
    let found = match (data.number, element) {
        (4, _) | (9, 1) => read(bytes, |chunk| f64::from(f32::from_le_bytes(chunk))),
        (10, _) | (9, 11) => read(bytes, f64::from_le_bytes),
        (9, UINT8) => bytes.iter().map(|&code| f64::from(code)).collect(),
        (9, INT8) => bytes.iter().map(|&code| f64::from(code as i8)).collect(),
        (9, 6) => read(bytes, |chunk| f64::from(i32::from_le_bytes(chunk))),
        (9, 7) => read(bytes, |chunk| i64::from_le_bytes(chunk) as f64),
        (9, 10) => read(bytes, |chunk| half(u16::from_le_bytes(chunk))),
        _ => return None,
    };
    (found.len() == count).then_some(found)
}

/// The value of a 16-bit float, IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    sign * match exponent {
        0 => fraction * 2f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}

/// Bits of one element, for the types that weights come in; 4 for all others, the least there is.
fn element_bits(element: i64) -> u64 {
    match element {
        7 | 11 | 13 | 14 => 64,
        1 | 6 | 12 => 32,
        4 | 5 | 10 | 16 => 16,
        2 | 3 | 9 | 17..=20 => 8,
        _ => 4,
    }
}

pub(super) fn text_pair<'a>(field: &Field<'a>) -> Result<(&'a str, &'a str)> {
    let (mut key, mut value) = ("", "");
    let mut reader = field.message()?;
    while let Some(field) = reader.field()? {
        match field.number {
            1 => key = field.text()?,
            2 => value = field.text()?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// The message in the last field `number` of a message.
fn inner<'a>(field: &Field<'a>, number: u32) -> Result<Option<Field<'a>>> {
    let mut found = None;
    let mut reader = field.message()?;
    while let Some(field) = reader.field()? {
        if field.number == number {
            found = Some(field);
        }
    }
    Ok(found)
}

/// `ValueInfoProto`
fn port<'a>(field: &Field<'a>) -> Result<Port<'a>> {
    let name = inner(field, 1)?.map_or(Ok(""), |name| name.text())?;
    let mut port = Port { name, element: 0, shape: None, field: field.range.clone() };
    let Some(tensor) = inner(field, 2)?.map_or(Ok(None), |value_type| inner(&value_type, 1))? else {
        return Ok(port);
    };
    port.element = inner(&tensor, 1)?.map_or(Ok(0), |element| element.integer())?;
    if let Some(shape) = inner(&tensor, 2)? {
        let mut dims = Vec::new();
        let mut reader = shape.message()?;
        while let Some(axis) = reader.field()? {
            if dims.len() == MAX_RANK {
                return Err(Error::failed(format!("`{name}` has more than {MAX_RANK} axes")));
            }
            dims.push(match (inner(&axis, 1)?, inner(&axis, 2)?) {
                (Some(length), _) => Dim::Fixed(length.integer()?),
                (None, label) => Dim::Free(label.map_or(Ok(""), |label| label.text())?),
            });
        }
        port.shape = Some(dims);
    }
    Ok(port)
}
