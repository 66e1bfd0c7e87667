// One round of k-means++: distance to the seed of the round before, then the race of this round.
//
// A point wins with probability proportional to its squared distance to the nearest seed when the smallest
// `Exp(1) / distance^2` wins, so that a reduction does what would otherwise take a prefix sum.
//
// binding  shape                      what
// 0        Params
// 1        [D, padded points / 4]     points of one segment
// 2        [most K, D]                seeds so far
// 3        [N padded / 4]             squared distance to the nearest seed, updated
// 4        [tiles]                    best race of each tile of 256 points and its point, written (race as bits of f32)
//
// `Stored` is f32, or f16 where features are stored so; arithmetic is in f32.
//
// workgroup: 64 threads, four points each.

struct Params {
    segment: u32,
    stride: u32,
    n: u32,
    dims: u32,
    round: u32,
    key: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> points: array<vec4<Stored>>;
@group(0) @binding(2) var<storage, read> seeds: array<f32>;
@group(0) @binding(3) var<storage, read_write> nearest: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> winners: array<vec2<u32>>;

const MOST = 3.4e38;

var<workgroup> races: array<f32, 64>;
var<workgroup> racers: array<u32, 64>;

fn mix_bits(value: u32) -> u32 {
    var x = value;
    x ^= x >> 16u;
    x *= 0x7feb352du;
    x ^= x >> 15u;
    x *= 0x846ca68bu;
    return x ^ (x >> 16u);
}

// A draw from Exp(1): -ln(1 - u), by the series of atanh around the exactly known 1 - u.
fn exponential(i: u32) -> f32 {
    let u = (f32(mix_bits(params.key ^ mix_bits(i)) >> 9u) + 0.5) * (1.0 / 8388608.0);
    let x = bitcast<u32>(1.0 - u);
    let halvings = 126 - i32(x >> 23u);
    let m = bitcast<f32>((x & 0x007fffffu) | 0x3f000000u);
    let t = (1.0 - m) / (1.0 + m);
    let s = t * t;
    let series = 1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0 + s * (1.0 / 9.0 + s * (1.0 / 11.0)))));
    return f32(halvings) * 0.6931471805599453 + 2.0 * t * series;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let quad = group.x * 64u + local.x;
    let i = params.segment + quad * 4u;
    var weight = vec4(1.0);
    if params.round > 0u {
        var distance = vec4(0.0);
        let row = (params.round - 1u) * params.dims;
        for (var d = 0u; d < params.dims; d++) {
            let t = vec4<f32>(points[d * params.stride / 4u + quad]) - vec4(seeds[row + d]);
            distance = fma(t, t, distance);
        }
        if params.round > 1u {
            distance = min(distance, nearest[i / 4u]);
        }
        nearest[i / 4u] = distance;
        weight = distance;
    }
    var best = MOST;
    var winner = 0u;
    for (var p = 0u; p < 4u; p++) {
        let w = weight[p];
        if w > 0.0 && i + p < params.n {
            let race = exponential(i + p) / w;
            if race < best {
                best = race;
                winner = i + p;
            }
        }
    }
    races[local.x] = best;
    racers[local.x] = winner;
    workgroupBarrier();
    if local.x == 0u {
        for (var t = 1u; t < 64u; t++) {
            if races[t] < best {
                best = races[t];
                winner = racers[t];
            }
        }
        winners[params.segment / 256u + group.x] = vec2(bitcast<u32>(best), winner);
    }
}
