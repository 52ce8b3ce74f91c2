// Gradient of the table: dtable[v, :] += sum over the rows r with ids[r] == v of dy[r, :], in the order of r.
// dy (groups * group, width) Stored; ids u32 in groups of `group` per padded row; dtable (entries, width) f32.
//
// Work: one workgroup per row r. Only the first row that holds an id works, and adds up all rows that hold the same id:
// so nobody else writes that table row, and no atomics are needed. Rows of the table that no id names are not touched,
// which is why the table is read and added to: a vocabulary is much larger than a batch of text.
// Cost: every row scans all ids (4 at a time), then 1 FLOP per element of dy.

struct Params {
    groups: u32,
    group: u32,
    group_cells: u32,
    entries: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;
@group(0) @binding(1) var<storage, read> ids: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> dtable: array<vec4<f32>>;

override WORKGROUP: u32 = 64u;

// dy where the id at this place is the wanted one. The padding of a group holds 0, which is an id too: it is left out.
fn matching(id: u32, found: u32, group: u32, place: u32, cell: u32) -> vec4<f32> {
    if found != id || place >= p.group {
        return vec4<f32>(0.0);
    }
    return unpack4(dy[(group * p.group + place) * p.cells + cell]);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count);
    let own = row / p.group;
    if own >= p.groups {
        return;
    }
    let own_place = row - own * p.group;
    let id = ids[own * p.group_cells + own_place / 4u][own_place % 4u];
    if id >= p.entries {
        return;
    }
    for (var g = 0u; g <= own; g += 1u) {
        for (var i = 0u; i < p.group_cells; i += 1u) {
            let places = vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u);
            let before = places < vec4<u32>(select(p.group, own_place, g == own));
            if any((ids[g * p.group_cells + i] == vec4<u32>(id)) & before) {
                return;
            }
        }
    }
    for (var cell = lid; cell < p.cells; cell += WORKGROUP) {
        var sum = dtable[id * p.cells + cell];
        // No row before this one holds the id, so the search begins with this row's group.
        for (var g = own; g < p.groups; g += 1u) {
            for (var i = 0u; i < p.group_cells; i += 1u) {
                let found = ids[g * p.group_cells + i];
                if any(found == vec4<u32>(id)) {
                    sum += matching(id, found.x, g, 4u * i, cell);
                    sum += matching(id, found.y, g, 4u * i + 1u, cell);
                    sum += matching(id, found.z, g, 4u * i + 2u, cell);
                    sum += matching(id, found.w, g, 4u * i + 3u, cell);
                }
            }
        }
        dtable[id * p.cells + cell] = sum;
    }
}
