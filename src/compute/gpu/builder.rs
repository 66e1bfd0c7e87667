//! Collects the commands of a program: dispatches with their parameters and buffers, and copies.

use std::cell::RefCell;
use std::collections::HashMap;

use super::device::Context;
use super::params::Params;
use super::shader::Shader;
use super::transfer::Slot;
use crate::Result;

/// Parameters of the dispatches lie this far apart in their buffer.
const ALIGNMENT: usize = 256;

pub(super) const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

/// One command of a frame.
pub(super) enum Command {
    Dispatch {
        shader: Shader,
        bind_group: wgpu::BindGroup,
        groups: [u32; 3],
    },
    Copy {
        from: wgpu::Buffer,
        to: wgpu::Buffer,
        bytes: u64,
    },
    /// From the staging buffer of the frame's slot.
    Upload {
        from_at: u64,
        to: wgpu::Buffer,
        bytes: u64,
    },
    /// To the readback buffer of the frame's slot.
    Download {
        from: wgpu::Buffer,
        to_at: u64,
        bytes: u64,
    },
}

/// A command whose parameters are not on the device yet. A clone is the same command once more.
#[derive(Clone)]
pub(super) enum Draft {
    Dispatch { shader: Shader, params: usize, buffers: Vec<wgpu::Buffer>, groups: [u32; 3] },
    Copy { from: wgpu::Buffer, to: wgpu::Buffer, bytes: u64 },
    Upload { from_at: u64, to: wgpu::Buffer, bytes: u64 },
    Download { from: wgpu::Buffer, to_at: u64, bytes: u64 },
}

/// Makes buffers and drafts.
pub(super) struct Builder<'a> {
    pub context: &'a Context,
    params: RefCell<Vec<u8>>,
    bytes: RefCell<u64>,
}

impl<'a> Builder<'a> {
    pub fn new(context: &'a Context) -> Self {
        Self { context, params: RefCell::new(Vec::new()), bytes: RefCell::new(0) }
    }

    /// A storage buffer of 32-bit values, zero at first.
    pub fn words(&self, label: &str, words: usize) -> Result<wgpu::Buffer> {
        self.buffer(label, words as u64 * 4, STORAGE, false)
    }

    /// A storage buffer with this content.
    pub fn filled(&self, label: &str, content: &[u32]) -> Result<wgpu::Buffer> {
        let buffer = self.words(label, content.len())?;
        self.context.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(content));
        Ok(buffer)
    }

    pub fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages, mapped: bool) -> Result<wgpu::Buffer> {
        let buffer = self.context.buffer(label, bytes, usage, mapped)?;
        *self.bytes.borrow_mut() += buffer.size();
        Ok(buffer)
    }

    /// Bytes of all buffers made here.
    pub fn bytes(&self) -> u64 {
        *self.bytes.borrow()
    }

    /// A dispatch: parameters for binding 0, buffers for the bindings from 1 on.
    pub fn dispatch<P: Params>(&self, params: P, buffers: &[&wgpu::Buffer], groups: [usize; 3]) -> Draft {
        let mut all = self.params.borrow_mut();
        let at = all.len();
        all.extend_from_slice(bytemuck::bytes_of(&params));
        let end = all.len().next_multiple_of(ALIGNMENT);
        all.resize(end, 0);
        Draft::Dispatch {
            shader: P::SHADER,
            params: at,
            buffers: buffers.iter().map(|&b| b.clone()).collect(),
            groups: groups.map(|g| g as u32),
        }
    }

    /// Turns drafts into commands; all drafts of a program together.
    pub fn finish<const LISTS: usize>(&self, lists: [Vec<Draft>; LISTS]) -> Result<[Vec<Command>; LISTS]> {
        let params = self.params.borrow();
        let usage = wgpu::BufferUsages::UNIFORM.union(wgpu::BufferUsages::COPY_DST);
        let uniform = self.buffer("parameters", params.len() as u64, usage, false)?;
        self.context.queue.write_buffer(&uniform, 0, &params);
        let mut groups = HashMap::new();
        Ok(lists.map(|list| list.into_iter().map(|draft| self.command(draft, &uniform, &mut groups)).collect()))
    }

    fn command(&self, draft: Draft, uniform: &wgpu::Buffer, made: &mut HashMap<usize, wgpu::BindGroup>) -> Command {
        match draft {
            Draft::Copy { from, to, bytes } => Command::Copy { from, to, bytes },
            Draft::Upload { from_at, to, bytes } => Command::Upload { from_at, to, bytes },
            Draft::Download { from, to_at, bytes } => Command::Download { from, to_at, bytes },
            Draft::Dispatch { shader, params, buffers, groups } => {
                if let Some(bind_group) = made.get(&params) {
                    return Command::Dispatch { shader, bind_group: bind_group.clone(), groups };
                }
                let mut entries = vec![wgpu::BindGroupEntry {
                    binding: 0,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: uniform,
                        offset: params as u64,
                        size: std::num::NonZero::new(ALIGNMENT as u64),
                    }),
                }];
                entries.extend(
                    (1..).zip(&buffers).map(|(binding, buffer)| wgpu::BindGroupEntry {
                        binding,
                        resource: buffer.as_entire_binding(),
                    }),
                );
                let bind_group = self.context.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: None,
                    layout: &self.context.pipeline(shader).1,
                    entries: &entries,
                });
                made.insert(params, bind_group.clone());
                Command::Dispatch { shader, bind_group, groups }
            }
        }
    }
}

pub(super) fn copy(from: &wgpu::Buffer, to: &wgpu::Buffer, bytes: u64) -> Draft {
    Draft::Copy { from: from.clone(), to: to.clone(), bytes }
}

/// Encodes the commands in order, for the frame in `slot`; neighbouring dispatches share a compute pass.
pub(super) fn encode<'a>(
    context: &Context,
    slot: &Slot,
    encoder: &mut wgpu::CommandEncoder,
    commands: impl Iterator<Item = &'a Command>,
) {
    let mut commands = commands.peekable();
    while let Some(command) = commands.next() {
        match command {
            Command::Copy { from, to, bytes } => {
                encoder.copy_buffer_to_buffer(from, 0, to, 0, *bytes);
            }
            Command::Upload { from_at, to, bytes } => {
                encoder.copy_buffer_to_buffer(&slot.staging, *from_at, to, 0, *bytes);
            }
            Command::Download { from, to_at, bytes } => {
                encoder.copy_buffer_to_buffer(from, 0, &slot.readback, *to_at, *bytes);
            }
            Command::Dispatch { .. } => {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                let mut next = Some(command);
                let mut bound = None;
                while let Some(Command::Dispatch { shader, bind_group, groups: [x, y, z] }) = next {
                    if bound != Some(*shader) {
                        pass.set_pipeline(&context.pipeline(*shader).0);
                        bound = Some(*shader);
                    }
                    pass.set_bind_group(0, bind_group, &[]);
                    pass.dispatch_workgroups(*x, *y, *z);
                    next = commands.next_if(|c| matches!(c, Command::Dispatch { .. }));
                }
            }
        }
    }
}
