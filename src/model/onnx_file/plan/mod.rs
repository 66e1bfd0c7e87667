//! How a graph is used as it comes: which input is the picture, which outputs are logits and features, and what has to be
//! put around it so that the program always sees f32 in NCHW order.

mod input;

use crate::model::manifest::{Dtype, Layout, Manifest};
use crate::model::onnx_file::describe::{describe, element_name};
use crate::model::onnx_file::edit::{Attribute, Edit, Place};
use crate::model::onnx_file::graph::{Dim, FLOAT, FLOAT16, Model, Port};
use crate::model::onnx_file::tap;
use crate::model::onnx_file::tap::{Over, Squash};
use crate::{Error, Result};

/// The input as the graph has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Name of the input to feed, f32 `[1, 3, height, width]`.
    pub name: String,
    /// Columns, where the graph fixes them.
    pub width: Option<usize>,
    /// Rows, where the graph fixes them.
    pub height: Option<usize>,
    /// Whether it takes several pictures at once.
    pub free_batch: bool,
    /// The graph's own order of axes.
    pub layout: Layout,
    /// The graph's own element type.
    pub dtype: Dtype,
}

/// What to load and what to ask for.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Changes to the graph; may be empty.
    pub edit: Edit,
    /// The input.
    pub picture: Picture,
    /// The graph's own tensor with the logits.
    pub source: String,
    /// Name of the output with the logits, `[1, C, h, w]` or `[C, h, w]`.
    pub logits: String,
    /// Names of the outputs with features.
    pub features: Vec<String>,
    /// The assumptions made, a sentence each.
    pub assumptions: Vec<String>,
}

/// What becomes of the graph's own inputs and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All stay; outputs are only added.
    All,
    /// The input is converted to f32 NCHW, outputs that nobody asks for go.
    Needed,
}

/// Plans the use of `model`; `features` are tensors or operators chosen by the user, before those of the manifest.
///
/// # Errors
/// The graph has no picture as input or nothing that can be logits, or the manifest names what is not there.
pub fn plan(model: &Model<'_>, manifest: &Manifest, features: &[String], keep: Keep) -> Result<Plan> {
    let mut planner = Planner { model, keep, edit: Edit::default(), assumptions: Vec::new() };
    let picture = planner.picture(manifest)?;
    let (source, from_output) = planner.logits(manifest, features)?;
    let channels_last = planner.channels_last(&picture, &source);
    let features = planner.features(manifest, features, &source)?;
    let logits = planner.expose("logits", &source, from_output, channels_last);
    let mut names: Vec<String> = Vec::new();
    for (index, feature) in features.iter().enumerate() {
        let wanted = if index == 0 { "features".to_owned() } else { format!("features_{index}") };
        let port = model.outputs.iter().find(|port| port.name == feature.tensor);
        let channels_last = feature.is_output && channels_last;
        names.push(planner.expose(&wanted, feature.tensor, port.filter(|_| feature.is_output), channels_last));
        if names[..index].contains(&names[index]) || names[index] == logits {
            return Err(Error::usage(format!("`{}` is named twice among the logits and features", feature.tensor)));
        }
    }
    if keep == Keep::Needed {
        // Outputs that nobody asks for still cost time: argmax over a full-size map, auxiliary heads.
        let gone =
            model.outputs.iter().filter(|port| port.name != logits && !names.iter().any(|name| name == port.name));
        gone.for_each(|port| planner.edit.drop_port(port));
        let taken: Vec<&str> = features.iter().map(|feature| feature.tensor).chain([source.tensor]).collect();
        tap::unneeded(model, &taken).into_iter().for_each(|node| planner.edit.drop_node(node));
    }
    let source = source.tensor.to_owned();
    Ok(Plan { edit: planner.edit, picture, source, logits, features: names, assumptions: planner.assumptions })
}

/// Where logits come from.
struct Source<'a> {
    tensor: &'a str,
    over: Option<Over>,
}

/// A chosen feature map.
#[derive(Clone, Copy)]
struct Feature<'a> {
    tensor: &'a str,
    is_output: bool,
}

struct Planner<'m, 'a> {
    model: &'m Model<'a>,
    keep: Keep,
    edit: Edit,
    assumptions: Vec<String>,
}

impl<'m, 'a> Planner<'m, 'a> {
    fn assume(&mut self, what: impl Into<String>) {
        self.assumptions.push(what.into());
    }

    /// The tensor with the raw logits, and the output it is, where it is one.
    fn logits(&mut self, manifest: &Manifest, chosen: &[String]) -> Result<(Source<'a>, Option<&'m Port<'a>>)> {
        let model = self.model;
        if let Some(name) = &manifest.outputs.logits {
            return if let Some(port) = model.outputs.iter().find(|port| port.name == name) {
                Ok((Source { tensor: port.name, over: None }, Some(port)))
            } else if let Some(tensor) = tap::resolve(model, name) {
                Ok((Source { tensor, over: None }, None))
            } else {
                Err(self.not_there("outputs.logits", name))
            };
        }
        let port = self.logits_output(&[&manifest.outputs.features[..], chosen].concat())?;
        let head = tap::head(model, port.name);
        let Some(over) = head.over else {
            if !is_float(port) {
                let message = format!(
                    "output `{}` holds labels ({}), and no argmax is behind it",
                    port.name,
                    element_name(port.element)
                );
                return Err(Error::failed(message).hint(EXPORT_HINT));
            }
            self.assume(format!("output `{}` is taken as the logits", port.name));
            return Ok((Source { tensor: port.name, over: None }, Some(port)));
        };
        let one_channel = port.shape.as_ref().is_some_and(|shape| shape.len() == 4 && shape[1] == Dim::Fixed(1));
        if over.kind == Squash::Sigmoid && one_channel {
            let message = format!(
                "output `{}` is one probability per pixel (sigmoid), a binary network: unknown objects need several classes",
                port.name
            );
            return Err(Error::failed(message).hint(EXPORT_HINT));
        }
        self.assume(format!(
            "output `{}` is the {} of logits: the raw logits `{}` before it are taken",
            port.name,
            over.kind.name(),
            head.logits
        ));
        if over.kind == Squash::Sigmoid {
            self.assume("its classes are independent of each other, so methods over softmax (msp, entropy) mean little; max-logit and clusters do".to_owned());
        }
        let port = model.outputs.iter().find(|port| port.name == head.logits);
        Ok((Source { tensor: head.logits, over: Some(over) }, port))
    }

    /// The output that most looks like a map of classes and is none of `features`.
    fn logits_output(&mut self, features: &[String]) -> Result<&'m Port<'a>> {
        let outputs = &self.model.outputs;
        let is_feature =
            |port: &Port<'_>| port.name.starts_with("features") || features.iter().any(|name| name == port.name);
        if let Some(port) = outputs.iter().find(|port| port.name == "logits" && rank(port) == 4) {
            return Ok(port);
        }
        let area = |port: &Port<'_>| {
            port.shape.iter().flatten().skip(1).map(|dim| dim.length().unwrap_or(1)).fold(1, usize::saturating_mul)
        };
        let maps: Vec<&Port<'_>> =
            outputs.iter().filter(|port| is_float(port) && rank(port) == 4 && !is_feature(port)).collect();
        // Of equals the first: auxiliary heads come after the main one.
        let mut best: Option<&'m Port<'a>> = None;
        for port in &maps {
            if best.is_none_or(|best| area(port) > area(best)) {
                best = outputs.iter().find(|candidate| candidate.name == port.name);
            }
        }
        let labels = || outputs.iter().find(|port| !is_float(port) && matches!(rank(port), 3 | 4));
        let found = best.or_else(labels).ok_or_else(|| {
            let described = outputs.iter().map(describe).collect::<Vec<_>>().join(", ");
            Error::failed(format!("no usable logits: no output is a map [1, classes, h, w]; the graph has {described}"))
                .hint(EXPORT_HINT)
        })?;
        if maps.len() > 1 {
            let others: Vec<&str> = maps.iter().map(|port| port.name).filter(|name| *name != found.name).collect();
            self.assume(format!("outputs {} could be logits too", others.join(", ")));
        }
        Ok(found)
    }

    /// Whether the classes are the last axis of the logits.
    fn channels_last(&mut self, picture: &Picture, source: &Source<'a>) -> bool {
        match source.over.and_then(|over| over.axis) {
            Some(axis) => axis == 3 || axis == -1,
            None => {
                let last = picture.layout == Layout::Nhwc;
                if last {
                    self.assume(
                        "the classes are taken to be the last axis, as the channels of the input are".to_owned(),
                    );
                }
                last
            }
        }
    }

    fn features(&mut self, manifest: &Manifest, chosen: &[String], source: &Source<'a>) -> Result<Vec<Feature<'a>>> {
        let model = self.model;
        let (key, names) = if chosen.is_empty() {
            ("outputs.features", &manifest.outputs.features[..])
        } else {
            ("--feature", chosen)
        };
        if !names.is_empty() {
            return names
                .iter()
                .map(|name| match model.outputs.iter().find(|port| port.name == name) {
                    Some(port) => Ok(Feature { tensor: port.name, is_output: true }),
                    None => tap::resolve(model, name)
                        .map(|tensor| Feature { tensor, is_output: false })
                        .ok_or_else(|| self.not_there(key, name)),
                })
                .collect();
        }
        let outputs: Vec<Feature<'a>> = model
            .outputs
            .iter()
            .filter(|port| port.name.starts_with("features") && port.name != source.tensor)
            .map(|port| Feature { tensor: port.name, is_output: true })
            .collect();
        if !outputs.is_empty() {
            let names: Vec<&str> = outputs.iter().map(|feature| feature.tensor).collect();
            self.assume(format!("features are taken from {}", names.join(", ")));
            return Ok(outputs);
        }
        match tap::taps(model, source.tensor).first() {
            Some(tap) => {
                self.assume(format!(
                    "no feature output: features are tapped at `{}`, what the last convolution takes",
                    tap.tensor
                ));
                Ok(vec![Feature { tensor: tap.tensor, is_output: false }])
            }
            None => {
                self.assume("no feature output, and no convolution after which features could be tapped: only pixel-wise methods work".to_owned());
                Ok(Vec::new())
            }
        }
    }

    /// Makes `tensor` available as an f32 NCHW output and gives the output's name.
    fn expose(
        &mut self,
        wanted: &str,
        tensor: impl AsTensor<'a>,
        output: Option<&Port<'a>>,
        channels_last: bool,
    ) -> String {
        let tensor = tensor.tensor();
        if let Some(port) = output
            && port.element == FLOAT
            && !channels_last
        {
            return port.name.to_owned();
        }
        let name = self.unused(wanted);
        let mut from = tensor.to_owned();
        if channels_last {
            let moved = self.unused(&format!("{name}.nchw"));
            self.edit.node(Place::Last, "Transpose", &from, &moved, Some(Attribute::Perm(&[0, 3, 1, 2])));
            from = moved;
        }
        // ONNX Runtime removes the cast where the tensor is f32 already.
        self.edit.node(Place::Last, "Cast", &from, &name, Some(Attribute::To(FLOAT)));
        self.edit.output(&name);
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

/// A name of a tensor, or what holds one.
trait AsTensor<'a> {
    fn tensor(&self) -> &'a str;
}

impl<'a> AsTensor<'a> for &Source<'a> {
    fn tensor(&self) -> &'a str {
        self.tensor
    }
}

impl<'a> AsTensor<'a> for &'a str {
    fn tensor(&self) -> &'a str {
        self
    }
}

const EXPORT_HINT: &str = "export the network with its raw logits before argmax and softmax as an output";

fn rank(port: &Port<'_>) -> usize {
    port.shape.as_ref().map_or(0, Vec::len)
}

fn is_float(port: &Port<'_>) -> bool {
    matches!(port.element, FLOAT | FLOAT16)
}
