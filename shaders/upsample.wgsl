// The score at the frame's size, bilinear with half-pixel centres and clamped edges, and the mask (docs/method.md M9, M10).
//
// binding  shape                  what
// 0        Params
// 1        [h, w]                 score on the grid
// 2        tables                 per column, then per row: first of the two inputs, share of the second (bits of f32)
// 3        [height * width / 4]   score, written
// 4        [height * width / 4]   mask, four bytes of 0 or 1 in each u32, written
// 5        Frame
//
// workgroup: 64 threads, four pixels in a row of memory each; y counts groups of 65535 workgroups.

struct Params {
    grid_width: u32,
    width: u32,
    pixels: u32,
    x_table: u32,
    y_table: u32,
    // Step from the first input to the second: 0 where the grid has only one.
    x_step: u32,
    y_step: u32,
}

// What differs from frame to frame.
struct Frame {
    threshold: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grid: array<f32>;
@group(0) @binding(2) var<storage, read> tables: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> score: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> marks: array<u32>;
@group(0) @binding(5) var<uniform> frame: Frame;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let quad = (group.y * 65535u + group.x) * 64u + local.x;
    if quad * 4u >= params.pixels {
        return;
    }
    var values = vec4(0.0);
    var mask = 0u;
    for (var p = 0u; p < 4u; p++) {
        let i = quad * 4u + p;
        if i >= params.pixels {
            break;
        }
        let column = tables[params.x_table + i % params.width];
        let row = tables[params.y_table + i / params.width];
        let at = row.x * params.grid_width + column.x;
        let below = at + params.y_step * params.grid_width;
        let share = bitcast<f32>(column.y);
        let first = grid[at] + (grid[at + params.x_step] - grid[at]) * share;
        let second = grid[below] + (grid[below + params.x_step] - grid[below]) * share;
        let value = first + (second - first) * bitcast<f32>(row.y);
        values[p] = value;
        if value >= frame.threshold {
            mask |= 1u << (8u * p);
        }
    }
    score[quad] = values;
    marks[quad] = mask;
}
