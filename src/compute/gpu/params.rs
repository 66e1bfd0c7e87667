//! The parameters of each pass as its WGSL declares them: same names, types and offsets, which a test holds against the
//! shader.
//!
//! The shader documents the fields.

use bytemuck::Pod;

use super::shader::Shader;

/// The uniform at binding 0 of a pass.
pub(super) trait Params: Pod {
    /// The pass.
    const SHADER: Shader;
}

/// Declares structs that go to the device byte by byte; in tests each also lists its fields.
macro_rules! device_structs {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
            pub(in crate::compute::gpu) struct $name { $(pub $field: $type),* }

            #[cfg(test)]
            impl $crate::compute::gpu::params::layout::FieldLayout for $name {
                const FIELDS: &'static [(&'static str, &'static str, usize)] =
                    &[$((stringify!($field), stringify!($type), std::mem::offset_of!($name, $field))),*];
            }
        )*
    };
}

/// Declares the parameters of passes: a struct of the name of the [`Shader`].
macro_rules! params {
    ($($name:ident { $($fields:tt)* })*) => {
        device_structs! { $($name { $($fields)* })* }
        $(
            impl Params for $name {
                const SHADER: Shader = Shader::$name;
            }
        )*
        /// Passes and the layouts of their parameters.
        #[cfg(test)]
        pub(super) fn all() -> Vec<(Shader, layout::Fields)> {
            vec![$((Shader::$name, layout::fields::<$name>())),*]
        }
    };
}

params! {
    Gather {
        begin: u32, count: u32, segment: u32, stride: u32, grid_width: u32, channels: u32, channel: u32, width: u32,
        band_height: u32, band_row: u32, x_start: u32, x_weight: u32, x_taps: u32, y_start: u32, y_weight: u32,
        y_taps: u32, unit_length: u32, zero: u32,
    }
    Confidence {
        pixel: [f32; 4], cluster: [f32; 4], queries: [f32; 4], pixel_constant: f32, cluster_constant: f32, begin: u32,
        count: u32, grid_width: u32, classes: u32, width: u32, band_height: u32, band_row: u32, softmax: u32, x_start: u32,
        x_weight: u32, x_taps: u32, y_start: u32, y_weight: u32, y_taps: u32,
    }
    Sum {
        segment: u32, stride: u32, n: u32, dims: u32, label_stride: u32, total: u32, stretch: u32, groups: u32,
        zero: u32,
    }
    Mean { n: u32, dims: u32, stretches: u32, zero: u32 }
    Centre { segment: u32, stride: u32, n: u32, dims: u32 }
    Spread { n: u32, dims: u32, close: f32, constant: f32 }
    Seed { segment: u32, stride: u32, n: u32, dims: u32, round: u32, key: u32 }
    SeedPick { segment: u32, stride: u32, tiles: u32, dims: u32, round: u32 }
    Start { first: u32, source: u32, dims: u32, centred: u32 }
    Assign {
        segment: u32, stride: u32, n: u32, dims: u32, label_stride: u32, tiles: u32, tie: f32, fresh: u32, zero: u32,
    }
    Converge { tiles: u32, converged: u32 }
    Update { total: u32, dims: u32, stretches: u32, zero: u32 }
    Reseed { segment: u32, stride: u32, dims: u32, tiles: u32, least: f32 }
    Keep { dims: u32 }
    Bank { segment: u32, stride: u32, n: u32, dims: u32, pixel: f32, cluster: f32 }
    ClusterMean { n: u32, label_stride: u32 }
    Fuse { n: u32, label_stride: u32, runs: u32, share: f32 }
    GuidedFit { height: u32, width: u32, epsilon: f32 }
    GuidedApply { height: u32, width: u32 }
    Upsample { grid_width: u32, width: u32, pixels: u32, x_table: u32, y_table: u32, x_step: u32, y_step: u32 }
}

device_structs! {
    /// `Frame` of `upsample.wgsl`: what differs from frame to frame.
    Frame { threshold: f32 }

    /// `Run` of `prelude/run.wgsl`.
    #[derive(Default)]
    Run { k: u32, first: u32, live: u32, iterations: u32 }
}

#[cfg(test)]
pub(super) mod layout {
    /// Name, Rust type and offset of each field.
    pub trait FieldLayout: Sized {
        const FIELDS: &'static [(&'static str, &'static str, usize)];
    }

    /// The fields of a struct and its size.
    pub type Fields = (&'static [(&'static str, &'static str, usize)], usize);

    pub fn fields<T: FieldLayout>() -> Fields {
        (T::FIELDS, size_of::<T>())
    }
}
