//! The command line: one file per command.

pub mod bench;
pub mod calibrate;
pub mod doctor;
pub mod engine;
pub mod eval;
mod eval_clip;
pub mod interrupt;
pub mod live;
pub mod model;
mod network;
pub mod options;
pub mod outputs;
pub mod progress;
pub mod report;
pub mod run;
mod source;
pub mod streams;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::Result;

/// Exit code when the input ended with damage but all that could be read was written.
pub const DAMAGED: u8 = 3;
/// Exit code when the user stopped the run and the output so far was finished.
pub const INTERRUPTED: u8 = 130;

/// Marks what a segmentation network does not know in road video.
#[derive(Debug, Parser)]
#[command(name = "oodstream", version, about, long_about = None, max_term_width = 100, after_help = "\
Examples:
  oodstream run drive.mp4                       writes drive.ood.mp4 into the working directory
  oodstream run archive/ -o marked/ --json -    a folder of videos, with a report for machines
  oodstream doctor                              what this machine has and what is missing

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 input was damaged but all that could be
read was written, 130 interrupted and the output finished.")]
struct Cli {
    #[command(flatten)]
    verbosity: Verbosity,
    #[command(subcommand)]
    command: Command,
}

/// How much is printed.
#[derive(Debug, Clone, clap::Args)]
struct Verbosity {
    /// Only errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// More of what is going on; twice for all of it (RUST_LOG refines it by module)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Video in, the same video out with the unknown marked
    Run(Box<options::RunArgs>),
    /// How fast it is here
    Bench(bench::BenchArgs),
    /// Thresholds and statistics from ordinary footage
    Calibrate(Box<calibrate::CalibrateArgs>),
    /// How well scores find what is labelled as unknown
    Eval(Box<eval::EvalArgs>),
    /// What a network is, and a copy of it with its features as an output
    Model(model::ModelArgs),
    /// What this machine has, what is missing, and how to get it
    Doctor(doctor::DoctorArgs),
}

/// Parses the command line, runs the command and gives its exit code.
pub fn main() -> ExitCode {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none_or(|folder| folder.is_empty()) {
        // Vulkan's window system code complains on standard error without it, though no window is opened.
        // SAFETY: nothing else runs yet, this is the first statement of the only thread.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors; nothing is left to do if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    log(&cli.verbosity);
    let quiet = cli.verbosity.quiet;
    let result: Result<u8> = match cli.command {
        Command::Run(args) => run::run(&args, quiet),
        Command::Bench(args) => bench::run(&args, quiet),
        Command::Calibrate(args) => calibrate::run(&args, quiet),
        Command::Eval(args) => eval::run(&args, quiet),
        Command::Model(args) => model::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("oodstream: error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn log(verbosity: &Verbosity) {
    let level = match (verbosity.quiet, verbosity.verbose) {
        (true, _) => "error",
        (false, 0) => "warn,oodstream=info,ort=error",
        (false, 1) => "info,oodstream=debug,ort=warn,wgpu_core=warn,wgpu_hal=warn,naga=warn",
        (false, _) => "debug,wgpu_core=info,wgpu_hal=info,naga=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(verbosity.verbose > 0)
        .init();
}
