// sum[c] = sum over (b, y, x) of image[b, c, y, x]: the bias gradient of a convolution.
//
// image (B, C, H, W), sum F32 (C).
//
// Work: one workgroup per cell of four channels; for each channel its 64 invocations walk the cells of the B planes in
// a fixed stride, then a tree over workgroup memory joins them: the same order on every run.
// Cost: one addition per value; reads the image once, writes C values.

override WORKGROUP: u32 = 64u;

struct Params {
    channels: u32,
    samples: u32,
    plane_cells: u32,
}

@group(0) @binding(0) var<storage, read> image: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> sum: array<vec4<f32>>;

// The part of one channel that falls to this invocation; channels in the padding have nothing.
fn channel(c: u32, lid: u32) -> f32 {
    if (c >= p.channels) { return 0.0; }
    var total = vec4(0.0);
    for (var b = 0u; b < p.samples; b++) {
        let plane = (b * p.channels + c) * p.plane_cells;
        for (var i = lid; i < p.plane_cells; i += WORKGROUP) { total += unpack4(image[plane + i]); }
    }
    return total.x + total.y + total.z + total.w;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let cell = group_index(wid, count);
    if (4u * cell >= p.channels) { return; }
    let x = reduce_sum(lid, channel(4u * cell, lid));
    let y = reduce_sum(lid, channel(4u * cell + 1u, lid));
    let z = reduce_sum(lid, channel(4u * cell + 2u, lid));
    let w = reduce_sum(lid, channel(4u * cell + 3u, lid));
    if (lid == 0u) { sum[cell] = vec4(x, y, z, w); }
}
