//! The score at four times the grid, along the edges of the picture: the passes of `cpu/guided.rs` on the device.

use super::super::plan::{EPSILON, Plan};
use super::builder::{Builder, Draft};
use super::params::{GuidedApply, GuidedFit};
use crate::Result;

/// The score between the grid and the upsampling.
pub(super) struct Guided {
    /// Luma, `[FINE h_0, FINE w_0]`, to be uploaded.
    pub guide: wgpu::Buffer,
    /// Score, of the same size.
    pub fine: wgpu::Buffer,
}

impl Guided {
    /// Adds the passes from the score on the grid to that at the guide's size.
    pub fn new(b: &Builder<'_>, plan: &Plan, score: &wgpu::Buffer, drafts: &mut Vec<Draft>) -> Result<Self> {
        let (height, width) = (2 * plan.grid.0, 2 * plan.grid.1);
        let (fine_height, fine_width) = plan.fine();
        let pixels = fine_height * fine_width;
        let (guide, fine) = (b.words("guide", pixels)?, b.words("fine score", pixels)?);
        let lines = b.words("slopes and offsets", 2 * height * width)?;
        let size = (height as u32, width as u32);
        let groups = |height: usize, width: usize| [width.div_ceil(8), height.div_ceil(8), 1];
        let params = GuidedFit { height: size.0, width: size.1, epsilon: EPSILON };
        drafts.push(b.dispatch(params, &[score, &guide, &lines], groups(height, width)));
        let params = GuidedApply { height: size.0, width: size.1 };
        drafts.push(b.dispatch(params, &[&lines, &guide, &fine], groups(fine_height, fine_width)));
        Ok(Self { guide, fine })
    }
}
