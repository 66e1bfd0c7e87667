//! The adapter, the device and its errors.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::shader::{self, Shader};
use crate::lock::lock;
use crate::{Error, Result};

/// A graphics adapter and its limits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AdapterInfo {
    /// The adapter's own name.
    pub name: String,
    /// `vulkan`, `metal`, `dx12`.
    pub api: String,
    /// Driver name and version.
    pub driver: String,
    /// Whether it computes on the CPU (lavapipe, WARP).
    pub software: bool,
    /// Largest storage buffer that a pass can bind, in bytes.
    pub max_binding: u64,
    /// Largest buffer, in bytes.
    pub max_buffer: u64,
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    wgpu::Instance::new(descriptor)
}

fn describe(adapter: &wgpu::Adapter) -> AdapterInfo {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    AdapterInfo {
        name: info.name,
        api: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        software: info.device_type == wgpu::DeviceType::Cpu,
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
    }
}

/// Adapters that can compute, hardware first.
fn all() -> Vec<wgpu::Adapter> {
    let mut adapters = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::PRIMARY));
    adapters.retain(|a| a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS));
    adapters.sort_by_key(|a| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

/// All adapters that can compute, hardware first; for `oodstream doctor`.
pub fn adapters() -> Vec<AdapterInfo> {
    all().iter().map(describe).collect()
}

/// The errors that the device has reported.
#[derive(Default)]
struct Faults {
    lost: AtomicBool,
    /// The first error since the last call of [`Context::check`].
    first: Mutex<Option<String>>,
}

impl Faults {
    fn note(&self, message: String) {
        lock(&self.first).get_or_insert(message);
    }
}

/// A device with its pipelines.
pub(super) struct Context {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub info: AdapterInfo,
    /// Whether features are stored as f16.
    pub half: bool,
    pipelines: Vec<(wgpu::ComputePipeline, wgpu::BindGroupLayout)>,
    faults: Arc<Faults>,
    bytes: Arc<AtomicU64>,
    buffers: AtomicU64,
}

impl Context {
    /// Opens the best adapter; a software one only where `software` allows it.
    /// `cap` lowers the largest binding; `half` stores features as f16.
    pub fn open(software: bool, cap: u64, half: bool) -> Result<Self> {
        let hint = "use --compute cpu, or install a Vulkan driver (Debian: mesa-vulkan-drivers)";
        let Some(adapter) = all().into_iter().next() else {
            return Err(Error::failed("there is no graphics adapter that can compute").hint(hint));
        };
        let mut info = describe(&adapter);
        info.max_binding = info.max_binding.min(cap);
        if info.software && !software {
            return Err(Error::failed(format!("there is only a software adapter: {}", info.name)).hint(hint));
        }
        if half {
            check_half(adapter.features(), &info.name)?;
        }
        // What WebGPU promises everywhere, with room for large maps as far as the adapter goes.
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: adapter.limits().max_storage_buffer_binding_size,
            max_buffer_size: info.max_buffer,
            ..wgpu::Limits::default()
        };
        check_limits(&limits, &adapter.limits(), &info.name)?;
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("oodstream"),
            required_features: if half { wgpu::Features::SHADER_F16 } else { wgpu::Features::empty() },
            required_limits: limits,
            ..Default::default()
        }))
        .map_err(|e| Error::failed(format!("cannot open {}: {e}", info.name)).hint(hint))?;
        let faults = Arc::new(Faults::default());
        let (lost, errors) = (faults.clone(), faults.clone());
        device.set_device_lost_callback(move |reason, message| {
            lost.lost.store(true, Ordering::SeqCst);
            lost.note(format!("the device was lost ({reason:?}) {message}"));
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| errors.note(error.to_string())));
        let pipelines =
            shader::SOURCES.iter().map(|source| pipeline(&device, source.name, &source.text(half))).collect();
        let context =
            Self { device, queue, info, half, pipelines, faults, bytes: Arc::default(), buffers: AtomicU64::new(0) };
        context.check()?;
        Ok(context)
    }

    /// Bytes of one value of a feature on the device.
    pub fn stored(&self) -> usize {
        if self.half { 2 } else { 4 }
    }

    pub fn pipeline(&self, shader: Shader) -> &(wgpu::ComputePipeline, wgpu::BindGroupLayout) {
        &self.pipelines[shader as usize]
    }

    /// A buffer of at least `bytes`, which counts as memory in use.
    pub fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages, mapped: bool) -> Result<wgpu::Buffer> {
        let size = bytes.next_multiple_of(16).max(16);
        if size > self.info.max_buffer {
            return Err(too_large(label, size, "buffer", self.info.max_buffer));
        }
        if usage.contains(wgpu::BufferUsages::STORAGE) && size > self.info.max_binding {
            return Err(too_large(label, size, "binding", self.info.max_binding));
        }
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.buffers.fetch_add(1, Ordering::Relaxed);
        Ok(self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: mapped,
        }))
    }

    /// Waits until the device is done with `submission`; buffers whose mapping was requested since are mapped then.
    pub fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        let done = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
        let Err(error) = self.device.poll(done) else { return Ok(()) };
        self.settle();
        Err(Error::failed(format!("GPU wait: {error}")))
    }

    /// Waits for all that was submitted. Only then is the loss of a device reported; before, it just refuses calls.
    pub fn settle(&self) {
        let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
    }

    /// Buffers that are given up no longer count.
    pub fn forget(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The count of bytes in use, for buffers that take themselves off it.
    pub fn in_use(&self) -> Arc<AtomicU64> {
        self.bytes.clone()
    }

    /// Bytes of the buffers in use.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Buffers made so far.
    #[cfg(any(test, feature = "internals"))]
    pub fn buffers(&self) -> u64 {
        self.buffers.load(Ordering::Relaxed)
    }

    pub fn is_lost(&self) -> bool {
        self.faults.lost.load(Ordering::SeqCst)
    }

    /// The device's first error since the last call.
    pub fn check(&self) -> Result<()> {
        match lock(&self.faults.first).take() {
            Some(message) => Err(Error::failed(format!("{}: {message}", self.info.name)).hint("use --compute cpu")),
            None => Ok(()),
        }
    }
}

fn too_large(label: &str, bytes: u64, what: &str, limit: u64) -> Error {
    Error::failed(format!("`{label}` takes {bytes} bytes, but the adapter allows a {what} of {limit}"))
        .hint("use --compute cpu, fewer clusters or smaller feature maps")
}

/// Fails where the adapter cannot store features as f16.
fn check_half(offered: wgpu::Features, name: &str) -> Result<()> {
    if offered.contains(wgpu::Features::SHADER_F16) {
        return Ok(());
    }
    Err(Error::failed(format!("{name} lacks the feature SHADER_F16, which detect.gpu_f16 needs"))
        .hint("set detect.gpu_f16 = false"))
}

/// Fails with both numbers where the adapter cannot do what the passes need.
fn check_limits(wanted: &wgpu::Limits, offered: &wgpu::Limits, name: &str) -> Result<()> {
    let pairs = [
        (
            "storage buffers per pass",
            wanted.max_storage_buffers_per_shader_stage,
            offered.max_storage_buffers_per_shader_stage,
        ),
        (
            "bytes of workgroup memory",
            wanted.max_compute_workgroup_storage_size,
            offered.max_compute_workgroup_storage_size,
        ),
        (
            "threads per workgroup",
            wanted.max_compute_invocations_per_workgroup,
            offered.max_compute_invocations_per_workgroup,
        ),
    ];
    for (what, wanted, offered) in pairs {
        if offered < wanted {
            let message = format!("{name} offers {offered} {what}, but {wanted} are needed");
            return Err(Error::failed(message).hint("use --compute cpu"));
        }
    }
    Ok(())
}

/// The pipeline of one shader.
pub(super) fn pipeline(
    device: &wgpu::Device,
    name: &str,
    source: &str,
) -> (wgpu::ComputePipeline, wgpu::BindGroupLayout) {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(name),
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(name),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        // All workgroup memory is written before it is read.
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    });
    let layout = pipeline.get_bind_group_layout(0);
    (pipeline, layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_without_f16_is_refused_by_name() {
        assert!(check_half(wgpu::Features::SHADER_F16, "this one").is_ok());
        let error = check_half(wgpu::Features::all() - wgpu::Features::SHADER_F16, "that one").unwrap_err().to_string();
        assert!(error.contains("that one") && error.contains("SHADER_F16"), "{error}");
    }

    #[test]
    fn an_adapter_with_smaller_limits_is_refused_with_both_numbers() {
        let wanted = wgpu::Limits::default();
        assert!(check_limits(&wanted, &wanted, "this one").is_ok());
        let offered = wgpu::Limits { max_compute_workgroup_storage_size: 8_192, ..wanted.clone() };
        let error = check_limits(&wanted, &offered, "that one").unwrap_err().to_string();
        assert!(error.contains("that one offers 8192 bytes of workgroup memory, but 16384 are needed"), "{error}");
        let offered = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wanted.clone() };
        let error = check_limits(&wanted, &offered, "that one").unwrap_err().to_string();
        assert!(error.contains("4 storage buffers per pass, but 8 are needed"), "{error}");
    }
}
