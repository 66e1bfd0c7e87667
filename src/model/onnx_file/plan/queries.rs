//! Query-mask networks (Mask2Former, MaskFormer, EoMT, ...): each query gives a class and a mask. They are folded into one
//! value per class and pixel with standard operators, as the authors' own semantic inference does.

use super::Planner;
use crate::model::onnx_file::axes::{Axis, CHANNELS_FIRST};
use crate::model::onnx_file::describe::describe;
use crate::model::onnx_file::edit::{Attribute, Place};
use crate::model::onnx_file::graph::{FLOAT, Port};
use crate::model::onnx_file::tap;
use crate::{Error, Result};

/// Names of these outputs in the order of preference; the last layer's come without a number.
const CLASSES: [&str; 5] = ["class_queries_logits", "pred_logits", "class_logits", "cls_logits", "queries"];
const MASKS: [&str; 4] = ["masks_queries_logits", "pred_masks", "mask_logits", "masks"];

/// The outputs of a query-mask network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair<'a> {
    /// `[N, Q, K + 1]`, the last one being "no object".
    pub classes: &'a str,
    /// `[N, Q, h, w]`
    pub masks: &'a str,
    /// The pixel decoder's map, `[N, D, h, w]`, that the masks are products with.
    pub pixels: Option<&'a str>,
}

impl<'m, 'a> Planner<'m, 'a> {
    /// The queries of the manifest, or those that the outputs show.
    pub(super) fn queries(&mut self) -> Result<Option<Pair<'a>>> {
        let outputs = &self.manifest.outputs;
        if let (Some(classes), Some(masks)) = (&outputs.queries, &outputs.masks) {
            let find = |key: &str, name: &str| tap::resolve(self.model, name).ok_or_else(|| self.not_there(key, name));
            let (classes, masks) = (find("outputs.queries", classes)?, find("outputs.masks", masks)?);
            return Ok(Some(Pair { classes, masks, pixels: self.pixels(masks) }));
        }
        let Some((classes, masks)) = self.pair() else { return Ok(None) };
        self.assume(format!(
            "a query-mask network: {} and {} are folded into one value per class, its last class taken as \"no object\"",
            describe(classes),
            describe(masks)
        ));
        Ok(Some(Pair { classes: classes.name, masks: masks.name, pixels: self.pixels(masks.name) }))
    }

    fn pair(&self) -> Option<(&'m Port<'a>, &'m Port<'a>)> {
        let outputs = &self.model.outputs;
        let named = |names: &[&str], rank: usize| {
            names
                .iter()
                .find_map(|name| outputs.iter().find(|port| port.name == *name && [0, rank].contains(&self.rank(port))))
        };
        if let (Some(classes), Some(masks)) = (named(&CLASSES, 3), named(&MASKS, 4)) {
            return Some((classes, masks));
        }
        let float =
            |rank: usize| outputs.iter().filter(move |port| super::outputs::is_float(port) && self.rank(port) == rank);
        // As many of them as there are masks. Four values each may be boxes, where something else can be the classes.
        let is_box = |port: &Port<'_>| port.name.to_ascii_lowercase().contains("box");
        float(4).find_map(|masks| {
            let queries = self.length(masks, 1)?;
            let all = || {
                float(3).filter(move |port| {
                    let many = self.length(port, 2).is_some_and(|count| count > 2);
                    self.length(port, 1) == Some(queries) && many && !is_box(port)
                })
            };
            let classes = all().find(|port| self.length(port, 2) != Some(4)).or_else(|| all().next())?;
            Some((classes, masks))
        })
    }

    /// The map of features that `masks` are products of queries with.
    fn pixels(&mut self, masks: &'a str) -> Option<&'a str> {
        let model = self.model;
        let mut at = tap::unmoved(model, masks);
        for _ in 0..8 {
            let node = model.producer(at)?;
            match node.operator {
                "Einsum" | "MatMul" | "Gemm" => {
                    let maps = node.inputs.iter().map(|input| tap::unmoved(model, input));
                    return maps.rev().find(|map| self.axes.of(map).is_some_and(|axes| axes == CHANNELS_FIRST));
                }
                "Resize" | "Upsample" | "Add" | "Mul" => at = tap::unmoved(model, node.input(0)?),
                // Some exporters write the product as a convolution.
                "Conv" => {
                    return node
                        .input(0)
                        .filter(|input| self.axes.of(input).is_some_and(|axes| axes.contains(&Axis::Channel)));
                }
                _ => return None,
            }
        }
        None
    }

    /// Folds classes and masks into `[N, K, h, w]`, the sum over queries of softmax times sigmoid, and gives its name.
    pub(super) fn fold(&mut self, pair: &Pair<'a>) -> String {
        let name = self.unused("logits");
        let part = |part: &str| format!("{name}.{part}");
        let as_float = |planner: &mut Self, tensor: &str, to: &str| {
            planner.append("Cast", &[tensor], to, Some(Attribute::To(FLOAT)))
        };
        let classes = as_float(self, pair.classes, &part("queries"));
        let masks = as_float(self, pair.masks, &part("masks"));
        let shares = self.append("Softmax", &[&classes], &part("shares"), Some(Attribute::Axis(2)));
        let [start, end, axis] =
            [("start", 0), ("end", -1), ("axis", 2)].map(|(key, value)| self.integers(&part(key), &[value]));
        let known = self.append("Slice", &[&shares, &start, &end, &axis], &part("known"), None);
        let known = self.append("Transpose", &[&known], &part("by_class"), Some(Attribute::Perm(&[0, 2, 1])));
        let covered = self.append("Sigmoid", &[&masks], &part("covered"), None);
        let lines = self.integers(&part("lines"), &[0, 0, -1]);
        let flat = self.append("Reshape", &[&covered, &lines], &part("flat"), None);
        let sum = self.append("MatMul", &[&known, &flat], &part("sum"), None);
        let shape = self.append("Shape", &[&masks], &part("shape"), None);
        let [start, end, axis] =
            [("from", 2), ("to", 4), ("along", 0)].map(|(key, value)| self.integers(&part(key), &[value]));
        let size = self.append("Slice", &[&shape, &start, &end, &axis], &part("size"), None);
        let same = self.integers(&part("same"), &[0, 0]);
        let target = self.append("Concat", &[&same, &size], &part("target"), Some(Attribute::Axis(0)));
        self.edit.node(Place::Last, "Reshape", &[&sum, &target], &name, None);
        self.edit.output(&name);
        name
    }
}

/// What a query-mask network without masks is: a detector.
pub(super) fn refused(what: &str, described: &str) -> Error {
    Error::failed(format!("{what}, not a segmentation of the whole picture into classes; the graph has {described}"))
        .hint("oodstream needs one value per class and pixel: a semantic segmentation network, or queries with masks")
}
