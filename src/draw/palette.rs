//! Perceptual colour maps.
//!
//! Every fifth entry of the published 256-entry tables, joined by straight lines; no channel is off by more than 2 of 255.
//! viridis, inferno, magma and plasma: Stéfan van der Walt and Nathaniel Smith, 2015, matplotlib, CC0 1.0.
//! turbo: Anton Mikhailov, Google LLC, 2019, Apache License 2.0.

use crate::frame::Colour;

use super::colour::{Ycc, encode};

/// A colour map by name, dark for low scores and bright for high ones (turbo: blue to red).
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "kebab-case", parse_err_ty = crate::Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "kebab-case")]
pub enum Palette {
    /// Blue over green to yellow.
    Viridis,
    /// Black over red to pale yellow.
    #[default]
    Inferno,
    /// Black over magenta to white.
    Magma,
    /// Blue over magenta to yellow.
    Plasma,
    /// An evened-out rainbow: more hues, not monotone in lightness.
    Turbo,
}

impl Palette {
    /// Entry `index` as R'G'B'.
    pub fn rgb(self, index: u8) -> [u8; 3] {
        let anchors = match self {
            Self::Viridis => &VIRIDIS,
            Self::Inferno => &INFERNO,
            Self::Magma => &MAGMA,
            Self::Plasma => &PLASMA,
            Self::Turbo => &TURBO,
        };
        let (at, step) = (usize::from(index) / STEP, u32::from(index) % STEP as u32);
        let (from, to) = (anchors[at], anchors[(at + 1).min(ANCHORS - 1)]);
        [16, 8, 0].map(|shift| {
            let (from, to) = (from >> shift & 0xff, to >> shift & 0xff);
            ((from * (STEP as u32 - step) + to * step + STEP as u32 / 2) / STEP as u32) as u8
        })
    }

    /// The entries from `first` to 255, spread over 256 code values of a picture with `colour`.
    pub(super) fn table(self, first: u8, colour: Colour) -> Table {
        let mut table = Table { y: [0; 256], u: [0; 256], v: [0; 256] };
        for i in 0..256 {
            let index = usize::from(first) + (i * (255 - usize::from(first)) + 127) / 255;
            let Ycc { y, u, v } = encode(self.rgb(index as u8), colour);
            (table.y[i], table.u[i], table.v[i]) = (y, u, v);
        }
        table
    }
}

/// A colour map in the code values of one colour description.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub y: [u8; 256],
    pub u: [u8; 256],
    pub v: [u8; 256],
}

/// Distance of two stored entries in the published table.
const STEP: usize = 5;
const ANCHORS: usize = 52;

const VIRIDIS: [u32; ANCHORS] = [
    0x440154, 0x46085c, 0x471063, 0x481769, 0x481d6f, 0x482475, 0x472a7a, 0x46307e, 0x453781, 0x433d84, 0x414287,
    0x3f4889, 0x3d4e8a, 0x3a538b, 0x38598c, 0x355e8d, 0x33638d, 0x31688e, 0x2e6d8e, 0x2c718e, 0x2a768e, 0x297b8e,
    0x27808e, 0x25848e, 0x23898e, 0x218e8d, 0x20928c, 0x1f978b, 0x1e9c89, 0x1fa188, 0x21a585, 0x24aa83, 0x28ae80,
    0x2eb37c, 0x35b779, 0x3dbc74, 0x46c06f, 0x50c46a, 0x5ac864, 0x65cb5e, 0x70cf57, 0x7cd250, 0x89d548, 0x95d840,
    0xa2da37, 0xb0dd2f, 0xbddf26, 0xcae11f, 0xd8e219, 0xe5e419, 0xf1e51d, 0xfde725,
];

const INFERNO: [u32; ANCHORS] = [
    0x000004, 0x02020c, 0x050417, 0x0a0722, 0x10092d, 0x160b39, 0x1e0c45, 0x260c51, 0x2f0a5b, 0x380962, 0x400a67,
    0x490b6a, 0x510e6c, 0x59106e, 0x61136e, 0x69166e, 0x71196e, 0x781c6d, 0x801f6c, 0x88226a, 0x902568, 0x982766,
    0xa02a63, 0xa82e5f, 0xb0315b, 0xb73557, 0xbf3952, 0xc63d4d, 0xcc4248, 0xd34743, 0xd94d3d, 0xdf5337, 0xe45a31,
    0xe9612b, 0xed6925, 0xf1711f, 0xf47918, 0xf78212, 0xf98b0b, 0xfa9407, 0xfb9d07, 0xfca60c, 0xfcb014, 0xfbba1f,
    0xfac42a, 0xf8cd37, 0xf6d746, 0xf4e156, 0xf2ea69, 0xf2f27d, 0xf5f992, 0xfcffa4,
];

const MAGMA: [u32; ANCHORS] = [
    0x000004, 0x02020b, 0x050416, 0x090720, 0x0e0b2b, 0x140e36, 0x1a1042, 0x21114e, 0x29115a, 0x311165, 0x390f6e,
    0x420f75, 0x4a1079, 0x52137c, 0x5a167e, 0x621980, 0x6a1c81, 0x721f81, 0x792282, 0x812581, 0x892881, 0x912b81,
    0x992d80, 0xa1307e, 0xaa337d, 0xb2357b, 0xba3878, 0xc23b75, 0xca3e72, 0xd2426f, 0xd9466b, 0xe04c67, 0xe75263,
    0xec5860, 0xf1605d, 0xf4695c, 0xf7725c, 0xf97b5d, 0xfb8560, 0xfc8e64, 0xfd9869, 0xfea16e, 0xfeaa74, 0xfeb47b,
    0xfebd82, 0xfec68a, 0xfecf92, 0xfed89a, 0xfde2a3, 0xfdebac, 0xfcf4b6, 0xfcfdbf,
];

const PLASMA: [u32; ANCHORS] = [
    0x0d0887, 0x1b068d, 0x260591, 0x2f0596, 0x38049a, 0x41049d, 0x4903a0, 0x5102a3, 0x5901a5, 0x6100a7, 0x6900a8,
    0x7100a8, 0x7801a8, 0x8004a8, 0x8707a6, 0x8e0ca4, 0x9511a1, 0x9c179e, 0xa21d9a, 0xa82296, 0xae2892, 0xb42e8d,
    0xba3388, 0xbf3984, 0xc43e7f, 0xc9447a, 0xcd4a76, 0xd24f71, 0xd6556d, 0xda5b69, 0xde6164, 0xe26660, 0xe66c5c,
    0xe97257, 0xed7953, 0xf07f4f, 0xf3854b, 0xf58c46, 0xf79342, 0xf99a3e, 0xfba139, 0xfca835, 0xfdaf31, 0xfeb72d,
    0xfebe2a, 0xfdc627, 0xfcce25, 0xfbd724, 0xf8df25, 0xf6e826, 0xf3f027, 0xf0f921,
];

const TURBO: [u32; ANCHORS] = [
    0x30123b, 0x36215f, 0x3b2f80, 0x3f3e9c, 0x424bb5, 0x4559cb, 0x4666dd, 0x4773eb, 0x4680f6, 0x458cfd, 0x4099ff,
    0x38a5fb, 0x2fb2f4, 0x27bee9, 0x1fc9dd, 0x1ad4d0, 0x18ddc2, 0x1ae4b6, 0x22ebaa, 0x2ff19b, 0x3ff68a, 0x52fa7a,
    0x65fd69, 0x79fe59, 0x8bff4b, 0x9cfe40, 0xa9fb39, 0xb7f735, 0xc3f134, 0xd0ea34, 0xdbe236, 0xe5d938, 0xeecf3a,
    0xf5c53a, 0xfaba39, 0xfdae35, 0xfea130, 0xfe932a, 0xfc8423, 0xf9751d, 0xf46617, 0xef5811, 0xe84b0c, 0xe14109,
    0xd83706, 0xce2d04, 0xc32503, 0xb71d02, 0xa91601, 0x9b0f01, 0x8b0902, 0x7a0403,
];
