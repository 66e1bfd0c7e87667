// An I420 picture to the network's input: resized by the antialiased triangle filter, R'G'B' clamped and normalised.
//
// Not part of the dense maths; for a network that runs on the same device.
//
// binding  shape                                      what
// 0        Params
// 1        [bytes / 4]                                Y, Cb and Cr after each other, rows without padding, four bytes in each u32
// 2        tables                                     per axis: first sample of each output, then its weights (bits of f32)
// 3        [3, height, width]                         normalised R'G'B', written; 0 where there is no picture
//
// workgroup: 8 x 8 threads, one pixel of the input each.

struct Params {
    width: u32,
    height: u32,
    // The resized picture, and which of its pixels is the first of the input.
    size_x: u32,
    size_y: u32,
    begin_x: i32,
    begin_y: i32,
    // First byte of each chroma plane, and samples in a row of luma and of chroma.
    cb: u32,
    cr: u32,
    luma_columns: u32,
    chroma_columns: u32,
    // Offsets into `tables` and samples per output: luma across and down, chroma across and down.
    luma_x: u32,
    luma_x_taps: u32,
    luma_y: u32,
    luma_y_taps: u32,
    chroma_x: u32,
    chroma_x_taps: u32,
    chroma_y: u32,
    chroma_y_taps: u32,
    // r = luma * y + r_v * v + offset_r, and so on; then value * gain + bias.
    luma: f32,
    r_v: f32,
    g_u: f32,
    g_v: f32,
    b_u: f32,
    offset_r: f32,
    offset_g: f32,
    offset_b: f32,
    gain_r: f32,
    gain_g: f32,
    gain_b: f32,
    bias_r: f32,
    bias_g: f32,
    bias_b: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> planes: array<u32>;
@group(0) @binding(2) var<storage, read> tables: array<u32>;
@group(0) @binding(3) var<storage, read_write> rgb: array<f32>;

// One axis of one plane at one output.
struct Axis {
    first: u32,
    taps: u32,
    // Where its weights begin.
    weights: u32,
}

fn axis(table: u32, taps: u32, outputs: u32, output: u32) -> Axis {
    return Axis(tables[table + output], taps, table + outputs + output * taps);
}

fn weight(axis: Axis, tap: u32) -> f32 {
    return bitcast<f32>(tables[axis.weights + tap]);
}

fn sample(byte: u32) -> f32 {
    return f32((planes[byte >> 2u] >> (8u * (byte & 3u))) & 255u);
}

fn filtered(plane: u32, columns: u32, across: Axis, down: Axis) -> f32 {
    var sum = 0.0;
    for (var x = 0u; x < across.taps; x++) {
        var column = 0.0;
        var byte = plane + down.first * columns + across.first + x;
        for (var y = 0u; y < down.taps; y++) {
            column += weight(down, y) * sample(byte);
            byte += columns;
        }
        sum += weight(across, x) * column;
    }
    return sum;
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    let at = id.y * params.width + id.x;
    let plane = params.width * params.height;
    let place = vec2<i32>(id.xy) + vec2(params.begin_x, params.begin_y);
    if any(place < vec2(0)) || any(place >= vec2(i32(params.size_x), i32(params.size_y))) {
        rgb[at] = 0.0;
        rgb[plane + at] = 0.0;
        rgb[2u * plane + at] = 0.0;
        return;
    }
    let to = vec2<u32>(place);
    let luma_across = axis(params.luma_x, params.luma_x_taps, params.size_x, to.x);
    let luma_down = axis(params.luma_y, params.luma_y_taps, params.size_y, to.y);
    let across = axis(params.chroma_x, params.chroma_x_taps, params.size_x, to.x);
    let down = axis(params.chroma_y, params.chroma_y_taps, params.size_y, to.y);
    let y = params.luma * filtered(0u, params.luma_columns, luma_across, luma_down);
    let u = filtered(params.cb, params.chroma_columns, across, down);
    let v = filtered(params.cr, params.chroma_columns, across, down);
    let r = y + params.r_v * v + params.offset_r;
    let g = y + params.g_u * u + params.g_v * v + params.offset_g;
    let b = y + params.b_u * u + params.offset_b;
    rgb[at] = clamp(r, 0.0, 1.0) * params.gain_r + params.bias_r;
    rgb[plane + at] = clamp(g, 0.0, 1.0) * params.gain_g + params.bias_g;
    rgb[2u * plane + at] = clamp(b, 0.0, 1.0) * params.gain_b + params.bias_b;
}
