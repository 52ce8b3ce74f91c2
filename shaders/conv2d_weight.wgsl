// dW[o,c,i,j] = sum over (b,r,q) of g[b,o,r,q] x[b, c, r s + i - P, q s + j - P]: the gradient of conv2d's weight.
//
// x (B, C, H, W), g (B, O, H', W') the gradient of conv2d's output, dW F32 (O, C, h, w). For conv2d_transposed the roles
// change: x is the gradient of its output and g its input.
//
// Work: one invocation owns one cell of dW, four neighbouring weights of a row, and walks all of g.
// Cost: 2 B O H' W' C h w FLOPs; five reads per four multiply-adds, from caches.

override WORKGROUP: u32 = 64u;

struct Params {
    cells: u32,
    samples: u32,
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
@group(0) @binding(1) var<storage, read> grad: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;

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
    let weight_cells = (p.kernel_width + 3u) / 4u;
    let out_cells = (p.out_width + 3u) / 4u;
    let row_cells = (p.width + 3u) / 4u;
    let j = vec4(cell % weight_cells * 4u) + vec4(0u, 1u, 2u, 3u);
    let i = cell / weight_cells % p.kernel_height;
    let c = cell / weight_cells / p.kernel_height % p.channels;
    let o = cell / weight_cells / p.kernel_height / p.channels;
    var sum = vec4(0.0);
    for (var line = 0u; line < p.samples * p.out_height; line++) {
        let sample = line / p.out_height;
        let r = line % p.out_height;
        let row = r * p.stride + i - p.padding;
        if (row >= p.height) { continue; }
        let start = ((sample * p.channels + c) * p.height + row) * row_cells;
        let from_grad = ((sample * p.out_channels + o) * p.out_height + r) * out_cells;
        for (var q = 0u; q < p.out_width; q++) {
            let g = unpack4(grad[from_grad + q / 4u])[q % 4u];
            let left = vec4(q * p.stride - p.padding) + j;
            sum += g * vec4(x_at(start, left.x), x_at(start, left.y), x_at(start, left.z), x_at(start, left.w));
        }
    }
    weight[cell] = select(vec4(0.0), sum, j < vec4(p.kernel_width));
}
