//! The options that say how frames are looked at; several commands have them.

use super::values::choice;
use crate::config::ModelConfig;
use crate::model::views::Resize;

/// Options on how frames are looked at.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ViewArgs {
    /// How a frame is brought to the network's size [default: as the manifest says, else stretch]
    #[arg(long, value_name = "RULE", value_parser = choice::<Resize>(), help_heading = "Views")]
    resize: Option<Resize>,
    /// Share of the network's input that neighbouring tiles have in common, 0 to 0.5 [default: 0.25]
    #[arg(long, value_name = "SHARE", help_heading = "Views")]
    tile_overlap: Option<f32>,
    /// Look at the mirror image, too, and take the mean
    #[arg(long, help_heading = "Views")]
    flip: bool,
    /// Look at the frame at several sizes and take the mean; above 1 it is cut into tiles, 0.5 to 4
    #[arg(long, value_name = "SCALE,...", value_delimiter = ',', help_heading = "Views")]
    scales: Vec<f32>,
}

impl ViewArgs {
    /// Puts what was given into `config`.
    pub fn apply(&self, config: &mut ModelConfig) {
        config.resize = self.resize.or(config.resize);
        config.tile_overlap = self.tile_overlap.unwrap_or(config.tile_overlap);
        config.flip |= self.flip;
        if !self.scales.is_empty() {
            config.scales.clone_from(&self.scales);
        }
    }
}
