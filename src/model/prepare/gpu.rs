//! The same as [`Prepare`](super::Prepare) as a compute shader.

use super::resample::Taps;
use super::{Coefficients, Content, InputSpec, Plan, Prepare};
use crate::Result;
use crate::compute::gpu::{Axis, Gpu, PicturePass, Placement, ToRgb};
use crate::frame::I420;

/// Turns pictures into the network's input on a graphics device; equal to `Prepare` within 1/255.
///
/// `run` of the program does not use it: ONNX Runtime takes its input from the CPU. It is for a network on the same device,
/// which reads [`GpuPrepare::output`] without a way round.
pub struct GpuPrepare {
    spec: InputSpec,
    pass: PicturePass,
    /// The tables for the last picture size.
    plan: Option<Plan>,
}

impl GpuPrepare {
    /// A converter to `spec` on the device of `gpu`. It is of no use any more when that is lost.
    ///
    /// # Errors
    /// As [`Prepare::new`], or the input does not fit the device.
    pub fn new(gpu: &Gpu, spec: InputSpec) -> Result<Self> {
        let spec = *Prepare::new(spec)?.spec();
        Ok(Self { spec, pass: PicturePass::new(gpu, (spec.width, spec.height))?, plan: None })
    }

    /// Starts to write `picture` as `(rgb - mean) / std`, planar `[3, height, width]`, and says where it lies.
    ///
    /// Buffers are made only when a picture of another size than the last comes.
    ///
    /// # Errors
    /// The planes of `picture` do not fit each other, their data or the device, or the device is lost.
    pub fn run(&mut self, picture: &I420<'_>) -> Result<Content> {
        picture.check()?;
        let size = (picture.width(), picture.height());
        let plan = match self.plan.take().filter(|plan| plan.picture == size) {
            Some(plan) => plan,
            None => {
                let plan = Plan::new(&self.spec, size.0, size.1);
                self.pass.place(&placement(&plan))?;
                plan
            }
        };
        let content = self.plan.insert(plan).content;
        self.pass.run(picture, &to_rgb(Coefficients::new(&self.spec, picture.colour)))?;
        Ok(content)
    }

    /// The input on the device, for what is submitted to it after [`GpuPrepare::run`].
    pub fn output(&self) -> &wgpu::Buffer {
        self.pass.output()
    }

    /// Waits for the last picture and copies the input to `out`.
    ///
    /// # Errors
    /// `out` is not `3 * height * width` long, or the device is lost.
    pub fn read(&self, out: &mut [f32]) -> Result<()> {
        self.pass.read(out)
    }
}

fn placement(plan: &Plan) -> Placement<'_> {
    let Content { x, y, width, height } = plan.content;
    Placement {
        picture: plan.picture,
        size: (width, height),
        begin: (-x.cast_signed(), -y.cast_signed()),
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
