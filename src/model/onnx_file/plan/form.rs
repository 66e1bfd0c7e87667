//! What makes a tensor a map `[N, C, h, w]`: the order of its axes, or the grid that its tokens are.
//!
//! The operators say it where they can ([`Axes`](crate::model::onnx_file::axes::Axes)), else the shape does: rows and
//! columns of a map are those of the picture divided by one number.

use super::Planner;
use crate::model::classes;
use crate::model::manifest::MapLayout;
use crate::model::onnx_file::axes::{Axis, to_channels_first};
use crate::{Error, Result};

/// Tokens in front of the patches: none, the class, class and four registers, and what is rarer.
const PREFIXES: [usize; 9] = [0, 1, 5, 4, 2, 3, 6, 7, 8];
/// Sides of patches, in pixels.
const PATCHES: std::ops::RangeInclusive<usize> = 1..=64;

/// What brings a tensor to `[N, C, h, w]` or `[C, h, w]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// A map, with this order of axes where it is another one.
    Map(Option<Vec<i64>>),
    /// `[N, tokens, D]`, or `[N tokens, D]` where `flat` is D.
    Tokens { grid: Grid, flat: Option<usize> },
}

/// Tokens as a grid over the picture: the first ones are no patches of it, the others are its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub first: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Form {
    /// A map as it is.
    pub(super) const IN_ORDER: Self = Self::Map(None);

    fn of(order: &[i64]) -> Self {
        Self::Map((!order.iter().copied().eq(0..order.len() as i64)).then(|| order.to_vec()))
    }
}

/// A question about a tensor.
pub(super) struct Question<'q> {
    /// `logits` or `features`.
    pub what: &'q str,
    /// The axis of the channels, where an operator behind it says so.
    pub channel: Option<i64>,
    /// What the manifest says.
    pub said: Option<MapLayout>,
}

impl<'a> Planner<'_, 'a> {
    /// The form of `tensor`.
    ///
    /// # Errors
    /// It is no map, or its shape fits several orders of axes and it holds logits.
    pub(super) fn form(&mut self, tensor: &'a str, question: &Question<'_>) -> Result<Form> {
        if let Some(said) = question.said {
            return Ok(match said {
                MapLayout::Nchw | MapLayout::Chw => Form::IN_ORDER,
                MapLayout::Nhwc => Form::of(&[0, 3, 1, 2]),
                MapLayout::Hwc => Form::of(&[2, 0, 1]),
            });
        }
        if let Some(axes) = self.axes.of(tensor)
            && let Some(order) = to_channels_first(&axes)
        {
            let channel = question.channel.map(|axis| if axis < 0 { axis + axes.len() as i64 } else { axis });
            if let Some(channel) = channel
                && axes.get(channel as usize) != Some(&Axis::Channel)
            {
                return Err(open(
                    tensor,
                    question.what,
                    "softmax and convolutions disagree about the axis of its classes",
                ));
            }
            return Ok(Form::of(&order));
        }
        let Some(shape) = self.shape(tensor) else {
            self.unknown.push(tensor.to_owned());
            return Ok(Form::IN_ORDER);
        };
        match shape.as_slice() {
            [_, _, _, _] => self.four_axes(tensor, &shape, question),
            [_, _, _] => self.three_axes(tensor, &shape, question),
            &[Some(tokens), Some(channels)] => {
                Ok(Form::Tokens { grid: self.tokens(tensor, tokens, &shape, question.what)?, flat: Some(channels) })
            }
            _ => Err(Error::failed(format!(
                "the {} `{tensor}` have shape {}, expected a map [1, C, h, w]",
                question.what,
                text(&shape)
            ))
            .hint(ANOTHER_PLACE)),
        }
    }

    /// The shape of a tensor as far as it is known: as it was when the graph ran, else as an output is declared.
    pub(super) fn shape(&self, tensor: &str) -> Option<Vec<Option<usize>>> {
        if let Some(shape) = self.shapes.tensors.get(tensor) {
            return Some(shape.iter().map(|&length| Some(length)).collect());
        }
        let shape = self.output(tensor)?.shape.as_ref()?;
        Some(shape.iter().map(|dim| dim.length()).collect())
    }

    fn four_axes(&mut self, tensor: &'a str, shape: &[Option<usize>], question: &Question<'_>) -> Result<Form> {
        let (first, last) = (Form::IN_ORDER, Form::of(&[0, 3, 1, 2]));
        match question.channel {
            Some(1 | -3) => return Ok(first),
            Some(3 | -1) => return Ok(last),
            _ => {}
        }
        if let [_, Some(_), None, None] = shape {
            return Ok(first);
        }
        if let [_, None, None, Some(_)] = shape {
            return Ok(last);
        }
        let fits = (self.fits(shape[2], shape[3]), self.fits(shape[1], shape[2]));
        let counts = (self.is_count(shape[1]), self.is_count(shape[3]));
        let exact = (self.is_exact(shape[2], shape[3]), self.is_exact(shape[1], shape[2]));
        match (fits, counts, exact) {
            ((true, false), ..) | ((true, true), (true, false), _) => Ok(first),
            ((false, true), ..) | ((true, true), (false, true), _) => Ok(last),
            ((true, true), _, (true, false)) => Ok(first),
            ((true, true), _, (false, true)) => Ok(last),
            _ if !self.shapes.tensors.contains_key(tensor) && shape[1..].contains(&None) => {
                self.unknown.push(tensor.to_owned());
                Ok(first)
            }
            ((fits, _), ..) if question.what == "logits" => {
                let reason = if fits {
                    "which can be read as [1, C, h, w] and as [1, h, w, C]"
                } else {
                    "which is no map of the picture with either order of axes"
                };
                Err(open(tensor, question.what, &format!("it has shape {}, {reason}", text(shape))))
            }
            _ => {
                self.assume(format!("the features `{tensor}` {} are taken as [1, D, h, w]", text(shape)));
                Ok(first)
            }
        }
    }

    fn three_axes(&mut self, tensor: &'a str, shape: &[Option<usize>], question: &Question<'_>) -> Result<Form> {
        let &[a, b, c] = shape else { return Ok(Form::IN_ORDER) };
        let what = question.what;
        if !self.shapes.tensors.contains_key(tensor) && shape.contains(&None) {
            self.unknown.push(tensor.to_owned());
            return Ok(Form::IN_ORDER);
        }
        if a == Some(1) {
            let Some(tokens) = b else { return Ok(Form::IN_ORDER) };
            if self.is_exact(b, c) {
                let message = format!(
                    "the {what} `{tensor}` have shape {}: one value per pixel, not several classes",
                    text(shape)
                );
                return Err(Error::failed(message).hint(ANOTHER_PLACE));
            }
            return Ok(Form::Tokens { grid: self.tokens(tensor, tokens, shape, what)?, flat: None });
        }
        match (self.fits(b, c), self.fits(a, b)) {
            (true, false) => Ok(Form::IN_ORDER),
            (false, true) => Ok(Form::of(&[2, 0, 1])),
            (true, true) if self.is_count(a) != self.is_count(c) => {
                Ok(if self.is_count(a) { Form::IN_ORDER } else { Form::of(&[2, 0, 1]) })
            }
            (fits, _) => {
                let reason = if fits {
                    "which can be read as [C, h, w] and as [h, w, C]"
                } else {
                    "which is no map of the picture"
                };
                Err(open(tensor, what, &format!("it has shape {}, {reason}", text(shape))))
            }
        }
    }

    /// The grid that `tokens` tokens are.
    fn tokens(&mut self, tensor: &str, tokens: usize, shape: &[Option<usize>], what: &str) -> Result<Grid> {
        let (width, height) = self.size;
        let Some(grid) = grid(tokens, self.size) else {
            let message = format!(
                "the {what} `{tensor}` have shape {}, {tokens} tokens, which are no grid over the picture of \
                 {width}x{height}",
                text(shape)
            );
            return Err(Error::failed(message).hint(ANOTHER_PLACE));
        };
        let Grid { first, rows, columns } = grid;
        let front = if first > 0 { format!(" after the first {first}") } else { String::new() };
        let patch = (width / columns).min(height / rows);
        let (right, bottom) = (width - columns * patch, height - rows * patch);
        let missed = if right + bottom > 0 {
            format!(
                ", which misses the last {right} columns and {bottom} rows of the picture of {width}x{height}: set \
                 input.width and input.height in the manifest to multiples of {patch} where the graph leaves them free"
            )
        } else {
            String::new()
        };
        self.assume(format!(
            "the {tokens} tokens of `{tensor}`{front} are taken as a grid of {rows} rows and {columns} columns{missed}"
        ));
        Ok(grid)
    }

    /// Whether a map of `rows` and `columns` has the picture's proportions, within a cell; what is not known fits.
    pub(super) fn fits(&self, rows: Option<usize>, columns: Option<usize>) -> bool {
        let (Some(rows), Some(columns)) = (rows, columns) else { return true };
        let (width, height) = (self.size.0 as f64, self.size.1 as f64);
        let (rows, columns) = (rows as f64, columns as f64);
        if rows > height || columns > width {
            return false;
        }
        (rows - height * columns / width).abs() <= 1.0 || (columns - width * rows / height).abs() <= 1.0
    }

    /// Whether rows and columns are those of the picture divided by one number.
    fn is_exact(&self, rows: Option<usize>, columns: Option<usize>) -> bool {
        let (Some(rows), Some(columns)) = (rows, columns) else { return false };
        self.fits(Some(rows), Some(columns)) && rows * self.size.0 == columns * self.size.1
    }

    /// Whether a number is that of the classes of the manifest, of the file's metadata, or of a well-known data set.
    pub(super) fn is_count(&self, length: Option<usize>) -> bool {
        let Some(length) = length else { return false };
        let named = [self.manifest.classes.names.len(), self.noted.classes.len()];
        match named.into_iter().find(|&count| count > 0) {
            Some(count) => length == count,
            None => classes::by_count(length).is_some(),
        }
    }
}

const ANOTHER_PLACE: &str =
    "choose another place: `oodstream model inspect` lists them, --feature and outputs.logits take one";

/// An order of axes that only the user knows.
fn open(tensor: &str, what: &str, reason: &str) -> Error {
    Error::failed(format!("the order of axes of the {what} `{tensor}` is open: {reason}"))
        .hint("write outputs.layout = \"nchw\" or \"nhwc\" into the manifest beside the model")
}

fn text(shape: &[Option<usize>]) -> String {
    let axes = shape.iter().map(|length| length.map_or_else(|| "?".to_owned(), |length| length.to_string()));
    format!("[{}]", axes.collect::<Vec<_>>().join(", "))
}

/// The grid of `tokens` tokens of a picture of `size`.
fn grid(tokens: usize, (width, height): (usize, usize)) -> Option<Grid> {
    let fits = |first: usize, patch: usize, exact: bool| {
        let (rows, columns) = (height / patch, width / patch);
        let whole = height.is_multiple_of(patch) && width.is_multiple_of(patch);
        let wanted = rows * columns + first == tokens && rows * columns > 1;
        (wanted && (whole || !exact)).then_some(Grid { first, rows, columns })
    };
    let all =
        |exact| PREFIXES.into_iter().find_map(|first| PATCHES.into_iter().find_map(|patch| fits(first, patch, exact)));
    all(true).or_else(|| all(false))
}

#[cfg(test)]
mod tests {
    use super::{Grid, grid};

    #[test]
    fn tokens_are_the_patches_of_the_picture() {
        let some = |first, rows, columns| Some(Grid { first, rows, columns });
        assert_eq!(grid(1024, (512, 512)), some(0, 32, 32));
        assert_eq!(grid(28 * 46 + 5, (644, 392)), some(5, 28, 46));
        assert_eq!(grid(197, (224, 224)), some(1, 14, 14));
        assert_eq!(grid(77, (512, 512)), None);
    }
}
