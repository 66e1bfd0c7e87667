//! Options of the views that the network gets, shared by several commands.

use super::values::choice;
use crate::config::ModelConfig;
use crate::model::views::Resize;

/// Options of the views that the network gets.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ViewArgs {
    /// Fit of a frame to the network's input size [default: from the manifest, else stretch]
    #[arg(long, value_name = "RULE", value_parser = choice::<Resize>(), help_heading = "Views")]
    resize: Option<Resize>,
    /// Overlap of neighbouring tiles as a share of the network's input, 0 to 0.5 [default: 0.25]
    #[arg(long, value_name = "SHARE", help_heading = "Views")]
    tile_overlap: Option<f32>,
    /// Also run the network on the mirrored frame, and average the results
    #[arg(long, help_heading = "Views")]
    flip: bool,
    /// Run the network at these scales of the frame, 0.5 to 4, and average the results; above 1 in tiles
    #[arg(long, value_name = "SCALE,...", value_delimiter = ',', help_heading = "Views")]
    scales: Vec<f32>,
}

impl ViewArgs {
    /// Applies the given options to `config`.
    pub fn apply(&self, config: &mut ModelConfig) {
        config.resize = self.resize.or(config.resize);
        config.tile_overlap = self.tile_overlap.unwrap_or(config.tile_overlap);
        config.flip |= self.flip;
        if !self.scales.is_empty() {
            config.scales.clone_from(&self.scales);
        }
    }
}
