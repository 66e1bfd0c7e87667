//! Reader of ONNX files (onnx.proto3): what is needed to find outputs and features, in place, without trusting any number
//! in the file. See [`super::edit`] for changes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::path::{Component, Path};

use super::wire::{Field, Reader};
use crate::{Error, Result};

/// `TensorProto.DataType` of the element types that pictures, logits and features come in.
pub const FLOAT: i64 = 1;
/// 8-bit unsigned integer.
pub const UINT8: i64 = 2;
/// 16-bit float.
pub const FLOAT16: i64 = 10;

/// Entries of all lists of a file together; the largest networks have some ten thousand.
const MAX_ENTRIES: usize = 2_000_000;
/// Axes of a tensor.
const MAX_RANK: usize = 64;
/// Graphs within graphs (branches of If, bodies of Loop).
const MAX_DEPTH: usize = 16;

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

/// What was read of a model; borrows the file's bytes.
#[derive(Debug, Clone)]
pub struct Model<'a> {
    pub(super) bytes: &'a [u8],
    /// Where the graph's content lies in the file.
    pub(super) graph: Range<usize>,
    /// The same with the graph's tag and length.
    pub(super) graph_field: Range<usize>,
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// Version of the default operator set.
    pub opset: i64,
    /// Operators in file order.
    pub nodes: Vec<Node<'a>>,
    /// Inputs that are not weights.
    pub inputs: Vec<Port<'a>>,
    /// Outputs.
    pub outputs: Vec<Port<'a>>,
    /// Names of weights and other constants.
    pub constants: HashSet<&'a str>,
    /// Elements in the weights.
    pub parameters: u64,
    /// Files that hold weights.
    pub external: BTreeSet<External<'a>>,
    /// Whether operators hold graphs, which may take tensors that their operator does not list as inputs.
    pub has_inner_graphs: bool,
    producers: HashMap<&'a str, usize>,
}

impl<'a> Model<'a> {
    /// Reads a model file.
    ///
    /// # Errors
    /// It is cut off or no ONNX file, announces more than it holds, or is larger than any real network; the error has
    /// the byte where reading ended.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut found = Collector { file: bytes.len() as u64, ..Collector::default() };
        let mut graphs = Vec::new();
        let (mut opset, mut producer) = (0, Vec::new());
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field()? {
            match field.number {
                2 | 3 => producer.push(field.text()?),
                7 => graphs.push(field),
                8 => {
                    let (domain, version) = operator_set(&field)?;
                    if domain.is_empty() || domain == "ai.onnx" {
                        opset = version;
                    }
                }
                25 => found.function(&field)?,
                _ => {}
            }
        }
        let [graph] = graphs.as_slice() else {
            return Err(Error::failed(format!("not an ONNX file: it holds {} graphs", graphs.len())));
        };
        found.graph(graph, 0)?;
        let weights = &found.constants;
        let inputs =
            std::mem::take(&mut found.inputs).into_iter().filter(|port| !weights.contains(port.name)).collect();
        let producers = found
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(index, node)| {
                node.outputs.iter().filter(|name| !name.is_empty()).map(move |&name| (name, index))
            })
            .collect();
        Ok(Self {
            bytes,
            graph: graph.payload(),
            graph_field: graph.range.clone(),
            producer: producer.join(" "),
            opset,
            nodes: found.nodes,
            inputs,
            outputs: found.outputs,
            constants: found.constants,
            parameters: found.parameters,
            external: found.external,
            has_inner_graphs: found.has_inner_graphs,
            producers,
        })
    }

    /// The operator that makes `tensor`.
    pub fn producer(&self, tensor: &str) -> Option<&Node<'a>> {
        self.producers.get(tensor).map(|&index| &self.nodes[index])
    }

    /// Whether the graph has a tensor of this name.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.producers.contains_key(name)
            || self.constants.contains(name)
            || self.inputs.iter().any(|port| port.name == name)
    }

    /// Checks that weights in other files lie below `folder`, and that those files are there and long enough.
    ///
    /// # Errors
    /// One that does not, with its location.
    pub fn check_external(&self, folder: &Path) -> Result<()> {
        for External { location, end } in &self.external {
            let refuse = |reason: String| Err(Error::failed(format!("its weights are in `{location}`, {reason}")));
            let relative = Path::new(location);
            if location.is_empty()
                || !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
            {
                return refuse("outside the model's folder, which is refused".to_owned());
            }
            // A link may still lead out of the folder.
            let (Ok(folder), Ok(file)) = (folder.canonicalize(), folder.join(relative).canonicalize()) else {
                return refuse("which is not there: it belongs beside the model".to_owned());
            };
            if !file.starts_with(&folder) {
                return refuse("a link that leads outside the model's folder, which is refused".to_owned());
            }
            let length = file.metadata().map_or(0, |data| data.len());
            if length < *end {
                return refuse(format!("which has {length} bytes where {end} are needed: it is not complete"));
            }
        }
        Ok(())
    }
}

/// Gathers what the messages of a file say.
#[derive(Default)]
struct Collector<'a> {
    /// Bytes in the file.
    file: u64,
    entries: usize,
    nodes: Vec<Node<'a>>,
    inputs: Vec<Port<'a>>,
    outputs: Vec<Port<'a>>,
    constants: HashSet<&'a str>,
    parameters: u64,
    external: BTreeSet<External<'a>>,
    has_inner_graphs: bool,
}

impl<'a> Collector<'a> {
    /// Counts an entry of some list: a small file must not become a huge structure.
    fn count(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(Error::failed(format!("it lists more than {MAX_ENTRIES} entries, which no network does")));
        }
        Ok(())
    }

    fn graph(&mut self, field: &Field<'a>, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::failed(format!("its graphs are nested more than {MAX_DEPTH} deep")));
        }
        self.has_inner_graphs |= depth > 0;
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            match field.number {
                1 => {
                    let node = self.node(&field, depth)?;
                    if depth == 0 {
                        if node.operator == "Constant" {
                            self.constants.extend(&node.outputs);
                        }
                        self.nodes.push(node);
                    }
                }
                5 => {
                    let name = self.tensor(&field)?;
                    if depth == 0 {
                        self.constants.insert(name);
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
    fn function(&mut self, field: &Field<'a>) -> Result<()> {
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            if field.number == 7 {
                self.node(&field, 1)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, field: &Field<'a>, depth: usize) -> Result<Node<'a>> {
        self.count()?;
        let mut node = Node {
            name: "",
            operator: "",
            domain: "",
            inputs: Vec::new(),
            outputs: Vec::new(),
            axis: None,
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
                5 => {
                    if let Some(axis) = self.attribute(&field, depth)? {
                        node.axis = Some(axis);
                    }
                }
                7 => node.domain = field.text()?,
                _ => {}
            }
        }
        if node.domain == "ai.onnx" {
            node.domain = "";
        }
        Ok(node)
    }

    /// The value of an attribute `axis`; tensors and graphs in attributes are searched for weights in other files.
    fn attribute(&mut self, field: &Field<'a>, depth: usize) -> Result<Option<i64>> {
        self.count()?;
        let (mut name, mut value) = ("", None);
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            match field.number {
                1 => name = field.text()?,
                3 => value = Some(field.integer()?),
                5 | 10 => {
                    self.tensor(&field)?;
                }
                6 | 11 => self.graph(&field, depth + 1)?,
                22 | 23 => self.sparse(&field)?,
                _ => {}
            }
        }
        Ok(value.filter(|_| name == "axis"))
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

    /// Counts the elements of a tensor, notes the file they are in, and gives its name.
    fn tensor(&mut self, field: &Field<'a>) -> Result<&'a str> {
        self.count()?;
        let (mut name, mut shape, mut element) = ("", Vec::new(), 0);
        let (mut is_external, mut location, mut offset, mut length) = (false, None, 0u64, None);
        let mut reader = field.message()?;
        while let Some(field) = reader.field()? {
            match field.number {
                1 => field.integers(&mut shape, MAX_RANK)?,
                2 => element = field.integer()?,
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
        Ok(name)
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

fn text_pair<'a>(field: &Field<'a>) -> Result<(&'a str, &'a str)> {
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

fn operator_set<'a>(field: &Field<'a>) -> Result<(&'a str, i64)> {
    let (mut domain, mut version) = ("", 0);
    let mut reader = field.message()?;
    while let Some(field) = reader.field()? {
        match field.number {
            1 => domain = field.text()?,
            2 => version = field.integer()?,
            _ => {}
        }
    }
    Ok((domain, version))
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
