// The mean squared length of the centred points, the scale of what counts as close and as a duplicate; and the share of it
// that is close: 0 where all points are equal but for rounding, so that no comparison is worth anything.
//
// binding  shape          what
// 0        Params
// 1        [N padded]     squared lengths
// 2        [D + 2]        mean; the last two are written
//
// workgroup: one of 256 threads.

struct Params {
    n: u32,
    dims: u32,
    close: f32,
    // Share of the squared length of the mean below which all points count as equal.
    constant: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> norms: array<f32>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;

var<workgroup> parts: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_id) local: vec3<u32>) {
    var sum = 0.0;
    for (var i = local.x; i < params.n; i += 256u) {
        sum += norms[i];
    }
    var length = 0.0;
    for (var d = local.x; d < params.dims; d += 256u) {
        length = fma(mean[d], mean[d], length);
    }
    parts[local.x] = vec2(sum, length);
    workgroupBarrier();
    if local.x == 0u {
        var all = vec2(0.0);
        for (var t = 0u; t < 256u; t++) {
            all += parts[t];
        }
        let spread = all.x / f32(params.n);
        mean[params.dims] = spread;
        mean[params.dims + 1u] = select(params.close, 0.0, spread <= params.constant * all.y);
    }
}
