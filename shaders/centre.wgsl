// Takes the mean off the points and notes their squared length.
//
// binding  shape                  what
// 0        Params
// 1        [D + 2]                mean
// 2        [D, padded points]     points of one segment, changed in place
// 3        [N padded]             squared lengths, written
//
// `Stored` is f32, or f16 where features are stored so; arithmetic is in f32.
//
// workgroup: 64 threads, one point each. Padding stays zero.

struct Params {
    segment: u32,
    stride: u32,
    n: u32,
    dims: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> mean: array<f32>;
@group(0) @binding(2) var<storage, read_write> points: array<Stored>;
@group(0) @binding(3) var<storage, read_write> norms: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.stride || params.segment + id.x >= params.n {
        return;
    }
    var at = id.x;
    var norm = 0.0;
    for (var d = 0u; d < params.dims; d++) {
        let stored = Stored(f32(points[at]) - mean[d]);
        points[at] = stored;
        let value = f32(stored);
        norm = fma(value, value, norm);
        at += params.stride;
    }
    norms[params.segment + id.x] = norm;
}
