//! The mix of a pixel, as tables over the soft mask: the shares of the picture, the heat colour, the dark halo and the
//! light outline.

use crate::frame::Colour;

use super::colour::encode;
use super::contour::{MAX_HALF_WIDTH, distance};
use super::{Style, View};

/// Shares of what a pixel is mixed from; they sum to 1.
#[derive(Debug, Clone, Copy)]
struct Shares {
    picture: f32,
    heat: f32,
    black: f32,
    white: f32,
}

impl Shares {
    fn under(self, share: f32) -> Self {
        let rest = 1.0 - share;
        Self {
            picture: self.picture * rest,
            heat: self.heat * rest,
            black: self.black * rest,
            white: self.white * rest,
        }
    }

    /// With `share` of black laid over it.
    fn darkened(self, share: f32) -> Self {
        let under = self.under(share);
        Self { black: under.black + share, ..under }
    }

    /// With `share` of white laid over it.
    fn lightened(self, share: f32) -> Self {
        let under = self.under(share);
        Self { white: under.white + share, ..under }
    }
}

/// `new = (old * keep + heat * self.heat + add) / 256` in code values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weights {
    pub keep: u16,
    pub heat: u16,
    /// The fixed part, with the half that rounds.
    pub add: u16,
}

impl Weights {
    /// `black` and `white` are their code values.
    fn new(shares: Shares, black: u8, white: u8) -> Self {
        let keep = (shares.picture * 256.0).round() as u16;
        let heat = ((shares.heat * 256.0).round() as u16).min(256 - keep);
        // The rest in whole 256ths, so that the weights never sum to more than 256.
        let rest = f32::from(256 - keep - heat);
        let fixed = shares.black + shares.white;
        let code = if fixed > 0.0 {
            (shares.black * f32::from(black) + shares.white * f32::from(white)) / fixed
        } else {
            f32::from(black)
        };
        Self { keep, heat, add: (rest * code).round() as u16 + 128 }
    }

    #[inline(always)]
    pub(super) fn apply(self, old: u8, heat: u8) -> u8 {
        // At most 255 * 256 + 128, so 16 bits do.
        ((u16::from(old) * self.keep + u16::from(heat) * self.heat + self.add) >> 8) as u8
    }
}

/// The weights of every soft mask value, for one style, picture height and colour description.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    /// Half-width of the soft mask that the tables are for.
    pub half_width: usize,
    /// Whether pixels off the soft mask stay as they are.
    pub only_marked: bool,
    /// Whether the score's colours are in it at all.
    pub uses_heat: bool,
    pub luma: [Weights; 256],
    /// For Cb and Cr alike.
    pub chroma: [Weights; 256],
}

/// 0 to 1 without corners.
fn smooth(t: f32) -> f32 {
    let t = t.clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

impl Mix {
    pub(super) fn new(style: &Style, height: usize, colour: Colour) -> Self {
        // The outline is 2 pixels wide at 720 rows.
        let line = (height as f32 / 360.0).clamp(1.2, 6.0);
        let halo = line;
        let half_width = ((line / 2.0 + halo + 1.0).round() as usize).clamp(2, MAX_HALF_WIDTH);
        let opacity = style.opacity.clamp(0.0, 1.0);
        let (black, white) = (encode([0; 3], colour).y, encode([255; 3], colour).y);
        let empty = [Weights::default(); 256];
        let only_marked = style.view == View::Overlay;
        let uses_heat = style.view != View::Mask;
        let mut mix = Self { half_width, only_marked, uses_heat, luma: empty, chroma: empty };
        for s in 0..=255u8 {
            let d = distance(s, half_width);
            let inside = smooth(d / 2.0 + 0.5);
            let picture = Shares { picture: 1.0, heat: 0.0, black: 0.0, white: 0.0 };
            let (luma, chroma) = match style.view {
                View::Overlay => {
                    let fill = opacity * inside;
                    let shares = Shares { picture: 1.0 - fill, heat: fill, ..picture };
                    (shares, shares)
                }
                View::Heatmap | View::SideBySide => {
                    // The scene in grey under the colours, and more of the colours' hue than of their lightness.
                    let hue = opacity.sqrt();
                    let luma = Shares { picture: 1.0 - opacity, heat: opacity, ..picture };
                    (luma, Shares { picture: 0.0, heat: hue, black: 1.0 - hue, white: 0.0 })
                }
                View::Mask => {
                    let luma = picture.darkened(0.5 + 0.5 * opacity).lightened(inside);
                    (luma, picture.darkened(1.0))
                }
            };
            let (mut over, mut shade) = (0.0, 0.0);
            if style.view != View::Mask && s != 0 && s != 255 {
                // A pixel is covered as far as it lies within the line.
                over = 0.95 * (line / 2.0 + 0.5 - d.abs()).clamp(0.0, 1.0);
                shade = 0.5 * smooth((line / 2.0 + halo + 0.5 - d.abs()) / halo);
            }
            let at = usize::from(s);
            mix.luma[at] = Weights::new(luma.darkened(shade).lightened(over), black, white);
            mix.chroma[at] = Weights::new(chroma.darkened(shade).lightened(over), 128, 128);
        }
        mix
    }
}
