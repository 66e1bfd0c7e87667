// One feature map onto the grid, each pixel's vector scaled to unit length (docs/method.md M2, M3).
//
// Runs once per feature map and band of grid rows; the bands keep the input within the binding limit.
//
// binding  shape                         what
// 0        Params
// 1        [channels, band height, w]    the map's rows that the band needs
// 2        tables                        first input and weights of each grid column and row (weights as bits of f32)
// 3        [D, padded points]            points of one segment, written at `channel..channel + channels`
//
// `Stored` is f32, or f16 where features are stored so; arithmetic is in f32.
//
// before it: prelude/exact.wgsl
// workgroup: 64 threads, one grid pixel each.

struct Params {
    // Grid pixels `begin..begin + count` are written; the segment's points start with pixel `segment`.
    begin: u32,
    count: u32,
    segment: u32,
    // Points of the segment, padding included.
    stride: u32,
    grid_width: u32,
    channels: u32,
    channel: u32,
    width: u32,
    band_height: u32,
    // First row of the map that the band holds.
    band_row: u32,
    // Offsets into `tables`, and inputs per output.
    x_start: u32,
    x_weight: u32,
    x_taps: u32,
    y_start: u32,
    y_weight: u32,
    y_taps: u32,
    unit_length: u32,
    // Of prelude/exact.wgsl.
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> map: array<Stored>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read_write> points: array<Stored>;

// Below this length a vector counts as zero and stays as it is.
const TINY = 1e-20;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.count {
        return;
    }
    let pixel = params.begin + id.x;
    let x = pixel % params.grid_width;
    let y = pixel / params.grid_width;
    let column = tables[params.x_start + x];
    let row = tables[params.y_start + y] - params.band_row;
    var to = params.channel * params.stride + pixel - params.segment;
    var squares = vec2(0.0);
    for (var c = 0u; c < params.channels; c++) {
        var value = 0.0;
        for (var ty = 0u; ty < params.y_taps; ty++) {
            let origin = (c * params.band_height + row + ty) * params.width + column;
            let y_weight = bitcast<f32>(tables[params.y_weight + y * params.y_taps + ty]);
            for (var tx = 0u; tx < params.x_taps; tx++) {
                value += y_weight * bitcast<f32>(tables[params.x_weight + x * params.x_taps + tx]) * f32(map[origin + tx]);
            }
        }
        points[to] = Stored(value);
        squares = plus_pair(squares, two_product(value, value));
        to += params.stride;
    }
    let length = sqrt(squares.x + squares.y);
    if params.unit_length == 0u || length <= TINY {
        return;
    }
    to = params.channel * params.stride + pixel - params.segment;
    for (var c = 0u; c < params.channels; c++) {
        points[to] = Stored(f32(points[to]) / length);
        to += params.stride;
    }
}
