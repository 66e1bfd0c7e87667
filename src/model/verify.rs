//! The logits that `run` would use, or the features of a network without classes, held against a reference from another framework; and where they differ, why.

use std::path::Path;

use ndarray::{Array3, ArrayView3, Axis, Ix3};
use serde::Serialize;

use crate::model::manifest::Colour;
use crate::model::prepare::InputSpec;
use crate::model::runtime::{Network, SessionOptions};
use crate::model::views::layout::{Layout, Resize, Views};
use crate::model::views::rgb::{RgbPicture, prepare_rgb};
use crate::{Error, Result, npy};

/// Root mean square of the difference, as a share of the reference's standard deviation, up to which maps agree: a
/// correlation of 0.9999.
const AGREEING: f64 = 0.014;

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// `logits`, or `features` where the network has no classes.
    pub compared: &'static str,
    /// The output or tensor that is compared, under the name of the logits.
    pub logits: String,
    /// Channels, rows and columns of it.
    pub shape: [usize; 3],
    /// Lengths of the reference's axes.
    pub reference: Vec<usize>,
    /// Whether both agree, as they are.
    pub agrees: bool,
    /// How close they are.
    #[serde(flatten)]
    pub closeness: Closeness,
    /// What has to change for them to agree, most of it in the manifest; empty where they agree, or where nothing known helps.
    pub explanations: Vec<Explanation>,
    /// How close they are after these changes.
    pub explained: Option<Closeness>,
    /// What had to be assumed about the network.
    pub assumptions: Vec<String>,
}

/// How close two maps are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Closeness {
    /// Pearson's coefficient over all values.
    pub correlation: f64,
    /// The largest absolute difference.
    pub largest_difference: f64,
    /// Root mean square of the difference, as a share of the reference's standard deviation.
    pub relative_difference: f64,
    /// Share of pixels with the same most likely class.
    pub same_class: f64,
}

/// One difference between the program's way and the reference's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `layout`, `colour`, `scale`, `resize` or `softmax`.
    pub what: &'static str,
    /// A sentence.
    pub text: String,
    /// What to do about it.
    pub advice: String,
}

/// Runs the network of `model` on `picture` and compares with `reference`, a NumPy array `[C, h, w]` or `[1, C, h, w]`.
///
/// # Errors
/// A file cannot be read, or the reference has another number of classes.
pub fn verify(model: &Path, picture: &Path, reference: &Path, options: &SessionOptions) -> Result<Verification> {
    let mut network = Network::load(Some(model), options)?;
    let picture = image::open(picture)
        .map_err(|error| Error::failed(format!("picture {}", picture.display())).caused_by(error))?
        .into_rgb8();
    let array = npy::read_array(reference)?;
    let shape = array.shape().to_vec();
    let mut axes = array;
    while axes.ndim() > 3 && axes.shape()[0] == 1 {
        axes = axes.index_axis_move(Axis(0), 0);
    }
    let place = || format!("reference {}", reference.display());
    let map = axes
        .into_dimensionality::<Ix3>()
        .map_err(|_| Error::usage(format!("shape {shape:?} is no map [classes, rows, columns]")).at(place()))?;
    if let Some(value) = map.iter().find(|value| !value.is_finite()) {
        return Err(Error::usage(format!("it has a value that is not finite ({value})")).at(place()));
    }
    let rgb = RgbPicture::new(picture.as_raw(), picture.width(), picture.height())?;
    let way =
        Way { colour: Swap::None, scale: Scale::AsNow, resize: network.manifest().input.resize.unwrap_or_default() };
    let ours = run(&mut network, &rgb, way)?;
    let compared = if network.logits_name().is_some() { "logits" } else { "features" };
    let name = network.logits_name().or(network.feature_names().first().map(String::as_str)).unwrap_or_default();
    let name = name.to_owned();
    let readings = readings(&map, ours.dim()).ok_or_else(|| {
        let (classes, rows, columns) = ours.dim();
        Error::usage(format!("shape {shape:?} does not fit the network's {compared} [{classes}, {rows}, {columns}]"))
            .at(place())
    })?;
    let closeness = compare(&ours.view(), &readings[0].1);
    let mut found = Verification {
        compared,
        logits: name,
        shape: [ours.dim().0, ours.dim().1, ours.dim().2],
        reference: shape,
        agrees: readings[0].0.is_none() && closeness.relative_difference <= AGREEING,
        closeness,
        explanations: Vec::new(),
        explained: None,
        assumptions: network.assumptions().to_vec(),
    };
    if !found.agrees
        && let Some((explanations, closeness)) = explain(&mut network, &rgb, way, ours, &readings)?
    {
        (found.explanations, found.explained) = (explanations, Some(closeness));
    }
    Ok(found)
}

/// A way to read the reference: what is different about it, and the map in the program's order and size.
type Reading = (Option<Explanation>, Array3<f32>);

/// All ways in which `map` can be read as one of `shape`.
fn readings(map: &Array3<f32>, shape: (usize, usize, usize)) -> Option<Vec<Reading>> {
    let (classes, rows, columns) = shape;
    let orders: [([usize; 3], &str); 4] =
        [([0, 1, 2], "nchw"), ([2, 0, 1], "[h, w, C]"), ([0, 2, 1], "[C, w, h]"), ([2, 1, 0], "[w, h, C]")];
    let mut found: Vec<Reading> = Vec::new();
    for (order, name) in orders {
        let turned = map.view().permuted_axes(order);
        if turned.dim().0 != classes {
            continue;
        }
        let other = (order != [0, 1, 2]).then(|| Explanation {
            what: "layout",
            text: format!("the reference is {name}, not [C, h, w]"),
            advice: "nothing, if the reference was saved so; else outputs.layout in the manifest".to_owned(),
        });
        found.push((other, resized(&turned, (rows, columns))));
    }
    (!found.is_empty()).then_some(found)
}

/// Bilinear with half-pixel centres, as logits are enlarged.
fn resized(map: &ArrayView3<'_, f32>, (rows, columns): (usize, usize)) -> Array3<f32> {
    let (classes, from_rows, from_columns) = map.dim();
    if (from_rows, from_columns) == (rows, columns) {
        return map.as_standard_layout().into_owned();
    }
    let place = |at: usize, to: usize, from: usize| {
        let place = ((at as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
        let first = (place as usize).min(from.saturating_sub(2));
        (first, (first + 1).min(from - 1), place - first as f32)
    };
    Array3::from_shape_fn((classes, rows, columns), |(c, y, x)| {
        let ((top, bottom, down), (left, right, across)) = (place(y, rows, from_rows), place(x, columns, from_columns));
        let row = |y| map[[c, y, left]] * (1.0 - across) + map[[c, y, right]] * across;
        row(top) * (1.0 - down) + row(bottom) * down
    })
}

/// How the picture is brought to the network, compared to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    colour: Swap,
    scale: Scale,
    resize: Resize,
}

/// The order of the colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swap {
    None,
    /// Turned around, mean and deviation with them.
    Colours,
    /// Turned around, mean and deviation as they are.
    ColoursOnly,
}

/// Mean and deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    AsNow,
    ImageNet,
    Shares,
    Codes,
    Symmetric,
}

impl Scale {
    fn spec(self, now: InputSpec) -> InputSpec {
        let (mean, std) = match self {
            Self::AsNow => return now,
            Self::ImageNet => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            Self::Shares => ([0.0; 3], [1.0; 3]),
            Self::Codes => ([0.0; 3], [1.0 / 255.0; 3]),
            Self::Symmetric => ([0.5; 3], [0.5; 3]),
        };
        InputSpec { mean, std, ..now }
    }

    fn explanation(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::AsNow => None,
            Self::ImageNet => Some((
                "pictures normalised with ImageNet mean and deviation",
                "mean = [0.485, 0.456, 0.406] and std = [0.229, 0.224, 0.225] in [input] of the manifest",
            )),
            Self::Shares => Some(("pictures of 0 to 1", "range = \"0..1\" in [input] of the manifest")),
            Self::Codes => Some(("pictures of 0 to 255", "range = \"0..255\" in [input] of the manifest")),
            Self::Symmetric => Some((
                "pictures of -1 to 1",
                "mean = [0.5, 0.5, 0.5] and std = [0.5, 0.5, 0.5] in [input] of the manifest",
            )),
        }
    }
}

/// The logits of the picture, brought to the network in that way.
fn run(network: &mut Network, picture: &RgbPicture<'_>, way: Way) -> Result<Array3<f32>> {
    let now = *network.input();
    let mut spec = way.scale.spec(now);
    if way.colour == Swap::ColoursOnly {
        // The values that the planes get after they are turned around.
        spec.mean.reverse();
        spec.std.reverse();
    }
    // Tiles are several runs; the reference is one.
    let resize = if way.resize == Resize::Tile { Resize::Stretch } else { way.resize };
    let layout = Layout::new(&Views { resize, ..Views::default() }, &spec, picture.size())?;
    let mut tensor = Vec::new();
    prepare_rgb(picture, &layout, &spec, &mut tensor);
    if way.colour != Swap::None {
        let plane = spec.width * spec.height;
        let (red, rest) = tensor.split_at_mut(plane);
        red.swap_with_slice(&mut rest[plane..2 * plane]);
    }
    let outputs = network.infer(&tensor)?;
    outputs.with_maps(|maps| {
        let map = if maps.has_logits() { Some(&maps.logits) } else { maps.features.first() };
        let map = map.ok_or_else(|| Error::failed("the network has neither logits nor features"))?;
        Ok(map.as_standard_layout().into_owned())
    })
}

/// A function of the logits of one pixel, in place.
type Squash = fn(&mut [f32]);

/// The functions that other programs apply to logits before saving them, by name.
const SQUASHES: [(&str, Squash); 4] = [
    ("", |_| {}),
    ("softmax", |values| {
        let sum = exponentials(values);
        values.iter_mut().for_each(|value| *value /= sum);
    }),
    ("log-softmax", |values| {
        let top = values.iter().copied().fold(f32::MIN, f32::max);
        let sum: f32 = values.iter().map(|value| (value - top).exp()).sum();
        values.iter_mut().for_each(|value| *value -= top + sum.ln());
    }),
    ("sigmoid", |values| values.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()))),
];

fn exponentials(values: &mut [f32]) -> f32 {
    let top = values.iter().copied().fold(f32::MIN, f32::max);
    values.iter_mut().for_each(|value| *value = (*value - top).exp());
    values.iter().sum()
}

/// The fewest changes after which both agree.
fn explain(
    network: &mut Network,
    picture: &RgbPicture<'_>,
    now: Way,
    ours: Array3<f32>,
    readings: &[Reading],
) -> Result<Option<(Vec<Explanation>, Closeness)>> {
    let mut ways = Vec::new();
    for resize in [now.resize, Resize::Stretch, Resize::Letterbox] {
        for scale in [Scale::AsNow, Scale::ImageNet, Scale::Shares, Scale::Codes, Scale::Symmetric] {
            for colour in [Swap::None, Swap::Colours, Swap::ColoursOnly] {
                let way = Way { colour, scale, resize };
                if !ways.contains(&way) {
                    ways.push(way);
                }
            }
        }
    }
    let changes = |way: &Way| {
        usize::from(way.colour != now.colour)
            + usize::from(way.scale != now.scale)
            + usize::from(way.resize != now.resize)
    };
    ways.sort_by_key(changes);
    for way in ways {
        let map = if way == now { ours.clone() } else { run(network, picture, way)? };
        for (name, squash) in SQUASHES {
            let mut map = map.clone();
            if !name.is_empty() {
                squash_pixels(&mut map, squash);
            }
            for (layout, reference) in readings {
                let closeness = compare(&map.view(), reference);
                if closeness.relative_difference <= AGREEING {
                    return Ok(Some((explanations(network, now, way, name, layout.clone()), closeness)));
                }
            }
        }
    }
    Ok(None)
}

fn squash_pixels(map: &mut Array3<f32>, squash: fn(&mut [f32])) {
    let mut values = Vec::with_capacity(map.dim().0);
    for mut pixel in map.lanes_mut(Axis(0)) {
        values.clear();
        values.extend(pixel.iter());
        squash(&mut values);
        pixel.iter_mut().zip(&values).for_each(|(to, value)| *to = *value);
    }
}

fn explanations(network: &Network, now: Way, way: Way, squash: &str, layout: Option<Explanation>) -> Vec<Explanation> {
    let mut all: Vec<Explanation> = layout.into_iter().collect();
    if way.colour != now.colour {
        let now = network.manifest().input.colour.unwrap_or_default();
        let (name, key) = if now == Colour::Rgb { ("BGR", "bgr") } else { ("RGB", "rgb") };
        let order = match way.colour {
            Swap::ColoursOnly => ", with input.mean and input.std as they are now",
            _ => ", with input.mean and input.std in the new order where the manifest has them",
        };
        all.push(Explanation {
            what: "colour",
            text: format!("the reference was made from {name} pictures"),
            advice: format!("colour = \"{key}\" in [input] of the manifest{order}"),
        });
    }
    if way.scale != now.scale
        && let Some((text, advice)) = way.scale.explanation()
    {
        let text = format!("the reference was made from {text}");
        all.push(Explanation { what: "scale", text, advice: advice.to_owned() });
    }
    if way.resize != now.resize {
        all.push(Explanation {
            what: "resize",
            text: format!("the reference was made from a picture brought to size by `{}`", way.resize.name()),
            advice: format!("resize = \"{}\" in [input] of the manifest", way.resize.name()),
        });
    }
    if !squash.is_empty() {
        all.push(Explanation {
            what: "softmax",
            text: format!("the reference is the {squash} of the logits that are used"),
            advice: "nothing: raw logits are what is wanted".to_owned(),
        });
    }
    all
}

/// How close `ours` is to `reference`, of the same shape.
fn compare(ours: &ArrayView3<'_, f32>, reference: &Array3<f32>) -> Closeness {
    let count = reference.len().max(1) as f64;
    let mean = |map: &ArrayView3<'_, f32>| map.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let (a, b) = (mean(ours), mean(&reference.view()));
    let (mut aa, mut bb, mut ab, mut square, mut largest) = (0.0, 0.0, 0.0, 0.0, 0.0f64);
    for (&x, &y) in ours.iter().zip(reference) {
        let (x, y) = (f64::from(x), f64::from(y));
        aa += (x - a) * (x - a);
        bb += (y - b) * (y - b);
        ab += (x - a) * (y - b);
        square += (x - y) * (x - y);
        largest = largest.max((x - y).abs());
    }
    let best = |map: &ArrayView3<'_, f32>| -> Vec<usize> {
        let top = |pixel: ndarray::ArrayView1<'_, f32>| {
            pixel.iter().enumerate().fold((0, f32::MIN), |best, (at, &v)| if v > best.1 { (at, v) } else { best }).0
        };
        map.lanes(Axis(0)).into_iter().map(top).collect()
    };
    let (ours, reference) = (best(ours), best(&reference.view()));
    let same = ours.iter().zip(&reference).filter(|(a, b)| a == b).count();
    let share = |value: f64, of: f64| if of > 0.0 { value / of } else { 0.0 };
    Closeness {
        correlation: share(ab, (aa * bb).sqrt()),
        largest_difference: largest,
        relative_difference: if bb > 0.0 { (square / bb).sqrt() } else { f64::from(u8::from(square > 0.0)) },
        same_class: share(same as f64, ours.len() as f64),
    }
}
