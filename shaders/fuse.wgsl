// The score of each grid pixel: its own terms, the mean over its clusters of all runs, smoothing over time.
//
// binding  shape                what
// 0        Params
// 1        [runs]               runs of K-Means
// 2        [runs, N padded]     labels
// 3        [total]              (points, mean of cluster terms, .., ..), the last three as bits of f32
// 4        [N]                  (pixel terms, .., .., ..)
// 5        [N]                  score of the last frame
// 6        [N]                  score, written
//
// before it: prelude/run.wgsl
// workgroup: 64 threads, one pixel each.

struct Params {
    n: u32,
    label_stride: u32,
    runs: u32,
    // Share of the new score; 1 is no smoothing.
    share: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> runs: array<Run>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> clusters: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> statistics: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> last: array<f32>;
@group(0) @binding(6) var<storage, read_write> score: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i >= params.n {
        return;
    }
    var value = statistics[i].x;
    var sum = 0.0;
    for (var r = 0u; r < params.runs; r++) {
        sum += bitcast<f32>(clusters[runs[r].first + labels[r * params.label_stride + i]].y);
    }
    value += sum / f32(max(params.runs, 1u));
    if params.share < 1.0 {
        value = params.share * value + (1.0 - params.share) * last[i];
    }
    score[i] = value;
}
