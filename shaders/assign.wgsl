// Nearest centroid of each point: x.c - |c|^2 / 2, largest wins, with the argmax fused, so that no distance is stored.
//
// Eight centroids at a time are held in workgroup memory, 64 dimensions at a time, for any K and D. A later centroid wins
// only by more than a margin, so that exact ties fall to the lower one whatever the rounding.
//
// binding  shape                      what
// 0        Params
// 1        [D, padded points / 4]     points of one segment
// 2        [total, D]                 centroids
// 3        [total]                    -|c|^2 / 2
// 4        [D + 1]                    mean; the last one is the mean squared length of the centred points
// 5        [N padded / 4]             squared lengths
// 6        [runs, N padded / 4]       labels, updated; the padding's are out of range
// 7        [runs, tiles]              (largest squared distance as bits of f32, its point, changed labels, 0), written
// 8        [runs]                     runs of K-Means
//
// workgroup: 64 threads, four points each; x: tile of 256 points of the segment, y: run. 2.5 KB of workgroup memory.

struct Params {
    segment: u32,
    stride: u32,
    n: u32,
    dims: u32,
    label_stride: u32,
    tiles: u32,
    // Share of the mean squared length that makes a tie.
    tie: f32,
    // 1: there are no labels yet, so all change.
    fresh: u32,
}

struct Run {
    k: u32,
    first: u32,
    live: u32,
    iterations: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> points: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> centroids: array<f32>;
@group(0) @binding(3) var<storage, read> offsets: array<f32>;
@group(0) @binding(4) var<storage, read> mean: array<f32>;
@group(0) @binding(5) var<storage, read> norms: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> labels: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> tiles: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read> runs: array<Run>;

const DEPTH = 64u;
const NONE = 0xffffffffu;
const LEAST = -3.4e38;

// Dimension by dimension, centroids 0..4 and 4..8 of the tile.
var<workgroup> low: array<vec4<f32>, 64>;
var<workgroup> high: array<vec4<f32>, 64>;
var<workgroup> farthest: array<vec2<u32>, 64>;
var<workgroup> changes: array<u32, 64>;

fn centroid(j: u32, k: u32, first: u32, d: u32) -> f32 {
    if j < k && d < params.dims {
        return centroids[(first + j) * params.dims + d];
    }
    return 0.0;
}

fn offset(j: u32, k: u32, first: u32) -> vec4<f32> {
    if j < k {
        return vec4(offsets[first + j]);
    }
    return vec4(LEAST);
}

struct Best {
    score: vec4<f32>,
    index: vec4<u32>,
}

fn better(best: Best, score: vec4<f32>, margin: f32, j: u32) -> Best {
    let wins = score > best.score + vec4(margin);
    return Best(select(best.score, score, wins), select(best.index, vec4(j), wins));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let run = runs[group.y];
    if run.live == 0u {
        return;
    }
    let lane = local.x;
    let quad = group.x * 64u + lane;
    let margin = params.tie * mean[params.dims];
    let quads = params.stride / 4u;
    var best = Best(vec4(LEAST), vec4(0u));
    for (var j = 0u; j < run.k; j += 8u) {
        var s0 = offset(j, run.k, run.first);
        var s1 = offset(j + 1u, run.k, run.first);
        var s2 = offset(j + 2u, run.k, run.first);
        var s3 = offset(j + 3u, run.k, run.first);
        var s4 = offset(j + 4u, run.k, run.first);
        var s5 = offset(j + 5u, run.k, run.first);
        var s6 = offset(j + 6u, run.k, run.first);
        var s7 = offset(j + 7u, run.k, run.first);
        for (var base = 0u; base < params.dims; base += DEPTH) {
            workgroupBarrier();
            let d = base + lane;
            low[lane] = vec4(
                centroid(j, run.k, run.first, d),
                centroid(j + 1u, run.k, run.first, d),
                centroid(j + 2u, run.k, run.first, d),
                centroid(j + 3u, run.k, run.first, d),
            );
            high[lane] = vec4(
                centroid(j + 4u, run.k, run.first, d),
                centroid(j + 5u, run.k, run.first, d),
                centroid(j + 6u, run.k, run.first, d),
                centroid(j + 7u, run.k, run.first, d),
            );
            workgroupBarrier();
            let depth = min(DEPTH, params.dims - base);
            var origin = base * quads + quad;
            for (var t = 0u; t < depth; t++) {
                let x = points[origin];
                let a = low[t];
                let b = high[t];
                s0 = fma(x, vec4(a.x), s0);
                s1 = fma(x, vec4(a.y), s1);
                s2 = fma(x, vec4(a.z), s2);
                s3 = fma(x, vec4(a.w), s3);
                s4 = fma(x, vec4(b.x), s4);
                s5 = fma(x, vec4(b.y), s5);
                s6 = fma(x, vec4(b.z), s6);
                s7 = fma(x, vec4(b.w), s7);
                origin += quads;
            }
        }
        best = better(best, s0, margin, j);
        best = better(best, s1, margin, j + 1u);
        best = better(best, s2, margin, j + 2u);
        best = better(best, s3, margin, j + 3u);
        best = better(best, s4, margin, j + 4u);
        best = better(best, s5, margin, j + 5u);
        best = better(best, s6, margin, j + 6u);
        best = better(best, s7, margin, j + 7u);
    }
    let i = params.segment + quad * 4u;
    let at = (group.y * params.label_stride + i) / 4u;
    let old = labels[at];
    let distance = norms[i / 4u] - 2.0 * best.score;
    var label = best.index;
    var far = vec2(0u, 0u);
    var changed = 0u;
    for (var p = 0u; p < 4u; p++) {
        if i + p >= params.n {
            label[p] = NONE;
            continue;
        }
        if params.fresh != 0u || label[p] != old[p] {
            changed += 1u;
        }
        // Distances are not negative here, so their bits sort as they do.
        if distance[p] > bitcast<f32>(far.x) {
            far = vec2(bitcast<u32>(distance[p]), i + p);
        }
    }
    labels[at] = label;
    farthest[lane] = far;
    changes[lane] = changed;
    workgroupBarrier();
    if lane == 0u {
        for (var t = 1u; t < 64u; t++) {
            if farthest[t].x > far.x {
                far = farthest[t];
            }
            changed += changes[t];
        }
        tiles[group.y * params.tiles + params.segment / 256u + group.x] = vec4(far, changed, 0u);
    }
}
