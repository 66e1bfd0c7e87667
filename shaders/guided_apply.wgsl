// The score at four times the grid: slope times luma plus offset, both averaged over windows of 3x3 on twice the grid and
// doubled bilinearly with half-pixel centres and clamped edges.
//
// binding  shape               what
// 0        Params
// 1        [height, width]     slope and offset
// 2        [2 height, 2 width] luma, 0 black, 1 white
// 3        [2 height, 2 width] score, written
//
// workgroup: 8 x 8 threads, one pixel of the score each.

struct Params {
    height: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> lines: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> luma: array<f32>;
@group(0) @binding(3) var<storage, read_write> score: array<f32>;

// For a place in a doubled axis of `length` before: the place with weight 3/4 and the one with 1/4.
fn neighbours(place: u32, length: u32) -> vec2<u32> {
    let near = place / 2u;
    if place % 2u == 0u {
        return vec2(near, max(near, 1u) - 1u);
    }
    return vec2(near, min(near + 1u, length - 1u));
}

fn mean_at(x: u32, y: u32) -> vec2<f32> {
    var sum = vec2(0.0);
    for (var row = 0u; row < 3u; row++) {
        let at = (clamp(y + row, 1u, params.height) - 1u) * params.width;
        let left = lines[at + max(x, 1u) - 1u];
        let right = lines[at + min(x + 1u, params.width - 1u)];
        sum += (left + lines[at + x]) + right;
    }
    return sum * (1.0 / 9.0);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= 2u * params.width || id.y >= 2u * params.height {
        return;
    }
    let columns = neighbours(id.x, params.width);
    let rows = neighbours(id.y, params.height);
    let near = 0.75 * mean_at(columns.x, rows.x) + 0.25 * mean_at(columns.x, rows.y);
    let far = 0.75 * mean_at(columns.y, rows.x) + 0.25 * mean_at(columns.y, rows.y);
    let line = 0.75 * near + 0.25 * far;
    let at = id.y * 2u * params.width + id.x;
    score[at] = line.x * luma[at] + line.y;
}
