//! `oodstream mine`: events that are alike, or a varied choice of them.

use std::path::PathBuf;

use serde::Serialize;

use super::report::write_json;
use crate::Result;
use crate::archive::mine::{Chosen, Embeddings};

/// Options of `mine`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oodstream run -r archive/ -o none -o events:events/ -o embeddings:embeddings/
  oodstream mine embeddings/ --like 3f0c9a55d2b1e774         more of the kind of this event
  oodstream mine embeddings/ --unique 200 --json chosen.json a varied set for labelling")]
pub struct MineArgs {
    /// Files of `-o embeddings:`, folders of them, or folders of completion records
    #[arg(value_name = "EMBEDDINGS", required = true)]
    inputs: Vec<PathBuf>,
    /// List the events most similar to this one
    #[arg(long, value_name = "ID", required_unless_present = "unique", conflicts_with = "unique")]
    like: Option<String>,
    /// Choose N events that differ as much as possible
    #[arg(long, value_name = "N")]
    unique: Option<usize>,
    /// Events that --like lists
    #[arg(long, value_name = "N", default_value_t = 20, conflicts_with = "unique")]
    count: usize,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct MineReport<'a> {
    events: usize,
    model: Option<&'a str>,
    chosen: &'a [Chosen],
}

/// Prints the events.
///
/// # Errors
/// There are no embeddings, they are damaged or of several networks, or there is no such event.
pub fn run(args: &MineArgs, quiet: bool) -> Result<u8> {
    let embeddings = Embeddings::find(&args.inputs)?;
    let chosen = match &args.like {
        Some(id) => embeddings.like(id, args.count)?,
        None => embeddings.unique(args.unique.unwrap_or_default()),
    };
    if !quiet && args.json.as_ref().is_none_or(|path| path.as_os_str() != "-") {
        for Chosen { event, similarity } in &chosen {
            let similarity = similarity.map_or_else(|| "     -".to_owned(), |cosine| format!("{cosine:6.3}"));
            let class = event.nearest_class.as_deref().unwrap_or("-");
            println!("{similarity}  {}  {:9.2} s  {class:12}  {}", event.id, event.peak_s, event.stream);
        }
        eprintln!("{} of {} events", chosen.len(), embeddings.ids.len());
    }
    let model = embeddings.ids.first().map(|id| id.model.as_str());
    let report = MineReport { events: embeddings.ids.len(), model, chosen: &chosen };
    args.json.as_deref().map_or(Ok(()), |path| write_json(&report, path))?;
    Ok(0)
}
