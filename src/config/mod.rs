//! The pipeline file (TOML) and what the command line changes in it.
//!
//! One file holds all settings of `run`. Values come from three places, each overriding the one before:
//! the defaults, the file of `-c`, `--set section.key=value` and the options that stand for such a key. Relative paths
//! of the file start at its folder, all others at the working directory.

mod check;
mod layers;
mod load;

use serde::{Deserialize, Serialize};

use crate::address::{Address, LocatedPath, located};
use crate::compute::{ComputeChoice, Upsampling};
use crate::draw::Style;
use crate::duration::{milliseconds, optional_seconds};
use crate::gst::decoder::Hardware;
use crate::input::live::SourceOptions;
use crate::model::Manifest;
use crate::model::locate::ModelPath;
use crate::model::manifest::Colour;
use crate::model::runtime::provider::{Device, Precision, Provider};
use crate::model::views::{Resize, Views};
use crate::notify::{ExecConfig, MqttConfig, NotifyOptions, WebhookConfig};
use crate::ood::alarm::EventsConfig;
use crate::output::publish::{HlsOptions, RecordOptions, ServeOptions};
use crate::pipeline::{Policy, Sync};
use crate::record::ArchiveConfig;
use crate::{Error, Result};

/// A whole pipeline file. Every key is optional.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The network.
    pub model: ModelConfig,
    /// The score and the threshold.
    pub detect: DetectConfig,
    /// The rules by which marked regions become alarms.
    pub events: EventsConfig,
    /// The drawing.
    pub draw: Style,
    /// The encoding of the output.
    pub encode: EncodeConfig,
    /// Sizes of the pipeline itself.
    pub pipeline: PipelineConfig,
    /// The handling of live pictures that arrive faster than they are processed.
    pub live: LiveConfig,
    /// The reading of live inputs.
    pub source: SourceOptions,
    /// The RTSP server.
    pub serve: ServeOptions,
    /// Recordings in segments.
    pub record: RecordOptions,
    /// HLS output.
    pub hls: HlsOptions,
    /// The page, health, metrics and reload over HTTP.
    pub http: HttpConfig,
    /// Messages to brokers.
    pub mqtt: MqttConfig,
    /// Messages to web servers.
    pub webhook: WebhookConfig,
    /// Messages to commands.
    pub exec: ExecConfig,
    /// Reading of recorded footage.
    pub archive: ArchiveConfig,
    /// Inputs that run at the same time, each with its outputs.
    pub stream: Vec<StreamConfig>,
}

impl Config {
    /// The settings of all kinds of message outputs.
    pub(crate) fn notify(&self) -> NotifyOptions<'_> {
        NotifyOptions { mqtt: &self.mqtt, webhook: &self.webhook, exec: &self.exec }
    }
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// ONNX file, or the name of a bundled model; the default model when left out.
    #[serde(skip_serializing)]
    pub path: Option<ModelPath>,
    /// Execution provider.
    pub provider: Provider,
    /// Threads within one operator; one per core when left out.
    pub threads: Option<usize>,
    /// Device of the provider: a number, or for OpenVINO a name such as `"NPU"`; its first when left out.
    pub device: Option<Device>,
    /// The number format in which the provider computes.
    pub precision: Precision,
    /// The same as `precision = "f16"`.
    pub fp16: bool,
    /// Tensors or operators to take features from; as the manifest says, else found, when left out.
    pub features: Vec<String>,
    /// Order of the channels of the network's pictures; as the manifest says, else `rgb`, when left out.
    pub colour: Option<Colour>,
    /// Fit of a frame to the network's input size; as the manifest says, else `stretch`, when left out.
    pub resize: Option<Resize>,
    /// Overlap of neighbouring tiles as a share of the network's input, 0 to 0.5.
    pub tile_overlap: f32,
    /// Also run the network on the mirrored frame, and average the results.
    pub flip: bool,
    /// Run the network at these scales of the frame, 0.5 to 4, and average the results; above 1 in tiles.
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
            colour: None,
            resize: None,
            tile_overlap,
            flip,
            scales,
        }
    }
}

impl ModelConfig {
    /// The precision by `precision` and `fp16` together.
    ///
    /// # Errors
    /// They contradict each other.
    pub(crate) fn precision(&self) -> Result<Precision> {
        match (self.fp16, self.precision) {
            (false, precision) => Ok(precision),
            (true, Precision::Auto | Precision::F16) => Ok(Precision::F16),
            (true, other) => {
                Err(Error::usage(format!("model.fp16 = true contradicts model.precision = \"{}\"", other.name()))
                    .hint("leave model.fp16 out: model.precision is enough"))
            }
        }
    }

    /// The views for a model with this manifest.
    pub(crate) fn views(&self, manifest: &Manifest) -> Views {
        Views {
            resize: self.resize.or(manifest.input.resize).unwrap_or_default(),
            tile_overlap: self.tile_overlap,
            flip: self.flip,
            scales: self.scales.clone(),
        }
    }
}

/// `[detect]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
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
    /// The back end of K-Means and the score maps.
    pub compute: ComputeChoice,
    /// Store features as f16 on a GPU: half the upload and memory, slightly other clusters.
    pub gpu_f16: bool,
    /// Seed the clusters of a frame with those of the frame before.
    pub warm_start: bool,
    /// Weight of the newest score map in the exponential mean over time, above 0 to 1; 1 is off.
    pub smoothing: f32,
    /// Upsampling of the score from the grid to the frame's size; the method's own when left out.
    pub upsampling: Option<Upsampling>,
    /// Calibration file, written by `oodstream calibrate`.
    #[serde(skip_serializing)]
    pub calibration: Option<LocatedPath>,
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
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncodeConfig {
    /// A GStreamer H.264 encoder element; chosen by rank, hardware first, when left out.
    pub encoder: Option<String>,
    /// Whether video is encoded on hardware: `auto` (where an encoder for it opens), `off` or `require`.
    pub hw: Hardware,
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
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveConfig {
    /// The frames to drop when there are too many.
    pub policy: Policy,
    /// The result that is drawn on a frame.
    pub sync: Sync,
    /// Frames older than this when the network becomes free are dropped, in seconds; no limit when left out.
    #[serde(deserialize_with = "optional_seconds")]
    pub max_latency_s: Option<f64>,
    /// Frames that may wait for the network per stream, for `drop-oldest` and `wait`.
    pub queue: usize,
    /// Pictures of several streams that the network takes at once; 0: one on the CPU provider, measured on others.
    pub batch: usize,
    /// Milliseconds that a batch waits to be filled.
    #[serde(deserialize_with = "milliseconds")]
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
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address of the page, `/healthz`, `/readyz`, `/metrics` and `/reload`: a port on loopback, or `HOST:PORT`; none
    /// when left out.
    pub listen: Option<String>,
    /// Names beside `localhost` and that of `listen` by which browsers may reach the page.
    pub hosts: Vec<String>,
    /// Argon2 hash of the page's password, as `oodstream password` prints it.
    pub password_hash: Option<String>,
    /// File with a token that programs send as `Authorization: Bearer TOKEN`.
    pub token: Option<LocatedPath>,
    /// PEM file with the certificate (and its chain), for `https://`.
    pub certificate: Option<LocatedPath>,
    /// PEM file with the certificate's key.
    pub key: Option<LocatedPath>,
    /// Largest width of the pictures on the page, in pixels.
    pub video_width: u32,
    /// Most pictures of a stream in a second.
    pub video_fps: f64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: None,
            hosts: Vec::new(),
            password_hash: None,
            token: None,
            certificate: None,
            key: None,
            video_width: 640,
            video_fps: 10.0,
        }
    }
}

/// `[[stream]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// In events, metrics and file names.
    pub name: Option<String>,
    /// The input; a relative path starts at the pipeline file's folder.
    #[serde(deserialize_with = "located")]
    pub input: Address,
    /// The outputs, as `-o` takes them; relative paths start at the working directory.
    #[serde(default)]
    pub output: Vec<Address>,
    /// Play a file at its recorded speed.
    #[serde(default)]
    pub realtime: bool,
}
