// Which rows hold the same id: what the gradient of a table needs to add without atomics.
//   links[r] = (leads, next, id),  leads = 1 where id is in the table and no row before r holds it,
//                                  next = the first row after r that holds it, or `rows`
// ids u32 in groups of `group` per padded row; links (rows, 3) u32, one padded cell each.
//
// Work: one invocation per row; all of them read the same ids at the same time, four at once.
// Cost: rows^2 comparisons: little for a batch of text, whatever the size of the vocabulary.

struct Params {
    rows: u32,
    entries: u32,
    groups: u32,
    group: u32,
    group_cells: u32,
}

@group(0) @binding(0) var<storage, read> ids: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> links: array<vec4<u32>>;

override WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count) * WORKGROUP + lid;
    if row >= p.rows {
        return;
    }
    let own = row / p.group;
    let place = row - own * p.group;
    let id = ids[own * p.group_cells + place / 4u][place % 4u];

    var leads = id < p.entries;
    var next = p.rows;
    for (var g = 0u; g < p.groups; g += 1u) {
        for (var c = 0u; c < p.group_cells; c += 1u) {
            let places = vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u);
            // The padding of a group holds 0, which is an id too: it is left out.
            let same = (ids[g * p.group_cells + c] == vec4<u32>(id)) & (places < vec4<u32>(p.group));
            let rows = vec4<u32>(g * p.group) + places;
            leads = leads && !any(same & (rows < vec4<u32>(row)));
            let later = select(vec4<u32>(p.rows), rows, same & (rows > vec4<u32>(row)));
            next = min(next, min(min(later.x, later.y), min(later.z, later.w)));
        }
    }
    links[row] = vec4<u32>(select(0u, 1u, leads), next, id, 0u);
}
