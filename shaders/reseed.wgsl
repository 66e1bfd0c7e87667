// An empty cluster takes the farthest point: the first empty one of a run the farthest of all tiles, the next the second.
//
// binding  shape                  what
// 0        Params
// 1        [runs]                 runs of K-Means
// 2        [total]                run of each cluster
// 3        [total]                points of each cluster
// 4        [runs, tiles]          (largest squared distance as bits of f32, its point, .., ..)
// 5        [D, padded points]     points of one segment
// 6        [D + 2]                the last but one is the mean squared length of the centred points
// 7        [total, D]             centroids, updated
// 8        [total]                -|c|^2 / 2, updated
//
// `Stored` is f32, or f16 where features are stored so; arithmetic is in f32.
//
// before it: prelude/run.wgsl
// workgroup: 64 threads for one cluster; nearly always there is nothing to do.

struct Params {
    segment: u32,
    stride: u32,
    dims: u32,
    tiles: u32,
    // Share of the mean squared length below which a point is as good as on its centroid.
    least: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> runs: array<Run>;
@group(0) @binding(2) var<storage, read> run_of: array<u32>;
@group(0) @binding(3) var<storage, read> sizes: array<u32>;
@group(0) @binding(4) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> points: array<Stored>;
@group(0) @binding(6) var<storage, read> mean: array<f32>;
@group(0) @binding(7) var<storage, read_write> centroids: array<f32>;
@group(0) @binding(8) var<storage, read_write> offsets: array<f32>;

var<workgroup> parts: array<f32, 64>;
var<workgroup> picked: u32;

// Whether a candidate comes before another: farther, or as far with a lower index.
fn before(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x > b.x || (a.x == b.x && a.y < b.y);
}

// The candidate of rank `rank`, 0 the farthest, or one without distance when there are too few.
fn candidate(r: u32, rank: u32) -> vec2<u32> {
    var last = vec2(0xffffffffu, 0u);
    for (var i = 0u; i <= rank; i++) {
        var next = vec2(0u, 0xffffffffu);
        for (var t = 0u; t < params.tiles; t++) {
            let c = tiles[r * params.tiles + t].xy;
            if before(last, c) && before(c, next) {
                next = c;
            }
        }
        last = next;
    }
    return last;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let j = group.x;
    let r = run_of[j];
    if runs[r].live == 0u || sizes[j] > 0u {
        return;
    }
    if local.x == 0u {
        var rank = 0u;
        for (var other = runs[r].first; other < j; other++) {
            if sizes[other] == 0u {
                rank += 1u;
            }
        }
        let c = candidate(r, rank);
        picked = 0xffffffffu;
        if bitcast<f32>(c.x) > params.least * mean[params.dims] {
            picked = c.y;
        }
    }
    workgroupBarrier();
    let at = picked - params.segment;
    if picked == 0xffffffffu || at >= params.stride {
        return;
    }
    var squares = 0.0;
    for (var d = local.x; d < params.dims; d += 64u) {
        let value = f32(points[d * params.stride + at]);
        centroids[j * params.dims + d] = value;
        squares = fma(value, value, squares);
    }
    parts[local.x] = squares;
    workgroupBarrier();
    if local.x == 0u {
        var sum = 0.0;
        for (var t = 0u; t < 64u; t++) {
            sum += parts[t];
        }
        offsets[j] = -0.5 * sum;
    }
}
