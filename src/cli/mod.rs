//! The command line: one file per command.

#![allow(clippy::print_stderr, clippy::print_stdout, reason = "the command line is the one room that prints")]

mod archive;
mod bench;
mod calibrate;
mod doctor;
mod eval;
mod eval_classes;
mod eval_clip;
mod export;
mod manual;
mod mine;
mod model;
mod network;
mod options;
mod password;
mod progress;
mod report;
mod review;
mod run;
mod signals;
mod source;
mod values;
mod verify;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::{Error, ErrorKind, Result};

/// Exit code when the input ended with damage but all that could be read was written.
const DAMAGED: u8 = 3;
/// Exit code when the user stopped the run and the output so far was finished.
const INTERRUPTED: u8 = 130;
/// Exit code when an archive was stopped before every file had a record: the same command resumes.
const STOPPED: u8 = 75;

/// Marks what a segmentation network does not know in road video.
#[derive(Debug, Parser)]
#[command(name = "oodstream", version, about, long_about = None, max_term_width = 100, after_help = "\
Examples:
  oodstream run drive.mp4                       writes drive.ood.mp4 into the working directory
  oodstream run archive/ -o marked/ --json -    a folder of videos, with a JSON report
  oodstream run -r archive/ -o marked/          a tree; run it again to resume after a stop
  oodstream doctor                              check this machine

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 input was damaged but all that could be
read was written, 75 an archive was stopped before its end (run the same command again),
130 interrupted and the output finished. Archives (-r, --inputs-from, --resume): 0 once every input has a record, also of
damage or failure.")]
struct Cli {
    #[command(flatten)]
    verbosity: Verbosity,
    #[command(subcommand)]
    command: Command,
}

/// The verbosity.
#[derive(Debug, Clone, clap::Args)]
struct Verbosity {
    /// Print errors only
    #[arg(short, long, global = true, display_order = 900, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more; -vv for everything (RUST_LOG filters by module)
    #[arg(short, long, global = true, display_order = 901, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mark unknown regions in videos and live streams
    Run(Box<options::RunArgs>),
    /// Print how many files of an archive are done, failed and left
    Status(archive::StatusArgs),
    /// Write an HTML page for reviewing the events of an archive
    Report(review::ReportArgs),
    /// Join the results of shards
    Merge(review::MergeArgs),
    /// List similar events, or a varied selection
    Mine(mine::MineArgs),
    /// Export regions in the formats of annotation tools
    Export(export::ExportArgs),
    /// Benchmark the pipeline on this machine
    Bench(bench::BenchArgs),
    /// Fit thresholds and statistics to ordinary footage
    Calibrate(Box<calibrate::CalibrateArgs>),
    /// Evaluate scoring methods on labelled images and videos
    Eval(Box<eval::EvalArgs>),
    /// Inspect or verify a network, or add its features as an output
    Model(model::ModelArgs),
    /// Check that this machine has everything oodstream needs
    Doctor(doctor::DoctorArgs),
    /// Hash a password for the page of --http
    Password(password::PasswordArgs),
    /// Write man pages and shell completions
    #[command(hide = true)]
    Manual(manual::ManualArgs),
}

/// Parses the command line, runs the command and gives its exit code.
pub fn main() -> ExitCode {
    crate::descriptors::raise_limit();
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
        Command::Status(args) => archive::status(&args, quiet),
        Command::Report(args) => review::run(&args, quiet),
        Command::Merge(args) => review::run_merge(&args, quiet),
        Command::Mine(args) => mine::run(&args, quiet),
        Command::Export(args) => export::run(&args, quiet),
        Command::Bench(args) => bench::run(&args, quiet),
        Command::Calibrate(args) => calibrate::run(&args, quiet),
        Command::Eval(args) => eval::run(&args, quiet),
        Command::Model(args) => model::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Password(args) => password::run(&args),
        Command::Manual(args) => manual::run(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("oodstream: error: {error}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// The exit code for `error`: 2 for usage and configuration, 1 for failures.
fn exit_code(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Usage | ErrorKind::AlreadyExists => 2,
        _ => 1,
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
