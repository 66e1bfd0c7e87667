//! The graph's input: which one is the picture, and its conversion from f32 NCHW.

use super::{Keep, Picture, Planner};
use crate::model::manifest::{Dtype, Layout, Manifest};
use crate::model::onnx_file::describe::{element_name, shape_text};
use crate::model::onnx_file::edit::{Attribute, Place};
use crate::model::onnx_file::graph::{Dim, FLOAT, FLOAT16, Port, UINT8};
use crate::{Error, Result};

/// Tensor that the program's picture goes into where the graph's own input has another form.
const PICTURE: &str = "oodstream.picture";

impl<'a> Planner<'_, 'a> {
    /// The input that is the picture, and what is put in front of it.
    pub(super) fn picture(&mut self, manifest: &Manifest) -> Result<Picture> {
        let ports = &self.model.inputs;
        let names: Vec<&str> = ports.iter().map(|port| port.name).collect();
        let port = match &manifest.input.name {
            Some(name) => ports.iter().find(|port| port.name == name).ok_or_else(|| {
                Error::usage(format!(
                    "the manifest does not fit the graph: it has no input `{name}`, only {}",
                    names.join(", ")
                ))
            })?,
            None => match ports.as_slice() {
                [one] => one,
                _ => {
                    let message = format!(
                        "the graph has {} inputs ({}), a segmentation network has one",
                        names.len(),
                        names.join(", ")
                    );
                    return Err(Error::failed(message).hint("name the picture's input as input.name in the manifest"));
                }
            },
        };
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
            (None, Some(3), _) => Layout::Nchw,
            (None, _, Some(3)) => Layout::Nhwc,
            (None, None, None) => {
                self.assume(format!(
                    "input `{name}` does not say where its channels are, taken as [1, 3, height, width]"
                ));
                Layout::Nchw
            }
            _ => {
                return Err(Error::failed(format!(
                    "input `{name}` has shape {}, expected [1, 3, height, width] or [1, height, width, 3]",
                    shape_text(shape)
                )));
            }
        };
        let (channels, height, width) =
            if layout == Layout::Nchw { (second, third, last) } else { (last, second, third) };
        if channels.length().is_some_and(|channels| channels != 3) {
            return Err(Error::failed(format!(
                "input `{name}` has shape {}, which does not have 3 channels in {} order",
                shape_text(shape),
                layout.name()
            )));
        }
        let picture = Picture {
            name: name.to_owned(),
            width: width.length(),
            height: height.length(),
            free_batch: batch.length().is_none(),
            layout,
            dtype,
        };
        if (dtype == Dtype::F32 && layout == Layout::Nchw) || self.keep == Keep::All {
            return Ok(picture);
        }
        self.adapt_input(port, [Dim::Fixed(1), Dim::Fixed(3), height, width], dtype, layout);
        Ok(Picture { name: PICTURE.to_owned(), free_batch: false, ..picture })
    }

    /// Puts a new f32 NCHW input in front of `port`.
    fn adapt_input(&mut self, port: &Port<'a>, shape: [Dim<'a>; 4], dtype: Dtype, layout: Layout) {
        self.edit.drop_port(port);
        self.edit.input(PICTURE, FLOAT, &shape);
        let mut steps: Vec<(&str, Option<Attribute<'_>>)> = Vec::new();
        match dtype {
            Dtype::F32 => {}
            Dtype::F16 => steps.push(("Cast", Some(Attribute::To(FLOAT16)))),
            Dtype::U8 => steps.extend([("Round", None), ("Cast", Some(Attribute::To(UINT8)))]),
        }
        if layout == Layout::Nhwc {
            steps.push(("Transpose", Some(Attribute::Perm(&[0, 2, 3, 1]))));
        }
        let mut from = PICTURE.to_owned();
        for (index, (operator, attribute)) in steps.iter().enumerate() {
            let to = if index + 1 == steps.len() { port.name.to_owned() } else { format!("{PICTURE}.{index}") };
            self.edit.node(Place::First, operator, &from, &to, *attribute);
            from = to;
        }
        self.assume(format!(
            "input `{}` takes {} in {} order, converted in the graph",
            port.name,
            dtype.name(),
            layout.name()
        ));
    }
}
