//! How a graph is used as it comes: which input is the picture, which outputs are logits and features, and what has to be
//! put around it so that the program always sees f32 in NCHW order.

mod form;
mod input;
mod outputs;
mod queries;

use std::collections::HashMap;

use crate::model::manifest::{Colour, Dtype, InputLayout, Manifest};
use crate::model::onnx_file::axes::{Axes, CHANNELS_FIRST, CHANNELS_LAST};
use crate::model::onnx_file::describe::describe;
use crate::model::onnx_file::edit::{Attribute, Edit, Place};
use crate::model::onnx_file::graph::{FLOAT, Model, Node, Port};
use crate::model::onnx_file::noted::Noted;
use crate::model::onnx_file::tap;
use crate::model::prepare::InputSpec;
use crate::{Error, Result};
use form::{Form, Grid};
pub use input::FREE_SIZES;

/// The input as the graph has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Name of the input to feed, f32 `[1, 3, height, width]`.
    pub name: String,
    /// Size and normalisation, of R, G, B.
    pub spec: InputSpec,
    /// Whether the graph leaves height or width free.
    pub free_size: bool,
    /// Whether it takes several pictures at once.
    pub free_batch: bool,
    /// The graph's own order of axes.
    pub layout: InputLayout,
    /// The graph's own element type.
    pub dtype: Dtype,
    /// The graph's own order of channels.
    pub colour: Colour,
}

/// What to load and what to ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadPlan {
    /// Changes to the graph; may be empty.
    pub edit: Edit,
    /// The input.
    pub picture: Picture,
    /// The graph's own tensor with the logits; of a query-mask network the masks, without classes the features.
    pub source: String,
    /// Name of the output with the logits, `[1, C, h, w]` or `[C, h, w]`; none where the network gives features alone.
    pub logits: Option<String>,
    /// Names of the outputs with features.
    pub features: Vec<String>,
    /// Whether the logits are folded from the queries and masks of a query-mask network.
    pub queries: bool,
    /// Names of the classes that the file's metadata has.
    pub classes: Vec<String>,
    /// The assumptions made, a sentence each.
    pub assumptions: Vec<String>,
    /// Tensors whose shapes the graph does not say and that decide what else the plan would be: see [`Shapes`].
    pub unknown: Vec<String>,
}

/// What was seen when the graph was run once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shapes {
    /// Columns and rows of the picture that it ran with, where it leaves them free.
    pub size: Option<(usize, usize)>,
    /// Lengths of the axes of tensors, by name.
    pub tensors: HashMap<String, Vec<usize>>,
}

/// What becomes of the graph's own inputs and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All stay; outputs are only added.
    All,
    /// The input is converted to f32 NCHW, outputs that are not used are removed.
    Needed,
}

/// Plans the use of `model`; `features` are tensors or operators chosen by the user, before those of the manifest.
///
/// # Errors
/// The graph has no picture as input or nothing that can be logits, or the manifest names something that the graph lacks.
pub fn plan(
    model: &Model<'_>,
    manifest: &Manifest,
    features: &[String],
    keep: Keep,
    shapes: &Shapes,
) -> Result<LoadPlan> {
    let mut planner = Planner::new(model, manifest, keep, shapes);
    let port = planner.picture_port()?.name;
    let picture = planner.picture()?;
    let order = if picture.layout == InputLayout::Nhwc { CHANNELS_LAST } else { CHANNELS_FIRST };
    planner.axes = Axes::new(model, (port, order));
    planner.size = (picture.spec.width, picture.spec.height);
    planner.outputs(picture, features)
}

/// The input alone, to run `model` as it is for the shapes of its tensors.
///
/// # Errors
/// The graph has no picture as input, or the manifest does not fit it.
pub fn picture(model: &Model<'_>, manifest: &Manifest) -> Result<(Edit, Picture)> {
    let shapes = Shapes::default();
    let mut planner = Planner::new(model, manifest, Keep::Needed, &shapes);
    let picture = planner.picture()?;
    Ok((planner.edit, picture))
}

/// Outputs whose shape the file does not say.
pub fn undeclared(model: &Model<'_>) -> Vec<String> {
    model.outputs.iter().filter(|port| port.shape.is_none()).map(|port| port.name.to_owned()).collect()
}

/// A map among the graph's tensors, and what makes it `[N, C, h, w]`.
struct MapSource<'a> {
    tensor: &'a str,
    /// Scale and zero point where it holds integer codes.
    codes: Option<[&'a str; 2]>,
    form: Form,
}

/// Whether ONNX Runtime leaves a `Pad` beside its convolution for the empty name that PyTorch's exporter writes in place of
/// the value: the fusion of the two asks for no value or for a constant. A quarter of the time of a network that pads as
/// TensorFlow does goes into it otherwise.
fn is_unfused_pad(node: &Node<'_>) -> bool {
    node.is("Pad") && node.inputs.last() == Some(&"")
}

struct Planner<'m, 'a> {
    model: &'m Model<'a>,
    manifest: &'m Manifest,
    shapes: &'m Shapes,
    keep: Keep,
    noted: Noted,
    edit: Edit,
    assumptions: Vec<String>,
    unknown: Vec<String>,
    axes: Axes<'m, 'a>,
    /// Columns and rows of the picture.
    size: (usize, usize),
}

impl<'m, 'a> Planner<'m, 'a> {
    fn new(model: &'m Model<'a>, manifest: &'m Manifest, keep: Keep, shapes: &'m Shapes) -> Self {
        Self {
            model,
            manifest,
            shapes,
            keep,
            noted: Noted::of(model),
            edit: Edit::default(),
            assumptions: Vec::new(),
            unknown: Vec::new(),
            axes: Axes::new(model, ("", CHANNELS_FIRST)),
            size: FREE_SIZES[0],
        }
    }

    fn assume(&mut self, what: impl Into<String>) {
        self.assumptions.push(what.into());
    }

    fn outputs(mut self, picture: Picture, chosen: &[String]) -> Result<LoadPlan> {
        let model = self.model;
        let logits = self.logits(chosen)?;
        let (source, name, seen_from) = match &logits {
            outputs::Logits::Map(source) => (Some(source.tensor), Some(self.expose("logits", source)), source.tensor),
            outputs::Logits::Queries(pair) => {
                (Some(pair.masks), Some(self.fold(pair)), pair.pixels.unwrap_or(pair.masks))
            }
            outputs::Logits::Absent => (None, None, ""),
        };
        let features = self.features(chosen, &logits, seen_from)?;
        let mut names: Vec<String> = Vec::new();
        for (index, feature) in features.iter().enumerate() {
            let wanted = if index == 0 { "features".to_owned() } else { format!("features_{index}") };
            names.push(self.expose(&wanted, feature));
            if names[..index].contains(&names[index]) || name.as_ref() == Some(&names[index]) {
                return Err(Error::usage(format!("`{}` is named twice among the logits and features", feature.tensor)));
            }
        }
        if self.keep == Keep::Needed {
            // Unused outputs still cost time: argmax over a full-size map, auxiliary heads.
            let gone = model.outputs.iter().filter(|port| !names.iter().chain(&name).any(|name| name == port.name));
            gone.for_each(|port| self.edit.drop_port(port));
            let mut taken: Vec<&str> = features.iter().map(|feature| feature.tensor).chain(source).collect();
            taken.extend(features.iter().filter_map(|feature| feature.codes).flatten());
            if let outputs::Logits::Queries(pair) = &logits {
                taken.push(pair.classes);
            }
            let unneeded = tap::unneeded(model, &taken);
            for node in model.nodes.iter().filter(|node| is_unfused_pad(node) && !unneeded.contains(node)) {
                self.edit.trim_inputs(model, node)?;
            }
            unneeded.into_iter().for_each(|node| self.edit.drop_node(node));
        }
        Ok(LoadPlan {
            edit: self.edit,
            picture,
            source: if source.is_some() { seen_from } else { features.first().map_or("", |map| map.tensor) }.to_owned(),
            logits: name,
            features: names,
            queries: matches!(logits, outputs::Logits::Queries(_)),
            classes: self.noted.classes,
            assumptions: self.assumptions,
            unknown: self.unknown,
        })
    }

    fn output(&self, tensor: &str) -> Option<&'m Port<'a>> {
        self.model.outputs.iter().find(|port| port.name == tensor)
    }

    /// Makes a map available as an f32 NCHW output and gives the output's name.
    fn expose(&mut self, wanted: &str, source: &MapSource<'a>) -> String {
        if let Some(port) = self.output(source.tensor)
            && port.element == FLOAT
            && source.form == Form::IN_ORDER
            && source.codes.is_none()
        {
            return port.name.to_owned();
        }
        let name = self.unused(wanted);
        let mut from = source.tensor.to_owned();
        if let Some([scale, zero]) = source.codes {
            from = self.append("DequantizeLinear", &[&from, scale, zero], &format!("{name}.values"), None);
        }
        match &source.form {
            Form::Map(None) => {}
            Form::Map(Some(order)) => {
                from = self.append("Transpose", &[&from], &format!("{name}.nchw"), Some(Attribute::Perm(order)));
            }
            &Form::Tokens { grid: Grid { first, rows, columns }, flat } => {
                if let Some(channels) = flat {
                    let shape = [-1, (first + rows * columns) as i64, channels as i64];
                    let shape = self.integers(&format!("{name}.batched"), &shape);
                    from = self.append("Reshape", &[&from, &shape], &format!("{name}.tokens"), None);
                }
                if first > 0 {
                    let [start, end, axis] = [(".start", first as i64), (".end", i64::MAX), (".axis", 1)]
                        .map(|(part, value)| self.integers(&format!("{name}{part}"), &[value]));
                    from = self.append("Slice", &[&from, &start, &end, &axis], &format!("{name}.patches"), None);
                }
                from = self.append("Transpose", &[&from], &format!("{name}.ndt"), Some(Attribute::Perm(&[0, 2, 1])));
                let grid = self.integers(&format!("{name}.grid"), &[0, 0, rows as i64, columns as i64]);
                from = self.append("Reshape", &[&from, &grid], &format!("{name}.nchw"), None);
            }
        }
        // ONNX Runtime removes the cast where the tensor is f32 already.
        self.edit.node(Place::Last, "Cast", &[&from], &name, Some(Attribute::To(FLOAT)));
        self.edit.output(&name);
        name
    }

    /// Adds an operator behind all others and gives its output's name.
    fn append(&mut self, operator: &str, inputs: &[&str], output: &str, attribute: Option<Attribute<'_>>) -> String {
        let output = self.unused(output);
        self.edit.node(Place::Last, operator, inputs, &output, attribute);
        output
    }

    /// Adds a constant and gives its name.
    fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let name = self.unused(name);
        self.edit.integers(&name, values);
        name
    }

    /// `wanted`, or that with a suffix where the graph has a tensor of that name.
    fn unused(&self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        while self.model.has_tensor(&name) {
            name.push_str(".tap");
        }
        name
    }

    fn not_there(&self, key: &str, name: &str) -> Error {
        let outputs = self.model.outputs.iter().map(describe).collect::<Vec<_>>().join(", ");
        let place =
            if key.starts_with("--") { String::new() } else { "the manifest does not fit the graph: ".to_owned() };
        Error::usage(format!(
            "{place}{key} `{name}` is neither an output nor a tensor nor an operator of it; its outputs are {outputs}"
        ))
        .hint("`oodstream model inspect` lists where features can be taken")
    }
}
