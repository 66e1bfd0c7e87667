//! Results as a table for a terminal and as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::components::SizeLimits;
use super::measure::MethodResult;
use super::metrics::PixelCounts;

/// Everything about one evaluation.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The set's name.
    pub dataset: String,
    /// The layout's name.
    pub layout: String,
    /// The model's file name, none where scores came from files.
    pub model: Option<String>,
    /// Images evaluated.
    pub images: usize,
    /// Pictures that the set ships without ground truth.
    pub unlabelled: usize,
    /// Skipped samples with the reason.
    pub skipped: Vec<String>,
    /// Pixels of the set.
    pub pixels: PixelCounts,
    /// The size limits of components.
    pub limits: SizeLimits,
    /// The method that the images of the report show.
    pub default_method: String,
    /// Whether each method needs ordinary footage ("training-light"), in the order of `methods`.
    pub needs_footage: Vec<bool>,
    /// The results.
    pub methods: Vec<MethodResult>,
}

impl Evaluation {
    /// Why pixel metrics are undefined, if they are.
    pub fn undefined(&self) -> Option<&'static str> {
        match (self.pixels.anomalous, self.pixels.known) {
            (0, _) => Some("the set has no anomalous pixel: AP, AUROC, FPR95 and the component metrics are undefined"),
            (_, 0) => Some("the set has no known pixel: AP, AUROC, FPR95 and the component metrics are undefined"),
            _ => None,
        }
    }

    /// Upper bound on the error by binning, 0 for exact rankings.
    pub fn binning_error(&self) -> f64 {
        self.methods
            .iter()
            .filter_map(|method| method.pixels.as_ref())
            .map(|pixels| pixels.binning_error)
            .fold(0.0, f64::max)
    }

    /// The name of the training each method needs.
    pub fn training(&self, index: usize) -> &'static str {
        if self.needs_footage.get(index).copied().unwrap_or(false) { "light" } else { "free" }
    }

    /// The table for a terminal; shares in percent.
    pub fn table(&self) -> String {
        let mut text = format!("{}: {} images", self.dataset, self.images);
        if !self.skipped.is_empty() {
            let _ = write!(text, ", {} skipped", self.skipped.len());
        }
        if self.unlabelled > 0 {
            let _ = write!(text, ", {} without ground truth left out", self.unlabelled);
        }
        let width = self.methods.iter().map(|method| method.name.chars().count()).max().unwrap_or(0).max(6);
        let _ = writeln!(
            text,
            "\n{:width$}  {:8}  {:>6} {:>6} {:>6}  {:>6} {:>6} {:>6}",
            "method", "training", "AP", "AUROC", "FPR95", "sIoU", "PPV", "F1"
        );
        let percent =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{:.2}", 100.0 * value));
        for (index, method) in self.methods.iter().enumerate() {
            let pixels = method.pixels.as_ref();
            let components = method.components.as_ref();
            let _ = writeln!(
                text,
                "{:width$}  {:8}  {:>6} {:>6} {:>6}  {:>6} {:>6} {:>6}",
                method.name,
                self.training(index),
                percent(pixels.map(|pixels| pixels.ap)),
                percent(pixels.map(|pixels| pixels.auroc)),
                percent(pixels.map(|pixels| pixels.fpr95)),
                percent(components.and_then(|components| components.siou)),
                percent(components.and_then(|components| components.ppv)),
                percent(components.and_then(|components| components.f1)),
            );
        }
        if let Some(undefined) = self.undefined() {
            let _ = writeln!(text, "{undefined}");
        }
        let error = self.binning_error();
        if error > 0.0 {
            let _ = writeln!(
                text,
                "scores were binned: each pixel metric is within {:.5} of its exact value",
                100.0 * error
            );
        }
        text
    }

    /// The report as JSON; shares are 0..1, undefined values are null.
    pub fn json(&self) -> Value {
        let methods: Map<String, Value> = self
            .methods
            .iter()
            .enumerate()
            .map(|(index, method)| {
                let mut value = numbers(method.pixels.as_ref(), method.components.as_ref());
                value.insert("training".to_owned(), json!(self.training(index)));
                if let Some(pixels) = &method.pixels {
                    value.insert("best_f1_pixels".to_owned(), json!(pixels.best_f1));
                    value.insert("best_threshold".to_owned(), json!(pixels.best_threshold));
                    value.insert("binning_error".to_owned(), json!(pixels.binning_error));
                }
                if let Some(components) = &method.components {
                    value.insert("components_truth".to_owned(), json!(components.truth));
                    value.insert("components_predicted".to_owned(), json!(components.predicted));
                }
                let images = method.images.iter().map(|image| {
                    let mut value = numbers(image.pixels.as_ref(), image.components.as_ref());
                    value.insert("name".to_owned(), json!(image.name));
                    Value::Object(value)
                });
                value.insert("per_image".to_owned(), images.collect());
                (method.name.clone(), Value::Object(value))
            })
            .collect();
        json!({
            "dataset": self.dataset,
            "layout": self.layout,
            "model": self.model,
            "images": self.images,
            "unlabelled": self.unlabelled,
            "skipped": self.skipped,
            "pixels": self.pixels,
            "min_component_pixels": { "predicted": self.limits.predicted, "truth": self.limits.truth },
            "default_method": self.default_method,
            "undefined": self.undefined(),
            "methods": methods,
        })
    }
}

fn numbers(
    pixels: Option<&super::metrics::PixelMetrics>,
    components: Option<&super::components::ComponentMetrics>,
) -> Map<String, Value> {
    [
        ("ap", pixels.map(|pixels| pixels.ap)),
        ("auroc", pixels.map(|pixels| pixels.auroc)),
        ("fpr95", pixels.map(|pixels| pixels.fpr95)),
        ("siou", components.and_then(|components| components.siou)),
        ("ppv", components.and_then(|components| components.ppv)),
        ("f1", components.and_then(|components| components.f1)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), json!(value)))
    .collect()
}
