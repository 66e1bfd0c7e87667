//! `oodstream run` on trees and lists of files, and `oodstream status`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::options::RunArgs;
use super::report::{print_messages, stage_table, write_json};
use super::values::duration;
use super::{INTERRUPTED, STOPPED, signals};
use crate::archive::run::{Options, Summary};
use crate::archive::status::Records;
use crate::archive::{Archive, Find, Follow, Record, Resume, Shard, State};
use crate::record::ArchiveConfig;
use crate::session::Observer;
use crate::{Error, Result};

/// Failures that `status` lists without `--json`.
const FAILURES: usize = 20;

/// Options of `run` for trees and lists of files.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ArchiveArgs {
    /// Search folders at every depth; outputs mirror the tree, and each input gets a completion record
    #[arg(short, long, help_heading = "Archives")]
    recursive: bool,
    /// Read input paths from LIST, one per line or separated by NUL; - for standard input
    #[arg(long, value_name = "LIST", help_heading = "Archives")]
    inputs_from: Option<PathBuf>,
    /// Process only files that match: `*.mp4` by name at every depth, `cam1/**` by path below the root; repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Archives")]
    include: Vec<String>,
    /// Skip files that match; repeatable
    #[arg(long, value_name = "GLOB", help_heading = "Archives")]
    exclude: Vec<String>,
    /// Skip inputs recorded with the same settings [default with -r and --inputs-from]
    #[arg(long, overrides_with = "no_resume", help_heading = "Archives")]
    resume: bool,
    /// Process all inputs, recorded or not
    #[arg(long, help_heading = "Archives")]
    no_resume: bool,
    /// Retry inputs that failed in an earlier run
    #[arg(long, help_heading = "Archives")]
    retry_failed: bool,
    /// Number of files processed at the same time, as streams of one network [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Archives")]
    jobs: Option<u16>,
    /// Process only part I of N of the files, by a hash of their paths
    #[arg(long, value_name = "I/N", help_heading = "Archives")]
    shard: Option<String>,
    /// Time zone of the times in file names, such as Europe/Berlin or +02:00
    /// [default: that of this machine]
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, help_heading = "Archives")]
    time_zone: Option<String>,
    /// Pattern of the times in file names, such as `cam_%Y%m%d-%H%M%S` [default: those of known cameras]
    #[arg(long, value_name = "PATTERN", help_heading = "Archives")]
    time_pattern: Option<String>,
    /// Analyse one frame per interval, such as 0.5s; a written video shows the last result with its age
    #[arg(long, value_name = "TIME", value_parser = duration(), help_heading = "Archives")]
    every: Option<Duration>,
    /// Decode only key frames; events keep their true times
    #[arg(long, help_heading = "Archives")]
    keyframes: bool,
    /// Skip frames that equal the last analysed one, as when parked
    #[arg(long, help_heading = "Archives")]
    skip_still: bool,
    /// Time for files in progress to finish after SIGTERM [default: 20]
    #[arg(long, value_name = "TIME", value_parser = duration(), help_heading = "Archives")]
    grace: Option<Duration>,
}

impl ArchiveArgs {
    /// Puts what was given into `config`.
    pub fn apply(&self, config: &mut ArchiveConfig) {
        for (key, option) in [(&mut config.time_zone, &self.time_zone), (&mut config.time_pattern, &self.time_pattern)]
        {
            if option.is_some() {
                key.clone_from(option);
            }
        }
        config.every_s = self.every.map(|every| every.as_secs_f64()).or(config.every_s);
        config.keyframes |= self.keyframes;
        config.skip_still |= self.skip_still;
    }

    /// Whether the inputs are run as an archive.
    pub fn is_wanted(&self) -> bool {
        self.recursive || self.inputs_from.is_some() || self.resume || self.no_resume || self.shard.is_some()
    }

    /// Checks that no option is given that only archives have.
    ///
    /// # Errors
    /// It is; the message names the option.
    pub fn check_unused(&self) -> Result<()> {
        let options = [
            ("--include", !self.include.is_empty()),
            ("--exclude", !self.exclude.is_empty()),
            ("--retry-failed", self.retry_failed),
            ("--jobs", self.jobs.is_some()),
            ("--grace", self.grace.is_some()),
        ];
        match options.iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Error::usage(format!("{option} is for archives"))
                .hint("-r takes folders at every depth, --inputs-from a list, and --resume the inputs as they are")),
            None => Ok(()),
        }
    }
}

/// Runs the inputs as an archive and returns the exit code: 0 once every input has a record, 75 where it was stopped
/// before that by SIGTERM, 130 by Ctrl-C, 1 where something kept it from going on.
///
/// # Errors
/// Nothing could be begun.
pub fn run(args: &RunArgs, quiet: bool) -> Result<u8> {
    let ArchiveArgs { recursive, inputs_from, include, exclude, no_resume, retry_failed, jobs, shard, grace, .. } =
        &args.archive;
    if args.realtime || args.stop_after.is_some() {
        return Err(Error::usage("--realtime and --for are for live inputs, and archives have none"));
    }
    let config = args.config()?;
    let find = Find {
        inputs: args.inputs.clone(),
        list: inputs_from.clone(),
        recursive: *recursive,
        include: include.clone(),
        exclude: exclude.clone(),
        outputs: Vec::new(),
    };
    if find.inputs.is_empty() && find.list.is_none() {
        return Err(Error::usage("there is no INPUT").hint("name a folder, or a list of files by --inputs-from"));
    }
    let options = Options {
        find,
        shard: shard.as_deref().map(str::parse::<Shard>).transpose()?,
        resume: Resume { anew: *no_resume, retry_failed: *retry_failed },
        jobs: jobs.unwrap_or(1).into(),
    };
    let archive = Archive::open(config, &args.output, options)?;
    let grace = grace.unwrap_or(Duration::from_secs(20));
    let stop = archive.stop();
    let interrupted = signals::watch(move |signal, count| match (signal, count) {
        (signals::SIGTERM, 1) => {
            stop.within(grace);
            format!(
                "no further file is started; those in progress have {:.0} s, a second signal gives them up",
                grace.as_secs_f64()
            )
        }
        _ => {
            stop.within(Duration::ZERO);
            "files in progress are given up; the same command resumes from here".to_owned()
        }
    })?;
    let report = archive.run(&Printer { quiet, total: AtomicUsize::new(0) })?;
    let summary = &report.archive;
    if !quiet {
        if report.run.inputs.iter().any(|input| input.frames_in > 0) {
            let order = ["source", "prepare", "infer", "detect", "track", "draw", "sink"];
            let stages: Vec<_> = order.iter().filter_map(|name| Some((*name, report.run.stages.get(name)?))).collect();
            eprint!("{}", stage_table(&stages));
        }
        eprintln!(
            "{}: {} ok, {} damaged, {} failed, {} recorded before, {} left",
            summary.records.display(),
            summary.ok,
            summary.damaged,
            summary.failed,
            summary.recorded_before,
            summary.left
        );
    }
    print_messages(&report.run.messages, quiet);
    args.json.as_deref().map_or(Ok(()), |path| write_json(&report, path))?;
    if summary.left == 0 && summary.passed_by.unreadable.is_empty() {
        return Ok(0);
    }
    let signal = interrupted.load(Ordering::Relaxed);
    match (signal, &summary.stopped) {
        (signals::SIGTERM, Some(_)) => Ok(STOPPED),
        (signals::SIGINT, Some(_)) => Ok(INTERRUPTED),
        (_, Some(why)) => {
            eprintln!("oodstream: error: {} of {} files are left: {why}", summary.left, summary.total);
            Ok(1)
        }
        (_, None) => {
            eprintln!("oodstream: error: a part of the tree could not be read");
            Ok(1)
        }
    }
}

/// Prints the end of each file.
struct Printer {
    quiet: bool,
    /// Files in all.
    total: AtomicUsize,
}

impl Observer for Printer {}

impl Follow for Printer {
    fn planned(&self, summary: &Summary) {
        self.total.store(summary.total, Ordering::Relaxed);
        for unreadable in &summary.passed_by.unreadable {
            eprintln!("oodstream: warning: {unreadable}");
        }
        if self.quiet {
            return;
        }
        if let Some(passed) = summary.passed_by.describe() {
            eprintln!("passed by: {passed}");
        }
        let shard = summary.shard.map_or_else(String::new, |shard| format!(" of shard {shard}"));
        let failed = match summary.failed_before {
            0 => String::new(),
            failed => format!(" ({failed} of them failed; --retry-failed tries them again)"),
        };
        let again = match summary.again {
            0 => String::new(),
            again => format!(", {again} of them again, as settings or files are others"),
        };
        eprintln!(
            "{} files{shard}: {} recorded{failed}, {} to do{again}",
            summary.total, summary.recorded_before, summary.left
        );
    }

    fn done(&self, key: &str, record: Option<&Record>, error: Option<&Error>, left: usize) {
        let total = self.total.load(Ordering::Relaxed);
        match (record, error) {
            (Some(record), _) if record.status == State::Failed => {
                eprintln!("oodstream: error: {key}: {}", record.reason.as_deref().unwrap_or_default());
            }
            (Some(record), _) => {
                if let Some(reason) = &record.reason {
                    eprintln!("oodstream: warning: {key}: {reason}");
                }
                if !self.quiet {
                    eprintln!(
                        "[{}/{total}] {key}: {} frames, unknown {:.2} %, {} events, {:.1} s",
                        total - left,
                        record.frames,
                        100.0 * record.ood_share_mean,
                        record.events,
                        record.took_s
                    );
                    record.notes.iter().for_each(|note| eprintln!("oodstream: note: {key}: {note}"));
                }
            }
            (None, Some(error)) => eprintln!("oodstream: error: {key}: {error}"),
            (None, None) => {
                if !self.quiet {
                    eprintln!("{key}: given up, to be done by another run");
                }
            }
        }
    }
}

/// Options of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oodstream status marked/                 done, failed, left, and the time that the rest will take
  oodstream status marked/ --json -        as JSON, with every failure and every file left")]
pub struct StatusArgs {
    /// Folder of the completion records: that of the videos, or of the events where there are no videos
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Prints the state of an archive.
///
/// # Errors
/// There are no records.
pub fn status(args: &StatusArgs, quiet: bool) -> Result<u8> {
    let status = Records::read(&args.folder)?.status();
    if !quiet {
        let state = if status.running { "a run works on it now" } else { "no run works on it now" };
        println!("{}: {} files, {state}", args.folder.display(), status.total);
        println!("  ok       {}", status.ok);
        println!("  damaged  {}", status.damaged);
        println!("  failed   {}", status.failed);
        match status.left_s {
            Some(seconds) => println!("  left     {}, {} at the pace so far", status.left, period(seconds)),
            None => println!("  left     {}", status.left),
        }
        println!("  events   {}", status.events);
        for (key, reason) in status.failures.iter().take(FAILURES) {
            println!("failed: {key}: {}", reason.lines().next().unwrap_or_default());
        }
        if status.failures.len() > FAILURES {
            println!("and {} more; --json - lists all", status.failures.len() - FAILURES);
        }
        if !status.shards_missing.is_empty() {
            let shards: Vec<_> = status.shards_missing.iter().take(FAILURES).map(Shard::to_string).collect();
            println!("shards without a run: {}", shards.join(", "));
        }
    }
    for (path, why) in &status.broken {
        eprintln!("oodstream: warning: {}: {why}", path.display());
    }
    args.json.as_deref().map_or(Ok(()), |path| write_json(&status, path))?;
    Ok(0)
}

/// Seconds in the two largest units.
fn period(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn periods_have_two_units() {
        let said = [5.4, 65.0, 3725.0, 90061.0].map(super::period);
        assert_eq!(said, ["5 s", "1 min 5 s", "1 h 2 min", "1 d 1 h"]);
    }
}
