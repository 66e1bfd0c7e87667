//! Tone mapping: HDR pictures (PQ, HLG) as the SDR pictures of BT.709 that displays and networks without HDR expect.

use gst_video::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::gst::frame::FramePool;
use crate::gst::hdr::Light;
use crate::{Error, Result};

/// Luminance of SDR white in cd/m2: the reference white of HDR (ITU-R BT.2408).
const WHITE: f64 = 203.0;
/// Luminance of the brightest pixel in cd/m2 where the metadata do not say, and that of HLG (ITU-R BT.2100).
const PEAK: f64 = 1000.0;
/// Entries of a table.
const STEPS: usize = 1 << 14;
/// Exponent of SDR displays (ITU-R BT.1886).
const GAMMA: f64 = 2.4;

/// The transfer function of HDR video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transfer {
    Pq,
    Hlg,
}

impl Transfer {
    /// None for SDR video.
    pub fn of(info: &gst_video::VideoInfo) -> Option<Self> {
        match info.colorimetry().transfer() {
            gst_video::VideoTransferFunction::Smpte2084 => Some(Self::Pq),
            gst_video::VideoTransferFunction::AribStdB67 => Some(Self::Hlg),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Pq => "PQ",
            Self::Hlg => "HLG",
        }
    }
}

/// From Y'CbCr of BT.2100 in 10 bits to Y'CbCr of BT.709 in 8 bits.
pub(crate) struct ToneMap {
    curves: Curves,
    input: gst_video::VideoInfo,
    output: gst_video::VideoInfo,
}

impl ToneMap {
    /// For I420_10LE pictures like `input`.
    ///
    /// # Errors
    /// The size is invalid.
    pub fn new(input: &gst_video::VideoInfo, transfer: Transfer, light: Light) -> Result<Self> {
        let bt709 = gst_video::VideoColorimetry::new(
            gst_video::VideoColorRange::Range16_235,
            gst_video::VideoColorMatrix::Bt709,
            gst_video::VideoTransferFunction::Bt709,
            gst_video::VideoColorPrimaries::Bt709,
        );
        let output = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, input.width(), input.height())
            .par(input.par())
            .fps(input.fps())
            .chroma_site(input.chroma_site())
            .colorimetry(&bt709)
            .build()
            .map_err(crate::gst::gst_failed)?;
        let peak = if transfer == Transfer::Hlg { PEAK } else { light.peak().unwrap_or(PEAK) };
        let full = input.colorimetry().range() == gst_video::VideoColorRange::Range0_255;
        Ok(Self { curves: Curves::new(transfer, peak, full), input: input.clone(), output })
    }

    /// The caps of the pictures.
    pub fn output(&self) -> &gst_video::VideoInfo {
        &self.output
    }

    /// The tone-mapped picture, with the times and flags of `buffer`.
    ///
    /// # Errors
    /// The picture cannot be mapped, or memory runs out.
    pub fn apply(&self, buffer: &gst::Buffer, canvas: &FramePool) -> Result<gst::Buffer> {
        let failed = || Error::failed("an HDR picture cannot be mapped");
        let (mut new, _) = canvas.acquire(&self.output, self.output.width(), self.output.height())?;
        let target = new.make_mut();
        let copied = gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS;
        buffer.copy_into(target, copied, ..).map_err(crate::gst::gst_failed)?;
        let source = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &self.input).map_err(|_| failed())?;
        let mut target =
            gst_video::VideoFrameRef::from_buffer_ref_writable(target, &self.output).map_err(|_| failed())?;
        let (width, height) = (self.output.width() as usize, self.output.height() as usize);
        let from = [0, 1, 2].map(|plane| source.info().stride()[plane].unsigned_abs() as usize);
        let to = [0, 1, 2].map(|plane| target.info().stride()[plane].unsigned_abs() as usize);
        let [y_in, u_in, v_in, _] = source.planes_data();
        let [y_out, u_out, v_out, _] = target.planes_data_mut();
        for row in 0..height.div_ceil(2) {
            for column in 0..width.div_ceil(2) {
                let chroma = |plane: &[u8], stride: usize| code(plane, row * stride + 2 * column);
                let (u, v) = (chroma(u_in, from[1]), chroma(v_in, from[2]));
                let (mut sum, mut count) = (0.0, 0.0);
                for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let (y, x) = (2 * row + y, 2 * column + x);
                    if y < height && x < width {
                        let luma = code(y_in, y * from[0] + 2 * x);
                        (sum, count) = (sum + luma, count + 1.0);
                        if let Some(slot) = y_out.get_mut(y * to[0] + x) {
                            *slot = self.curves.mapped([luma, u, v])[0].round() as u8;
                        }
                    }
                }
                let [_, u, v] = self.curves.mapped([sum / count, u, v]);
                for (plane, stride, value) in [(&mut *u_out, to[1], u), (&mut *v_out, to[2], v)] {
                    if let Some(slot) = plane.get_mut(row * stride + column) {
                        *slot = value.round() as u8;
                    }
                }
            }
        }
        drop(target);
        Ok(new)
    }
}

/// The 10-bit code at a byte offset.
fn code(plane: &[u8], at: usize) -> f32 {
    plane.get(at..at + 2).map_or(0.0, |bytes| f32::from(u16::from_le_bytes([bytes[0], bytes[1]]) & 0x3ff))
}

/// The steps of the conversion, in tables.
struct Curves {
    transfer: Transfer,
    full: bool,
    /// By signal: luminance in cd/m2 (PQ), or scene light from 0 to 1 (HLG).
    light: Vec<f32>,
    /// By the fourth root of a share of 10,000 cd/m2: the factor to SDR light, from 0 to 1.
    factor: Vec<f32>,
    /// By the fourth root of SDR light: the signal.
    signal: Vec<f32>,
}

impl Curves {
    fn new(transfer: Transfer, peak: f64, full: bool) -> Self {
        let table = |value: &dyn Fn(f64) -> f64| -> Vec<f32> {
            (0..=STEPS).map(|step| value(step as f64 / STEPS as f64) as f32).collect()
        };
        Self {
            transfer,
            full,
            light: match transfer {
                Transfer::Pq => table(&pq_to_light),
                Transfer::Hlg => table(&hlg_to_scene),
            },
            factor: table(&|root| {
                let light = (10_000.0 * root.powi(4)).max(1e-6);
                compressed(light, peak) / light / WHITE
            }),
            signal: table(&|root| root.powf(4.0 / GAMMA)),
        }
    }

    /// One colour: 10-bit codes of BT.2100 to 8-bit codes of BT.709, limited range.
    fn mapped(&self, [y, u, v]: [f32; 3]) -> [f32; 3] {
        let (y, u, v) = match self.full {
            true => (y / 1023.0, (u - 512.0) / 1023.0, (v - 512.0) / 1023.0),
            false => ((y - 64.0) / 876.0, (u - 512.0) / 896.0, (v - 512.0) / 896.0),
        };
        // The matrix of BT.2020 with non-constant luminance.
        let coded = [y + 1.4746 * v, y - 0.164_553 * u - 0.571_353 * v, y + 1.8814 * u];
        let mut light = coded.map(|signal| at(&self.light, signal));
        if self.transfer == Transfer::Hlg {
            // The system gamma of a display of 1000 cd/m2 (ITU-R BT.2100, table 5).
            let luminance = 0.2627 * light[0] + 0.6780 * light[1] + 0.0593 * light[2];
            let scale = PEAK as f32 * luminance.powf(0.2);
            light = light.map(|light| light * scale);
        }
        // The curve bends the largest component, and the others with it: hues stay.
        let most = light.iter().copied().fold(0.0, f32::max);
        let factor = at(&self.factor, (most / 10_000.0).sqrt().sqrt());
        let [r, g, b] = light.map(|light| light * factor);
        // The primaries of BT.2020 to those of BT.709 (ITU-R BT.2087).
        let [r, g, b] = [
            1.6605 * r - 0.5876 * g - 0.0728 * b,
            -0.1246 * r + 1.1329 * g - 0.0083 * b,
            -0.0182 * r - 0.1006 * g + 1.1187 * b,
        ]
        .map(|light| at(&self.signal, light.max(0.0).sqrt().sqrt()));
        let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        [16.0 + 219.0 * y, 128.0 + 224.0 * (b - y) / 1.8556, 128.0 + 224.0 * (r - y) / 1.5748]
    }
}

/// The entry of a table for a value from 0 to 1.
fn at(table: &[f32], value: f32) -> f32 {
    table[((value * STEPS as f32).round().max(0.0) as usize).min(STEPS)]
}

/// Luminance in cd/m2 of a PQ signal (SMPTE ST 2084).
fn pq_to_light(signal: f64) -> f64 {
    let power = signal.powf(32.0 / 2523.0);
    10_000.0 * ((power - 0.835_937_5).max(0.0) / (18.851_562_5 - 18.6875 * power)).powf(8192.0 / 1305.0)
}

fn light_to_pq(light: f64) -> f64 {
    let power = (light / 10_000.0).powf(1305.0 / 8192.0);
    ((0.835_937_5 + 18.851_562_5 * power) / (1.0 + 18.6875 * power)).powf(2523.0 / 32.0)
}

/// Scene light of an HLG signal, from 0 to 1 (ITU-R BT.2100, table 5).
fn hlg_to_scene(signal: f64) -> f64 {
    if signal <= 0.5 {
        signal * signal / 3.0
    } else {
        (((signal - 0.559_910_73) / 0.178_832_77).exp() + 0.284_668_92) / 12.0
    }
}

/// Luminances up to `peak` compressed to those up to [`WHITE`]: the curve of ITU-R BT.2390, 5.4.1, unchanged below its
/// knee.
fn compressed(light: f64, peak: f64) -> f64 {
    let whole = light_to_pq(peak);
    let (signal, most) = ((light_to_pq(light) / whole).min(1.0), light_to_pq(WHITE) / whole);
    let knee = 1.5 * most - 0.5;
    if most >= 1.0 || signal < knee {
        return light.min(WHITE);
    }
    let t = (signal - knee) / (1.0 - knee);
    let (t2, t3) = (t * t, t * t * t);
    let bent = (2.0 * t3 - 3.0 * t2 + 1.0) * knee + (t3 - 2.0 * t2 + t) * (1.0 - knee) + (3.0 * t2 - 2.0 * t3) * most;
    pq_to_light(bent * whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_luminances() {
        // ITU-R BT.2408, table 1: reference white has 58 % of the PQ signal and 75 % of the HLG signal.
        assert!((pq_to_light(0.58) - 203.0).abs() < 3.0, "{}", pq_to_light(0.58));
        let hlg = |signal| PEAK * hlg_to_scene(signal).powf(1.2);
        assert!((hlg(0.75) - 203.0).abs() < 3.0 && (hlg(1.0) - 1000.0).abs() < 1.0, "{}", hlg(0.75));
        for light in [0.1, 1.0, 100.0, 1000.0, 10_000.0] {
            assert!((pq_to_light(light_to_pq(light)) / light - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn the_curve_rises_to_white() {
        for peak in [100.0, 203.0, 600.0, 1000.0, 4000.0, 10_000.0] {
            let lights: Vec<f64> = (0..=100).map(|step| compressed(peak * f64::from(step) / 100.0, peak)).collect();
            assert!(lights.windows(2).all(|pair| pair[0] <= pair[1]), "{peak}: {lights:?}");
            assert!((lights[100] - WHITE.min(peak)).abs() < 0.5, "{peak}: {lights:?}");
            assert!((compressed(5.0, peak) - 5.0).abs() < 0.01);
        }
    }

    #[test]
    fn grey_stays_grey_and_white_is_white() {
        for transfer in [Transfer::Pq, Transfer::Hlg] {
            let curves = Curves::new(transfer, PEAK, false);
            for y in (64..=940u16).step_by(73) {
                let [_, u, v] = curves.mapped([y.into(), 512.0, 512.0]);
                assert!((u - 128.0).abs() < 0.5 && (v - 128.0).abs() < 0.5, "{transfer:?} {y}: {u} {v}");
            }
            assert_eq!(curves.mapped([64.0, 512.0, 512.0])[0].round(), 16.0);
            assert_eq!(curves.mapped([940.0, 512.0, 512.0])[0].round(), 235.0);
            assert_eq!(Curves::new(transfer, PEAK, true).mapped([1023.0, 512.0, 512.0])[0].round(), 235.0);
        }
    }
}
