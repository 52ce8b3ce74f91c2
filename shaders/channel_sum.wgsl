// sum[b parts + i, c] = sum over part i of plane (b, c) of an image: the bias gradient of a convolution, before column_sum
// joins the parts of all samples.
//
// image (B, C, H, W), sum F32 (B parts, C).
//
// Work: one workgroup per part and cell of four channels; for each channel its 64 invocations walk the part's cells in a
// fixed stride, then a tree joins them: the same order on every run.
// Cost: one addition per value; reads the image once.

override WORKGROUP: u32 = 64u;

struct Params {
    channels: u32,
    samples: u32,
    plane_cells: u32,
    parts: u32,
    part_cells: u32,
}

@group(0) @binding(0) var<storage, read> image: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> sum: array<vec4<f32>>;

// What falls to this invocation of one channel's part; channels in the padding have nothing.
fn channel(b: u32, part: u32, c: u32, lid: u32) -> f32 {
    if (c >= p.channels) { return 0.0; }
    let plane = (b * p.channels + c) * p.plane_cells;
    let end = min((part + 1u) * p.part_cells, p.plane_cells);
    var total = vec4(0.0);
    for (var i = part * p.part_cells + lid; i < end; i += WORKGROUP) { total += unpack4(image[plane + i]); }
    return total.x + total.y + total.z + total.w;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let row = group / ((p.channels + 3u) / 4u);
    let c = group % ((p.channels + 3u) / 4u) * 4u;
    if (row >= p.samples * p.parts) { return; }
    let b = row / p.parts; let part = row % p.parts;
    let x = reduce_sum(lid, channel(b, part, c, lid));
    let y = reduce_sum(lid, channel(b, part, c + 1u, lid));
    let z = reduce_sum(lid, channel(b, part, c + 2u, lid));
    let w = reduce_sum(lid, channel(b, part, c + 3u, lid));
    if (lid == 0u) { sum[group] = vec4(x, y, z, w); }
}
