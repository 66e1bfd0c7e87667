// Nearest centroid of each point: x.c - |c|^2 / 2, largest wins, with the argmax fused, so that no distance is stored.
//
// Eight centroids at a time are held in workgroup memory, 64 dimensions at a time, for any K and D. Where the two best are
// so close that rounding would decide between them, they are compared again with pairs of f32; exact ties fall to the lower.
//
// binding  shape                      what
// 0        Params
// 1        [D, padded points / 4]     points of one segment
// 2        [total, D]                 centroids
// 3        [total]                    -|c|^2 / 2
// 4        [D + 2]                    mean; then the mean squared length of the centred points, and the share that is close
// 5        [N padded / 4]             squared lengths
// 6        [runs, N padded / 4]       labels, updated; the padding's are out of range
// 7        [runs, tiles]              (largest squared distance as bits of f32, its point, changed labels, 0), written
// 8        [runs]                     runs of K-Means
//
// `Stored` is f32, or f16 where features are stored so; arithmetic is in f32.
//
// before it: prelude/exact.wgsl, prelude/run.wgsl
// workgroup: 64 threads, four points each; x: tile of 256 points of the segment, y: run. 2.5 KB of workgroup memory.

struct Params {
    segment: u32,
    stride: u32,
    n: u32,
    dims: u32,
    label_stride: u32,
    tiles: u32,
    // Share of the squared lengths by which the higher of two close centroids must be nearer.
    tie: f32,
    // 1: there are no labels yet, so all change.
    fresh: u32,
    // Of prelude/exact.wgsl.
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> points: array<vec4<Stored>>;
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

// Products of four points with eight centroids.
struct Sums {
    s0: vec4<f32>,
    s1: vec4<f32>,
    s2: vec4<f32>,
    s3: vec4<f32>,
    s4: vec4<f32>,
    s5: vec4<f32>,
    s6: vec4<f32>,
    s7: vec4<f32>,
}

fn add(sums: Sums, x: vec4<f32>, t: u32) -> Sums {
    let a = low[t];
    let b = high[t];
    return Sums(
        fma(x, vec4(a.x), sums.s0),
        fma(x, vec4(a.y), sums.s1),
        fma(x, vec4(a.z), sums.s2),
        fma(x, vec4(a.w), sums.s3),
        fma(x, vec4(b.x), sums.s4),
        fma(x, vec4(b.y), sums.s5),
        fma(x, vec4(b.z), sums.s6),
        fma(x, vec4(b.w), sums.s7),
    );
}

struct Best {
    score: vec4<f32>,
    index: vec4<u32>,
    // The second best.
    second: vec4<f32>,
    runner_up: vec4<u32>,
}

fn better(best: Best, score: vec4<f32>, j: u32) -> Best {
    let wins = score > best.score;
    let places = score > best.second;
    return Best(
        select(best.score, score, wins),
        select(best.index, vec4(j), wins),
        select(select(best.second, score, places), best.score, wins),
        select(select(best.runner_up, vec4(j), places), best.index, wins),
    );
}

// |x - a|^2 - |x - b|^2 = sum of (a - b)(a + b - 2 x), in pairs of f32.
fn difference(a: u32, b: u32, quad: u32, p: u32) -> f32 {
    var sum = vec2(0.0);
    for (var d = 0u; d < params.dims; d++) {
        let ca = centroids[a * params.dims + d];
        let cb = centroids[b * params.dims + d];
        let u = two_sum(ca, -cb);
        let v = two_sum(ca, cb);
        var w = two_sum(v.x, -2.0 * f32(points[d * params.stride / 4u + quad][p]));
        w.y += v.y;
        let product = two_product(u.x, w.x);
        sum = plus_pair(sum, vec2(product.x, product.y + (u.x * w.y + u.y * w.x)));
    }
    return sum.x + sum.y;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let run = runs[group.y];
    if run.live == 0u {
        return;
    }
    let lane = local.x;
    let quad = group.x * 64u + lane;
    let quads = params.stride / 4u;
    var best = Best(vec4(LEAST), vec4(0u), vec4(LEAST), vec4(0u));
    for (var j = 0u; j < run.k; j += 8u) {
        var sums = Sums(
            offset(j, run.k, run.first),
            offset(j + 1u, run.k, run.first),
            offset(j + 2u, run.k, run.first),
            offset(j + 3u, run.k, run.first),
            offset(j + 4u, run.k, run.first),
            offset(j + 5u, run.k, run.first),
            offset(j + 6u, run.k, run.first),
            offset(j + 7u, run.k, run.first),
        );
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
            // Eight dimensions a turn; those past the last one meet centroids of zero.
            var at = base * quads + quad;
            for (var t = 0u; t < depth; t += 8u) {
                sums = add(sums, vec4<f32>(points[at]), t);
                sums = add(sums, vec4<f32>(points[at + quads]), t + 1u);
                sums = add(sums, vec4<f32>(points[at + 2u * quads]), t + 2u);
                sums = add(sums, vec4<f32>(points[at + 3u * quads]), t + 3u);
                sums = add(sums, vec4<f32>(points[at + 4u * quads]), t + 4u);
                sums = add(sums, vec4<f32>(points[at + 5u * quads]), t + 5u);
                sums = add(sums, vec4<f32>(points[at + 6u * quads]), t + 6u);
                sums = add(sums, vec4<f32>(points[at + 7u * quads]), t + 7u);
                at += 8u * quads;
            }
        }
        best = better(best, sums.s0, j);
        best = better(best, sums.s1, j + 1u);
        best = better(best, sums.s2, j + 2u);
        best = better(best, sums.s3, j + 3u);
        best = better(best, sums.s4, j + 4u);
        best = better(best, sums.s5, j + 5u);
        best = better(best, sums.s6, j + 6u);
        best = better(best, sums.s7, j + 7u);
    }
    let i = params.segment + quad * 4u;
    let place = (group.y * params.label_stride + i) / 4u;
    let old = labels[place];
    let distance = norms[i / 4u] - 2.0 * best.score;
    let scale = norms[i / 4u] + vec4(mean[params.dims]);
    let close = best.second > best.score - mean[params.dims + 1u] * scale;
    var label = best.index;
    var far = vec2(0u, 0u);
    var changed = 0u;
    for (var p = 0u; p < 4u; p++) {
        if i + p >= params.n {
            label[p] = NONE;
            continue;
        }
        if close[p] {
            let a = min(best.index[p], best.runner_up[p]);
            let b = max(best.index[p], best.runner_up[p]);
            label[p] = select(a, b, difference(run.first + a, run.first + b, quad, p) > params.tie * scale[p]);
        }
        if params.fresh != 0u || label[p] != old[p] {
            changed += 1u;
        }
        // Distances are not negative here, so their bits sort as they do.
        if distance[p] > bitcast<f32>(far.x) {
            far = vec2(bitcast<u32>(distance[p]), i + p);
        }
    }
    labels[place] = label;
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
