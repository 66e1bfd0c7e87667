//! `oodstream model`: inspects a network as `run` would use it, and writes a copy with its features as an output.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::network::RuntimeArgs;
use crate::cli::report::write_json;
use crate::cli::verify;
use crate::cli::verify::VerifyArgs;
use crate::model::Manifest;
use crate::model::inspect::{self, Inspection, Map};
use crate::model::manifest::sha256_hex;
use crate::model::runtime::file::{folder_of, parse};
use crate::model::runtime::provider::Provider;
use crate::model::runtime::{Network, SessionOptions};
use crate::model::views::Resize;
use crate::{Error, Result};

/// Maps with fewer pixels are too coarse to be listed in the text report.
const FEWEST_PIXELS: usize = 200;
/// Places listed in the text report.
const MOST_LINES: usize = 16;

/// Arguments of `oodstream model`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  oodstream model inspect segformer.onnx               what it is, and what `run` would assume
  oodstream model verify segformer.onnx --image street.png --logits reference.npy
                                                       whether it sees what PyTorch sees
  oodstream model tap segformer.onnx -o tapped.onnx    a copy that gives its features, too")]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Show inputs, outputs, classes, feature candidates, and what `run` would assume
    Inspect(InspectArgs),
    /// Compare the logits that `run` would use with those of another framework
    Verify(VerifyArgs),
    /// Write a copy of a network with its features as an output
    Tap(TapArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: oodstream model inspect deeplab.onnx --json -")]
struct InspectArgs {
    /// Network to read
    #[arg(value_name = "FILE.onnx")]
    model: PathBuf,
    /// Tensor or operator to take features from; repeatable [default: from the manifest, else detected]
    #[arg(long, value_name = "NAME")]
    feature: Vec<String>,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: oodstream model tap deeplab.onnx -o tapped.onnx --feature /classifier/Relu")]
struct TapArgs {
    /// Network to read
    #[arg(value_name = "FILE.onnx")]
    model: PathBuf,
    /// Network to write
    #[arg(short, long, value_name = "FILE.onnx")]
    output: PathBuf,
    /// Tensor or operator to take features from; repeatable [default: the input of the last convolution]
    #[arg(long, value_name = "NAME")]
    feature: Vec<String>,
    /// Overwrite existing files
    #[arg(long)]
    overwrite: bool,
}

/// Runs the command.
///
/// # Errors
/// The network does not load, or the output cannot be written.
pub fn run(args: &ModelArgs) -> Result<u8> {
    match &args.command {
        ModelCommand::Inspect(args) => inspect(args),
        ModelCommand::Verify(args) => verify::run(args),
        ModelCommand::Tap(args) => tap(args),
    }
}

fn inspect(args: &InspectArgs) -> Result<u8> {
    let options = SessionOptions { features: args.feature.clone(), ..args.runtime.options() };
    let found = inspect::inspect(&args.model, &options)?;
    match &args.json {
        Some(path) => write_json(&found, path)?,
        None => print(&found),
    }
    Ok(0)
}

fn print(found: &Inspection) {
    let mut common: Vec<(&String, &usize)> = found.operators.iter().collect();
    common.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
    let some: Vec<String> = common.iter().take(6).map(|(name, count)| format!("{count} {name}")).collect();
    let total: usize = found.operators.values().sum();
    println!(
        "{}: {:.1} MB, {:.2} million parameters, opset {}",
        found.path,
        mega(found.bytes),
        found.parameters as f64 / 1e6,
        found.opset
    );
    line("sha256", &found.sha256);
    line("written by", &found.producer);
    line("operators", &format!("{total}: {}{}", some.join(", "), if common.len() > some.len() { ", ..." } else { "" }));
    for input in &found.inputs {
        line("input", input);
    }
    for output in &found.outputs {
        line("output", output);
    }
    for file in &found.external {
        line("weights in", file);
    }
    println!("\n`run` would use it like this:");
    let rule = match found.resize {
        Resize::Stretch => "frames are stretched to it",
        Resize::Letterbox => "frames are fitted into it with their aspect ratio",
        Resize::Tile => "frames are cut into tiles of this size",
    };
    line("picture", &format!("{}x{}, {rule} (resize = {})", found.picture.0, found.picture.1, found.resize.name()));
    line(
        "logits",
        &found.logits.as_ref().map_or_else(|| "none: features alone, for the `bank` scores".to_owned(), map),
    );
    for feature in &found.features {
        line("features", &map(feature));
    }
    let guess = if found.classes_guessed { " (a guess by their number)" } else { "" };
    let classes = if found.classes.is_empty() { "not named".to_owned() } else { found.classes.join(", ") };
    if let Some(logits) = &found.logits {
        line("classes", &format!("{}{guess}: {classes}", logits.channels));
    }
    let placement = found.placement.as_ref().map_or_else(String::new, |placement| format!(", {placement}"));
    let precision = if found.precision == "auto" { String::new() } else { format!(" in {}", found.precision) };
    line("provider", &format!("{}{precision}, {:.1} ms a picture{placement}", found.provider, found.run_ms));
    for reason in &found.passed_by {
        line("skipped", reason);
    }
    for assumption in &found.assumptions {
        line("assumed", assumption);
    }
    if !found.taps.is_empty() {
        println!(
            "\nFeatures can be taken from (--feature NAME; --json lists more), the nearest to the logits of each size first:"
        );
        println!("  {:>6} x {:>4} x {:>4} {:>8} {:>13}  name", "D", "h", "w", "MB", "K-Means GMAC");
        let useful = found.taps.iter().filter(|tap| tap.height * tap.width >= FEWEST_PIXELS);
        for tap in useful.take(MOST_LINES) {
            let cost = tap.clustering() as f64 / 1e9;
            println!(
                "  {:>6} x {:>4} x {:>4} {:>8.2} {cost:>13.3}  {}",
                tap.channels,
                tap.height,
                tap.width,
                mega(tap.bytes()),
                tap.name
            );
        }
    }
}

fn line(name: &str, text: &str) {
    println!("  {name:<11} {text}");
}

fn map(map: &Map) -> String {
    format!("`{}` {} x {} x {}", map.name, map.channels, map.height, map.width)
}

fn mega(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn tap(args: &TapArgs) -> Result<u8> {
    let same = |path: &PathBuf| path.canonicalize().ok();
    if same(&args.output).is_some_and(|output| same(&args.model) == Some(output)) {
        return Err(Error::usage("-o is the network itself; the copy needs another name"));
    }
    if args.output.exists() && !args.overwrite {
        return Err(Error::usage(format!("{} exists", args.output.display())).hint("--overwrite replaces it"));
    }
    let (bytes, added) = inspect::tapped(&args.model, &args.feature)?;
    let model = parse(&bytes)?;
    if let Some(file) = model.external.iter().next()
        && folder_of(&args.output).canonicalize().ok() != folder_of(&args.model).canonicalize().ok()
    {
        return Err(Error::usage(format!(
            "its weights are in `{}`, beside the network: the copy must lie there too",
            file.location
        )));
    }
    let failed = |path: &PathBuf, error: std::io::Error| Error::failed(format!("{}: {error}", path.display()));
    let part = args.output.with_extension("onnx.part");
    fs::write(&part, &bytes).and_then(|()| fs::rename(&part, &args.output)).map_err(|error| failed(&part, error))?;
    if let Some(mut manifest) = Manifest::beside(&args.model)? {
        manifest.model.sha256 = Some(sha256_hex(&bytes));
        manifest.outputs.features = added.iter().filter(|name| name.starts_with("features")).cloned().collect();
        if let Some(logits) = added.iter().find(|name| name.starts_with("logits")) {
            manifest.outputs.logits = Some(logits.clone());
        }
        let path = args.output.with_extension("toml");
        let text = toml::to_string(&manifest).map_err(|error| Error::failed(format!("{}: {error}", path.display())))?;
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    // What was written must be a network that `run` takes.
    let loaded =
        Network::load(Some(&args.output), &SessionOptions { provider: Provider::Cpu, ..SessionOptions::default() })?;
    println!("wrote {} with the new outputs {}", args.output.display(), added.join(", "));
    tracing::debug!(
        "logits `{}`, features {}",
        loaded.logits_name().unwrap_or("none"),
        loaded.feature_names().join(", ")
    );
    Ok(0)
}
