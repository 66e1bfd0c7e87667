//! `oodstream export`: regions in the formats of annotation tools.

use std::path::PathBuf;

use super::report::write_json;
use crate::Result;
use crate::archive::export::{Format, export};

/// Options of `export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  oodstream run drive.mp4 -o none -o regions:drive.regions.jsonl
  oodstream export drive.regions.jsonl --format coco -o drive.json     run lengths; pycocotools reads the masks
  oodstream export drive.regions.jsonl --format cvat -o drive.xml      boxes of the tracks: CVAT for video 1.1
  oodstream export regions/ --format csv -o regions.csv                all *.regions.jsonl of a tree
  oodstream export regions/ --format fiftyone --videos archive/ -o fo/ FiftyOneVideoLabelsDataset")]
pub struct ExportArgs {
    /// Files of `-o regions:`, or folders of *.regions.jsonl
    #[arg(value_name = "REGIONS", required = true)]
    inputs: Vec<PathBuf>,
    /// Format to write
    #[arg(long, value_name = "FORMAT")]
    format: ExportFormat,
    /// File to write; for fiftyone a folder
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Folder of the videos, for fiftyone: the INPUT of `run -r`
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    videos: PathBuf,
    /// Replace an existing output
    #[arg(long)]
    overwrite: bool,
    /// Write a JSON report; - for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The formats by their names.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ExportFormat {
    /// COCO instances with run lengths
    Coco,
    /// CVAT for video 1.1, the boxes of the tracks of one video
    Cvat,
    /// A row for each region of each frame
    Csv,
    /// FiftyOne's video labels: the boxes of all regions by frames, with links to the videos
    #[value(name = "fiftyone")]
    FiftyOne,
}

/// Writes the export.
///
/// # Errors
/// See [`export`].
pub fn run(args: &ExportArgs, quiet: bool) -> Result<u8> {
    let format = match args.format {
        ExportFormat::Coco => Format::Coco,
        ExportFormat::Cvat => Format::Cvat,
        ExportFormat::Csv => Format::Csv,
        ExportFormat::FiftyOne => Format::FiftyOne,
    };
    let exported = export(&args.inputs, format, &args.output, &args.videos, args.overwrite)?;
    if !quiet {
        eprintln!(
            "{}: {} regions in {} frames of {} files",
            args.output.display(),
            exported.regions,
            exported.frames,
            exported.files
        );
    }
    args.json.as_deref().map_or(Ok(()), |path| write_json(&exported, path))?;
    Ok(0)
}
