// Gradient of the table: dtable[v, :] += sum over the rows r with ids[r] == v of dy[r, :], in the order of r.
// dy (rows, width) Stored; links (rows, 3) u32 from `embedding_links`: (leads, next, id); dtable (entries, width) f32.
//
// Work: one workgroup per row of dy. The first row that holds an id adds up all rows that hold it, and nobody else
// writes that row of the table: so no atomics are needed. Rows of the table that no id names are not touched, which
// is why the table is read and added to: a vocabulary is much larger than a batch of text.
// Cost: 1 FLOP per element of dy; reads dy, reads and writes the named rows of the table.

struct Params {
    rows: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;
@group(0) @binding(1) var<storage, read> links: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> dtable: array<vec4<f32>>;

override WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let first = group_index(wid, count);
    if first >= p.rows || links[first].x == 0u {
        return;
    }
    let start = links[first].z * p.cells;
    for (var c = lid; c < p.cells; c += WORKGROUP) {
        var sum = dtable[start + c];
        for (var row = first; row < p.rows; row = links[row].y) {
            sum += unpack4(dy[row * p.cells + c]);
        }
        dtable[start + c] = sum;
    }
}
