//! The graph's input: which one is the picture, its size and colours, and its conversion from f32 RGB in NCHW order.

use super::{Keep, Picture, Planner};
use crate::model::manifest::{Colour, Dtype, InputLayout, Range};
use crate::model::onnx_file::baked;
use crate::model::onnx_file::baked::Taken;
use crate::model::onnx_file::describe::{element_name, shape_text};
use crate::model::onnx_file::edit::{Attribute, Place};
use crate::model::onnx_file::graph::{Dim, FLOAT, FLOAT16, Port, UINT8};
use crate::model::prepare::InputSpec;
use crate::{Error, Result};

/// Tensor that the program's picture goes into where the graph's own input has another form.
const PICTURE: &str = "oodstream.picture";
/// Indices that turn the channels around.
const REVERSED: &str = "oodstream.reversed";

/// ImageNet statistics of R, G, B in units of 0..1: what most backbones were trained with, assumed where nothing says.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Sizes at which a graph with free height and width is tried, unless its manifest says one: multiples of 64, of 14, of
/// 32 in other proportions, and what transformers are trained at.
pub const FREE_SIZES: [(usize, usize); 7] =
    [(640, 384), (644, 392), (1024, 512), (512, 512), (518, 518), (384, 384), (224, 224)];

impl<'m, 'a> Planner<'m, 'a> {
    /// The input that is the picture, and what is put in front of it.
    pub(super) fn picture(&mut self) -> Result<Picture> {
        let manifest = self.manifest;
        let port = self.picture_port()?;
        let name = port.name;
        let dtype = match port.element {
            FLOAT => Dtype::F32,
            FLOAT16 => Dtype::F16,
            UINT8 => Dtype::U8,
            other => {
                return Err(Error::failed(format!(
                    "input `{name}` takes {}; pictures are f32, f16 or u8",
                    element_name(other)
                )));
            }
        };
        if let Some(said) = manifest.input.dtype
            && said != dtype
        {
            let (said, dtype) = (said.name(), dtype.name());
            return Err(Error::usage(format!(
                "the manifest does not fit the graph: input.dtype is {said}, input `{name}` takes {dtype}"
            )));
        }
        let shape = port.shape.as_deref().unwrap_or_default();
        let &[batch, second, third, last] = shape else {
            let text = shape_text(shape);
            return Err(Error::failed(format!(
                "input `{name}` has rank {} (shape {text}), a picture has rank 4: [1, 3, height, width]",
                shape.len()
            )));
        };
        if batch.length().is_some_and(|batch| batch > 1) {
            let message = format!("input `{name}` has shape {}: it takes several pictures at once", shape_text(shape));
            return Err(Error::failed(message).hint("export the network with batch size 1 or a free batch size"));
        }
        let layout = match (manifest.input.layout, second.length(), last.length()) {
            (Some(layout), _, _) => layout,
            (None, Some(3), _) => InputLayout::Nchw,
            (None, _, Some(3)) => InputLayout::Nhwc,
            (None, None, None) => {
                self.assume(format!(
                    "input `{name}` does not say where its channels are, taken as [1, 3, height, width]"
                ));
                InputLayout::Nchw
            }
            _ => {
                return Err(Error::failed(format!(
                    "input `{name}` has shape {}, expected [1, 3, height, width] or [1, height, width, 3]",
                    shape_text(shape)
                )));
            }
        };
        let (channels, height, width) =
            if layout == InputLayout::Nchw { (second, third, last) } else { (last, second, third) };
        if channels.length().is_some_and(|channels| channels != 3) {
            return Err(Error::failed(format!(
                "input `{name}` has shape {}, which does not have 3 channels in {} order",
                shape_text(shape),
                layout.name()
            )));
        }
        let free_size = width.length().is_none() || height.length().is_none();
        let free = self.shapes.size.unwrap_or(FREE_SIZES[0]);
        let size = (
            self.side("width", width.length(), manifest.input.width, free.0)?,
            self.side("height", height.length(), manifest.input.height, free.1)?,
        );
        let colour = self.colour(dtype);
        let (mean, std) = self.normalisation(port, dtype, colour)?;
        let picture = Picture {
            name: name.to_owned(),
            spec: InputSpec { width: size.0, height: size.1, mean, std },
            free_size,
            free_batch: batch.length().is_none(),
            layout,
            dtype,
            colour,
        };
        if (dtype, layout, colour) == (Dtype::F32, InputLayout::Nchw, Colour::Rgb) || self.keep == Keep::All {
            return Ok(picture);
        }
        self.adapt_input(port, [Dim::Fixed(1), Dim::Fixed(3), height, width], &picture);
        Ok(Picture { name: PICTURE.to_owned(), free_batch: false, ..picture })
    }

    pub(super) fn picture_port(&self) -> Result<&'m Port<'a>> {
        let ports = &self.model.inputs;
        let names: Vec<&str> = ports.iter().map(|port| port.name).collect();
        match &self.manifest.input.name {
            Some(name) => ports.iter().find(|port| port.name == name).ok_or_else(|| {
                Error::usage(format!(
                    "the manifest does not fit the graph: it has no input `{name}`, only {}",
                    names.join(", ")
                ))
            }),
            None => match ports.as_slice() {
                [one] => Ok(one),
                _ => {
                    let message = format!(
                        "the graph has {} inputs ({}), a segmentation network has one",
                        names.len(),
                        names.join(", ")
                    );
                    Err(Error::failed(message).hint("name the picture's input as input.name in the manifest"))
                }
            },
        }
    }

    /// One side of the picture, from the graph, the manifest, or `free`.
    fn side(&mut self, key: &str, graph: Option<usize>, said: Option<usize>, free: usize) -> Result<usize> {
        match (graph, said) {
            (Some(graph), Some(said)) if graph != said => Err(Error::usage(format!(
                "the manifest does not fit the graph: input.{key} is {said}, the graph has {graph}"
            ))),
            (Some(known), _) | (None, Some(known)) => Ok(known),
            (None, None) => {
                self.assume(format!("input {key} is free in the graph, running at {free}"));
                Ok(free)
            }
        }
    }

    fn colour(&mut self, dtype: Dtype) -> Colour {
        if let Some(said) = self.manifest.input.colour {
            return said;
        }
        if let Some(bgr) = self.noted.bgr {
            let colour = if bgr { Colour::Bgr } else { Colour::Rgb };
            self.assume(format!("the file's metadata says that its pictures are {}", colour.name()));
            return colour;
        }
        // With mean and deviation of an exporter the order is settled as well; bytes come without.
        if self.manifest.input.mean.is_none() || dtype == Dtype::U8 {
            self.assume(
                "pictures are taken to be RGB, which no graph says: networks trained with OpenCV or Caffe take BGR \
                 (input.colour in the manifest, --colour)",
            );
        }
        Colour::Rgb
    }

    /// Mean and deviation of R, G, B, in units of 0..1.
    fn normalisation(&mut self, port: &Port<'a>, dtype: Dtype, colour: Colour) -> Result<([f32; 3], [f32; 3])> {
        let input = &self.manifest.input;
        let plain = |range: Range| ([0.0; 3], [1.0 / range.white(); 3]);
        let in_rgb = |mut values: [f32; 3]| {
            if colour == Colour::Bgr {
                values.reverse();
            }
            values
        };
        if dtype == Dtype::U8 {
            // The graph normalises by itself: it gets the code values 0..255.
            if input.mean.is_some() || input.std.is_some() || input.range == Some(Range::Shares) {
                return Err(Error::usage(
                    "the manifest has input.mean, input.std or input.range, and the graph takes u8 pictures, which it \
                     normalises by itself",
                ));
            }
            return Ok(plain(Range::Codes));
        }
        if input.range.is_some() || input.mean.is_some() || input.std.is_some() {
            let white = input.range.unwrap_or_default().white();
            if input.range.is_some() || (input.mean.is_some() && input.std.is_some()) {
                let mean = input.mean.unwrap_or_default().map(|value| value / white);
                let std = input.std.unwrap_or([1.0; 3]).map(|value| value / white);
                return Ok((in_rgb(mean), in_rgb(std)));
            }
        } else if self.noted.mean.is_some() || self.noted.std.is_some() {
            let mean = self.noted.mean.unwrap_or_default().map(|value| value / 255.0);
            let std = self.noted.std.unwrap_or([1.0; 3]).map(|value| value / 255.0);
            self.assume("mean and deviation of the colours are those of the file's metadata");
            return Ok((in_rgb(mean), in_rgb(std)));
        } else if let Some(taken) = baked::taken(self.model, port.name) {
            let (range, text) = match taken {
                Taken::Codes => (Range::Codes, "0..255"),
                Taken::Shares => (Range::Shares, "0..1"),
            };
            self.assume(format!(
                "the graph subtracts and divides by itself right behind `{}`: it gets the values {text}",
                port.name
            ));
            return Ok(plain(range));
        } else if self.noted.task.is_some() {
            // Ultralytics: its own task names, and pictures in 0..1.
            self.assume("pictures are given as 0..1, as the exporter named in the file's metadata does");
            return Ok(plain(Range::Shares));
        }
        self.assume(
            "pictures are taken to be normalised with ImageNet mean and deviation, which no graph says: others take \
             0..255 or 0..1 (input.range, input.mean and input.std in the manifest)",
        );
        Ok((in_rgb(input.mean.unwrap_or(in_rgb(IMAGENET_MEAN))), in_rgb(input.std.unwrap_or(in_rgb(IMAGENET_STD)))))
    }

    /// Puts a new f32 RGB NCHW input in front of `port`.
    fn adapt_input(&mut self, port: &Port<'a>, shape: [Dim<'a>; 4], picture: &Picture) {
        self.edit.drop_port(port);
        self.edit.input(PICTURE, FLOAT, &shape);
        let mut steps: Vec<(&str, Option<&str>, Option<Attribute<'_>>)> = Vec::new();
        if picture.colour == Colour::Bgr {
            self.edit.integers(REVERSED, &[2, 1, 0]);
            steps.push(("Gather", Some(REVERSED), Some(Attribute::Axis(1))));
        }
        match picture.dtype {
            Dtype::F32 => {}
            Dtype::F16 => steps.push(("Cast", None, Some(Attribute::To(FLOAT16)))),
            Dtype::U8 => steps.extend([("Round", None, None), ("Cast", None, Some(Attribute::To(UINT8)))]),
        }
        if picture.layout == InputLayout::Nhwc {
            steps.push(("Transpose", None, Some(Attribute::Perm(&[0, 2, 3, 1]))));
        }
        let mut from = PICTURE.to_owned();
        for (index, (operator, second, attribute)) in steps.iter().enumerate() {
            let to = if index + 1 == steps.len() { port.name.to_owned() } else { format!("{PICTURE}.{index}") };
            let inputs: Vec<&str> = std::iter::once(from.as_str()).chain(*second).collect();
            self.edit.node(Place::First, operator, &inputs, &to, *attribute);
            from = to;
        }
        self.assume(format!(
            "input `{}` takes {} {} in {} order, converted in the graph",
            port.name,
            picture.colour.name(),
            picture.dtype.name(),
            picture.layout.name()
        ));
    }
}
