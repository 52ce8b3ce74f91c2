// o . do of rows: the sum over all keys of P dP, without a pass over them. o and grad are the kernel's bindings.

fn load_grad(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(unpack4(grad[at.x]), unpack4(grad[at.y]), unpack4(grad[at.z]), unpack4(grad[at.w]));
}

// Of four rows.
fn deltas(rows: vec4<u32>) -> vec4<f32> {
    var sum = mat4x4<f32>();
    for (var cell = 0u; cell < p.cells; cell++) {
        let at = rows + cell; let g = load_grad(at);
        sum += mat4x4(unpack4(o[at.x]) * g[0], unpack4(o[at.y]) * g[1], unpack4(o[at.z]) * g[2], unpack4(o[at.w]) * g[3]);
    }
    return vec4(1.0) * sum;
}
