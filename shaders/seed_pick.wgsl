// The winner of one round of k-means++ becomes a seed, if it lies in this segment.
//
// binding  shape                  what
// 0        Params
// 1        [D, padded points]     points of one segment
// 2        [tiles]                best race of each tile and its point (race as bits of f32)
// 3        [most K, D]            seeds; row `round` is written
//
// `Stored` is f32, or f16 where features are stored so; arithmetic is in f32.
//
// workgroup: one of 64 threads.

struct Params {
    segment: u32,
    stride: u32,
    tiles: u32,
    dims: u32,
    round: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> points: array<Stored>;
@group(0) @binding(2) var<storage, read> winners: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> seeds: array<f32>;

const MOST = 3.4e38;

var<workgroup> races: array<f32, 64>;
var<workgroup> racers: array<u32, 64>;
var<workgroup> picked: u32;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_id) local: vec3<u32>) {
    var best = MOST;
    var winner = 0u;
    for (var t = local.x; t < params.tiles; t += 64u) {
        let race = bitcast<f32>(winners[t].x);
        if race < best {
            best = race;
            winner = winners[t].y;
        }
    }
    races[local.x] = best;
    racers[local.x] = winner;
    workgroupBarrier();
    if local.x == 0u {
        // Of equal races the lower point wins; point 0 when no point has any weight left.
        for (var t = 1u; t < 64u; t++) {
            if races[t] < best || (races[t] == best && best < MOST && racers[t] < winner) {
                best = races[t];
                winner = racers[t];
            }
        }
        picked = winner;
    }
    workgroupBarrier();
    let at = picked - params.segment;
    if at >= params.stride {
        return;
    }
    for (var d = local.x; d < params.dims; d += 64u) {
        seeds[params.round * params.dims + d] = f32(points[d * params.stride + at]);
    }
}
