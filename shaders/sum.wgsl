// Sums of points per cluster and stretch of points, without atomics: each thread owns one dimension. A sum is a pair of f32,
// the second of which gathers what rounding takes from the first, so that the order of the points does not matter.
//
// binding  shape                          what
// 0        Params
// 1        [D, padded points / 4]         points of one segment
// 2        [runs]                         runs of K-Means
// 3        [runs, N padded]               label of each point
// 4        [stretches, total, D]          sums as pairs, written
// 5        [stretches, total]             points per cluster, written
//
// `Stored` is f32, or f16 where features are stored so; arithmetic is in f32.
//
// before it: prelude/exact.wgsl, prelude/run.wgsl
// workgroup: 64 threads, 64 dimensions of one stretch and up to 24 clusters of one run; x: stretch of the segment, y: 64
// dimensions, z: run and group of 24 clusters. 12 KB of workgroup memory.

struct Params {
    // First point of the segment, its points with padding, and points in all.
    segment: u32,
    stride: u32,
    n: u32,
    dims: u32,
    label_stride: u32,
    total: u32,
    stretch: u32,
    // Groups of 24 clusters per run; 0: all points are one cluster, labels and runs are not looked at.
    groups: u32,
    // Of prelude/exact.wgsl.
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> points: array<vec4<Stored>>;
@group(0) @binding(2) var<storage, read> runs: array<Run>;
@group(0) @binding(3) var<storage, read> labels: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;

const GROUP = 24u;

// Each thread uses its own column only, so no barrier is needed.
var<workgroup> columns: array<vec2<f32>, 1536>;
var<workgroup> sizes: array<u32, 24>;

fn add(label: u32, low: u32, k: u32, lane: u32, value: f32) {
    let j = label - low;
    if j < k {
        columns[j * 64u + lane] = plus(columns[j * 64u + lane], value);
        if lane == 0u {
            sizes[j] += 1u;
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let lane = local.x;
    let d = group.y * 64u + lane;
    let begin = params.segment + group.x * params.stretch;
    let end = min(begin + params.stretch, params.n);
    let row = begin / params.stretch * params.total;
    var origin = (d * params.stride + group.x * params.stretch) / 4u;
    if params.groups == 0u {
        if d < params.dims {
            var sum = vec2(0.0);
            for (var i = begin; i < end; i += 4u) {
                // Padding is zero.
                let x = vec4<f32>(points[origin]);
                sum = plus(sum, x.x);
                sum = plus(sum, x.y);
                sum = plus(sum, x.z);
                sum = plus(sum, x.w);
                origin += 1u;
            }
            sums[row * params.dims + d] = sum;
        }
        return;
    }
    let r = group.z / params.groups;
    let low = group.z % params.groups * GROUP;
    if runs[r].live == 0u || low >= runs[r].k {
        return;
    }
    let k = min(runs[r].k - low, GROUP);
    for (var j = 0u; j < k; j++) {
        columns[j * 64u + lane] = vec2(0.0);
        if lane == 0u {
            sizes[j] = 0u;
        }
    }
    let inside = d < params.dims;
    for (var i = begin; i < end; i += 4u) {
        let label = labels[(r * params.label_stride + i) / 4u];
        var x = vec4(0.0);
        if inside {
            x = vec4<f32>(points[origin]);
        }
        origin += 1u;
        add(label.x, low, k, lane, x.x);
        // Labels of the padding are out of range.
        add(label.y, low, k, lane, x.y);
        add(label.z, low, k, lane, x.z);
        add(label.w, low, k, lane, x.w);
    }
    for (var j = 0u; j < k; j++) {
        let at = row + runs[r].first + low + j;
        if inside {
            sums[at * params.dims + d] = columns[j * 64u + lane];
        }
        if d == 0u {
            counts[at] = sizes[j];
        }
    }
}
