//! `oodstream doctor`: what this machine has, what is missing, and how to get it.

use std::path::PathBuf;

use serde::Serialize;

use super::report::write_json;
use crate::compute::{self, ComputeChoice};
use crate::model::runtime::provider::Provider;
use crate::model::runtime::{Network, SessionOptions, library};
use crate::{Result, gst, output};

/// Options of `doctor`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  oodstream doctor
  oodstream doctor --json - | jq .checks

Exit codes: 0 `run` will work, 1 something that `run` needs is missing.")]
pub struct DoctorArgs {
    /// Network to look at [default: the one that ships with the program]
    #[arg(short, long, value_name = "FILE.onnx")]
    model: Option<PathBuf>,
    /// Report for machines; - is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    /// Whether `run` can do without what is missing.
    ok: bool,
    found: String,
    /// What to do about it.
    remedy: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, ok: true, found: found.into(), remedy: None }
    }

    fn bad(name: &'static str, found: impl Into<String>, remedy: Option<String>) -> Self {
        Self { name, ok: false, found: found.into(), remedy }
    }

    /// A check that either found something or failed with an error that has its own hint.
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
    }
    checks.push(Check::of(
        "onnxruntime",
        library::get().map(|runtime| format!("{} ({})", ort::info(), runtime.library.display())),
    ));
    if checks.last().is_some_and(|check| check.ok) {
        let names: Vec<&str> = [Provider::Cpu, Provider::Cuda, Provider::Tensorrt, Provider::Openvino]
            .into_iter()
            .filter(|provider| provider.compiled_in())
            .map(Provider::name)
            .collect();
        checks.push(Check::good("providers", names.join(", ")));
    }
    checks.push(adapters());
    checks.push(Check::of(
        "compute",
        compute::open(ComputeChoice::Auto, None).map(|backend| format!("auto takes {}", backend.describe())),
    ));
    checks.push(Check::of(
        "model",
        Network::load(args.model.as_deref(), &SessionOptions::default()).map(|network| describe(&network)),
    ));
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
        return Check::good("elements", "all that `run` can use are there");
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

fn encoder() -> Check {
    let encoders = output::encoders();
    let names: Vec<&str> = encoders.iter().map(|encoder| encoder.name.as_str()).collect();
    match encoders.iter().find(|encoder| encoder.chosen) {
        Some(chosen) => {
            let kind = if chosen.hardware { "hardware" } else { "software" };
            Check::good("encoder", format!("{} ({kind}); there are {}", chosen.name, names.join(", ")))
        }
        None => Check::bad(
            "encoder",
            "no H.264 encoder",
            Some("apt-get install gstreamer1.0-plugins-ugly (x264enc)".to_owned()),
        ),
    }
}

/// No adapter at all is fine: the CPU does the same.
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

fn describe(network: &Network) -> String {
    let input = network.input();
    let features =
        if network.feature_names().is_empty() { "none".to_owned() } else { network.feature_names().join(", ") };
    format!(
        "{}\nsha256 {}\ninput {}x{}, logits `{}`, features {features}",
        network.path().display(),
        network.sha256(),
        input.width,
        input.height,
        network.logits_name()
    )
}
