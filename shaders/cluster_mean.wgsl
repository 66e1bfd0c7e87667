// Points, mean of the cluster terms and mean confidence of each cluster (docs/method.md M6).
//
// binding  shape                what
// 0        Params
// 1        [runs]               runs of K-Means
// 2        [total]              run of each cluster
// 3        [runs, N padded]     labels
// 4        [N]                  (pixel terms, cluster terms, max logit, 0)
// 5        [total]              (points, mean of cluster terms, mean of max logit, 0), the last three as bits of f32
//
// before it: prelude/run.wgsl
// workgroup: 64 threads for one cluster.

struct Params {
    n: u32,
    label_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> runs: array<Run>;
@group(0) @binding(2) var<storage, read> run_of: array<u32>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> statistics: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> clusters: array<vec4<u32>>;

var<workgroup> parts: array<vec4<f32>, 64>;
var<workgroup> sizes: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let r = run_of[group.x];
    let label = group.x - runs[r].first;
    var sum = vec4(0.0);
    var size = 0u;
    for (var i = local.x; i < params.n; i += 64u) {
        if labels[r * params.label_stride + i] == label {
            sum += statistics[i];
            size += 1u;
        }
    }
    parts[local.x] = sum;
    sizes[local.x] = size;
    workgroupBarrier();
    if local.x == 0u {
        for (var t = 1u; t < 64u; t++) {
            sum += parts[t];
            size += sizes[t];
        }
        let mean = sum / f32(max(size, 1u));
        clusters[group.x] = vec4(size, bitcast<u32>(mean.y), bitcast<u32>(mean.z), 0u);
    }
}
