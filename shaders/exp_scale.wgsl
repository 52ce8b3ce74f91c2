// y = exp(s) * x, with s a learned scalar (the logarithm of a temperature's inverse).
// s () Stored; x, y any shape, Stored.
// Its own gradient with respect to x: dx = exp(s) * dy. That with respect to s is `dot`(dy, y).
//
// Work: one invocation per cell.
// Cost: 1 FLOP per element; reads x, writes y.

struct Params {
    cells: u32,
}

@group(0) @binding(0) var<storage, read> s: array<Stored4>;
@group(0) @binding(1) var<storage, read> x: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored4>;

override WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let index = group_index(wid, count) * WORKGROUP + lid;
    if index >= p.cells {
        return;
    }
    y[index] = pack4(exp(unpack4(s[0]).x) * unpack4(x[index]));
}
