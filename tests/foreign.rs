//! Texts of the reader's own in the place of kernels: right ones agree with the twin in all test cases, wrong ones do not.
#![cfg(feature = "cli")]

mod common;

use mmae::DType;
use mmae::bench::foreign::{Foreign, likes};
use mmae::device::Storage;

/// The gradient of the queries, an invocation for each: every cell computes the slopes of all keys anew.
const BACKWARD_QUERY: &str = "\
@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> o: array<Stored4>;
@group(0) @binding(2) var<storage, read> grad: array<Stored4>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> dqkv: array<Stored4>;
@group(0) @binding(6) var<storage, read_write> delta: array<f32>;
override ROWS_PER_GROUP: u32 = 32u;
@compute @workgroup_size(ROWS_PER_GROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let head = group / p.tiles;
    let i = group % p.tiles * ROWS_PER_GROUP + lid;
    let padded = (p.tokens + 3u) & ~3u;
    if (head >= p.batches || i >= padded) { return; }
    if (i >= p.tokens) { delta[head * padded + i] = 0.0; return; }
    let q = row_of(head, i, 3u, Q);
    let g = row_of(head, i, 1u, 0u);
    var mean = 0.0;
    for (var c = 0u; c < p.cells; c++) { mean += dot(unpack4(o[g + c]), unpack4(grad[g + c])); }
    delta[head * padded + i] = mean;
    for (var cell = 0u; cell < p.cells; cell++) {
        var sum = vec4(0.0);
        for (var j = 0u; j < p.tokens; j++) {
            if (p.masked != 0u && mask[head / p.heads * padded + j] == 0.0) { continue; }
            let k = row_of(head, j, 3u, K);
            let v = row_of(head, j, 3u, V);
            var s = 0.0; var dp = 0.0;
            for (var c = 0u; c < p.cells; c++) {
                s += dot(unpack4(qkv[q + c]), unpack4(qkv[k + c]));
                dp += dot(unpack4(grad[g + c]), unpack4(qkv[v + c]));
            }
            sum += exp(s * p.scale - lse[head * padded + i]) * (dp - mean) * p.scale * unpack4(qkv[k + cell]);
        }
        dqkv[q + cell] = pack4(sum);
    }
}
";

/// GELU as it should be.
const GELU: &str = "\
// parts: grid gelu
struct Params {
    cells: u32,
}
@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;
override CELLS_PER_GROUP: u32 = 32u;
@compute @workgroup_size(CELLS_PER_GROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let i = group_index(wid, count) * CELLS_PER_GROUP + lid;
    if (i >= p.cells) { return; }
    y[i] = pack4(gelu4(unpack4(x[i])));
}
";

/// What runs past the end of a tensor is noticed, though bounds checks keep it inside the buffer and though arithmetic hands on the
/// bits of some numbers.
#[test]
fn a_text_without_bounds_is_noticed() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let loose = GELU.replace("if (i >= p.cells) { return; }", "");
    for (name, text, right) in [("tight.wgsl", GELU, true), ("loose.wgsl", &loose, false)] {
        let found = Foreign::new(name, text, "gelu").unwrap().parity(&gpu, DType::F32).unwrap();
        assert!(found.covered > 0 && found.wrong.is_empty() == right, "{name}: {found:?}");
        assert!(right || found.wrong.iter().any(|wrong| wrong.contains("behind its end")), "{name}: {found:?}");
    }
}

/// The same of workgroups whose size stands in an override, which wgpu does not look at.
#[test]
fn workgroups_beyond_the_device_are_refused() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let text = |lanes: u32| GELU.replace("= 32u", &format!("= {lanes}u"));
    let most = gpu.capabilities().workgroup_invocations;
    let on = |lanes| Foreign::new("wide.wgsl", &text(lanes), "gelu").and_then(|text| text.on(gpu.capabilities()));
    assert!(on(64).is_ok());
    let said = on(2 * most).map(|text| text.name).unwrap_err().to_string();
    assert!(said.contains(&format!("{} invocations", 2 * most)) && said.contains("wide.wgsl:8"), "{said}");
}

/// The gradients of keys and values in the same way.
const BACKWARD_KEY: &str = "\
@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(2) var<storage, read> grad: array<Stored4>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> dqkv: array<Stored4>;
@group(0) @binding(6) var<storage, read_write> delta: array<f32>;
override ROWS_PER_GROUP: u32 = 32u;
@compute @workgroup_size(ROWS_PER_GROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let head = group / p.tiles;
    let j = group % p.tiles * ROWS_PER_GROUP + lid;
    let padded = (p.tokens + 3u) & ~3u;
    if (head >= p.batches || j >= p.tokens) { return; }
    let k = row_of(head, j, 3u, K);
    let v = row_of(head, j, 3u, V);
    let live = p.masked == 0u || mask[head / p.heads * padded + j] != 0.0;
    for (var cell = 0u; cell < p.cells; cell++) {
        var dk = vec4(0.0); var dv = vec4(0.0);
        for (var i = 0u; i < p.tokens; i++) {
            let q = row_of(head, i, 3u, Q);
            let g = row_of(head, i, 1u, 0u);
            var s = 0.0; var dp = 0.0;
            for (var c = 0u; c < p.cells; c++) {
                s += dot(unpack4(qkv[q + c]), unpack4(qkv[k + c]));
                dp += dot(unpack4(grad[g + c]), unpack4(qkv[v + c]));
            }
            let w = select(0.0, exp(s * p.scale - lse[head * padded + i]), live);
            dv += w * unpack4(grad[g + cell]);
            dk += w * (dp - delta[head * padded + i]) * p.scale * unpack4(qkv[q + cell]);
        }
        dqkv[k + cell] = pack4(dk);
        dqkv[v + cell] = pack4(dv);
    }
}
";

/// A kernel's own text with what a text of the reader's must declare besides.
fn own(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the text");
    text.replace(from, to)
}

/// For each kernel a text that is right, and a mistake in it.
fn texts() -> Vec<(&'static str, String, [&'static str; 2])> {
    let main = "@compute";
    let units = "CELLS_PER_GROUP";
    vec![
        ("adamw", own(include_str!("../shaders/adamw.wgsl"), "WORKGROUP", units), ["first / rest1", "first"]),
        ("ema", own(include_str!("../shaders/ema.wgsl"), "WORKGROUP", units), ["(1.0 - keep)", "keep"]),
        (
            "column_sum",
            own(include_str!("../shaders/column_sum.wgsl"), "WORKGROUP", units),
            ["first + p.chunk, p.repeats", "first + p.chunk - 1u, p.repeats"],
        ),
        (
            "masked_mse",
            own(include_str!("../shaders/masked_mse.wgsl"), main, "override CHUNKS_PER_GROUP: u32 = 1u;\n@compute"),
            ["squares += d * d", "squares += d"],
        ),
        (
            "cross_entropy",
            own(include_str!("../shaders/cross_entropy.wgsl"), main, "override ROWS_PER_GROUP: u32 = 1u;\n@compute"),
            ["highest + log(total)", "log(total)"],
        ),
        ("attention_backward_query", BACKWARD_QUERY.to_owned(), ["(dp - mean)", "dp"]),
        ("attention_backward_key", BACKWARD_KEY.to_owned(), ["dv += w *", "dv +="]),
    ]
}

#[test]
fn texts_stand_in_for_the_kernels_of_a_step_and_mistakes_in_them_are_found() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let mut wrong = Vec::new();
    for (like, text, [find, replace]) in texts() {
        assert!(likes().contains(&like) && text.contains(find), "{like}: {find:?}");
        for dtype in [DType::F32, DType::F16] {
            // Pipelines are kept by the names of texts: one for each text.
            let parity = |name: &str, text: &str| {
                Foreign::new(&format!("{name}_{like}.wgsl"), text, like).unwrap().parity(&gpu, dtype).unwrap()
            };
            let (right, mistaken) = (parity("right", &text), parity("wrong", &text.replace(find, replace)));
            if right.covered != right.cases || !right.wrong.is_empty() || mistaken.wrong.is_empty() {
                wrong.push((like, dtype, right, mistaken.wrong.len()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
