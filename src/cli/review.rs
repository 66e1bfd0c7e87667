//! `oodstream report` and `oodstream merge`.

use std::path::PathBuf;

use super::DAMAGED;
use super::report::write_json;
use crate::Result;
use crate::archive::merge::merge;
use crate::archive::review::report;

/// Options of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oodstream run -r archive/ -o marked/ -o events:events/ -o snapshots:shots/
  oodstream report marked/ -o review.html         opens in any browser, offline; j and k walk through the events")]
pub struct ReportArgs {
    /// Folders of completion records
    #[arg(value_name = "FOLDER", required = true)]
    folders: Vec<PathBuf>,
    /// Page to write
    #[arg(short, long, value_name = "FILE.html")]
    output: PathBuf,
    /// Number of thumbnails embedded in the page, of the most severe events; the others are links
    #[arg(long, value_name = "N", default_value_t = 1000)]
    embed: usize,
    /// Replace an existing page
    #[arg(long)]
    overwrite: bool,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Writes the page.
///
/// # Errors
/// See [`report`].
pub fn run(args: &ReportArgs, quiet: bool) -> Result<u8> {
    let reported = report(&args.folders, &args.output, args.embed, args.overwrite)?;
    if !quiet {
        eprintln!("{}: {} events in {} files", args.output.display(), reported.events, reported.files);
    }
    args.json.as_deref().map_or(Ok(()), |path| write_json(&reported, path))?;
    Ok(0)
}

/// Options of `merge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oodstream merge a/ b/ -o all/       all/events.jsonl, all/records.jsonl and embeddings of two shards
  oodstream merge marked/ -o all/     shards that wrote into one folder

Exit codes: 0 complete, 3 joined but files or shards are missing, 1 a file has two records.")]
pub struct MergeArgs {
    /// Folders of completion records
    #[arg(value_name = "FOLDER", required = true)]
    folders: Vec<PathBuf>,
    /// Folder to write
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Replace existing files
    #[arg(long)]
    overwrite: bool,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Joins results.
///
/// # Errors
/// See [`merge`].
pub fn run_merge(args: &MergeArgs, quiet: bool) -> Result<u8> {
    let merged = merge(&args.folders, &args.output, args.overwrite)?;
    if !quiet {
        eprintln!(
            "{}: {} lines of events of {} files, {} failed",
            args.output.display(),
            merged.events,
            merged.files,
            merged.failed
        );
    }
    for key in merged.missing.iter().take(20) {
        eprintln!("oodstream: warning: {key}: there is no record of it");
    }
    if merged.missing.len() > 20 {
        eprintln!("oodstream: warning: and {} more; --json - lists all", merged.missing.len() - 20);
    }
    for shard in &merged.shards_missing {
        eprintln!("oodstream: warning: shard {shard}: there is no run of it");
    }
    args.json.as_deref().map_or(Ok(()), |path| write_json(&merged, path))?;
    Ok(if merged.missing.is_empty() && merged.shards_missing.is_empty() { 0 } else { DAMAGED })
}
