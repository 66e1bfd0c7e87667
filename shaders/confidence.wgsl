// Statistics of the logits on the grid, blended into what is scored per pixel and what is averaged per cluster.
//
// Runs once per band of grid rows; the bands keep the input within the binding limit.
//
// binding  shape                   what
// 0        Params
// 1        [C, band height, w]     the rows of the logits that the band needs
// 2        tables                  first input and weights of each grid column and row (weights as bits of f32)
// 3        [N]                     (pixel terms, cluster terms, max logit, 0) of each grid pixel, written
//
// workgroup: 64 threads, one grid pixel each.

struct Params {
    // Coefficients of msp, max-logit, entropy and energy, and the constants.
    pixel: vec4<f32>,
    cluster: vec4<f32>,
    // Coefficients of rba and no-object, per pixel and per cluster.
    queries: vec4<f32>,
    pixel_constant: f32,
    cluster_constant: f32,
    begin: u32,
    count: u32,
    grid_width: u32,
    classes: u32,
    width: u32,
    band_height: u32,
    band_row: u32,
    softmax: u32,
    x_start: u32,
    x_weight: u32,
    x_taps: u32,
    y_start: u32,
    y_weight: u32,
    y_taps: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read_write> statistics: array<vec4<f32>>;

fn logit(c: u32, x: u32, y: u32) -> f32 {
    let column = tables[params.x_start + x];
    let row = tables[params.y_start + y] - params.band_row;
    var value = 0.0;
    for (var ty = 0u; ty < params.y_taps; ty++) {
        let origin = (c * params.band_height + row + ty) * params.width + column;
        let y_weight = bitcast<f32>(tables[params.y_weight + y * params.y_taps + ty]);
        for (var tx = 0u; tx < params.x_taps; tx++) {
            value += y_weight * bitcast<f32>(tables[params.x_weight + x * params.x_taps + tx]) * logits[origin + tx];
        }
    }
    return value;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.count {
        return;
    }
    let i = params.begin + id.x;
    let x = i % params.grid_width;
    let y = i / params.grid_width;
    var top = logit(0u, x, y);
    for (var c = 1u; c < params.classes; c++) {
        top = max(top, logit(c, x, y));
    }
    var values = vec4(0.0, -top, 0.0, -top);
    if params.softmax != 0u {
        // Sums of exp(l - max) and of (l - max) exp(l - max).
        var z = 0.0;
        var moment = 0.0;
        for (var c = 0u; c < params.classes; c++) {
            let below = logit(c, x, y) - top;
            let e = exp(below);
            z += e;
            moment += below * e;
        }
        values = vec4(-1.0 / z, -top, log(z) - moment / z, -top - log(z));
    }
    var query_terms = vec2(0.0);
    if any(params.queries != vec4(0.0)) {
        var claimed = 0.0;
        var accepted = 0.0;
        for (var c = 0u; c < params.classes; c++) {
            let share = logit(c, x, y);
            claimed += share;
            // tanh by an exponential that cannot overflow.
            let e = exp(-2.0 * abs(share));
            accepted += sign(share) * (1.0 - e) / (1.0 + e);
        }
        let found = vec2(-accepted, 1.0 - claimed);
        query_terms = vec2(dot(params.queries.xy, found), dot(params.queries.zw, found));
    }
    statistics[i] = vec4(
        dot(params.pixel, values) + params.pixel_constant + query_terms.x,
        dot(params.cluster, values) + params.cluster_constant + query_terms.y,
        top,
        0.0,
    );
}
