//! Which outputs are logits and which are features, judged by all outputs together.

use std::collections::{HashSet, VecDeque};

use super::form::Question;
use super::queries::{Pair, refused};
use super::{MapSource, Planner};
use crate::model::onnx_file::describe::{describe, element_name};
use crate::model::onnx_file::graph::{BFLOAT16, DOUBLE, FLOAT, FLOAT16, Port};
use crate::model::onnx_file::tap;
use crate::model::onnx_file::tap::Squash;
use crate::{Error, Result};

/// What the program's logits are made from.
pub(super) enum Logits<'a> {
    /// One map.
    Map(MapSource<'a>),
    /// Queries with masks.
    Queries(Pair<'a>),
    /// Nothing: the network gives features alone.
    Absent,
}

const EXPORT_HINT: &str = "export the network with its raw logits before argmax and softmax as an output";
const FEATURES_HINT: &str = "name the features as outputs.features in the manifest beside the model";
const NAME_HINT: &str = "name the logits as outputs.logits in the manifest beside the model";

/// Products with weights whose shapes are examined for features, the nearest to the logits.
const MOST_PRODUCTS: usize = 8;

/// Tasks of ultralytics and others whose outputs are objects or a class of the picture.
const OTHER_TASKS: [&str; 8] =
    ["detect", "segment", "pose", "obb", "classify", "detection", "instance_segmentation", "classification"];

impl<'m, 'a> Planner<'m, 'a> {
    /// What the logits are.
    pub(super) fn logits(&mut self, chosen: &[String]) -> Result<Logits<'a>> {
        let model = self.model;
        let said = self.manifest.outputs.layout;
        if let Some(name) = &self.manifest.outputs.logits {
            let tensor = self
                .output(name)
                .map(|port| port.name)
                .or_else(|| tap::resolve(model, name))
                .ok_or_else(|| self.not_there("outputs.logits", name))?;
            let form = self.form(tensor, &Question { what: "logits", channel: None, said })?;
            return Ok(Logits::Map(MapSource { tensor, codes: None, form }));
        }
        if let Some(pair) = self.queries()? {
            return Ok(Logits::Queries(pair));
        }
        let Some(port) = self.logits_output(&[&self.manifest.outputs.features[..], chosen].concat())? else {
            self.assume(
                "no output holds classes: the network gives features alone, from which only `bank` scores can be made \
                 (outputs.logits in the manifest names logits)",
            );
            return Ok(Logits::Absent);
        };
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
            let form = self.form(port.name, &Question { what: "logits", channel: None, said })?;
            return Ok(Logits::Map(MapSource { tensor: port.name, codes: None, form }));
        };
        if over.kind == Squash::Sigmoid && self.length(port, 1) == Some(1) && self.rank(port) == 4 {
            let message = format!(
                "output `{}` is one probability per pixel (sigmoid), a binary network: unknown objects need several classes",
                port.name
            );
            return Err(Error::failed(message).hint(EXPORT_HINT));
        }
        // Where the operators say the axes before they were moved for a softmax, nothing need be moved back.
        let known = self.axes.of(head.unmoved).is_some_and(|axes| axes.len() >= 3) && said.is_none();
        let (tensor, channel) = if known { (head.unmoved, None) } else { (head.logits, over.axis) };
        self.assume(format!(
            "output `{}` is the {} of logits: the raw logits `{tensor}` before it are taken",
            port.name,
            over.kind.name(),
        ));
        if over.kind == Squash::Sigmoid {
            self.assume(
                "its classes are independent of each other, so methods over softmax (msp, entropy) mean little; \
                 max-logit and clusters do",
            );
        }
        let form = self.form(tensor, &Question { what: "logits", channel, said })?;
        Ok(Logits::Map(MapSource { tensor, codes: None, form }))
    }

    /// The output that most looks like a map of classes and is none of `features`; none where all hold features.
    fn logits_output(&mut self, features: &[String]) -> Result<Option<&'m Port<'a>>> {
        let outputs = &self.model.outputs;
        let described = || outputs.iter().map(describe).collect::<Vec<_>>().join(", ");
        if let Some(port) = outputs.iter().find(|port| port.name == "logits" && self.rank(port) == 4) {
            return Ok(Some(port));
        }
        if let Some(what) = self.other_task() {
            return Err(refused(&what, &described()));
        }
        let squashed = |port: &Port<'_>| tap::head(self.model, port.name).over.is_some();
        let (embeddings, found): (Vec<_>, Vec<_>) =
            outputs.iter().partition(|port| features.iter().any(|name| name == port.name) || self.is_embedding(port));
        let is_map = |port: &&&'m Port<'a>| is_float(port) && self.rank(port) == 4 && self.length(port, 1) != Some(1);
        let maps: Vec<&'m Port<'a>> = found.iter().filter(is_map).copied().collect();
        let maps = self.last_of(maps);
        if let Some(found) = self.best_of(&maps)? {
            let others: Vec<&str> = maps.iter().map(|port| port.name).filter(|name| *name != found.name).collect();
            if !others.is_empty() {
                self.assume(format!("outputs {} could be logits too", others.join(", ")));
            }
            return Ok(Some(found));
        }
        // Labels, whatever their type; and what has three axes.
        let by_squash = found.iter().find(|port| squashed(port) && matches!(self.rank(port), 2..=4));
        let by_rank = || found.iter().find(|port| is_float(port) && self.rank(port) == 3);
        let labels = || found.iter().find(|port| matches!(self.rank(port), 3 | 4));
        if let Some(port) = by_squash.or_else(by_rank).or_else(labels) {
            return Ok(Some(port));
        }
        if embeddings.iter().any(|port| is_float(port) && self.rank(port) >= 3) {
            return Ok(None);
        }
        Err(Error::failed(format!(
            "no usable logits: no output is a map [1, classes, h, w]; the graph has {}",
            described()
        ))
        .hint(EXPORT_HINT))
    }

    /// Whether an output holds features: by its name, or because a layer normalisation with no number of classes makes it.
    fn is_embedding(&self, port: &Port<'a>) -> bool {
        let channels: &[usize] = match self.rank(port) {
            3 => &[2],
            4 => &[1, 3],
            _ => &[],
        };
        is_embedding(port.name)
            || (!channels.is_empty()
                && tap::is_normalised(self.model, port.name)
                && !channels.iter().any(|&axis| self.is_count(self.length(port, axis))))
    }

    pub(super) fn rank(&self, port: &Port<'_>) -> usize {
        self.shape(port.name).map_or(0, |shape| shape.len())
    }

    pub(super) fn length(&self, port: &Port<'_>, axis: usize) -> Option<usize> {
        self.shape(port.name)?.get(axis).copied().flatten()
    }

    /// What the network is where its outputs are objects.
    fn other_task(&self) -> Option<String> {
        let outputs = &self.model.outputs;
        if let Some(task) = self.noted.task.as_deref().filter(|task| OTHER_TASKS.contains(task)) {
            return Some(format!("the file's metadata says that its task is `{task}`"));
        }
        let boxes = outputs.iter().find(|port| {
            let name = port.name.to_ascii_lowercase();
            let four = self.shape(port.name).is_some_and(|shape| shape.last() == Some(&Some(4)) && shape.len() < 4);
            four && (name.contains("box") || name.contains("det"))
        });
        if let Some(boxes) = boxes {
            return Some(format!("output {} holds boxes: the network is a detector", describe(boxes)));
        }
        // Anchors of a one-stage detector, at strides 8, 16 and 32, beside its prototypes.
        let cells: usize = [8, 16, 32].map(|stride| (self.size.0 / stride) * (self.size.1 / stride)).iter().sum();
        let anchors = outputs.iter().find(|port| {
            self.rank(port) == 3
                && (1..3)
                    .any(|axis| self.length(port, axis).is_some_and(|length| length == cells || length == 3 * cells))
        });
        anchors.map(|port| format!("output {} lists the anchors of a detector", describe(port)))
    }

    /// Those of `maps` that no other one of them is made from.
    fn last_of(&self, maps: Vec<&'m Port<'a>>) -> Vec<&'m Port<'a>> {
        if maps.len() < 2 {
            return maps;
        }
        let before: Vec<HashSet<&str>> = maps.iter().map(|port| self.ancestors(port.name)).collect();
        let is_last = |index: usize| {
            !before.iter().enumerate().any(|(other, before)| other != index && before.contains(maps[index].name))
        };
        maps.iter().enumerate().filter(|(index, _)| is_last(*index)).map(|(_, port)| *port).collect()
    }

    fn ancestors(&self, tensor: &'a str) -> HashSet<&'a str> {
        let mut found = HashSet::new();
        let mut queue = VecDeque::from([tensor]);
        while let Some(at) = queue.pop_front() {
            let inputs = self.model.producer(at).map_or(&[][..], |node| &node.inputs);
            queue.extend(inputs.iter().filter(|input| found.insert(**input)));
        }
        found
    }

    /// Of maps with the same number of channels the largest, the first of equals: auxiliary heads come after the main one.
    /// Of others the one with a known number of classes, or with a softmax at its end.
    fn best_of(&self, maps: &[&'m Port<'a>]) -> Result<Option<&'m Port<'a>>> {
        let channels = |port: &Port<'_>| {
            let last = self.channels_last(port);
            self.length(port, if last { 3 } else { 1 })
        };
        let area = |port: &Port<'_>| {
            let shape = self.shape(port.name).unwrap_or_default();
            shape.iter().skip(1).map(|length| length.unwrap_or(1)).fold(1, usize::saturating_mul)
        };
        let largest = |maps: &[&'m Port<'a>]| {
            maps.iter().copied().fold(None, |best: Option<&'m Port<'a>>, port| match best {
                Some(best) if area(port) <= area(best) => Some(best),
                _ => Some(port),
            })
        };
        let alike = |maps: &[&'m Port<'a>]| maps.windows(2).all(|pair| channels(pair[0]) == channels(pair[1]));
        let counted: Vec<_> = maps.iter().copied().filter(|port| self.is_count(channels(port))).collect();
        let squashed: Vec<_> =
            maps.iter().copied().filter(|port| tap::head(self.model, port.name).over.is_some()).collect();
        match [maps, &counted, &squashed].into_iter().find(|some| !some.is_empty() && alike(some)) {
            Some(some) => Ok(largest(some)),
            None if maps.is_empty() => Ok(None),
            None => {
                let described: Vec<String> = maps.iter().map(|port| describe(port)).collect();
                Err(Error::failed(format!("several outputs could be the logits: {}", described.join(", ")))
                    .hint(NAME_HINT))
            }
        }
    }

    /// Whether only the last axis of an output can be its channels.
    fn channels_last(&self, port: &Port<'_>) -> bool {
        !self.fits(self.length(port, 2), self.length(port, 3)) && self.fits(self.length(port, 1), self.length(port, 2))
    }

    /// The features: those chosen, those of the manifest, outputs of that name, or tapped.
    pub(super) fn features(
        &mut self,
        chosen: &[String],
        logits: &Logits<'a>,
        seen_from: &'a str,
    ) -> Result<Vec<MapSource<'a>>> {
        let model = self.model;
        let (key, names) = if chosen.is_empty() {
            ("outputs.features", &self.manifest.outputs.features[..])
        } else {
            ("--feature", chosen)
        };
        if !names.is_empty() {
            return names
                .iter()
                .map(|name| {
                    let tensor = self
                        .output(name)
                        .map(|port| port.name)
                        .or_else(|| tap::resolve(model, name))
                        .ok_or_else(|| self.not_there(key, name))?;
                    self.feature(tensor)
                })
                .collect();
        }
        let outputs: Vec<&'a str> = model
            .outputs
            .iter()
            .map(|port| port.name)
            .filter(|name| name.starts_with("features") && *name != seen_from)
            .collect();
        if !outputs.is_empty() {
            self.assume(format!("features are taken from {}", outputs.join(", ")));
            return outputs.into_iter().map(|tensor| self.feature(tensor)).collect();
        }
        if matches!(logits, Logits::Absent) {
            return self.features_alone().map(|source| vec![source]);
        }
        if let Logits::Queries(Pair { pixels: Some(pixels), .. }) = logits {
            self.assume(format!(
                "no feature output: features are tapped at `{pixels}`, the map that the masks are made from"
            ));
            return Ok(vec![self.feature(pixels)?]);
        }
        let taps: Vec<(&'a str, Option<[&'a str; 2]>, bool)> =
            tap::taps(model, seen_from).iter().map(|tap| (tap.tensor, tap.codes, tap.is_map())).collect();
        // The shapes of products are seen only when the graph runs: those of a few at once.
        let products = taps.iter().take_while(|(_, _, is_map)| !is_map).take(MOST_PRODUCTS);
        let unseen = products.filter(|(tensor, ..)| self.axes.of(tensor).is_none() && self.shape(tensor).is_none());
        let unseen: Vec<String> = unseen.map(|(tensor, ..)| (*tensor).to_owned()).collect();
        self.unknown.extend(unseen);
        for (tensor, codes, is_map) in taps {
            let before = self.assumptions.len();
            match self.tapped(tensor, codes, is_map) {
                Ok(source) => {
                    let what = if is_map { "convolution" } else { "product with weights" };
                    let text =
                        format!("no feature output: features are tapped at `{tensor}`, what the last {what} takes");
                    self.assumptions.insert(before, text);
                    return Ok(vec![source]);
                }
                // Tokens that are no grid, and figures of the whole picture.
                Err(_) => self.assumptions.truncate(before),
            }
        }
        self.assume(
            "no feature output, and no convolution after which features could be tapped: only pixel-wise methods work",
        );
        Ok(Vec::new())
    }

    /// The one output with features of a network that has no classes.
    fn features_alone(&mut self) -> Result<MapSource<'a>> {
        let mut ports = Vec::new();
        let mut refused = None;
        for port in self.model.outputs.iter().filter(|port| is_float(port)) {
            if self.rank(port) < 3 || !self.is_embedding(port) {
                continue;
            }
            let (assumptions, unknown) = (self.assumptions.len(), self.unknown.len());
            match self.feature(port.name) {
                Ok(_) => ports.push(port),
                Err(error) => refused = refused.or(Some(error)),
            }
            self.assumptions.truncate(assumptions);
            self.unknown.truncate(unknown);
        }
        match (self.last_of(ports).as_slice(), refused) {
            ([port], _) => {
                self.assume(format!("features are taken from {}", describe(port)));
                self.feature(port.name)
            }
            ([], Some(error)) => Err(error),
            ([], None) => Err(Error::failed("no output is a map or a grid of features").hint(FEATURES_HINT)),
            (several, _) => {
                let described: Vec<String> = several.iter().map(|port| describe(port)).collect();
                Err(Error::failed(format!("several outputs could be the features: {}", described.join(", ")))
                    .hint(FEATURES_HINT))
            }
        }
    }

    /// A tap as a source; a convolution's input is a map by definition.
    fn tapped(&mut self, tensor: &'a str, codes: Option<[&'a str; 2]>, is_map: bool) -> Result<MapSource<'a>> {
        if is_map {
            return Ok(MapSource { tensor, codes, form: super::form::Form::IN_ORDER });
        }
        self.feature(tensor)
    }

    fn feature(&mut self, tensor: &'a str) -> Result<MapSource<'a>> {
        let form = self.form(tensor, &Question { what: "features", channel: None, said: None })?;
        Ok(MapSource { tensor, codes: tap::codes(self.model, tensor), form })
    }
}

pub(super) fn is_float(port: &Port<'_>) -> bool {
    matches!(port.element, FLOAT | FLOAT16 | DOUBLE | BFLOAT16)
}

/// Whether a name says that the output holds features.
fn is_embedding(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["embed", "hidden_state", "feature", "descriptor", "backbone", "token"].iter().any(|word| name.contains(word))
        || name.starts_with("feat")
}
