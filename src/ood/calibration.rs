//! Statistics of a model's scores on ordinary footage: thresholds, terms and the codebook, in a small TOML file.
//!
//! The codebook lies beside it as `NAME.codebook.npy`, `[M, D]` f32. Hashes tie the files to the model and each other.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::method::{Method, statistic_name, unit_name};
use crate::atomic_file;
use crate::compute::{Codebook, Grid, Statistic, Term, Unit};
use crate::model::manifest::{Colour, sha256_hex};
use crate::model::views::Views;
use crate::npy::{self, FloatType};
use crate::{Error, Result};

/// The version of the file's format that this program reads and writes.
const FORMAT: u32 = 1;

/// A calibration file with its codebook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Version of the format.
    pub format: u32,
    /// The model that it belongs to.
    pub model: ModelId,
    /// The views of the frames; a file without it means one stretched view.
    #[serde(default)]
    pub views: Views,
    /// The footage it was made from.
    pub footage: Footage,
    /// Thresholds and standardised terms by method.
    pub methods: Vec<CalibratedMethod>,
    /// Every term that was measured.
    pub statistics: Vec<TermStatistics>,
    /// How the codebook was made, and how it fits ordinary frames that it was not made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bank: Option<BankFigures>,
    /// The codebook file, for `bank`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codebook: Option<CodebookFile>,
    /// The codebook itself, read from its file.
    #[serde(skip)]
    pub centroids: Option<Arc<Codebook>>,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelId {
    /// Name of the ONNX file.
    pub file: String,
    /// SHA-256 of the ONNX file, 64 hexadecimal digits.
    pub sha256: String,
    /// The maps that were clustered.
    #[serde(default)]
    pub features: Vec<String>,
    /// The form of the pictures that the network got; a file without it was made before that was noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<InputForm>,
}

/// `[model.input]`: what a manifest or an option can change about the pictures of the same network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputForm {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Order of the channels.
    pub colour: Colour,
    /// Subtracted from R, G, B in 0..1.
    pub mean: [f32; 3],
    /// Divides R, G, B then.
    pub std: [f32; 3],
}

impl InputForm {
    /// What `other` has otherwise: the key, and both values.
    fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let close = |a: &[f32; 3], b: &[f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(1.0));
        let size = |form: &Self| format!("{}x{}", form.width, form.height);
        if self.colour != other.colour {
            Some(("colour order", self.colour.name().to_owned(), other.colour.name().to_owned()))
        } else if size(self) != size(other) {
            Some(("size", size(self), size(other)))
        } else if !close(&self.mean, &other.mean) {
            Some(("mean", format!("{:?}", self.mean), format!("{:?}", other.mean)))
        } else if !close(&self.std, &other.std) {
            Some(("std", format!("{:?}", self.std), format!("{:?}", other.std)))
        } else {
            None
        }
    }
}

/// `[footage]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Footage {
    /// The inputs as given.
    pub inputs: Vec<String>,
    /// Frames that were measured.
    pub frames: usize,
    /// Frames that stood out and were left out.
    pub odd_frames: usize,
    /// Share of ordinary pixels that the thresholds mark, 0..1.
    pub false_positive_share: f64,
}

/// `[[methods]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibratedMethod {
    /// As on the command line.
    pub name: String,
    /// Numbers of clusters.
    #[serde(default)]
    pub k: Vec<usize>,
    /// The grid on which it was measured; a file without it was made before there was another.
    #[serde(default)]
    pub grid: Grid,
    /// Pixels with `score >= threshold` are marked.
    pub threshold: f32,
    /// Share of the pixels of held-back ordinary frames that a threshold chosen on the others marks, 0..1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back_share: Option<f64>,
    /// The score that takes the place of `threshold` in the rules for alarms: regions of ordinary footage stay below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm_threshold: Option<f32>,
    /// The summands with their statistics.
    pub terms: Vec<Term>,
}

/// `[[statistics]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermStatistics {
    /// The statistic.
    pub statistic: Statistic,
    /// The unit it is averaged over.
    pub unit: Unit,
    /// Numbers of clusters, for cluster terms.
    #[serde(default)]
    pub k: Vec<usize>,
    /// The grid on which it was measured; a file without it was made before there was another.
    #[serde(default)]
    pub grid: Grid,
    /// Mean over the ordinary pixels.
    pub mean: f32,
    /// Standard deviation over the ordinary pixels.
    pub std: f32,
}

/// `[bank]`
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BankFigures {
    /// Centroids of the codebook.
    pub centroids: usize,
    /// Feature vectors that it was made from.
    pub vectors: usize,
    /// Area under the ROC curve by which it tells held-back ordinary frames from its own: 0.5 where it cannot, more where
    /// the footage is too little or too uneven.
    pub held_back_auroc: f64,
}

/// `[codebook]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodebookFile {
    /// File name, in the folder of the TOML file.
    pub file: String,
    /// SHA-256 of that file, 64 hexadecimal digits.
    pub sha256: String,
}

impl CalibratedMethod {
    fn thresholds_are_finite(&self) -> bool {
        self.threshold.is_finite() && self.alarm_threshold.is_none_or(f32::is_finite)
    }
}

impl Calibration {
    /// An empty one of the current format.
    pub fn new(model: ModelId, views: Views, footage: Footage) -> Self {
        Self {
            format: FORMAT,
            model,
            views,
            footage,
            methods: Vec::new(),
            statistics: Vec::new(),
            bank: None,
            codebook: None,
            centroids: None,
        }
    }

    /// Reads a file and its codebook, for a model with these views.
    ///
    /// # Errors
    /// It cannot be read, is damaged, is of another format, or was made for another model, other features, pictures of
    /// another form or another way of looking.
    pub fn load(path: &Path, model: &ModelId, views: &Views) -> Result<Self> {
        let place = format!("calibration {}", path.display());
        let text = fs::read_to_string(path).map_err(|error| {
            Error::usage(format!("{place}: {error}")).hint("`oodstream calibrate INPUT... -o FILE` writes one")
        })?;
        let mut calibration: Self = toml::from_str(&text)
            .map_err(|error| Error::usage(format!("{place}: {}", error.to_string().trim_end())))?;
        if calibration.format != FORMAT {
            return Err(Error::usage(format!(
                "{place}: it has format {}, this program reads {FORMAT}",
                calibration.format
            )));
        }
        let made_for = &calibration.model;
        if !made_for.sha256.eq_ignore_ascii_case(&model.sha256) {
            return Err(Error::usage(format!(
                "{place}: it was made for another model ({}, SHA-256 {}), the one in use has {}",
                made_for.file, made_for.sha256, model.sha256
            ))
            .hint("run `oodstream calibrate` with this model, or --model with the one it was made for"));
        }
        if made_for.features != model.features {
            let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Error::usage(format!(
                "{place}: it was made with the features {}, and those in use are {}",
                list(&made_for.features),
                list(&model.features)
            ))
            .hint("calibrate again with the same --feature"));
        }
        match (&made_for.input, &model.input) {
            (Some(made_for), Some(input)) => {
                if let Some((what, then, now)) = made_for.difference(input) {
                    return Err(Error::usage(format!(
                        "{place}: it was made with pictures of {what} {then}, and those in use have {now}"
                    ))
                    .hint("calibrate again with the same --colour and [input] of the manifest as `run`"));
                }
            }
            (None, _) => tracing::warn!(
                "{place}: it does not say with which colour order and normalisation it was made, and is taken to fit; \
                 `oodstream calibrate` writes a file that does"
            ),
            (Some(_), None) => {}
        }
        if !calibration.views.same(views) {
            return Err(Error::usage(format!(
                "{place}: it was made with the views {}, and the views in use are {views}",
                calibration.views
            ))
            .hint("calibrate again with the same --resize, --tile-overlap, --flip and --scales as `run`"));
        }
        calibration.check().map_err(|error| error.at(&place))?;
        if let Some(file) = &calibration.codebook {
            let path = path.with_file_name(&file.file);
            let bytes = fs::read(&path)
                .map_err(|error| Error::usage(format!("{place}: its codebook {}: {error}", path.display())))?;
            if sha256_hex(&bytes) != file.sha256.to_ascii_lowercase() {
                return Err(Error::usage(format!(
                    "{place}: its codebook {} is not the file that was written",
                    path.display()
                )));
            }
            calibration.centroids = Some(Arc::new(Codebook { centroids: npy::read(&path)? }));
        }
        Ok(calibration)
    }

    fn check(&self) -> Result<()> {
        let good = |term: &Term| {
            term.deviation > 0.0 && term.deviation.is_finite() && term.mean.is_finite() && term.weight.is_finite()
        };
        for method in &self.methods {
            if method.terms.is_empty() || !method.terms.iter().all(good) || !method.thresholds_are_finite() {
                return Err(Error::usage(format!(
                    "methods: `{}` needs terms with std > 0 and a finite threshold",
                    method.name
                )));
            }
        }
        match self.statistics.iter().find(|entry| !(entry.std > 0.0 && entry.std.is_finite() && entry.mean.is_finite()))
        {
            Some(bad) => Err(Error::usage(format!(
                "statistics: {}:{} needs a finite mean and std > 0",
                unit_name(bad.unit),
                statistic_name(bad.statistic)
            ))),
            None => Ok(()),
        }
    }

    /// Writes the TOML file and, where there is a codebook, `NAME.codebook.npy` beside it.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let failed = |error: std::io::Error| Error::failed(format!("calibration {}: {error}", path.display()));
        let file = atomic_file::create(path).map_err(failed)?;
        if let Some(codebook) = &self.centroids {
            let beside = path.with_extension("codebook.npy");
            npy::write(&beside, codebook.centroids.view(), FloatType::F32)?;
            self.codebook = Some(CodebookFile {
                file: beside.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                sha256: sha256_hex(&fs::read(&beside).map_err(failed)?),
            });
        }
        let text =
            toml::to_string(self).map_err(|error| Error::failed(format!("calibration {}: {error}", path.display())))?;
        fs::write(&file, text).map_err(failed)?;
        file.persist(path).map(drop).map_err(|error| failed(error.error))
    }

    /// Completes the method: statistics of its terms, the codebook, the threshold. A threshold that the
    /// calibration does not know is dropped: one from elsewhere is not for what the calibration was made for.
    ///
    /// # Errors
    /// The calibration lacks something that the method requires.
    pub fn apply(&self, method: &mut Method) -> Result<()> {
        let known = self.methods.iter().find(|known| {
            known.name == method.name
                && (known.k == method.recipe.k || method.recipe.terms.iter().all(|term| term.unit == Unit::Pixel))
        });
        if let Some(known) = known {
            if known.grid != method.recipe.grid {
                return Err(Error::usage(format!(
                    "method `{}`: the calibration has its threshold on the grid `{}`, and it is scored on `{}`",
                    method.name,
                    known.grid.name(),
                    method.recipe.grid.name()
                ))
                .hint("calibrate again: methods made from the logits alone are scored at the logits' resolution"));
            }
            method.recipe.terms.clone_from(&known.terms);
            method.threshold = Some(known.threshold);
            method.alarm_threshold = known.alarm_threshold;
        } else {
            (method.threshold, method.alarm_threshold) = (None, None);
        }
        if known.is_none() && method.needs_statistics {
            for term in &mut method.recipe.terms {
                let entry = self.find(term, &method.recipe.k, method.recipe.grid).ok_or_else(|| {
                    Error::usage(format!(
                        "method `{}`: the calibration has no statistics of {}:{} on the grid `{}`",
                        method.name,
                        unit_name(term.unit),
                        statistic_name(term.statistic),
                        method.recipe.grid.name()
                    ))
                    .hint(format!("calibrate again with --methods '{}'", method.name))
                })?;
                (term.mean, term.deviation) = (entry.mean, entry.std);
            }
        }
        method.needs_statistics = false;
        if method.recipe.terms.iter().any(|term| term.statistic == Statistic::Bank) {
            method.recipe.codebook = Some(self.centroids.clone().ok_or_else(|| {
                Error::usage(format!("method `{}`: the calibration has no codebook", method.name))
                    .hint("calibrate again with --codebook 1024")
            })?);
        }
        Ok(())
    }

    fn find(&self, term: &Term, k: &[usize], grid: Grid) -> Option<&TermStatistics> {
        self.statistics.iter().find(|entry| {
            (entry.statistic, entry.unit, entry.grid) == (term.statistic, term.unit, grid)
                && (term.unit == Unit::Pixel || entry.k == k)
        })
    }
}

/// A method made ready to score, with a calibration where there is one.
///
/// # Errors
/// The calibration is missing, or lacks something that the method requires.
pub fn ready(mut method: Method, calibration: Option<&Calibration>) -> Result<Method> {
    match calibration {
        Some(calibration) => calibration.apply(&mut method)?,
        None if method.needs_calibration() => {
            return Err(Error::usage(format!("method `{}` needs a calibration", method.name)).hint(
                "`oodstream calibrate INPUT... -o calibration.toml` on ordinary footage, then --calibration calibration.toml",
            ));
        }
        None => {}
    }
    Ok(method)
}
