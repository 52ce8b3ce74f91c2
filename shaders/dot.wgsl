// Sum of the products of two tensors, one partial sum per chunk of cells: y[chunk] = sum over the chunk of a * b.
// a, b one shape, Stored; y (chunks) f32. `row_sum` adds the chunks.
//
// Work: one workgroup per chunk.
// Cost: 2 FLOPs per element; reads a and b.

struct Params {
    cells: u32,
    chunk: u32,
    chunks: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Stored4>;
@group(0) @binding(1) var<storage, read> b: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let part = group_index(wid, count);
    if part >= p.chunks {
        return;
    }
    let last = min((part + 1u) * p.chunk, p.cells);
    // The padding is zero, so whole cells may be multiplied.
    var sum = vec4<f32>(0.0);
    for (var c = part * p.chunk + lid; c < last; c += WORKGROUP) {
        sum += unpack4(a[c]) * unpack4(b[c]);
    }
    let total = reduce_sum(lid, add4(sum));
    // The last chunk also writes the zero padding of the result.
    if lid == 0u || (part + 1u == p.chunks && part + lid < ((p.chunks + 3u) & ~3u)) {
        y[part + lid] = select(0.0, total, lid == 0u);
    }
}
