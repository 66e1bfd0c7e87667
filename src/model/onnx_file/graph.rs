//! Reader of ONNX files (onnx.proto3): what is needed to find outputs and features, in place, without trusting any number
//! in the file. See [`crate::model::onnx_file::edit`] for changes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::path::{Component, Path};

use crate::model::onnx_file::collect::{Collector, text_pair};
pub use crate::model::onnx_file::parts::{
    BFLOAT16, DOUBLE, Dim, External, FLOAT, FLOAT16, INT8, INT64, Node, Port, UINT8, Values,
};
use crate::model::onnx_file::wire::{Field, Reader};
use crate::{Error, Result};

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
    /// What the program that wrote it noted beside the graph, by key (`metadata_props`).
    pub metadata: Vec<(&'a str, &'a str)>,
    /// Operators in file order.
    pub nodes: Vec<Node<'a>>,
    /// Inputs that are not weights.
    pub inputs: Vec<Port<'a>>,
    /// Outputs.
    pub outputs: Vec<Port<'a>>,
    /// Names of weights and other constants.
    pub constants: HashSet<&'a str>,
    /// Values of the constants that have few.
    pub(super) values: HashMap<&'a str, Values>,
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
        let (mut opset, mut producer, mut metadata) = (0, Vec::new(), Vec::new());
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
                14 => {
                    found.count()?;
                    metadata.push(text_pair(&field)?);
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
            metadata,
            nodes: found.nodes,
            inputs,
            outputs: found.outputs,
            constants: found.constants,
            values: found.values,
            parameters: found.parameters,
            external: found.external,
            has_inner_graphs: found.has_inner_graphs,
            producers,
        })
    }

    /// The values of the constant `name`, where it has few.
    pub fn values(&self, name: &str) -> Option<&[f64]> {
        self.values.get(name).map(|values| values.list.as_slice())
    }

    /// The operator that makes `tensor`.
    pub fn producer(&self, tensor: &str) -> Option<&Node<'a>> {
        self.producers.get(tensor).map(|&index| &self.nodes[index])
    }

    /// What the program that wrote it noted under one of `keys`, in this order.
    pub fn noted(&self, keys: &[&str]) -> Option<&'a str> {
        keys.iter().find_map(|key| self.metadata.iter().find(|(known, _)| known == key)).map(|(_, value)| *value)
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
