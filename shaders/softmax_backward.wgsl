// Gradient of softmax: dx = y * (dy - sum(dy * y)). dy, y, dx (rows, width) Stored, y from the forward kernel.
//
// Work: ROW_LANES invocations per row, each with four cells at a time (parts/rows.wgsl). A row of at most four cells to a lane
// stays in registers between the two passes; a longer one is read twice, the second time from cache.
// Cost: 4 FLOPs per element; reads dy and y, writes dx.

struct Params {
    rows: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;
@group(0) @binding(1) var<storage, read> y: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> dx: array<Stored4>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;

// The padding of y is zero, and so are here its cells past the end of the row: they add nothing to the sum and make the padding of
// dx zero.
fn load_y(start: u32, c: u32) -> Four {
    let i = start + four_cells(c, ROW_LANES, p.cells);
    let live = select(vec4<f32>(0.0), vec4<f32>(1.0), vec4(c) + ROW_LANES * vec4(0u, 1u, 2u, 3u) < vec4(p.cells));
    return Four(live.x * unpack4(y[i.x]), live.y * unpack4(y[i.y]), live.z * unpack4(y[i.z]), live.w * unpack4(y[i.w]));
}

fn load_dy(start: u32, c: u32) -> Four {
    let i = start + four_cells(c, ROW_LANES, p.cells);
    return Four(unpack4(dy[i.x]), unpack4(dy[i.y]), unpack4(dy[i.z]), unpack4(dy[i.w]));
}

fn store(start: u32, c: u32, v: vec4<f32>) {
    if c < p.cells {
        dx[start + c] = pack4(v);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count) * (WORKGROUP / ROW_LANES) + lid / ROW_LANES;
    let lane = lid % ROW_LANES;
    // A row past the end reads the last one again: barriers need all invocations.
    let start = min(row, p.rows - 1u) * p.cells;
    var g = Four();
    var s = Four();
    var products = vec4<f32>(0.0);
    for (var c = lane; c < p.cells; c += 4u * ROW_LANES) {
        g = load_dy(start, c);
        s = load_y(start, c);
        products += (g.a * s.a + g.b * s.b) + (g.c * s.c + g.d * s.d);
    }
    let along = reduce_sum(lid, add4(products));
    if row >= p.rows {
        return;
    }
    for (var c = lane; c < p.cells; c += 4u * ROW_LANES) {
        if !HELD {
            g = load_dy(start, c);
            s = load_y(start, c);
        }
        store(start, c, s.a * (g.a - along));
        store(start, c + ROW_LANES, s.b * (g.b - along));
        store(start, c + 2u * ROW_LANES, s.c * (g.c - along));
        store(start, c + 3u * ROW_LANES, s.d * (g.d - along));
    }
}
