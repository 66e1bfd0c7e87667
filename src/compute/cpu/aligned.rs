//! f32 buffers that start on a cache line, so that no register-wide access to them crosses one.

use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};

const LINE: usize = 16;

#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

// SAFETY: sixteen f32 fill the 64 bytes of the alignment, so there is no padding, and zero is a valid value.
unsafe impl Zeroable for Line {}
// SAFETY: as above; any bits are valid f32.
unsafe impl Pod for Line {}

/// A `[f32]` on a cache line.
#[derive(Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self { lines: vec![Line::default(); len.div_ceil(LINE)], len }
    }

    /// Changes the length; new values are 0.
    pub fn resize(&mut self, len: usize) {
        self.lines.resize(len.div_ceil(LINE), Line::default());
        self.len = len;
    }
}

impl Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut cast_slice_mut(&mut self.lines)[..self.len]
    }
}
