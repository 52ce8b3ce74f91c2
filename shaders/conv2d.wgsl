// y[b,o,r,q] = bias[o] + sum over (c,i,j) of x[b, c, r s + i - P, q s + j - P] W[o,c,i,j], x = 0 outside the image.
//
// x (B, C, H, W), W (O, C, h, w), bias (O), y (B, O, H', W') with H' = (H + 2 P - h) / s + 1, W' likewise; s stride,
// P padding. The general and slow convolution: patch_conv is the fast one for kernel = stride.
//
// Work: one invocation owns one cell of y, four neighbours of a row; the sum runs channel by channel, row by row.
// Cost: 2 B O H' W' C h w FLOPs; about two reads per multiply-add, from caches.

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

// One value of a row that starts at `cell`; zero outside the image. Columns left of it wrap round to huge numbers.
fn x_at(cell: u32, column: u32) -> f32 {
    if (column >= p.width) { return 0.0; }
    return unpack4(x[cell + column / 4u])[column % 4u];
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
    let left = column * p.stride - vec4(p.padding);
    let top = cell / out_cells % p.out_height * p.stride - p.padding;
    let o = cell / out_cells / p.out_height % p.out_channels;
    let sample = cell / out_cells / p.out_height / p.out_channels;
    var sum = vec4(unpack4(bias[o / 4u])[o % 4u]);
    for (var line = 0u; line < p.channels * p.kernel_height; line++) {
        let c = line / p.kernel_height;
        let row = top + line % p.kernel_height;
        if (row >= p.height) { continue; }
        let start = ((sample * p.channels + c) * p.height + row) * row_cells;
        for (var j = 0u; j < p.kernel_width; j++) {
            let at = (o * p.channels * p.kernel_height + line) * weight_cells + j / 4u;
            let w = unpack4(weight[at])[j % 4u];
            sum += w * vec4(x_at(start, left.x + j), x_at(start, left.y + j), x_at(start, left.z + j),
                x_at(start, left.w + j));
        }
    }
    y[cell] = pack4(select(vec4(0.0), sum, column < vec4(p.out_width)));
}
