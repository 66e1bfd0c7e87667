// Centroids with the mean put back on: what seeds the next frame, and what K-Means gives as its result.
//
// binding  shape          what
// 0        Params
// 1        [total, D]     centroids
// 2        [D + 2]        mean
// 3        [total, D]     written
//
// workgroup: 64 threads for one centroid.

struct Params {
    dims: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> centroids: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read_write> kept: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    for (var d = local.x; d < params.dims; d += 64u) {
        let at = group.x * params.dims + d;
        kept[at] = centroids[at] + mean[d];
    }
}
