// Centroids become the means of their points; an empty cluster is left to reseed.wgsl.
//
// binding  shape                     what
// 0        Params
// 1        [runs]                    runs of K-Means
// 2        [total]                   run of each cluster
// 3        [stretches, total, D]     sums as pairs
// 4        [stretches, total]        points per cluster
// 5        [total, D]                centroids, updated
// 6        [total]                   -|c|^2 / 2, updated
// 7        [total]                   points of each cluster, written
//
// before it: prelude/exact.wgsl, prelude/run.wgsl
// workgroup: 64 threads for one cluster.

struct Params {
    total: u32,
    dims: u32,
    stretches: u32,
    // Of prelude/exact.wgsl.
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> runs: array<Run>;
@group(0) @binding(2) var<storage, read> run_of: array<u32>;
@group(0) @binding(3) var<storage, read> sums: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> centroids: array<f32>;
@group(0) @binding(6) var<storage, read_write> offsets: array<f32>;
@group(0) @binding(7) var<storage, read_write> sizes: array<u32>;

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let j = group.x;
    if runs[run_of[j]].live == 0u {
        return;
    }
    var size = 0u;
    for (var s = 0u; s < params.stretches; s++) {
        size += counts[s * params.total + j];
    }
    var squares = 0.0;
    if size > 0u {
        for (var d = local.x; d < params.dims; d += 64u) {
            var sum = vec2(0.0);
            for (var s = 0u; s < params.stretches; s++) {
                sum = plus_pair(sum, sums[(s * params.total + j) * params.dims + d]);
            }
            let value = divide(sum, f32(size));
            centroids[j * params.dims + d] = value;
            squares = fma(value, value, squares);
        }
    }
    parts[local.x] = squares;
    workgroupBarrier();
    if local.x == 0u {
        sizes[j] = size;
        if size > 0u {
            var sum = 0.0;
            for (var t = 0u; t < 64u; t++) {
                sum += parts[t];
            }
            offsets[j] = -0.5 * sum;
        }
    }
}
