// The mean of all points from the sums of the stretches.
//
// binding  shape              what
// 0        Params
// 1        [stretches, D]     sums
// 2        [D + 1]            mean, written; the last one is left to spread.wgsl
//
// workgroup: 64 threads, one dimension each.

struct Params {
    n: u32,
    dims: u32,
    stretches: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sums: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let d = id.x;
    if d >= params.dims {
        return;
    }
    var sum = 0.0;
    for (var s = 0u; s < params.stretches; s++) {
        sum += sums[s * params.dims + d];
    }
    mean[d] = sum / f32(params.n);
}
