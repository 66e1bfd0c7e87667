// The mean of all points from the sums of the stretches.
//
// binding  shape              what
// 0        Params
// 1        [stretches, D]     sums as pairs
// 2        [D + 2]            mean, written; the last two are left to spread.wgsl
//
// workgroup: 64 threads, one dimension each.

struct Params {
    n: u32,
    dims: u32,
    stretches: u32,
    // Always 0, which the compiler does not know.
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sums: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> mean: array<f32>;

// Keeps a compiler from simplifying what rounding takes to nothing, as some do without asking.
fn opaque(value: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(value) ^ params.zero);
}

// a + b as a rounded sum and what rounding took.
fn two_sum(a: f32, b: f32) -> vec2<f32> {
    let s = opaque(a + b);
    let t = opaque(s - a);
    return vec2(s, (a - (s - t)) + (b - t));
}

// a * b as a rounded product and what rounding took; halves of 12 bits multiply without rounding, with FMA or without.
fn two_product(a: f32, b: f32) -> vec2<f32> {
    let p = opaque(a * b);
    let ah = bitcast<f32>(bitcast<u32>(a) & 0xfffff000u);
    let bh = bitcast<f32>(bitcast<u32>(b) & 0xfffff000u);
    let al = a - ah;
    let bl = b - bh;
    return vec2(p, ((ah * bh - p) + ah * bl + al * bh) + al * bl);
}

// The pair divided by n, rounded once.
fn divide(sum: vec2<f32>, n: f32) -> f32 {
    let q = opaque(sum.x / n);
    let p = two_product(q, n);
    return q + (((sum.x - p.x) - p.y) + sum.y) / n;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let d = id.x;
    if d >= params.dims {
        return;
    }
    var sum = vec2(0.0);
    for (var s = 0u; s < params.stretches; s++) {
        let part = sums[s * params.dims + d];
        let next = two_sum(sum.x, part.x);
        sum = vec2(next.x, sum.y + next.y + part.y);
    }
    mean[d] = divide(sum, f32(params.n));
}
