// The mean squared length of the centred points: the scale of what counts as a tie and as a duplicate.
//
// binding  shape          what
// 0        Params
// 1        [N padded]     squared lengths
// 2        [D + 1]        the last one is written
//
// workgroup: one of 256 threads.

struct Params {
    n: u32,
    dims: u32,
    unused_0: u32,
    unused_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> norms: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;

var<workgroup> parts: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_id) local: vec3<u32>) {
    var sum = 0.0;
    for (var i = local.x; i < params.n; i += 256u) {
        sum += norms[i];
    }
    parts[local.x] = sum;
    workgroupBarrier();
    if local.x == 0u {
        var all = 0.0;
        for (var t = 0u; t < 256u; t++) {
            all += parts[t];
        }
        mean[params.dims] = all / f32(params.n);
    }
}
