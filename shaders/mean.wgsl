// The mean of all points from the sums of the stretches.
//
// binding  shape              what
// 0        Params
// 1        [stretches, D]     sums as pairs
// 2        [D + 2]            mean, written; the last two are left to spread.wgsl
//
// before it: prelude/exact.wgsl
// workgroup: 64 threads, one dimension each.

struct Params {
    n: u32,
    dims: u32,
    stretches: u32,
    // Of prelude/exact.wgsl.
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sums: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let d = id.x;
    if d >= params.dims {
        return;
    }
    var sum = vec2(0.0);
    for (var s = 0u; s < params.stretches; s++) {
        sum = plus_pair(sum, sums[s * params.dims + d]);
    }
    mean[d] = divide(sum, f32(params.n));
}
