//! `oodstream bench`: speed on this machine, as ratios within one run.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ndarray::ArrayView3;
use serde::Serialize;

use super::network::RuntimeArgs;
use super::report::write_json;
use super::values::choice;
use crate::bench::{self, KMeansJob, MapShapes, PipelineJob, PrepareReport, Python, Round, StagesReport};
use crate::compute::{self, ComputeChoice, Size};
use crate::config::Config;
use crate::model::runtime::Network;
use crate::session::engine;
use crate::session::open::open_input;
use crate::{Error, Result, gst, input};

/// Options of `bench`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  oodstream bench pipeline drive.mp4 --json -
  oodstream bench kmeans --python python3 --json -
  oodstream bench stages --clip drive.mp4")]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum BenchCommand {
    /// Compare `run` on a clip with plain decoding and encoding plus a bare ONNX Runtime loop
    Pipeline(PipelineArgs),
    /// Compare Lloyd's K-Means with scikit-learn and faiss
    Kmeans(KMeansArgs),
    /// Time each step of the detect stage, with cold starts and seeded by the previous frame
    Stages(StagesArgs),
}

#[derive(Debug, Clone, Args)]
struct PipelineArgs {
    /// Video file
    clip: PathBuf,
    /// Runs per side; medians are compared
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Also time the network with these batch sizes
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    batch: Vec<usize>,
    /// Network [default: the bundled one]
    #[arg(short, long, value_name = "FILE.onnx")]
    model: Option<PathBuf>,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
struct KMeansArgs {
    /// Number of points
    #[arg(short, default_value_t = 32_768)]
    n: usize,
    /// Number of dimensions
    #[arg(short, default_value_t = 64)]
    d: usize,
    /// Number of clusters
    #[arg(short, default_value_t = 20)]
    k: usize,
    /// Number of Lloyd iterations
    #[arg(long, default_value_t = 10)]
    iterations: usize,
    /// Threads per side [default: one per core]
    #[arg(long)]
    threads: Option<usize>,
    /// Runs per side; medians are compared
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Back end
    #[arg(long, default_value = "cpu", value_parser = choice::<ComputeChoice>())]
    compute: ComputeChoice,
    /// Python interpreter with scikit-learn and faiss-cpu; without it, only this program is timed
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
struct StagesArgs {
    /// Store features as f16 on a GPU
    #[arg(long)]
    gpu_f16: bool,
    /// Use the network's outputs for this clip instead of synthetic ones
    #[arg(long, value_name = "FILE")]
    clip: Option<PathBuf>,
    /// Frames per pass
    #[arg(long, default_value_t = 60)]
    frames: usize,
    /// Back end
    #[arg(long, default_value = "cpu", value_parser = choice::<ComputeChoice>())]
    compute: ComputeChoice,
    /// Threads [default: one per core]
    #[arg(long)]
    threads: Option<usize>,
    /// Network [default: the bundled one]
    #[arg(short, long, value_name = "FILE.onnx")]
    model: Option<PathBuf>,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the command; the exit code is 0.
///
/// # Errors
/// One side cannot run; the message names it.
pub fn run(args: &BenchArgs, quiet: bool) -> Result<u8> {
    match &args.command {
        BenchCommand::Pipeline(args) => pipeline(args, quiet),
        BenchCommand::Kmeans(args) => kmeans(args),
        BenchCommand::Stages(args) => stages(args),
    }?;
    Ok(0)
}

/// Prints `text`, unless the JSON report goes to standard output.
fn tell(report: &impl Serialize, json: Option<&Path>, text: &str) -> Result<()> {
    if json != Some(Path::new("-")) {
        println!("{text}");
    }
    json.map_or(Ok(()), |path| write_json(report, path))
}

fn pipeline(args: &PipelineArgs, quiet: bool) -> Result<()> {
    let network = Network::load(args.model.as_deref(), &args.runtime.options())?;
    if let Some(most) = network.max_batch().filter(|most| args.batch.iter().any(|size| size > most)) {
        return Err(Error::usage(format!("--batch: the network has a fixed batch size of {most}"))
            .hint("export it with a free batch axis"));
    }
    let job = PipelineJob {
        clip: &args.clip,
        options: args.runtime.arguments(),
        repeats: args.repeats.max(1),
        batches: args.batch.iter().map(|size| (*size).max(1)).collect(),
    };
    let report = bench::pipeline(&job, network, |round, times| {
        if !quiet {
            let Round { run_s, gst_s, ort_s } = times;
            eprintln!("round {round}: run {run_s:.2} s, decode and encode {gst_s:.2} s, network {ort_s:.2} s");
        }
    })?;
    let mut text = format!(
        "{} frames on {}: run {:.2} s, decode and encode {:.2} s + network {:.2} s = {:.2} s, ratio {:.3} (medians of {})",
        report.frames,
        report.provider,
        report.run_s,
        report.gst_s,
        report.ort_s,
        report.gst_s + report.ort_s,
        report.ratio,
        report.repeats
    );
    for (size, ms) in &report.batch_ms {
        text += &format!("\nbatch of {size}: {ms:.3} ms a picture");
    }
    tell(&report, args.json.as_deref(), &text)
}

fn threads_or_cores(threads: Option<usize>) -> usize {
    threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn kmeans(args: &KMeansArgs) -> Result<()> {
    let job = KMeansJob {
        n: args.n,
        d: args.d,
        k: args.k,
        iterations: args.iterations,
        threads: threads_or_cores(args.threads),
        repeats: args.repeats.max(1),
    };
    let mut backend = compute::open(args.compute, Some(job.threads))?;
    let report = bench::kmeans(backend.as_mut(), &job, args.python.clone().map(Python).as_ref())?;
    let mut text = format!(
        "{} N={} D={} K={}, {} iterations: {:.2} ms",
        report.device, job.n, job.d, job.k, job.iterations, report.ms
    );
    for (name, ms, differ) in [
        ("scikit-learn", report.sklearn_ms, report.labels_differ),
        ("faiss", report.faiss_ms, report.faiss_labels_differ),
    ] {
        if let Some(ms) = ms {
            text += &format!(
                "\n{name} {ms:.2} ms, ratio {:.2}, differing labels {}",
                report.ms / ms,
                differ.unwrap_or_default()
            );
        }
    }
    tell(&report, args.json.as_deref(), &text)
}

/// The shapes that the network's maps have.
fn shapes(network: &mut Network) -> Result<MapShapes> {
    let tensor = vec![0.0; 3 * network.input().width * network.input().height];
    network.infer(&tensor)?.with_maps(|maps| {
        let shape = |map: &ArrayView3<'_, f32>| <[usize; 3]>::from(map.dim());
        Ok(MapShapes { logits: shape(&maps.logits), features: maps.features.iter().map(shape).collect() })
    })
}

/// The report of `bench stages` as JSON.
#[derive(Serialize)]
struct Stages {
    #[serde(flatten)]
    detect: StagesReport,
    prepare: PrepareReport,
}

fn stages(args: &StagesArgs) -> Result<()> {
    let mut config = Config::default();
    config.model.path = args.model.clone().map(Into::into);
    config.detect.compute = args.compute;
    config.detect.gpu_f16 = args.gpu_f16;
    config.model.threads = args.threads;
    let mut engine = engine::open(&config)?;
    let frames = match &args.clip {
        Some(clip) => {
            gst::init()?;
            let clip = input::Input::File(clip.clone());
            let (reader, _) = open_input(&clip, None, &Default::default(), &Default::default(), 0)?;
            bench::frames_of(reader, &mut engine.network, &engine.views, args.frames)?
        }
        None => bench::scene(&shapes(&mut engine.network)?, args.frames, 1),
    };
    if frames.len() < 2 {
        return Err(Error::usage(format!("--frames {}: at least 2 frames are needed", frames.len())));
    }
    let report = bench::stages(engine.backend.as_mut(), &frames, &engine.recipe, Size { width: 1280, height: 720 })?;
    let prepare = bench::prepare(*engine.network.input(), engine.backend.as_ref(), args.frames)?;
    let mut text = format!("{} on {}, {} frames, median ms per frame", report.backend, report.device, report.frames);
    for (name, pass) in [("cold", &report.cold), ("warm", &report.warm)] {
        text += &format!(
            "\n{name}: {:.2} ms (worst {:.2}), iterations per K {:.1?}",
            pass.ms, pass.worst_ms, pass.iterations
        );
        for step in &pass.steps {
            text += &format!("\n  {:<24}{:>9.3}", step.name, step.ms);
        }
    }
    text += &format!(
        "\nwarm iterations / cold iterations {:.2}, mean score difference {:.4}",
        report.iterations_ratio, report.score_difference
    );
    if report.depth > 1 {
        text += &format!(
            "\nwarm, mean ms per frame: {:.2} one at a time, {:.2} with {} in flight",
            report.warm.mean_ms, report.overlapped_ms, report.depth
        );
    }
    let PrepareReport { picture, input, cpu_ms, gpu_ms } = &prepare;
    text += &format!("\nprepare {}x{} to {}x{}: CPU {cpu_ms:.2} ms", picture.0, picture.1, input.0, input.1);
    if let Some(ms) = gpu_ms {
        text += &format!(", shader {ms:.2} ms");
    }
    if let Some(bytes) = report.device_memory {
        text += &format!("\npeak device memory {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    }
    tell(&Stages { detect: report, prepare }, args.json.as_deref(), &text)
}
