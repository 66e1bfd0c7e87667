//! The options of `run`, and the configuration they result in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::archive::ArchiveArgs;
use super::network::NetworkArgs;
use super::source::SourceArgs;
use super::values::{address, choice, duration, duration_or_zero};
use crate::address::Address;
use crate::config::Config;
use crate::draw::{Palette, View};
use crate::ood::alarm::Ignored;
use crate::pipeline::{Policy, Sync};
use crate::{Error, Result};

/// Options of `run`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  oodstream run drive.mp4                             drive.ood.mp4 in the working directory
  oodstream run drive.mp4 -o marked.mkv --view side-by-side
  oodstream run archive/ 'trips/*.mp4' -o marked/     folders and globs, one output per video
  oodstream run drive.mp4 -o none -o events:e.jsonl -o masks:masks/
  oodstream run 'test://ball?frames=100' -o t.mp4     a built-in pattern
  oodstream run drive.mp4 -c pipelines/dashcam.toml --set detect.threshold=1.5
Archives:
  oodstream run -r archive/ -o marked/ -o events:events/      a tree; the same command resumes after a stop
  find /data -name '*.mp4' | oodstream run --inputs-from - -o none -o events:events/ --jobs 2
  oodstream run -r archive/ --include 'front/**' --exclude '*_LOW.mp4' -o marked/ --shard 3/10
  oodstream status marked/                                    done, failed, left
Live:
  oodstream run rtsp://camera/1 -o rtsp://127.0.0.1:8554/front -o events:front.jsonl --http 9090
  oodstream run v4l2:///dev/video0 -o hls:/var/www/road -o 'rec/%Y%m%d-%H%M%S.mp4'
  oodstream run rtsp://a/1 rtsp://b/1 -o 'rtsp://127.0.0.1:8554/{name}'    two cameras, one network
  oodstream run drive.mp4 --realtime -o rtsp://127.0.0.1:8554/drive
  oodstream run -c pipelines/multi-camera.toml        inputs and outputs from the file")]
pub struct RunArgs {
    /// A video, a folder of videos or images, a glob, test://, or live: rtsp://, rtsps://, http://, v4l2:///dev/videoN
    #[arg(value_name = "INPUT", value_parser = address())]
    pub inputs: Vec<Address>,
    /// Output: x.mp4, x.mkv, FOLDER/, none, events:x.jsonl, regions:x.jsonl, csv:x.csv, chapters:x.vtt, embeddings:x.npy,
    /// snapshots:DIR, clips:DIR, masks:DIR, scores:DIR, mqtt://[user@]HOST/TOPIC, webhook:URL, exec:COMMAND;
    /// live also rtsp://HOST:PORT/NAME, rtsp+push://, hls:DIR, display:, x-%Y%m%d-%H%M%S.mp4; {name} is the stream's name; repeatable
    #[arg(short, long, value_name = "OUT", value_parser = address())]
    pub output: Vec<Address>,
    /// Pipeline file
    #[arg(short, long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    /// Change one key of the pipeline file; repeatable
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Scoring method: default, max-logit, msp, entropy, energy, cluster, cluster-ensemble, ...
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Mark pixels whose score is at least this
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    threshold: Option<f32>,
    /// Calibration file, written by `oodstream calibrate`
    #[arg(long, value_name = "FILE.toml")]
    calibration: Option<PathBuf>,
    /// Ignore a part of the picture: MASK.png (the picture's size, white is ignored) or 'poly:x,y x,y x,y ...' with
    /// coordinates from 0 to 1; repeatable
    #[arg(long, value_name = "PART", help_heading = "Alarms")]
    ignore: Vec<String>,
    /// Classes of the model whose unusual members are drawn and logged as `unusual CLASS` without raising an alarm
    #[arg(long, value_name = "CLASS,...", value_delimiter = ',', help_heading = "Alarms")]
    known: Vec<String>,
    /// Content of the output picture
    #[arg(long, value_parser = choice::<View>())]
    view: Option<View>,
    /// Opacity of the heat map, 0 to 1
    #[arg(long, value_name = "SHARE")]
    opacity: Option<f32>,
    /// Colour map of the heat map
    #[arg(long, value_name = "NAME", value_parser = choice::<Palette>())]
    palette: Option<Palette>,
    /// Do not draw the legend
    #[arg(long)]
    no_legend: bool,
    /// GStreamer element that encodes H.264 [default: by rank, hardware first]
    #[arg(long, value_name = "ELEMENT")]
    encoder: Option<String>,
    /// Bit rate in kbit/s
    #[arg(long, value_name = "KBIT/S", conflicts_with = "crf")]
    bitrate: Option<u32>,
    /// Constant quality, 0 to 51, lower is better
    #[arg(long, value_name = "N")]
    crf: Option<u32>,
    /// Speed preset of the encoder
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Overwrite existing outputs
    #[arg(long)]
    overwrite: bool,
    /// Length of a clip before its event [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero(), help_heading = "Alarms")]
    clip_before: Option<Duration>,
    /// Length of a clip after its event [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero(), help_heading = "Alarms")]
    clip_after: Option<Duration>,
    /// Cut clips from the annotated output instead of the input
    #[arg(long, help_heading = "Alarms")]
    annotated_clips: bool,
    /// Header to add to each webhook request; repeatable
    #[arg(long, value_name = "NAME: VALUE")]
    webhook_header: Vec<String>,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Trees and lists of files.
    #[command(flatten)]
    pub archive: ArchiveArgs,
    /// Play files at their recorded speed, like live inputs
    #[arg(long, help_heading = "Live")]
    pub realtime: bool,
    /// Frames to drop when they arrive faster than they are processed [default: latest]
    #[arg(long, value_name = "POLICY", value_parser = choice::<Policy>(), help_heading = "Live")]
    policy: Option<Policy>,
    /// Result to draw on a frame [default: exact]
    #[arg(long, value_name = "HOW", value_parser = choice::<Sync>(), help_heading = "Live")]
    sync: Option<Sync>,
    /// Drop frames that are older than this when the network becomes free
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero(), help_heading = "Live")]
    max_latency: Option<Duration>,
    #[command(flatten)]
    source: SourceArgs,
    /// Serve the page, /healthz, /readyz, /metrics and /reload on this loopback port or HOST:PORT
    #[arg(long, value_name = "ADDRESS", help_heading = "Live")]
    http: Option<String>,
    /// Stop after this long (90, 90s, 5m, 2h)
    #[arg(long = "for", value_name = "TIME", value_parser = duration(), help_heading = "Live")]
    pub stop_after: Option<Duration>,
}

impl RunArgs {
    /// The pipeline file.
    pub fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The configuration with the options applied.
    ///
    /// # Errors
    /// The pipeline file cannot be used, or a value is out of range.
    pub fn config(&self) -> Result<Config> {
        let mut config = Config::load(self.config.as_deref(), &self.set)?;
        fn put<T: Clone>(target: &mut T, option: Option<&T>) {
            if let Some(value) = option {
                target.clone_from(value);
            }
        }
        fn put_some<T: Clone>(target: &mut Option<T>, option: Option<&T>) {
            if option.is_some() {
                *target = option.cloned();
            }
        }
        self.network.apply(&mut config);
        put(&mut config.detect.method, self.method.as_ref());
        put_some(&mut config.detect.threshold, self.threshold.as_ref());
        put_some(&mut config.detect.calibration, self.calibration.clone().map(Into::into).as_ref());
        if !self.ignore.is_empty() {
            config.events.ignore = self.ignore.iter().map(|part| Ignored::parse(part)).collect::<Result<_>>()?;
        }
        if !self.known.is_empty() {
            config.events.known.clone_from(&self.known);
        }
        put(&mut config.draw.view, self.view.as_ref());
        put(&mut config.draw.opacity, self.opacity.as_ref());
        put(&mut config.draw.palette, self.palette.as_ref());
        put_some(&mut config.encode.encoder, self.encoder.as_ref());
        put(&mut config.encode.hw, self.source.hw.as_ref());
        if self.bitrate.is_some() || self.crf.is_some() {
            config.encode.bitrate = self.bitrate;
            config.encode.crf = self.crf;
        }
        put_some(&mut config.encode.preset, self.preset.as_ref());
        put(&mut config.live.policy, self.policy.as_ref());
        put(&mut config.live.sync, self.sync.as_ref());
        put_some(&mut config.live.max_latency_s, self.max_latency.map(|time| time.as_secs_f64()).as_ref());
        self.source.apply(&mut config.source);
        self.archive.apply(&mut config.archive);
        put(&mut config.archive.clip_before_s, self.clip_before.map(|time| time.as_secs_f64()).as_ref());
        put(&mut config.archive.clip_after_s, self.clip_after.map(|time| time.as_secs_f64()).as_ref());
        config.archive.annotated_clips |= self.annotated_clips;
        for header in &self.webhook_header {
            // Its value may be a secret.
            config.webhook.headers.push(header.parse().map_err(|error: Error| error.at("--webhook-header"))?);
        }
        put_some(&mut config.http.listen, self.http.as_ref());
        config.draw.legend &= !self.no_legend;
        config.encode.overwrite |= self.overwrite;
        config.check()?;
        Ok(config)
    }
}
