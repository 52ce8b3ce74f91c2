// A one-dimensional grid of workgroups, folded to two dimensions beyond 65,535 (the limit of each).
fn group_index(wid: vec3<u32>, count: vec3<u32>) -> u32 {
    return wid.x + wid.y * count.x;
}
