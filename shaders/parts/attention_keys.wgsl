// What stands around the formula of attention's gradients of keys and values: how operands are loaded and results stored, and the
// keys and sums that an invocation keeps where it adds up the gradients of queries too. Bindings are those of
// attention_backward_key.

const QKV = 0u;
const GRAD = 1u;

// Where a query's row lies behind the first one, in do; three times as far in qkv. Past the end the last one repeats: it gets
// no weight.
fn place(query: u32) -> u32 { return min(query, p.tokens - 1u) * p.row; }

fn cell(operand: u32, place: u32, offset: u32) -> vec4<f32> {
    if (operand == QKV) { return unpack4(qkv[3u * place + offset]); }
    return unpack4(grad[place + offset]);
}

fn load(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(unpack4(qkv[at.x]), unpack4(qkv[at.y]), unpack4(qkv[at.z]), unpack4(qkv[at.w]));
}

fn store_cell(head: u32, key: u32, cell: u32, a: mat4x4<f32>, b: mat4x4<f32>) {
    if (cell >= p.cells || key >= p.tokens) { return; }
    let at = row_of(head, key, 3u, K) + 3u * p.row * vec4(0u, 1u, 2u, 3u) + cell;
    let next = at + p.row;
    dqkv[at.x] = pack4(a[0]); dqkv[next.x] = pack4(b[0]);
    if (key + 1u < p.tokens) { dqkv[at.y] = pack4(a[1]); dqkv[next.y] = pack4(b[1]); }
    if (key + 2u < p.tokens) { dqkv[at.z] = pack4(a[2]); dqkv[next.z] = pack4(b[2]); }
    if (key + 3u < p.tokens) { dqkv[at.w] = pack4(a[3]); dqkv[next.w] = pack4(b[3]); }
}

fn store(head: u32, key: u32, cell: u32, a: Quad, b: Quad) {
    store_cell(head, key, cell, a.a, b.a);
    store_cell(head, key, cell + 1u, a.b, b.b);
    store_cell(head, key, cell + 2u, a.c, b.c);
    store_cell(head, key, cell + 3u, a.d, b.d);
}

// One cell of 32 keys, four of each invocation.
struct Held { k0: mat4x4<f32>, k1: mat4x4<f32>, k2: mat4x4<f32>, k3: mat4x4<f32>,
    k4: mat4x4<f32>, k5: mat4x4<f32>, k6: mat4x4<f32>, k7: mat4x4<f32> }

fn hold(head: u32, key: u32, cell: u32) -> Held {
    let c = min(cell, p.cells - 1u);
    return Held(load(own_rows(head, key, 3u, K) + c), load(own_rows(head, key + 4u, 3u, K) + c),
        load(own_rows(head, key + 8u, 3u, K) + c), load(own_rows(head, key + 12u, 3u, K) + c),
        load(own_rows(head, key + 16u, 3u, K) + c), load(own_rows(head, key + 20u, 3u, K) + c),
        load(own_rows(head, key + 24u, 3u, K) + c), load(own_rows(head, key + 28u, 3u, K) + c));
}

// Two cells of the gradients of eight queries.
struct Sums { a: Two, b: Two }

fn add_two(sum: Two, x: Two, rows: mat4x4<f32>) -> Two { return Two(add(sum.low, x.low, rows), add(sum.high, x.high, rows)); }

fn grow(sum: Sums, x: Two, a: mat4x4<f32>, b: mat4x4<f32>) -> Sums { return Sums(add_two(sum.a, x, a), add_two(sum.b, x, b)); }
