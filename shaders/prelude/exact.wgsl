// Sums and products of f32 without what rounding takes: a value is a pair, the second of which holds what the first lacks.
//
// Stands before passes whose `params` have a `zero: u32`, which is always 0 and which the compiler does not know.

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

// The pair with one more value added.
fn plus(sum: vec2<f32>, value: f32) -> vec2<f32> {
    let next = two_sum(sum.x, value);
    return vec2(next.x, sum.y + next.y);
}

// The sum of two pairs.
fn plus_pair(sum: vec2<f32>, part: vec2<f32>) -> vec2<f32> {
    let next = two_sum(sum.x, part.x);
    return vec2(next.x, sum.y + next.y + part.y);
}

// The pair divided by n, rounded once.
fn divide(sum: vec2<f32>, n: f32) -> f32 {
    let q = opaque(sum.x / n);
    let p = two_product(q, n);
    return q + (((sum.x - p.x) - p.y) + sum.y) / n;
}

