//! The compute passes, one WGSL file each.

/// A pass; its file says what it binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shader {
    Gather,
    Confidence,
    Sum,
    Mean,
    Centre,
    Spread,
    Seed,
    SeedPick,
    Start,
    Assign,
    Converge,
    Update,
    Reseed,
    Keep,
    Bank,
    ClusterMean,
    Fuse,
    GuidedFit,
    GuidedApply,
    Upsample,
}

/// What stands before the source of each pass: how features are stored.
pub(super) fn prelude(half: bool) -> &'static str {
    if half { "enable f16;\nalias Stored = f16;\n" } else { "alias Stored = f32;\n" }
}

macro_rules! source {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../shaders/", $name, ".wgsl")))
    };
}

/// Name and source of each pass, in the order of [`Shader`].
pub(super) const SOURCES: [(&str, &str); 20] = [
    source!("gather"),
    source!("confidence"),
    source!("sum"),
    source!("mean"),
    source!("centre"),
    source!("spread"),
    source!("seed"),
    source!("seed_pick"),
    source!("start"),
    source!("assign"),
    source!("converge"),
    source!("update"),
    source!("reseed"),
    source!("keep"),
    source!("bank"),
    source!("cluster_mean"),
    source!("fuse"),
    source!("guided_fit"),
    source!("guided_apply"),
    source!("upsample"),
];
