//! Outputs and inputs in memory of our choice: ONNX Runtime's I/O binding.
//!
//! A network on CUDA reads its input from pinned host memory and writes its outputs there, where the dense maths and a
//! GPU's upload read them; without it they would go through pageable memory, which CUDA copies once more.

use ndarray::ArrayView4;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session, SessionOutputs};
use ort::value::Tensor;

use crate::model::runtime::provider::Provider;

/// Where the input and the outputs of a session are.
#[derive(Debug)]
pub(super) struct Bound {
    binding: IoBinding,
    allocator: Allocator,
    /// The pictures, owned: version 2.0.0-rc.15 of `ort` waits for itself when borrowed data is bound on its own device.
    input: Option<Tensor<f32>>,
    outputs: MemoryInfo<'static>,
}

impl Bound {
    /// For a session on `provider`; none where ordinary memory is as good.
    pub fn of(session: &Session, provider: Provider, device: i32) -> ort::Result<Option<Self>> {
        match provider {
            Provider::Cuda | Provider::Tensorrt => Self::to(session, AllocationDevice::CUDA_PINNED, device).map(Some),
            Provider::Auto | Provider::Cpu | Provider::Webgpu | Provider::Openvino => Ok(None),
        }
    }

    /// Everything in memory of `device`.
    pub fn to(session: &Session, device: AllocationDevice<'static>, id: i32) -> ort::Result<Self> {
        let memory = |kind| MemoryInfo::new(device.clone(), id, AllocatorType::Device, kind);
        Ok(Self {
            binding: session.create_binding()?,
            allocator: Allocator::new(session, memory(MemoryType::CPUInput)?)?,
            input: None,
            outputs: memory(MemoryType::CPUOutput)?,
        })
    }

    /// Runs the session; the outputs are new ones, so that those of earlier runs may still be read.
    pub fn run<'a>(
        &'a mut self,
        session: &'a mut Session,
        (name, pictures): (&str, ArrayView4<'_, f32>),
        outputs: impl Iterator<Item = &'a str>,
    ) -> ort::Result<SessionOutputs<'a>> {
        let (batch, channels, height, width) = pictures.dim();
        let shape = [batch, channels, height, width];
        let kept = self.input.take().filter(|input| input.shape().iter().map(|&size| size as usize).eq(shape));
        let mut input = kept.map_or_else(|| Tensor::new(&self.allocator, shape), Ok)?;
        input.extract_array_mut().iter_mut().zip(pictures).for_each(|(to, value)| *to = *value);
        self.binding.bind_input(name, &input)?;
        self.input = Some(input);
        // An output that stays bound would be written to again.
        self.binding.clear_outputs();
        for output in outputs {
            self.binding.bind_output_to_device(output, &self.outputs)?;
        }
        let found = session.run_binding(&self.binding)?;
        self.binding.synchronize_outputs()?;
        Ok(found)
    }
}
