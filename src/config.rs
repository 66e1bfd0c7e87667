//! The pipeline file (TOML) and what the command line changes in it.
//!
//! One file is enough for everything that `run` can be told. Values come from three places, each over the one before:
//! the defaults, the file of `-c`, `--set section.key=value` and the options that stand for such a key.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::compute::{ComputeChoice, Upsampling};
use crate::draw::Style;
use crate::gst::hide_credentials;
use crate::input::live::SourceOptions;
use crate::model::Manifest;
use crate::model::runtime::provider::{Device, Precision, Provider};
use crate::model::views::{Resize, Views};
use crate::ood::alarm::EventsConfig;
use crate::output::publish::{HlsOptions, RecordOptions, ServeOptions};
use crate::pipeline::{Policy, Sync};
use crate::record::ArchiveConfig;
use crate::{Error, Result};

/// A whole pipeline file. Every key is optional.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The network.
    pub model: ModelConfig,
    /// How the score is made and what is marked.
    pub detect: DetectConfig,
    /// Which marked regions become alarms.
    pub events: EventsConfig,
    /// What is drawn.
    pub draw: Style,
    /// How the video is encoded again.
    pub encode: EncodeConfig,
    /// Sizes of the pipeline itself.
    pub pipeline: PipelineConfig,
    /// What happens when live pictures come faster than they are worked on.
    pub live: LiveConfig,
    /// How live inputs are read.
    pub source: SourceOptions,
    /// The RTSP server.
    pub serve: ServeOptions,
    /// Recordings in segments.
    pub record: RecordOptions,
    /// HLS output.
    pub hls: HlsOptions,
    /// Health, metrics and reload over HTTP.
    pub http: HttpConfig,
    /// How recorded footage is read.
    pub archive: ArchiveConfig,
    /// Inputs that run at the same time, each with its outputs.
    pub stream: Vec<StreamConfig>,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// ONNX file; the default model when left out. A relative path starts at the pipeline file's folder.
    pub path: Option<PathBuf>,
    /// Execution provider.
    pub provider: Provider,
    /// Threads within one operator; one per core when left out.
    pub threads: Option<usize>,
    /// Which of the provider's devices: a number, or for OpenVINO a name such as `"NPU"`; its first when left out.
    pub device: Option<Device>,
    /// The number format in which the provider computes.
    pub precision: Precision,
    /// The same as `precision = "f16"`.
    pub fp16: bool,
    /// Tensors or operators to take features from; as the manifest says, else found, when left out.
    pub features: Vec<String>,
    /// How a frame is brought to the network's size; as the manifest says, else `stretch`, when left out.
    pub resize: Option<Resize>,
    /// Share of the network's input that neighbouring tiles have in common, 0 to 0.5.
    pub tile_overlap: f32,
    /// Look at the mirror image, too, and take the mean.
    pub flip: bool,
    /// Look at the frame at these sizes and take the mean, 0.5 to 4; above 1 it is cut into tiles.
    pub scales: Vec<f32>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        let Views { tile_overlap, flip, scales, .. } = Views::default();
        Self {
            path: None,
            provider: Provider::default(),
            threads: None,
            device: None,
            precision: Precision::default(),
            fp16: false,
            features: Vec::new(),
            resize: None,
            tile_overlap,
            flip,
            scales,
        }
    }
}

impl ModelConfig {
    /// What `precision` and `fp16` say together.
    ///
    /// # Errors
    /// They contradict each other.
    pub fn precision(&self) -> Result<Precision> {
        match (self.fp16, self.precision) {
            (false, precision) => Ok(precision),
            (true, Precision::Auto | Precision::F16) => Ok(Precision::F16),
            (true, other) => {
                Err(Error::usage(format!("model.fp16 = true contradicts model.precision = \"{}\"", other.name()))
                    .hint("leave model.fp16 out: model.precision says all"))
            }
        }
    }

    /// How frames are looked at with a model that has this manifest.
    pub fn views(&self, manifest: &Manifest) -> Views {
        Views {
            resize: self.resize.or(manifest.input.resize).unwrap_or_default(),
            tile_overlap: self.tile_overlap,
            flip: self.flip,
            scales: self.scales.clone(),
        }
    }
}

/// `[detect]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectConfig {
    /// Name of the score, or `default` for the one in the model's manifest.
    pub method: String,
    /// Numbers of clusters of the ensemble; the method's own when left out.
    pub k: Option<Vec<usize>>,
    /// Seed of k-means++; the manifest's when left out.
    pub seed: Option<u64>,
    /// Upper bound on Lloyd iterations per frame and K.
    pub max_iterations: usize,
    /// Pixels with `score >= threshold` are marked; the manifest's when left out.
    pub threshold: Option<f32>,
    /// Where K-Means and the maps are computed.
    pub compute: ComputeChoice,
    /// Store features as f16 on a GPU: half the upload and memory, slightly other clusters.
    pub gpu_f16: bool,
    /// Seed the clusters of a frame with those of the frame before.
    pub warm_start: bool,
    /// Weight of the newest score map in the exponential mean over time, above 0 to 1; 1 is off.
    pub smoothing: f32,
    /// How the score comes from the grid to the frame's size; the method's own when left out.
    pub upsampling: Option<Upsampling>,
    /// A file written by `oodstream calibrate`.
    pub calibration: Option<PathBuf>,
}

impl Default for DetectConfig {
    fn default() -> Self {
        Self {
            method: "default".to_owned(),
            k: None,
            seed: None,
            max_iterations: 50,
            threshold: None,
            compute: ComputeChoice::Auto,
            gpu_f16: false,
            warm_start: true,
            smoothing: 0.8,
            upsampling: None,
            calibration: None,
        }
    }
}

/// `[encode]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncodeConfig {
    /// A GStreamer H.264 encoder element; chosen by rank, hardware first, when left out.
    pub encoder: Option<String>,
    /// Wanted bit rate in kbit/s; constant quality when left out.
    pub bitrate: Option<u32>,
    /// Constant quality, 0 (lossless) to 51; x264's rate factor. Not together with `bitrate`.
    pub crf: Option<u32>,
    /// Speed preset of the encoder, such as `veryfast` for x264enc.
    pub preset: Option<String>,
    /// Whether an existing output may be replaced.
    pub overwrite: bool,
}

/// `[pipeline]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PipelineConfig {
    /// Frames that may wait between two stages.
    pub queue: usize,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self { queue: 1 }
    }
}

/// `[live]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveConfig {
    /// Which frames are left out when there are too many.
    pub policy: Policy,
    /// Whether the drawing belongs to the frame, or the video keeps its full rate.
    pub sync: Sync,
    /// Frames older than this when the network could take them are left out, in seconds; no limit when left out.
    pub max_latency_s: Option<f64>,
    /// Frames that may wait for the network per stream, for `drop-oldest` and `wait`.
    pub queue: usize,
    /// Pictures of several streams that the network takes at once; 0: one on a CPU, one per stream elsewhere.
    pub batch: usize,
    /// Milliseconds that a batch waits to be filled.
    pub batch_wait_ms: u64,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            sync: Sync::default(),
            max_latency_s: None,
            queue: 4,
            batch: 0,
            batch_wait_ms: 5,
        }
    }
}

/// `[http]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address of `/healthz`, `/readyz`, `/metrics` and `/reload`: a port on loopback, or `HOST:PORT`; none when left out.
    pub listen: Option<String>,
}

/// `[[stream]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// In events, metrics and file names.
    pub name: Option<String>,
    /// The input.
    pub input: String,
    /// The outputs, as `-o` takes them.
    #[serde(default)]
    pub output: Vec<String>,
    /// A file, played at the speed at which it was taken.
    #[serde(default)]
    pub realtime: bool,
}

impl Config {
    /// The file (if any) with `overrides` of the form `section.key=value` over it, checked.
    ///
    /// # Errors
    /// The file cannot be read or parsed, a key is unknown, a value has a wrong type or is out of range. The message
    /// names the file and the line, or the override.
    pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Self> {
        let mut table = Table::new();
        if let Some(path) = file {
            let place = format!("pipeline file {}", path.display());
            let text = fs::read_to_string(path).map_err(|error| Error::usage(format!("{place}: {error}")))?;
            let parsed: Self = toml::from_str(&text)
                .map_err(|error: toml::de::Error| Error::usage(format!("{place}{}", told(&error, &text))))?;
            parsed.check().map_err(|error| error.at(&place))?;
            table = text.parse().map_err(|error| Error::usage(format!("{place}: {error}")))?;
            anchor_paths(&mut table, path.parent().unwrap_or(Path::new("")));
        }
        for text in overrides {
            apply(&mut table, text)?;
        }
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            Error::usage(format!("configuration: {}", hide_credentials(error.message())))
        })?;
        config.check()?;
        Ok(config)
    }

    pub(crate) fn check(&self) -> Result<()> {
        let share = |key: &str, value: f32, above_zero: bool| {
            if (0.0..=1.0).contains(&value) && !(above_zero && value == 0.0) {
                Ok(())
            } else {
                let range = if above_zero { "above 0 to 1" } else { "0 to 1" };
                Err(Error::usage(format!("{key} is {value}, it must be {range}")))
            }
        };
        self.draw.check()?;
        self.events.check()?;
        self.archive.check()?;
        share("detect.smoothing", self.detect.smoothing, true)?;
        let at_least_one = |key: &str, value: usize| {
            if value == 0 { Err(Error::usage(format!("{key} is 0, it must be at least 1"))) } else { Ok(()) }
        };
        at_least_one("detect.max_iterations", self.detect.max_iterations)?;
        at_least_one("pipeline.queue", self.pipeline.queue)?;
        at_least_one("live.queue", self.live.queue)?;
        if (self.live.policy, self.live.sync) == (Policy::Wait, Sync::Newest) {
            return Err(Error::usage("live.sync = newest never waits for the network, and live.policy = wait does")
                .hint("leave the policy out, or take drop-oldest"));
        }
        for (key, seconds) in
            [("live.max_latency_s", self.live.max_latency_s), ("source.stall_s", Some(self.source.stall_s))]
        {
            if let Some(seconds) = seconds.filter(|seconds| !(*seconds > 0.0 && *seconds <= 86400.0)) {
                return Err(Error::usage(format!("{key} is {seconds}, it must be above 0 to 86400 seconds")));
            }
        }
        at_least_one("model.threads", self.model.threads.unwrap_or(1))?;
        self.model.views(&Manifest::default()).check().map_err(|error| error.at("[model]"))?;
        for &k in self.detect.k.iter().flatten() {
            at_least_one("detect.k", k)?;
        }
        if self.detect.k.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::usage("detect.k is empty, give at least one number of clusters"));
        }
        if let Some(crf) = self.encode.crf.filter(|crf| *crf > 51) {
            return Err(Error::usage(format!("encode.crf is {crf}, it must be 0 to 51")));
        }
        if self.encode.bitrate == Some(0) {
            return Err(Error::usage("encode.bitrate is 0, it must be at least 1 kbit/s"));
        }
        if self.encode.bitrate.is_some() && self.encode.crf.is_some() {
            return Err(Error::usage("encode.bitrate and encode.crf exclude each other: give one of them"));
        }
        Ok(())
    }
}

/// `error` with its line and key, and without the value: an address in it may hold a password.
fn told(error: &toml::de::Error, text: &str) -> String {
    let place = error.span().map(|span| {
        let line = text[..span.start].matches('\n').count();
        let key = text.lines().nth(line).and_then(|line| Some(line.split_once('=')?.0.trim())).unwrap_or_default();
        format!(", line {} {key}", line + 1)
    });
    format!("{}: {}", place.as_deref().unwrap_or_default().trim_end(), hide_credentials(error.message()))
}

/// Relative paths of a pipeline file start at its folder, so that it works from anywhere.
fn anchor_paths(table: &mut Table, folder: &Path) {
    let anchor = |path: &mut Value| {
        if let Value::String(path) = path
            && Path::new(path.as_str()).is_relative()
            && !path.contains("://")
        {
            *path = folder.join(path.as_str()).to_string_lossy().into_owned();
        }
    };
    for (section, key) in [
        ("model", "path"),
        ("detect", "calibration"),
        ("source", "credentials"),
        ("source", "tls_ca"),
        ("serve", "users"),
        ("serve", "certificate"),
        ("serve", "key"),
        ("serve", "push_credentials"),
        ("serve", "push_tls_ca"),
    ] {
        if let Some(path) = table.get_mut(section).and_then(|section| section.get_mut(key)) {
            anchor(path);
        }
    }
    let parts = table.get_mut("events").and_then(|events| events.get_mut("ignore"));
    for part in parts.and_then(Value::as_array_mut).into_iter().flatten() {
        if part.as_str().is_some_and(|part| !part.starts_with("poly:")) {
            anchor(part);
        }
    }
    for stream in table.get_mut("stream").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(input) = stream.get_mut("input") {
            anchor(input);
        }
    }
}

/// Puts one `section.key=value` into `table`. A value that is not TOML is taken as text, so that no shell quoting is needed.
fn apply(table: &mut Table, text: &str) -> Result<()> {
    let place = || format!("--set {}", hide_credentials(text));
    let (path, value) =
        text.split_once('=').ok_or_else(|| Error::usage(format!("{}: expected section.key=value", place())))?;
    let (section, key) =
        path.trim().split_once('.').ok_or_else(|| Error::usage(format!("{}: `{path}` is not section.key", place())))?;
    let value = format!("value = {value}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let alone =
        Table::from_iter([(section.to_owned(), Value::Table(Table::from_iter([(key.to_owned(), value.clone())])))]);
    // By itself first, so that the error speaks of this override and nothing else.
    let checked: Config = alone.try_into().map_err(|error: toml::de::Error| {
        Error::usage(format!("{}: {}", place(), hide_credentials(error.message())))
    })?;
    checked.check().map_err(|error| error.at(place()))?;
    let entry = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = entry {
        section.insert(key.to_owned(), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Palette;

    fn load(text: &str, overrides: &[&str]) -> Result<Config> {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), &overrides.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn overrides_win_over_the_file_and_need_no_quotes() {
        let config = load(
            "[draw]\nopacity = 0.2\npalette = \"magma\"\n",
            &["draw.opacity=0.7", "detect.method=msp", "detect.k=[3, 4]"],
        )
        .unwrap();
        assert_eq!((config.draw.opacity, config.draw.palette), (0.7, Palette::Magma));
        assert_eq!((config.detect.method.as_str(), config.detect.k), ("msp", Some(vec![3, 4])));
    }

    #[test]
    fn paths_of_a_file_start_at_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        fs::write(&file, "[serve]\nusers = \"u\"\npush_credentials = \"/p\"\n[source]\ncredentials = \"c\"\n").unwrap();
        let config = Config::load(Some(&file), &["serve.push_credentials=q".to_owned()]).unwrap();
        assert_eq!(config.serve.push_credentials.as_deref(), Some(Path::new("q")));
        assert_eq!(config.source.credentials, Some(folder.path().join("c")));
        fs::write(&file, "[serve]\npush_credentials = \"p\"\n").unwrap();
        let config = Config::load(Some(&file), &[]).unwrap();
        assert_eq!(config.serve.push_credentials, Some(folder.path().join("p")));
    }

    #[test]
    fn errors_name_the_key_the_file_and_the_line() {
        let unknown = load("[draw]\nopacity = 0.2\n[detect]\nmetod = \"msp\"\n", &[]).unwrap_err().to_string();
        assert!(unknown.contains("metod") && unknown.contains("line 4") && unknown.contains(".toml"), "{unknown}");
        let wrong = load("[draw]\nopacity = \"much\"\n", &[]).unwrap_err().to_string();
        assert!(wrong.contains("line 2") && wrong.contains("opacity"), "{wrong}");
        let range = load("[draw]\nopacity = 3.0\n", &[]).unwrap_err().to_string();
        assert!(range.contains("draw.opacity is 3"), "{range}");
    }

    #[test]
    fn a_wrong_override_is_named() {
        for (text, word) in [
            ("draw.opacity=big", "opacity"),
            ("draw.opcity=1", "opcity"),
            ("nonsense", "section.key"),
            ("detect.k=[0]", "detect.k"),
        ] {
            let error = load("", &[text]).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage);
            assert!(error.to_string().contains("--set") && error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn relative_paths_start_at_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        fs::write(&file, "[model]\npath = \"m.onnx\"\n").unwrap();
        assert_eq!(Config::load(Some(&file), &[]).unwrap().model.path, Some(folder.path().join("m.onnx")));
    }
}
