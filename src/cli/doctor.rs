//! `oodstream doctor`: what this machine has, what is missing, and how to get it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Serialize;

use super::report::write_json;
use crate::compute::{self, ComputeChoice};
use crate::model::runtime::library::{self, Build};
use crate::model::runtime::provider::Provider;
use crate::model::runtime::{Network, SessionOptions};
use crate::{Result, gst, output};

/// Options of `doctor`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  oodstream doctor
  oodstream doctor --json - | jq .checks

Exit codes: 0 `run` will work, 1 something that `run` needs is missing.")]
pub struct DoctorArgs {
    /// Network to check [default: the bundled one]
    #[arg(short, long, value_name = "FILE.onnx")]
    model: Option<PathBuf>,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    /// Whether `run` works without it.
    ok: bool,
    found: String,
    /// The remedy.
    remedy: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, ok: true, found: found.into(), remedy: None }
    }

    fn bad(name: &'static str, found: impl Into<String>, remedy: Option<String>) -> Self {
        Self { name, ok: false, found: found.into(), remedy }
    }

    /// A check from a result: what was found, or an error and its hint.
    fn of(name: &'static str, result: Result<String>) -> Self {
        match result {
            Ok(found) => Self::good(name, found),
            Err(error) => Self::bad(name, error.to_string(), None),
        }
    }
}

/// Runs the command; 0 when `run` will work, 1 otherwise.
///
/// # Errors
/// The report cannot be written.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    let mut checks = Vec::new();
    checks.push(Check::of("gstreamer", gst::init().map(|()| gst::version())));
    if checks[0].ok {
        checks.push(elements());
        checks.push(encoder());
        checks.push(decoder());
    }
    let network = Network::load(args.model.as_deref(), &SessionOptions::default());
    checks.push(Check::of(
        "onnxruntime",
        library::load(Build::Plain).map(|runtime| format!("{} ({})", ort::info(), runtime.library.display())),
    ));
    checks.push(adapters());
    checks.push(Check::of(
        "compute",
        compute::open(ComputeChoice::Auto, None).map(|backend| format!("auto selects {}", backend.describe())),
    ));
    match network {
        Ok(network) => {
            checks.push(Check::good("model", describe(&network)));
            checks.push(providers(&network));
        }
        Err(error) => checks.push(Check::bad("model", error.to_string(), None)),
    }
    for check in &checks {
        println!(
            "{} {:<12} {}",
            if check.ok { "ok     " } else { "MISSING" },
            check.name,
            check.found.replace('\n', "\n                     ")
        );
        if let Some(remedy) = &check.remedy {
            println!("                     -> {remedy}");
        }
    }
    let ok = checks.iter().all(|check| check.ok);
    if let Some(path) = &args.json {
        write_json(&serde_json::json!({ "ok": ok, "checks": checks }), path)?;
    }
    Ok(u8::from(!ok))
}

fn elements() -> Check {
    let missing = gst::missing_elements();
    if missing.is_empty() {
        return Check::good("elements", "everything that `run` can use is installed");
    }
    let names: Vec<&str> = missing.iter().map(|(element, _)| *element).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    Check::bad(
        "elements",
        format!("missing: {}", names.join(", ")),
        Some(format!("apt-get install {}", packages.join(" "))),
    )
}

fn decoder() -> Check {
    let names = |hardware| {
        let all = gst::decoders().into_iter().filter(|decoder| decoder.hardware == hardware);
        all.map(|decoder| decoder.name).collect::<Vec<_>>().join(", ")
    };
    let (hardware, software) = (names(true), names(false));
    let first = if hardware.is_empty() { "no hardware decoder".to_owned() } else { format!("hardware: {hardware}") };
    Check::good("decoder", format!("{first}\nsoftware, by rank: {software}"))
}

fn encoder() -> Check {
    let encoders = output::encoders();
    let names: Vec<&str> = encoders.iter().map(|encoder| encoder.name.as_str()).collect();
    match encoders.iter().find(|encoder| encoder.chosen) {
        Some(chosen) => {
            let kind = if chosen.hardware { "hardware" } else { "software" };
            Check::good("encoder", format!("{} ({kind}); available: {}", chosen.name, names.join(", ")))
        }
        None => Check::bad(
            "encoder",
            "no H.264 encoder",
            Some("apt-get install gstreamer1.0-plugins-ugly (x264enc)".to_owned()),
        ),
    }
}

/// No adapter is no failure: the CPU computes the same.
fn adapters() -> Check {
    let lines: Vec<String> = compute::adapters()
        .iter()
        .map(|adapter| {
            let kind = if adapter.software { "software, for tests only" } else { "hardware" };
            format!("{} ({kind}), {}, {}", adapter.name, adapter.api, adapter.driver)
        })
        .collect();
    Check::good(
        "adapters",
        if lines.is_empty() { "no GPU; the CPU back end is used".to_owned() } else { lines.join("\n") },
    )
}

/// The network's time per picture on each installed provider, and how to install the others.
fn providers(network: &Network) -> Check {
    let chosen = network.provider();
    let mut lines = vec![format!("auto selects {}", network.runs_on())];
    lines.extend(network.passed_by().iter().map(|reason| format!("skipped: {reason}")));
    let mut times = Vec::new();
    let passed_by = |provider: &Provider| {
        network.passed_by().iter().any(|reason| reason.starts_with(&format!("{}: ", provider.name())))
    };
    for provider in Provider::ALL.into_iter().filter(|provider| !passed_by(provider)) {
        match measure(network, provider) {
            Ok(found) => {
                lines.push(format!("{} {:.1} ms a picture", found.provider, found.ms));
                times.push((provider, found.ms));
            }
            Err(reason) => lines.push(format!("{}: {reason}", provider.name())),
        }
    }
    let time = |wanted| times.iter().find(|(provider, _)| *provider == wanted).map(|(_, ms)| *ms);
    let fastest = times.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let remedy = match (fastest, time(chosen)) {
        (Some((provider, ms)), Some(now)) if *provider != chosen && *ms < 0.9 * now => {
            Some(format!("--provider {} would take {ms:.1} ms instead of {now:.1} ms a picture", provider.name()))
        }
        _ if chosen == Provider::Cpu && time(Provider::Openvino).is_none() => {
            Some(format!("OpenVINO is often faster on a CPU: {}", Provider::Openvino.remedy()))
        }
        _ => None,
    };
    Check { remedy, ..Check::good("providers", lines.join("\n")) }
}

/// A provider and its time per picture.
struct Measured {
    provider: String,
    ms: f64,
}

/// Measures `provider` in a child process, since a process can load only one build of ONNX Runtime.
fn measure(network: &Network, provider: Provider) -> std::result::Result<Measured, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["model", "inspect", "--provider", provider.name(), "--json", "-"]).arg(network.path());
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().find_map(|line| line.strip_prefix("oodstream: error: ")).unwrap_or("does not start");
        // The message begins with the model's path, which is known here.
        let place = format!("model {}: ", network.path().display());
        return Err(line.strip_prefix(&place).unwrap_or(line).to_owned());
    }
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let name = match found["precision"].as_str() {
        None | Some("auto") => provider.name().to_owned(),
        Some(precision) => format!("{} in {precision}", provider.name()),
    };
    found["run_ms"].as_f64().map(|ms| Measured { provider: name, ms }).ok_or_else(|| "reported no time".to_owned())
}

fn describe(network: &Network) -> String {
    let input = network.input();
    let features =
        if network.feature_names().is_empty() { "none".to_owned() } else { network.feature_names().join(", ") };
    format!(
        "{}\nsha256 {}\ninput {}x{}, logits {}, features {features}",
        network.path().display(),
        network.sha256(),
        input.width,
        input.height,
        network.logits_name().map_or_else(|| "none".to_owned(), |name| format!("`{name}`"))
    )
}
