//! `--report`: one HTML page that needs nothing beside itself.

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{ImageFormat, Rgb, RgbImage};

use super::classes::ClassReport;
use super::components::{ANOMALY, VOID};
use super::dataset::read_image;
use super::gather::Gathered;
use super::measure::MethodResult;
use super::plot::{self, Curve, escape};
use super::ranking::key;
use super::report::Evaluation;
use crate::draw::Palette;
use crate::{Error, Result};

/// How many of the best and of the worst images are shown.
const SHOWN: usize = 4;
/// Columns of a shown picture.
const THUMBNAIL: u32 = 440;

pub(super) const STYLE: &str = "\
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

/// Writes `index.html` into `folder`, which is made if it is not there; returns nothing.
///
/// # Errors
/// A picture cannot be read again or the page cannot be written.
pub fn write(folder: &Path, evaluation: &Evaluation, gathered: &Gathered) -> Result<()> {
    let page = page(evaluation, gathered)?;
    let path = folder.join("index.html");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, page))
        .map_err(|error| Error::failed(format!("report {}: {error}", path.display())))
}

/// Writes the figures of classes as `index.html` into `folder`, which is made where it is missing.
///
/// # Errors
/// The page cannot be written.
pub fn write_classes(folder: &Path, dataset: &str, report: &ClassReport) -> Result<()> {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>oodstream: {0}</title><style>{STYLE}</style>\
         </head><body><h1>{0}</h1><p class=\"lead\">{1} images: the share of each known class that is marked</p><table><tr>",
        escape(dataset),
        report.images
    );
    ClassReport::COLUMNS.iter().for_each(|column| html.push_str(&format!("<th>{column}</th>")));
    html.push_str("</tr>");
    for row in report.rows() {
        html.push_str("<tr>");
        row.iter().for_each(|cell| html.push_str(&format!("<td>{}</td>", escape(cell))));
        html.push_str("</tr>");
    }
    html.push_str("</table></body></html>");
    let path = folder.join("index.html");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, html))
        .map_err(|error| Error::failed(format!("report {}: {error}", path.display())))
}

fn page(evaluation: &Evaluation, gathered: &Gathered) -> Result<String> {
    let title = format!("oodstream: {}", escape(&evaluation.dataset));
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{}</h1>",
        escape(&evaluation.dataset)
    );
    let pixels = evaluation.pixels;
    let _ = write!(
        html,
        "<p class=\"lead\">layout {}, {}{} images, {} anomalous of {} pixels ({:.2} %), {} void</p>",
        escape(&evaluation.layout),
        evaluation.model.as_ref().map_or_else(String::new, |model| format!("model {}, ", escape(model))),
        evaluation.images,
        pixels.anomalous,
        pixels.anomalous + pixels.known,
        100.0 * pixels.anomalous as f64 / (pixels.anomalous + pixels.known).max(1) as f64,
        pixels.void
    );
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
    for note in notes {
        let _ = write!(html, "<p class=\"note\">{}</p>", escape(&note));
    }
    table(&mut html, evaluation);
    if evaluation.undefined().is_none() {
        html.push_str("<h2>Curves</h2><div class=\"row\">");
        html.push_str(&plot::curves(&evaluation.methods, Curve::PrecisionRecall));
        html.push_str(&plot::curves(&evaluation.methods, Curve::Roc));
        html.push_str("</div>");
    }
    html.push_str(
        "<h2>Scores</h2><p class=\"lead\">known pixels in grey, anomalous ones in the method's colour, each to its own \
         highest bar; the dashed line is the threshold of the best pixel F1</p><div class=\"row\">",
    );
    for (index, method) in evaluation.methods.iter().enumerate() {
        html.push_str(&plot::histogram(method, index));
    }
    html.push_str("</div>");
    if let Some(index) = evaluation.methods.iter().position(|method| method.name == evaluation.default_method) {
        pictures(&mut html, &evaluation.methods[index], index, gathered)?;
    }
    images_table(&mut html, evaluation);
    html.push_str("</body></html>\n");
    Ok(html)
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".to_owned(), |value| format!("{:.2}", 100.0 * value))
}

fn table(html: &mut String, evaluation: &Evaluation) {
    html.push_str(
        "<table><thead><tr><th>method</th><th>training</th><th>AP</th><th>AUROC</th><th>FPR95</th><th>sIoU</th><th>PPV</th>\
         <th>F1</th></tr></thead><tbody>",
    );
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
    for (index, (method, values)) in evaluation.methods.iter().zip(&columns).enumerate() {
        let _ = write!(
            html,
            "<tr><td><span class=\"swatch\" style=\"background:{}\"></span>{}</td><td>{}</td>",
            plot::colour(index),
            escape(&method.name),
            evaluation.training(index)
        );
        for (column, value) in values.iter().enumerate() {
            // Of all but the false-positive rate, more is better.
            let better = |a: f64, b: f64| if column == 2 { a < b } else { a > b };
            let best = value
                .is_some_and(|value| columns.iter().filter_map(|row| row[column]).all(|other| !better(other, value)));
            let class = if best && columns.len() > 1 { " class=\"best\"" } else { "" };
            let _ = write!(html, "<td{class}>{}</td>", percent(*value));
        }
        html.push_str("</tr>");
    }
    let _ = write!(
        html,
        "</tbody></table><p class=\"lead\">percent; pixel metrics over all pixels of the set, component metrics at the threshold of \
         the best pixel F1, predicted components from {} pixels, ground truth ones from {}</p>",
        evaluation.limits.predicted, evaluation.limits.truth
    );
}

fn images_table(html: &mut String, evaluation: &Evaluation) {
    html.push_str("<details><summary>AP of every image</summary><table><thead><tr><th>image</th>");
    for method in &evaluation.methods {
        let _ = write!(html, "<th>{}</th>", escape(&method.name));
    }
    html.push_str("</tr></thead><tbody>");
    for row in 0..evaluation.images {
        let name = evaluation.methods.first().and_then(|method| method.images.get(row)).map_or("", |image| &image.name);
        let _ = write!(html, "<tr><td>{}</td>", escape(name));
        for method in &evaluation.methods {
            let ap = method.images.get(row).and_then(|image| image.pixels.as_ref()).map(|pixels| pixels.ap);
            let _ = write!(html, "<td>{}</td>", percent(ap));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></details>");
}

/// The best and the worst images by AP; where it is undefined there is nothing to rank.
fn pictures(html: &mut String, method: &MethodResult, index: usize, gathered: &Gathered) -> Result<()> {
    let mut ranked: Vec<(f64, usize)> = method
        .images
        .iter()
        .enumerate()
        .filter_map(|(image, result)| Some((result.pixels.as_ref()?.ap, image)))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = ranked.len().min(SHOWN);
    let worst = (ranked.len() - best).min(SHOWN);
    let sections = [("Best images", &ranked[..best]), ("Worst images", &ranked[ranked.len() - worst..])];
    for (title, images) in sections.into_iter().filter(|(_, images)| !images.is_empty()) {
        let _ = write!(html, "<h2>{title} of {}</h2>", escape(&method.name));
        let worst_first: Box<dyn Iterator<Item = &(f64, usize)>> =
            if title.starts_with("Worst") { Box::new(images.iter().rev()) } else { Box::new(images.iter()) };
        for &(ap, image) in worst_first {
            let _ = write!(
                html,
                "<p class=\"lead\">{}, AP {:.2} %</p><div class=\"four\">",
                escape(&method.images[image].name),
                100.0 * ap
            );
            for (caption, picture) in four(method, index, image, gathered)? {
                let data = base64(&jpeg(&picture)?);
                let _ = write!(
                    html,
                    "<figure><img alt=\"{caption}\" src=\"data:image/jpeg;base64,{data}\"><figcaption>{caption}</figcaption></figure>"
                );
            }
            html.push_str("</div>");
        }
    }
    Ok(())
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

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = (0..3).fold(0_u32, |word, i| word << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_the_standards_examples() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
