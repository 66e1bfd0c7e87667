//! `--report`: a self-contained HTML page.

use std::io::Cursor;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use image::imageops::{self, FilterType};
use image::{ImageFormat, Rgb, RgbImage};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::classes::ClassReport;
use super::components::{ANOMALY, VOID};
use super::gather::Gathered;
use super::measure::MethodResult;
use super::plot::{self, Curve};
use super::ranking::key;
use super::report::Evaluation;
use super::sample::read_image;
use crate::draw::Palette;
use crate::{Error, Result};

/// Number of the best and of the worst images shown.
const SHOWN: usize = 4;
/// Columns of a shown picture.
const THUMBNAIL: u32 = 440;

const STYLE: &str = "\
:root{color-scheme:light dark;--known:#8a8f98;--line:#8884;--muted:#777}\
body{font:15px/1.5 system-ui,sans-serif;max-width:1240px;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}\
p.lead{color:var(--muted);margin:.2rem 0 1rem}p.note{border-left:3px solid #cb4;padding-left:.8rem}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid var(--line)}\
th:first-child,td:first-child{text-align:left}td.best{font-weight:700}\
.swatch{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.5em;vertical-align:-.05em}\
.row{display:flex;flex-wrap:wrap;gap:1.2rem}.plot{width:380px;max-width:100%}\
svg text{fill:currentColor;font:11px system-ui,sans-serif}svg .title{font-weight:600;font-size:12.5px}\
.grid{stroke:var(--line)}.tick{opacity:.75}.threshold{stroke:currentColor;stroke-dasharray:4 3}\
.four{display:grid;grid-template-columns:repeat(4,1fr);gap:4px;margin:.3rem 0 1.1rem}\
.four img{width:100%;display:block}figure{margin:0}figcaption{font-size:12px;color:var(--muted)}\
details{margin-top:1rem}summary{cursor:pointer}";

/// Writes `index.html` into `folder`, creating it if missing.
///
/// # Errors
/// A picture cannot be read again or the page cannot be written.
pub fn write(folder: &Path, evaluation: &Evaluation, gathered: &Gathered) -> Result<()> {
    save(folder, page(evaluation, gathered)?)
}

/// Writes the figures of classes as `index.html` into `folder`, creating it if missing.
///
/// # Errors
/// The page cannot be written.
pub fn write_classes(folder: &Path, dataset: &str, report: &ClassReport) -> Result<()> {
    let body = html! {
        h1 { (dataset) }
        p.lead { (report.images) " images: the share of each known class that is marked" }
        table {
            tr { @for column in ClassReport::COLUMNS { th { (column) } } }
            @for row in report.rows() { tr { @for cell in row { td { (cell) } } } }
        }
    };
    save(folder, whole(&format!("oodstream: {dataset}"), &body))
}

/// Writes a page as `index.html` into `folder`, which is made where it is missing.
///
/// # Errors
/// The folder or the file cannot be written.
pub(super) fn save(folder: &Path, page: Markup) -> Result<()> {
    let path = folder.join("index.html");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, page.into_string()))
        .map_err(|error| Error::failed(format!("report {}: {error}", path.display())))
}

fn page(evaluation: &Evaluation, gathered: &Gathered) -> Result<Markup> {
    let pixels = evaluation.pixels;
    let all = pixels.anomalous + pixels.known;
    let mut notes = Vec::new();
    notes.extend(evaluation.undefined().map(str::to_owned));
    if evaluation.unlabelled > 0 {
        notes.push(format!("{} pictures of the set have no ground truth and are left out", evaluation.unlabelled));
    }
    if !evaluation.skipped.is_empty() {
        notes.push(format!("{} skipped: {}", evaluation.skipped.len(), evaluation.skipped.join("; ")));
    }
    if evaluation.binning_error() > 0.0 {
        notes.push(format!(
            "scores were binned: pixel metrics are within {:.1e} of their exact values",
            evaluation.binning_error()
        ));
    }
    let default = evaluation.methods.iter().position(|method| method.name == evaluation.default_method);
    let pictures = default.map(|index| pictures(&evaluation.methods[index], index, gathered)).transpose()?;
    let body = html! {
        h1 { (evaluation.dataset) }
        p.lead {
            "layout " (evaluation.layout) ", "
            @if let Some(model) = &evaluation.model { "model " (model) ", " }
            (evaluation.images) " images, " (pixels.anomalous) " anomalous of " (all) " pixels ("
            (format!("{:.2}", 100.0 * pixels.anomalous as f64 / all.max(1) as f64)) " %), " (pixels.void) " void"
        }
        @for note in notes { p.note { (note) } }
        (table(evaluation))
        @if evaluation.undefined().is_none() {
            h2 { "Curves" }
            .row {
                (plot::curves(&evaluation.methods, Curve::PrecisionRecall))
                (plot::curves(&evaluation.methods, Curve::Roc))
            }
        }
        h2 { "Scores" }
        p.lead {
            "known pixels in grey, anomalous ones in the method's colour, each to its own highest bar; the dashed line is the \
             threshold of the best pixel F1"
        }
        .row {
            @for (index, method) in evaluation.methods.iter().enumerate() { (plot::histogram(method, index)) }
        }
        @if let Some(pictures) = pictures { (pictures) }
        (images_table(evaluation))
    };
    Ok(whole(&format!("oodstream: {}", evaluation.dataset), &body))
}

/// A page of its own around `body`.
pub(super) fn whole(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".to_owned(), |value| format!("{:.2}", 100.0 * value))
}

fn table(evaluation: &Evaluation) -> Markup {
    let columns: Vec<[Option<f64>; 6]> = evaluation
        .methods
        .iter()
        .map(|method| {
            let (pixels, components) = (method.pixels.as_ref(), method.components.as_ref());
            [
                pixels.map(|pixels| pixels.ap),
                pixels.map(|pixels| pixels.auroc),
                pixels.map(|pixels| pixels.fpr95),
                components.and_then(|components| components.siou),
                components.and_then(|components| components.ppv),
                components.and_then(|components| components.f1),
            ]
        })
        .collect();
    let is_best = |column: usize, value: Option<f64>| {
        // Of all but the false-positive rate, more is better.
        let better = |a: f64, b: f64| if column == 2 { a < b } else { a > b };
        let others = || columns.iter().filter_map(|row| row[column]);
        columns.len() > 1 && value.is_some_and(|value| others().all(|other| !better(other, value)))
    };
    html! {
        table {
            thead { tr {
                @for name in ["method", "training", "AP", "AUROC", "FPR95", "sIoU", "PPV", "F1"] { th { (name) } }
            } }
            tbody {
                @for (index, (method, values)) in evaluation.methods.iter().zip(&columns).enumerate() {
                    tr {
                        td { span.swatch style={ "background:" (plot::colour(index)) } {} (method.name) }
                        td { (evaluation.training(index)) }
                        @for (column, value) in values.iter().enumerate() {
                            td.best[is_best(column, *value)] { (percent(*value)) }
                        }
                    }
                }
            }
        }
        p.lead {
            "percent; pixel metrics over all pixels of the set, component metrics at the threshold of the best pixel F1, \
             predicted components from " (evaluation.limits.predicted) " pixels, ground truth ones from "
            (evaluation.limits.truth)
        }
    }
}

fn images_table(evaluation: &Evaluation) -> Markup {
    let name = |row: usize| {
        let image = evaluation.methods.first().and_then(|method| method.images.get(row));
        image.map_or("", |image| image.name.as_str())
    };
    html! {
        details {
            summary { "AP of every image" }
            table {
                thead { tr { th { "image" } @for method in &evaluation.methods { th { (method.name) } } } }
                tbody {
                    @for row in 0..evaluation.images {
                        tr {
                            td { (name(row)) }
                            @for method in &evaluation.methods {
                                td { (percent(method.images.get(row).and_then(|image| Some(image.pixels.as_ref()?.ap)))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The best and the worst images by AP; where it is undefined there is nothing to rank.
fn pictures(method: &MethodResult, index: usize, gathered: &Gathered) -> Result<Markup> {
    let mut ranked: Vec<(f64, usize)> = method
        .images
        .iter()
        .enumerate()
        .filter_map(|(image, result)| Some((result.pixels.as_ref()?.ap, image)))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = ranked.len().min(SHOWN);
    let worst = (ranked.len() - best).min(SHOWN);
    let show = |&(ap, image): &(f64, usize)| -> Result<Markup> {
        let pictures = four(method, index, image, gathered)?
            .into_iter()
            .map(|(caption, picture)| Ok((caption, BASE64.encode(jpeg(&picture)?))))
            .collect::<Result<Vec<_>>>()?;
        Ok(html! {
            p.lead { (method.images[image].name) ", AP " (format!("{:.2}", 100.0 * ap)) " %" }
            .four {
                @for (caption, data) in pictures {
                    figure {
                        img alt=(caption) src={ "data:image/jpeg;base64," (data) };
                        figcaption { (caption) }
                    }
                }
            }
        })
    };
    let best = ranked[..best].iter().map(show).collect::<Result<Vec<_>>>()?;
    // The worst first.
    let worst = ranked[ranked.len() - worst..].iter().rev().map(show).collect::<Result<Vec<_>>>()?;
    Ok(html! {
        @for (title, images) in [("Best images", best), ("Worst images", worst)] {
            @if !images.is_empty() {
                h2 { (title) " of " (method.name) }
                @for image in images { (image) }
            }
        }
    })
}

/// Input, truth, score and mask of one image.
fn four(
    method: &MethodResult,
    index: usize,
    image: usize,
    gathered: &Gathered,
) -> Result<[(&'static str, RgbImage); 4]> {
    let truth = &gathered.truths[image];
    let (width, height) = (truth.width() as u32, truth.height() as u32);
    let mut scores = Vec::new();
    gathered.scores.load(index, image, truth.height(), truth.width(), &mut scores)?;
    let small_height = (u64::from(THUMBNAIL) * u64::from(height)).div_ceil(u64::from(width.max(1))).max(1) as u32;
    let input = imageops::resize(&read_image(&gathered.samples[image])?, THUMBNAIL, small_height, FilterType::Triangle);
    let pixels = truth.pixels();
    let at = |x: u32, y: u32| {
        let column = (u64::from(x) * 2 + 1) * u64::from(width) / (2 * u64::from(THUMBNAIL));
        let row = (u64::from(y) * 2 + 1) * u64::from(height) / (2 * u64::from(small_height));
        (row * u64::from(width) + column) as usize
    };
    let threshold = method.pixels.as_ref().map_or(u32::MAX, |pixels| key(pixels.best_threshold));
    let (low, high) = (method.bars.low, method.bars.high);
    let span = if high > low { high - low } else { 1.0 };
    let tint = |x: u32, y: u32, colour: [u8; 3]| {
        let Rgb(base) = *input.get_pixel(x, y);
        Rgb([0, 1, 2].map(|c| ((u16::from(base[c]) + 2 * u16::from(colour[c])) / 3) as u8))
    };
    let truth_picture = RgbImage::from_fn(THUMBNAIL, small_height, |x, y| match pixels[at(x, y)] {
        ANOMALY => tint(x, y, [255, 60, 40]),
        VOID => Rgb([0, 0, 0]),
        _ => *input.get_pixel(x, y),
    });
    let score_picture = RgbImage::from_fn(THUMBNAIL, small_height, |x, y| {
        let share = ((scores[at(x, y)] - low) / span).clamp(0.0, 1.0);
        Rgb(Palette::Inferno.rgb((share * 255.0) as u8))
    });
    let mask_picture = RgbImage::from_fn(THUMBNAIL, small_height, |x, y| {
        if key(scores[at(x, y)]) >= threshold { tint(x, y, [255, 170, 0]) } else { *input.get_pixel(x, y) }
    });
    Ok([("input", input.clone()), ("truth", truth_picture), ("score", score_picture), ("mask", mask_picture)])
}

fn jpeg(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Jpeg)
        .map_err(|error| Error::failed(format!("report: a picture cannot be encoded: {error}")))?;
    Ok(bytes.into_inner())
}
