// Centroids to start from: rows of a table, with the mean taken off where they are not centred yet.
//
// binding  shape          what
// 0        Params
// 1        [rows, D]      seeds, centroids of the last frame, or a codebook
// 2        [D + 1]        mean
// 3        [total, D]     centroids, written
// 4        [total]        -|c|^2 / 2, written
//
// workgroup: 64 threads for one centroid.

struct Params {
    // Centroid `first + workgroup` takes row `source + workgroup`.
    first: u32,
    source: u32,
    dims: u32,
    centred: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> centroids: array<f32>;
@group(0) @binding(4) var<storage, read_write> offsets: array<f32>;

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let origin = (params.source + group.x) * params.dims;
    let to = (params.first + group.x) * params.dims;
    var squares = 0.0;
    for (var d = local.x; d < params.dims; d += 64u) {
        var value = rows[origin + d];
        if params.centred == 0u {
            value -= mean[d];
        }
        centroids[to + d] = value;
        squares = fma(value, value, squares);
    }
    parts[local.x] = squares;
    workgroupBarrier();
    if local.x == 0u {
        var sum = 0.0;
        for (var t = 0u; t < 64u; t++) {
            sum += parts[t];
        }
        offsets[params.first + group.x] = -0.5 * sum;
    }
}
