//! Choice of the back end.

use std::path::Path;

use super::Backend;
use super::cpu::Cpu;
use super::gpu::{Gpu, adapters};
use crate::Result;

/// Which back end is wanted: `--compute auto|gpu|cpu`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    serde::Serialize,
    serde::Deserialize,
    strum::EnumMessage,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = crate::Error, parse_err_fn = crate::error::unknown_name)]
#[serde(rename_all = "lowercase")]
pub enum ComputeChoice {
    /// A hardware GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// Any adapter, a software one too.
    Gpu,
    /// The CPU.
    Cpu,
}

/// Opens a back end. `threads` is for the CPU; `None` takes all cores.
///
/// `Auto` says in the log when it cannot use a hardware adapter that is there, and takes the CPU.
///
/// # Errors
/// `Gpu` without any adapter that can do the work; a thread that could not be started.
pub fn open(choice: ComputeChoice, threads: Option<usize>) -> Result<Box<dyn Backend>> {
    open_with(choice, threads, false)
}

/// As [`open`]; `gpu_f16` stores features as f16 on a GPU, see [`Gpu::with_f16`]. The CPU has no such storage, which the log
/// says.
///
/// # Errors
/// As [`open`], or an adapter without `SHADER_F16`; `Auto` does not go round that.
pub fn open_with(choice: ComputeChoice, threads: Option<usize>, gpu_f16: bool) -> Result<Box<dyn Backend>> {
    let gpu = |software| if gpu_f16 { Gpu::with_f16(software) } else { Gpu::new(software) };
    match choice {
        ComputeChoice::Cpu => {}
        ComputeChoice::Gpu => {
            let gpu = gpu(true)?;
            if gpu.adapter().software {
                tracing::warn!("{} is a software adapter: right, but slower than --compute cpu", gpu.adapter().name);
            }
            return Ok(Box::new(gpu));
        }
        ComputeChoice::Auto => {
            if may_have_gpu() && adapters().iter().any(|a| !a.software) {
                match gpu(false) {
                    Err(error) if gpu_f16 => return Err(error),
                    Ok(gpu) => return Ok(Box::new(gpu)),
                    Err(error) => tracing::warn!("{error}; computing on the CPU"),
                }
            }
        }
    }
    if gpu_f16 {
        tracing::warn!("detect.gpu_f16 is for a GPU: the CPU keeps features as f32");
    }
    Ok(Box::new(Cpu::new(threads)?))
}

/// Whether there is a graphics adapter that is no software, without loading any driver where the kernel shows no device.
pub fn has_hardware_adapter() -> bool {
    may_have_gpu() && adapters().iter().any(|adapter| !adapter.software)
}

/// Whether the kernel shows any graphics device. Asking Vulkan on a machine without one loads the software adapter and its
/// compiler, 47 MB and a tenth of a second for nothing.
fn may_have_gpu() -> bool {
    !cfg!(target_os = "linux")
        || ["/dev/dri", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/mali0"]
            .iter()
            .any(|device| Path::new(device).exists())
}
