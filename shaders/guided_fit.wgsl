// The score as a linear function of the picture's luma, on twice the grid, by least squares over windows of 3x3: a fast
// guided filter (He and Sun, arXiv 1505.00996).
//
// binding  shape             what
// 0        Params
// 1        [h_0, w_0]        score on the grid, h_0 = height / 2, w_0 = width / 2
// 2        [4 h_0, 4 w_0]    luma, 0 black, 1 white
// 3        [height, width]   slope and offset, written
//
// workgroup: 8 x 8 threads, one pixel each.

struct Params {
    height: u32,
    width: u32,
    // Added to the variance of the luma.
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> grid: array<f32>;
@group(0) @binding(2) var<storage, read> luma: array<f32>;
@group(0) @binding(3) var<storage, read_write> lines: array<vec2<f32>>;

// For a place in a doubled axis of `length` before: the place with weight 3/4 and the one with 1/4.
fn neighbours(place: u32, length: u32) -> vec2<u32> {
    let near = place / 2u;
    if place % 2u == 0u {
        return vec2(near, max(near, 1u) - 1u);
    }
    return vec2(near, min(near + 1u, length - 1u));
}

fn mix_near(near: f32, far: f32) -> f32 {
    return 0.75 * near + 0.25 * far;
}

fn score_at(x: u32, y: u32) -> f32 {
    let width = params.width / 2u;
    let columns = neighbours(x, width);
    let rows = neighbours(y, params.height / 2u) * width;
    let near = mix_near(grid[rows.x + columns.x], grid[rows.y + columns.x]);
    let far = mix_near(grid[rows.x + columns.y], grid[rows.y + columns.y]);
    return mix_near(near, far);
}

fn luma_at(x: u32, y: u32) -> f32 {
    let width = 2u * params.width;
    let at = 2u * y * width + 2u * x;
    return 0.25 * ((luma[at] + luma[at + 1u]) + (luma[at + width] + luma[at + width + 1u]));
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= params.width || id.y >= params.height {
        return;
    }
    // Differences from the centre, as the variance of large values would drown in rounding.
    let centre = vec2(luma_at(id.x, id.y), score_at(id.x, id.y));
    var sum = vec2(0.0);
    var products = vec2(0.0);
    for (var row = 0u; row < 3u; row++) {
        let y = clamp(id.y + row, 1u, params.height) - 1u;
        for (var column = 0u; column < 3u; column++) {
            let x = clamp(id.x + column, 1u, params.width) - 1u;
            let d = vec2(luma_at(x, y), score_at(x, y)) - centre;
            sum += d;
            products += d.x * d;
        }
    }
    let mean = sum * (1.0 / 9.0);
    let spread = products * (1.0 / 9.0) - mean.x * mean;
    let slope = spread.y / (spread.x + params.epsilon);
    lines[id.y * params.width + id.x] = vec2(slope, (centre.y + mean.y) - slope * (centre.x + mean.x));
}
