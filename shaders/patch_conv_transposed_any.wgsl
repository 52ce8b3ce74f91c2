// Transposed patch convolution, kernel = stride = p, for every p:
// image[b, c, y p + i, x p + j] = sum over d of t[b,n,d] W[d,c,i,j] + bias[c], n = y (S/p) + x.
//
// t (B, N, D), W (D, C, p, p), bias (C), image (B, C, S, S). patch_conv_transposed does the same much faster where p is
// a multiple of 4; otherwise one cell of the image holds pixels of two or more patches, and no two invocations may
// write one cell.
//
// Work: one invocation owns one cell of the image and follows the patch of each of its four pixels.
// Cost: 2 B N D C p p FLOPs; reads 2 values per multiply-add (t four at a time), writes the image once.

override BIAS: bool = false;
override WORKGROUP: u32 = 64u;

struct Params {
    cells: u32,
    inner: u32,
    channels: u32,
    size: u32,
    side: u32,
    across: u32,
    down: u32,
}

@group(0) @binding(0) var<storage, read> tokens: array<Stored4>;
@group(0) @binding(1) var<storage, read> weight: array<Stored4>;
@group(0) @binding(2) var<storage, read> bias: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> image: array<Stored4>;

// The weight of one pixel of the patch at channel d of the tokens; past the end any other: the token is zero there.
fn weight_at(d: u32, line: u32, j: u32) -> f32 {
    let lines = p.channels * p.side;
    let at = (min(d, p.inner - 1u) * lines + line) * ((p.side + 3u) / 4u) + j / 4u;
    return unpack4(weight[at])[j % 4u];
}

fn pixel(plane: u32, y: u32, x: u32) -> f32 {
    if (x >= p.size) { return 0.0; }
    let token = (plane / p.channels * p.down + y / p.side) * p.across + x / p.side;
    let line = plane % p.channels * p.side + y % p.side;
    let j = x % p.side;
    let steps = (p.inner + 3u) / 4u;
    var sum = 0.0;
    for (var k = 0u; k < steps; k++) {
        let d = 4u * k;
        sum += dot(unpack4(tokens[token * steps + k]), vec4(weight_at(d, line, j), weight_at(d + 1u, line, j),
            weight_at(d + 2u, line, j), weight_at(d + 3u, line, j)));
    }
    if (BIAS) { sum += unpack4(bias[plane % p.channels / 4u])[plane % p.channels % 4u]; }
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let cell = group_index(wid, count) * WORKGROUP + lid;
    if (cell >= p.cells) { return; }
    let row_cells = (p.size + 3u) / 4u;
    let plane = cell / row_cells / p.size;
    let y = cell / row_cells % p.size;
    let x = cell % row_cells * 4u;
    image[cell] = pack4(vec4(pixel(plane, y, x), pixel(plane, y, x + 1u), pixel(plane, y, x + 2u),
        pixel(plane, y, x + 3u)));
}
