//! The manifest `NAME.toml` beside `NAME.onnx`: what a graph alone does not say.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::compute::{Term, Upsampling};
use crate::model::views::layout::Resize;
use crate::{Error, Result};

/// The contents of a manifest. Sections and keys that are left out are read off the graph (see `Network::load`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manifest {
    /// Name, licence, origin.
    pub model: ModelSection,
    /// The input tensor.
    pub input: InputSection,
    /// The roles of the outputs.
    pub outputs: OutputSection,
    /// The classes of the logits' channels.
    pub classes: ClassSection,
    /// The score that this model does best with.
    pub scoring: Option<ScoringSection>,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// Name for display.
    pub name: Option<String>,
    /// SPDX expression or a short text.
    pub licence: Option<String>,
    /// Where the model comes from.
    pub source: Option<String>,
    /// Hash of the `.onnx` file, 64 hexadecimal digits.
    pub sha256: Option<String>,
}

/// `[input]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InputSection {
    /// Name of the graph's input.
    pub name: Option<String>,
    /// Columns of the picture that the network takes.
    pub width: Option<usize>,
    /// Rows of the picture that the network takes.
    pub height: Option<usize>,
    /// Order of the axes.
    pub layout: Option<InputLayout>,
    /// Element type.
    pub dtype: Option<Dtype>,
    /// Order of the picture's channels.
    pub colour: Option<Colour>,
    /// Values of black and white before mean and deviation; without `mean` and `std` the network gets these.
    pub range: Option<Range>,
    /// Per channel in the order of `colour`, in units of `range`; subtracted first.
    pub mean: Option<[f32; 3]>,
    /// Per channel in the order of `colour`, in units of `range`; divided by then.
    pub std: Option<[f32; 3]>,
    /// The rule that brings the picture to the network's size, unless the user sets another.
    pub resize: Option<Resize>,
}

/// Order of the axes of the input tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputLayout {
    /// `[N, 3, H, W]`
    Nchw,
    /// `[N, H, W, 3]`
    Nhwc,
}

impl InputLayout {
    /// Name for display.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nchw => "NCHW",
            Self::Nhwc => "NHWC",
        }
    }
}

/// Order of the channels of a picture.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase", parse_err_ty = Error, parse_err_fn = crate::error::unknown_name)]
pub enum Colour {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red: networks trained with OpenCV or Caffe.
    Bgr,
}

impl Colour {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb => "RGB",
            Self::Bgr => "BGR",
        }
    }
}

/// Values of black and white.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Range {
    /// 0 and 1.
    #[default]
    #[serde(rename = "0..1")]
    Shares,
    /// 0 and 255.
    #[serde(rename = "0..255")]
    Codes,
}

impl Range {
    /// The value of white.
    pub fn white(self) -> f32 {
        match self {
            Self::Shares => 1.0,
            Self::Codes => 255.0,
        }
    }
}

/// Order of the axes of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MapLayout {
    /// `[N, C, h, w]`
    Nchw,
    /// `[N, h, w, C]`
    Nhwc,
    /// `[C, h, w]`
    Chw,
    /// `[h, w, C]`
    Hwc,
}

/// Element type of the input tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// The code values 0..255; the graph normalises them itself.
    U8,
}

impl Dtype {
    /// The name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::U8 => "u8",
        }
    }
}

/// `[outputs]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputSection {
    /// Raw logits before any softmax, `[N, C, h, w]`.
    pub logits: Option<String>,
    /// Classes of the queries of a query-mask network, `[N, Q, K + 1]`; the last one is "no object".
    pub queries: Option<String>,
    /// Masks of these queries, `[N, Q, h, w]`.
    pub masks: Option<String>,
    /// Order of the axes of the logits, where the graph leaves it open.
    pub layout: Option<MapLayout>,
    /// Feature maps `[N, D, h, w]` that are clustered together; the first one's size is the grid.
    pub features: Vec<String>,
}

/// `[classes]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassSection {
    /// One name per channel of the logits.
    pub names: Vec<String>,
    /// One R, G, B per channel of the logits.
    pub palette: Vec<[u8; 3]>,
}

/// `[scoring]`: the default method of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoringSection {
    /// Numbers of clusters of the ensemble.
    pub k: Vec<usize>,
    /// Seed of k-means++.
    #[serde(default)]
    pub seed: u64,
    /// Scale each feature vector to unit length before clustering.
    #[serde(default = "yes")]
    pub unit_length: bool,
    /// The way from the score on the grid to the score at the frame's size.
    #[serde(default)]
    pub upsampling: Upsampling,
    /// Pixels with `score >= threshold` are marked.
    pub threshold: f32,
    /// The summands of the score.
    pub terms: Vec<Term>,
}

fn yes() -> bool {
    true
}

impl Manifest {
    /// Reads the manifest beside `model`, `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, is not TOML, or has unknown keys or wrong types; the message has the file and the line.
    pub fn beside(model: &Path) -> Result<Option<Self>> {
        let path = model.with_extension("toml");
        if !path.is_file() {
            return Ok(None);
        }
        let text =
            fs::read_to_string(&path).map_err(|error| Error::usage(format!("manifest {}: {error}", path.display())))?;
        let manifest: Self = toml::from_str(&text)
            .map_err(|error| Error::usage(format!("manifest {}: {}", path.display(), error.to_string().trim_end())))?;
        manifest.check().map_err(|error| error.at(format!("manifest {}", path.display())))?;
        Ok(Some(manifest))
    }

    fn check(&self) -> Result<()> {
        let positive = |key: &str, value: Option<usize>| match value {
            Some(0) => Err(Error::usage(format!("input.{key} is 0, it must be at least 1"))),
            _ => Ok(()),
        };
        positive("width", self.input.width)?;
        positive("height", self.input.height)?;
        if let Some(std) = self.input.std
            && !std.iter().all(|value| value.is_finite() && *value > 0.0)
        {
            return Err(Error::usage(format!("input.std is {std:?}, each must be above 0")));
        }
        let outputs = &self.outputs;
        if outputs.queries.is_some() != outputs.masks.is_some() {
            return Err(Error::usage("outputs.queries and outputs.masks belong together, and one of them is missing"));
        }
        if outputs.queries.is_some() && outputs.logits.is_some() {
            return Err(Error::usage(
                "outputs.logits and outputs.queries are both given: the logits are made from one of them",
            ));
        }
        if let Some(scoring) = &self.scoring {
            if scoring.terms.is_empty() {
                return Err(Error::usage("scoring.terms is empty, a score needs at least one term"));
            }
            if let Some(term) = scoring.terms.iter().find(|term| !(term.deviation.is_finite() && term.deviation > 0.0))
            {
                return Err(Error::usage(format!("scoring.terms: std is {}, it must be above 0", term.deviation)));
            }
            if scoring.k.contains(&0) {
                return Err(Error::usage("scoring.k has a 0, each must be at least 1"));
            }
            if !scoring.threshold.is_finite() {
                return Err(Error::usage("scoring.threshold must be a finite number"));
            }
        }
        Ok(())
    }
}

/// SHA-256 of some bytes as 64 lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(text: &str) -> Result<Option<Manifest>> {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.onnx");
        fs::write(model.with_extension("toml"), text).unwrap();
        Manifest::beside(&model)
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = beside("[input]\nwidth = 4\nhight = 3\n").unwrap_err().to_string();
        assert!(error.contains("m.toml") && error.contains("line 3") && error.contains("hight"), "{error}");
    }

    #[test]
    fn impossible_values_are_refused() {
        for (text, key) in [
            ("[input]\nwidth = 0", "input.width"),
            ("[input]\nstd = [1.0, 0.0, 1.0]", "input.std"),
            ("[input]\ncolour = \"gbr\"", "gbr"),
            ("[input]\nrange = \"0..100\"", "0..100"),
            ("[outputs]\nqueries = \"a\"", "outputs.masks"),
            ("[outputs]\nqueries = \"a\"\nmasks = \"b\"\nlogits = \"c\"", "outputs.logits"),
            ("[scoring]\nk = [5]\nthreshold = 1.0\nterms = []", "scoring.terms"),
            ("[scoring]\nk = [0]\nthreshold = 1.0\nterms = [{statistic=\"msp\", unit=\"pixel\"}]", "scoring.k"),
        ] {
            let error = beside(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    fn the_hash_is_sha256() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
