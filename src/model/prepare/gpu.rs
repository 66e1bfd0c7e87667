//! The same as [`Prepare`](super::Prepare) as a compute shader.

use super::resample::Taps;
use super::{Coefficients, InputSpec, Prepare, ResampleTables, Window};
use crate::compute::Backend;
use crate::compute::gpu::{Axis, PicturePass, Placement, ToRgb};
use crate::frame::I420;
use crate::{Error, Result};

/// Turns pictures into the network's input on a graphics device; equal to `Prepare` within 1/255.
///
/// `oodstream run` does not use it, since ONNX Runtime takes its input from the CPU. It is for a network on the same device, which
/// reads [`GpuPrepare::output`] directly.
pub struct GpuPrepare {
    spec: InputSpec,
    pass: PicturePass,
    /// The size and the window of the last picture.
    placed: Option<((usize, usize), Window)>,
}

impl GpuPrepare {
    /// A converter to `spec` on the device of `backend`, `None` where it has none. It cannot be used after that device is lost.
    ///
    /// # Errors
    /// As [`Prepare::new`], or the input does not fit the device.
    pub fn new(backend: &dyn Backend, spec: InputSpec) -> Result<Option<Self>> {
        let spec = *Prepare::new(spec)?.spec();
        let pass = backend.picture_pass((spec.width, spec.height))?;
        Ok(pass.map(|pass| Self { spec, pass, placed: None }))
    }

    /// Starts to write what `window` shows of `picture` as `(rgb - mean) / std`, planar `[3, height, width]`; padding is 0.
    ///
    /// Buffers are made only when a picture of another size or another window than the last comes.
    ///
    /// # Errors
    /// `window` has no size, the planes of `picture` do not fit each other, their data or the device, or the device is lost.
    pub fn run(&mut self, picture: &I420<'_>, window: Window) -> Result<()> {
        picture.check()?;
        if window.size.0 == 0 || window.size.1 == 0 {
            return Err(Error::failed("a picture cannot be resized to nothing"));
        }
        let placed = ((picture.width(), picture.height()), window);
        if self.placed != Some(placed) {
            self.placed = None;
            self.pass.place(&placement(&ResampleTables::new(placed.0, window.size), window))?;
            self.placed = Some(placed);
        }
        self.pass.run(picture, &to_rgb(Coefficients::new(&self.spec, picture.colour)))
    }

    /// Waits for the last picture and copies the input to `out`.
    ///
    /// # Errors
    /// `out` is not `3 * height * width` long, or the device is lost.
    pub fn read(&self, out: &mut [f32]) -> Result<()> {
        self.pass.read(out)
    }
}

fn placement(plan: &ResampleTables, window: Window) -> Placement<'_> {
    Placement {
        picture: plan.picture,
        size: window.size,
        begin: (window.x, window.y),
        luma: [axis(&plan.luma.across), axis(&plan.luma.down)],
        chroma: [axis(&plan.chroma.across), axis(&plan.chroma.down)],
    }
}

fn axis(taps: &Taps) -> Axis<'_> {
    Axis { first: &taps.first, weights: &taps.weights }
}

fn to_rgb(from: Coefficients) -> ToRgb {
    let Coefficients { luma, r_v, g_u, g_v, b_u, offset, gain, bias } = from;
    ToRgb { luma, r_v, g_u, g_v, b_u, offset, gain, bias }
}
