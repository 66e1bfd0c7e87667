//! I420 pictures to a network's input on the device: the pass of `shaders/prepare.wgsl` alone.
//!
//! For a network that runs on the same device and takes its input from there; `model::prepare` knows the input's form
//! and drives the pass.

use std::sync::Arc;

use bytemuck::Zeroable;

use super::builder::STORAGE;
use super::device::{Context, pipeline};
use super::params::device_structs;
use super::transfer::failed;
use crate::frame::I420;
use crate::{Error, Result};

/// Source of the pass; it is compiled only where it is used.
pub(super) const SOURCE: &str = include_str!("../../../shaders/prepare.wgsl");

/// One axis of one plane: for each output its first sample and the weights of that and the samples after it.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    /// `[outputs]`
    pub first: &'a [usize],
    /// `[outputs, taps]`
    pub weights: &'a [f32],
}

/// The place of pictures of one size in the input.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// Columns and rows of the picture.
    pub picture: (usize, usize),
    /// Columns and rows that it is resized to.
    pub size: (usize, usize),
    /// Column and row of the resized picture at which the input begins; outside of it the input is 0.
    pub begin: (isize, isize),
    /// Luma across and down.
    pub luma: [Axis<'a>; 2],
    /// Chroma across and down.
    pub chroma: [Axis<'a>; 2],
}

/// Code values to normalised RGB: `clamp(luma * y + r_v * v + offset[0], 0, 1) * gain[0] + bias[0]`, and so on.
#[derive(Debug, Clone, Copy)]
pub struct ToRgb {
    /// Luma in all three.
    pub luma: f32,
    /// Cr in red.
    pub r_v: f32,
    /// Cb in green.
    pub g_u: f32,
    /// Cr in green.
    pub g_v: f32,
    /// Cb in blue.
    pub b_u: f32,
    /// Constant of R, G, B before the clamp.
    pub offset: [f32; 3],
    /// Factor of R, G, B after the clamp.
    pub gain: [f32; 3],
    /// Constant of R, G, B after the factor.
    pub bias: [f32; 3],
}

device_structs! {
    /// `Params` of `prepare.wgsl`.
    PictureParams {
        width: u32, height: u32, size_x: u32, size_y: u32, begin_x: i32, begin_y: i32, cb: u32, cr: u32,
        luma_columns: u32, chroma_columns: u32, luma_x: u32, luma_x_taps: u32, luma_y: u32, luma_y_taps: u32,
        chroma_x: u32, chroma_x_taps: u32, chroma_y: u32, chroma_y_taps: u32, luma: f32, r_v: f32, g_u: f32, g_v: f32,
        b_u: f32, offset_r: f32, offset_g: f32, offset_b: f32, gain_r: f32, gain_g: f32, gain_b: f32, bias_r: f32,
        bias_g: f32, bias_b: f32,
    }
}

impl PictureParams {
    /// The same with another colour.
    fn with_colour(self, colour: &ToRgb) -> Self {
        let ToRgb { luma, r_v, g_u, g_v, b_u, offset, gain, bias } = *colour;
        let ([offset_r, offset_g, offset_b], [gain_r, gain_g, gain_b], [bias_r, bias_g, bias_b]) = (offset, gain, bias);
        Self {
            luma,
            r_v,
            g_u,
            g_v,
            b_u,
            offset_r,
            offset_g,
            offset_b,
            gain_r,
            gain_g,
            gain_b,
            bias_r,
            bias_g,
            bias_b,
            ..self
        }
    }
}

/// The pass for an input of one size.
pub struct PicturePass {
    context: Arc<Context>,
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    input: (usize, usize),
    params: wgpu::Buffer,
    rgb: wgpu::Buffer,
    readback: wgpu::Buffer,
    placed: Option<Placed>,
}

/// What belongs to pictures of one size.
struct Placed {
    /// All but the colour.
    params: PictureParams,
    planes: wgpu::Buffer,
    bytes: u64,
    picture: (usize, usize),
    bind_group: wgpu::BindGroup,
    held: u64,
}

impl PicturePass {
    /// The pass on the device of `context`, for an input of `input` columns and rows.
    ///
    /// # Errors
    /// The input does not fit a binding, or the device is lost.
    pub(super) fn new(context: Arc<Context>, input: (usize, usize)) -> Result<Self> {
        let (pipeline, layout) = pipeline(&context.device, "prepare", SOURCE);
        let bytes = (3 * input.0 * input.1 * 4) as u64;
        let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let down = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let params = context.buffer("picture parameters", 256, uniform, false)?;
        let rgb = context.buffer("network input", bytes, STORAGE, false)?;
        let readback = context.buffer("network input, read back", bytes, down, false)?;
        context.check()?;
        Ok(Self { context, pipeline, layout, input, params, rgb, readback, placed: None })
    }

    /// Takes pictures of another size, or puts them elsewhere.
    ///
    /// # Errors
    /// A picture does not fit a binding.
    pub fn place(&mut self, placement: &Placement<'_>) -> Result<()> {
        let (width, height) = placement.picture;
        let (cw, ch) = (width.div_ceil(2), height.div_ceil(2));
        let (luma, chroma) = (width * height, cw * ch);
        let bytes = (luma + 2 * chroma).next_multiple_of(4) as u64;
        let mut tables: Vec<u32> = Vec::new();
        let mut table = |axis: &Axis<'_>| {
            let place = (tables.len() as u32, (axis.weights.len() / axis.first.len().max(1)) as u32);
            tables.extend(axis.first.iter().map(|&f| f as u32));
            tables.extend(axis.weights.iter().map(|w| w.to_bits()));
            place
        };
        let [(luma_x, luma_x_taps), (luma_y, luma_y_taps)] = placement.luma.each_ref().map(&mut table);
        let [(chroma_x, chroma_x_taps), (chroma_y, chroma_y_taps)] = placement.chroma.each_ref().map(&mut table);
        let params = PictureParams {
            width: self.input.0 as u32,
            height: self.input.1 as u32,
            size_x: placement.size.0 as u32,
            size_y: placement.size.1 as u32,
            begin_x: placement.begin.0 as i32,
            begin_y: placement.begin.1 as i32,
            cb: luma as u32,
            cr: (luma + chroma) as u32,
            luma_columns: width as u32,
            chroma_columns: cw as u32,
            luma_x,
            luma_x_taps,
            luma_y,
            luma_y_taps,
            chroma_x,
            chroma_x_taps,
            chroma_y,
            chroma_y_taps,
            ..Zeroable::zeroed()
        };
        let context = &self.context;
        if let Some(old) = self.placed.take() {
            context.forget(old.held);
        }
        let planes = context.buffer("picture", bytes, STORAGE, false)?;
        let table = context.buffer("picture tables", tables.len() as u64 * 4, STORAGE, false)?;
        context.queue.write_buffer(&table, 0, bytemuck::cast_slice(&tables));
        let buffers = [&self.params, &planes, &table, &self.rgb];
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, b)| wgpu::BindGroupEntry { binding, resource: b.as_entire_binding() })
            .collect();
        let bind_group = context.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("prepare"),
            layout: &self.layout,
            entries: &entries,
        });
        let held = planes.size() + table.size();
        self.placed = Some(Placed { params, planes, bytes, picture: placement.picture, bind_group, held });
        Ok(())
    }

    /// Starts the work on `picture`, which has the size of the last placement. The result is in [`PicturePass::output`]
    /// for all that is submitted to the device afterwards.
    ///
    /// # Errors
    /// The planes do not fit each other, their data or the placement, or the device is lost.
    pub fn run(&mut self, picture: &I420<'_>, colour: &ToRgb) -> Result<()> {
        picture.check()?;
        let size = (picture.width(), picture.height());
        let Some(placed) = self.placed.as_ref().filter(|placed| placed.picture == size) else {
            return Err(Error::failed(format!("the pass is not set up for pictures of {} x {}", size.0, size.1)));
        };
        let context = &self.context;
        context.queue.write_buffer(&self.params, 0, bytemuck::bytes_of(&placed.params.with_colour(colour)));
        let bytes = std::num::NonZero::new(placed.bytes);
        let view = bytes.and_then(|bytes| context.queue.write_buffer_with(&placed.planes, 0, bytes));
        let Some(mut view) = view else {
            context.check()?;
            return Err(Error::failed("GPU staging: there is no room for the picture"));
        };
        let mut at = 0;
        for plane in [&picture.y, &picture.u, &picture.v] {
            for row in 0..plane.rows {
                view.slice(at..at + plane.columns).copy_from_slice(plane.row(row));
                at += plane.columns;
            }
        }
        drop(view);
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &placed.bind_group, &[]);
        let groups = |pixels: usize| pixels.div_ceil(8) as u32;
        pass.dispatch_workgroups(groups(self.input.0), groups(self.input.1), 1);
        drop(pass);
        context.queue.submit([encoder.finish()]);
        context.check()
    }

    /// Waits for the last picture and copies the input to `out`, `[3, height, width]`.
    ///
    /// # Errors
    /// `out` has another length, or the device is lost.
    pub fn read(&self, out: &mut [f32]) -> Result<()> {
        let (context, values) = (&self.context, 3 * self.input.0 * self.input.1);
        if out.len() != values {
            return Err(Error::failed(format!("the network's input holds {values} values, the buffer {}", out.len())));
        }
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(&self.rgb, 0, &self.readback, 0, self.rgb.size());
        let submission = context.queue.submit([encoder.finish()]);
        self.readback.map_async(wgpu::MapMode::Read, .., |_| {});
        context.wait(submission)?;
        let view = self.readback.get_mapped_range(..).map_err(|e| failed("readback", &e))?;
        bytemuck::cast_slice_mut(out).copy_from_slice(&view[..values * 4]);
        drop(view);
        self.readback.unmap();
        context.check()
    }
}

impl Drop for PicturePass {
    fn drop(&mut self) {
        let held = self.placed.as_ref().map_or(0, |placed| placed.held);
        self.context.forget(held + self.params.size() + self.rgb.size() + self.readback.size());
    }
}
