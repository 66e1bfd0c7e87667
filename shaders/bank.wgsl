// Euclidean distance to the nearest centroid of the codebook, added to what is scored.
//
// The winner comes from assign.wgsl; its distance is taken directly, as the product form loses small ones in rounding.
//
// binding  shape                  what
// 0        Params
// 1        [D, padded points]     points of one segment
// 2        [M, D]                 codebook, centred
// 3        [N padded]             nearest centroid of each point
// 4        [N]                    (pixel terms, cluster terms, max logit, 0), the first two updated
//
// `Stored` is f32, or f16 where features are stored so; arithmetic is in f32.
//
// workgroup: 64 threads, one point each.

struct Params {
    segment: u32,
    stride: u32,
    n: u32,
    dims: u32,
    pixel: f32,
    cluster: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> points: array<Stored>;
@group(0) @binding(2) var<storage, read> codebook: array<f32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read_write> statistics: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = params.segment + id.x;
    if id.x >= params.stride || i >= params.n {
        return;
    }
    let row = labels[i] * params.dims;
    var squares = 0.0;
    for (var d = 0u; d < params.dims; d++) {
        let t = f32(points[d * params.stride + id.x]) - codebook[row + d];
        squares = fma(t, t, squares);
    }
    let distance = sqrt(squares);
    statistics[i] += vec4(params.pixel * distance, params.cluster * distance, 0.0, 0.0);
}
