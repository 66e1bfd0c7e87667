//! I420 pictures to a network's input on the device: the pass of `shaders/prepare.wgsl` by itself.
//!
//! For the day when the network runs on the same device and takes its input from there. `model::prepare` knows what the input
//! looks like and drives it.

use std::sync::Arc;

use super::Gpu;
use super::builder::STORAGE;
use super::device::{Context, pipeline};
use super::transfer::failed;
use crate::frame::I420;
use crate::{Error, Result};

/// Source of the pass; it is compiled only where it is used.
const SOURCE: &str = include_str!("../../../shaders/prepare.wgsl");

/// One axis of one plane: for each output its first sample and the weights of that and the samples after it.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    /// `[outputs]`
    pub first: &'a [usize],
    /// `[outputs, taps]`
    pub weights: &'a [f32],
}

/// How pictures of one size come to lie in the input.
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
    params: Vec<u32>,
    planes: wgpu::Buffer,
    bytes: u64,
    picture: (usize, usize),
    bind_group: wgpu::BindGroup,
    held: u64,
}

impl PicturePass {
    /// The pass on the device of `gpu`, for an input of `input` columns and rows.
    ///
    /// # Errors
    /// The input does not fit a binding, or the device is lost.
    pub fn new(gpu: &Gpu, input: (usize, usize)) -> Result<Self> {
        let context = gpu.context.clone();
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
        let mut axes = Vec::new();
        for Axis { first, weights } in placement.luma.iter().chain(&placement.chroma) {
            axes.extend([tables.len(), weights.len() / first.len().max(1)].map(|v| v as u32));
            tables.extend(first.iter().map(|&f| f as u32));
            tables.extend(weights.iter().map(|w| w.to_bits()));
        }
        let (input, size, begin) = (self.input, placement.size, placement.begin);
        let mut params = [input.0, input.1, size.0, size.1].map(|v| v as u32).to_vec();
        params.extend([begin.0, begin.1].map(|v| v as i32 as u32));
        params.extend([luma, luma + chroma, width, cw].map(|v| v as u32));
        params.extend(axes);
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

    /// Starts the work on `picture`, which has the size of the last placement. The result is in [`PicturePass::output`] for
    /// all that is submitted to the device afterwards.
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
        let mut params = placed.params.clone();
        let ToRgb { luma, r_v, g_u, g_v, b_u, offset, gain, bias } = *colour;
        params.extend(
            [[luma, r_v, g_u, g_v].as_slice(), &[b_u], &offset, &gain, &bias].concat().iter().map(|v| v.to_bits()),
        );
        context.queue.write_buffer(&self.params, 0, bytemuck::cast_slice(&params));
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

    /// The network's input on the device, `[3, height, width]` of f32.
    pub fn output(&self) -> &wgpu::Buffer {
        &self.rgb
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
