// y[b,o,r,q] = bias[o] + sum over (c,i,j) and input rows u, columns v with u s + i - P = r, v s + j - P = q of
// x[b,c,u,v] W[c,o,i,j]. Without a bias it is the gradient of conv2d's input, W being that one's weight.
//
// x (B, C, H, W), W (C, O, h, w), bias (O), y (B, O, H', W') with H' = (H - 1) s - 2 P + h + output padding, W' likewise;
// s stride, P padding.
//
// Work: one invocation owns one cell of y, four neighbours of a row. For each weight it asks whether the input position
// that would reach this pixel exists: gathering needs no atomics, scattering from x would.
// Cost: 2 B C H W O h w FLOPs useful, s^2 times as many tests; reads from caches.

override WORKGROUP: u32 = 64u;

struct Params {
    cells: u32,
    channels: u32,
    height: u32,
    width: u32,
    out_channels: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride: u32,
    padding: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> weight: array<Stored4>;
@group(0) @binding(2) var<storage, read> bias: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> y: array<Stored4>;

// The value that reaches a pixel through the tap whose distance is `ahead` = v s; zero where no such v exists. Negative
// distances wrap round to huge numbers, past the width.
fn x_at(cell: u32, ahead: u32) -> f32 {
    let v = ahead / p.stride;
    if (ahead % p.stride != 0u || v >= p.width) { return 0.0; }
    return unpack4(x[cell + v / 4u])[v % 4u];
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let cell = group_index(wid, count) * WORKGROUP + lid;
    if (cell >= p.cells) { return; }
    let out_cells = (p.out_width + 3u) / 4u;
    let row_cells = (p.width + 3u) / 4u;
    let weight_cells = (p.kernel_width + 3u) / 4u;
    let column = vec4(cell % out_cells * 4u) + vec4(0u, 1u, 2u, 3u);
    let right = column + vec4(p.padding);
    let bottom = cell / out_cells % p.out_height + p.padding;
    let o = cell / out_cells / p.out_height % p.out_channels;
    let sample = cell / out_cells / p.out_height / p.out_channels;
    var sum = vec4(unpack4(bias[o / 4u])[o % 4u]);
    for (var line = 0u; line < p.channels * p.kernel_height; line++) {
        let c = line / p.kernel_height;
        let i = line % p.kernel_height;
        let u = (bottom - i) / p.stride;
        if (i > bottom || (bottom - i) % p.stride != 0u || u >= p.height) { continue; }
        let start = ((sample * p.channels + c) * p.height + u) * row_cells;
        for (var j = 0u; j < p.kernel_width; j++) {
            let at = ((c * p.out_channels + o) * p.kernel_height + i) * weight_cells + j / 4u;
            let w = unpack4(weight[at])[j % 4u];
            sum += w * vec4(x_at(start, right.x - j), x_at(start, right.y - j), x_at(start, right.z - j),
                x_at(start, right.w - j));
        }
    }
    y[cell] = pack4(select(vec4(0.0), sum, column < vec4(p.out_width)));
}
