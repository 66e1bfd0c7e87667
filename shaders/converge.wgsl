// Counts an iteration of each live run, and ends the run when hardly any label has changed.
//
// binding  shape             what
// 0        Params
// 1        [runs, tiles]     (.., .., changed labels, ..)
// 2        [runs]            runs of K-Means, updated
//
// before it: prelude/run.wgsl
// workgroup: 64 threads for one run.

struct Params {
    tiles: u32,
    // The run ends when no more labels than this have changed.
    converged: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> runs: array<Run>;

var<workgroup> parts: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    var changed = 0u;
    for (var t = local.x; t < params.tiles; t += 64u) {
        changed += tiles[group.x * params.tiles + t].z;
    }
    parts[local.x] = changed;
    workgroupBarrier();
    if local.x == 0u && runs[group.x].live != 0u {
        for (var t = 1u; t < 64u; t++) {
            changed += parts[t];
        }
        runs[group.x].iterations += 1u;
        if changed <= params.converged {
            runs[group.x].live = 0u;
        }
    }
}
