//! Cooperative matrices: used where their test passes, refused where it does not, off where they are not wanted.

mod common;

use mmae::device::{ContextOptions, Epilogue, Matrix, Storage};
use mmae::kernels::attention_backward_query::Inputs;
use mmae::kernels::attention_plan::Sizes;
use mmae::kernels::matmul::{self, Batched, Matmul};
use mmae::kernels::matmul_cooperative::{self, KERNEL};
use mmae::kernels::matmul_plan::{Plan, Variant};
use mmae::kernels::samples;
use mmae::kernels::{ALL, attention, attention_backward_key, attention_backward_query, attention_cooperative};
use mmae::{Context, DType};

/// A context that takes the path of hardware, or `None` (said) where the device has no cooperative matrices.
fn device(no_matrix: bool) -> Option<Context> {
    let half = Some(Storage::F16Native);
    let context = common::open(ContextOptions { as_hardware: true, no_matrix, half, ..Default::default() })?;
    if !no_matrix && context.capabilities().matrix.is_none() {
        println!("skipped: {} has no cooperative matrices", context.capabilities().summary());
        return None;
    }
    Some(context)
}

/// A product of 70 x 50 x 48 halves and whether it agrees with the twin.
fn product_is_right(context: &Context) -> bool {
    let run = |ctx: &Context| {
        let a = samples::normal(ctx, &[70, 48], DType::F16, 1)?;
        let b = samples::normal(ctx, &[48, 50], DType::F16, 2)?;
        matmul::launch(ctx, &Matmul::default(), &a, &b, DType::F32, Epilogue::None)?.to_f32()
    };
    let (got, want) = (run(context).unwrap(), run(&Context::cpu()).unwrap());
    got.iter().zip(&want).all(|(x, y)| (x - y).abs() < 1e-3)
}

fn takes_matrices(context: &Context) -> bool {
    let m = Batched { batches: 1, rows: 70, width: 50, inner: 48, ..Batched::default() };
    matches!(Plan::new(context, &m, DType::F16).variant, Variant::Cooperative(_))
}

#[test]
fn matrices_that_pass_their_test_are_used() {
    let Some(context) = device(false) else { return };
    assert_eq!(context.matrix_verdict(KERNEL.name), None, "the test ran before anybody asked");
    assert!(product_is_right(&context));
    println!("{:?} on {}", context.matrix_verdict(KERNEL.name), context.capabilities().summary());
    assert_eq!(context.matrix_verdict(KERNEL.name), Some(Ok(())));
    assert!(takes_matrices(&context));
    assert!(context.counters().kernels.contains_key(KERNEL.name));
}

#[test]
fn a_kernel_with_matrices_says_how_many_invocations_share_one() {
    let Some(context) = device(false) else { return };
    let has = context.capabilities();
    assert_eq!(context.matrix_subgroup(), has.matrices().map(|(_, lanes)| lanes), "{}", has.summary());
    assert_eq!(Context::cpu().matrix_subgroup(), None);
}

#[test]
fn a_wrong_result_of_the_test_is_refused() {
    for (find, replace) in [
        ("c31 = coopMultiplyAdd(n3, m1, c31)", "c31 = coopMultiplyAdd(n3, m0, c31)"),
        ("coopLoad<MatrixB>", "coopLoadT<MatrixB>"),
        ("fn main(", "fn not_main("),
    ] {
        let Some(context) = device(false) else { return };
        assert!(KERNEL.source.contains(find), "{find:?} is not in the shader");
        context.plant_fault(Some((KERNEL.name, find, replace)));
        assert!(!matmul_cooperative::available(&context), "{find:?} -> {replace:?} passed the test");
        assert!(matches!(context.matrix_verdict(KERNEL.name), Some(Err(_))));
        assert!(!takes_matrices(&context));
        assert!(product_is_right(&context), "what takes its place is wrong");
        println!("{:?}", context.matrix_verdict(KERNEL.name));
    }
}

/// What GPUs list is 16x16x16. lavapipe lists 8x8x8 alone, but its compiler makes the other as well: the texts for GPUs are
/// tried without one. Not in tests/kernels.rs, which also runs under the validation layer: that would rightly object.
#[test]
fn matrices_that_the_driver_does_not_list_match_the_twin() {
    let options = ContextOptions { unlisted_matrix: Some(Matrix::M16), ..Default::default() };
    let Some(context) = common::open(options) else { return };
    let cpu = Context::cpu();
    let mut wrong = Vec::new();
    for entry in ALL.iter().filter(|entry| entry.kernel.has_matrix()) {
        if !common::runs(entry, &context, DType::F16) {
            continue;
        }
        for case in (entry.cases)() {
            let found = case.compare(&context, &cpu, DType::F16, 3).unwrap();
            wrong.extend(found.into_iter().map(|w| format!("{} {}: {w}", entry.kernel.name, case.label)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// 40 tokens, 2 heads of 24 channels, in halves; whether attention and its gradients agree with the twins.
fn attention_is_right(context: &Context) -> bool {
    let run = |ctx: &Context| -> mmae::Result<Vec<Vec<f32>>> {
        let sizes = &Sizes { samples: 1, heads: 2, tokens: 40, width: 24 };
        let draw = |parts, seed| samples::normal(ctx, &sizes.rows(parts), DType::F16, seed);
        let (qkv, grad, dqkv) = (&draw(3, 1)?, &draw(1, 2)?, draw(3, 3)?);
        let (o, lse) = attention::launch(ctx, sizes, qkv, None)?;
        let inputs = Inputs { qkv, o: &o, grad, mask: None, lse: &lse };
        let delta = attention_backward_query::launch(ctx, sizes, &inputs, &dqkv)?;
        attention_backward_key::launch(ctx, sizes, &inputs, &delta, &dqkv)?;
        [o, dqkv].iter().map(|t| t.to_f32()).collect()
    };
    let (got, want) = (run(context).unwrap().concat(), run(&Context::cpu()).unwrap().concat());
    got.iter().zip(&want).all(|(x, y)| (x - y).abs() < 5e-3)
}

#[test]
fn attention_takes_matrices_that_pass_their_test_and_no_others() {
    let Some(context) = device(false) else { return };
    assert!(attention_is_right(&context));
    assert_eq!(context.matrix_verdict(attention_cooperative::KERNEL.name), Some(Ok(())));
    let kernels = context.counters().kernels;
    for entry in ALL.iter().filter(|e| e.kernel.name.starts_with("attention_cooperative")) {
        assert!(kernels.contains_key(entry.kernel.name), "{} did not run", entry.kernel.name);
        let Some(context) = device(false) else { return };
        let fault = entry.faults[0];
        context.plant_fault(Some((entry.kernel.name, fault.find, fault.replace)));
        assert!(!attention_cooperative::available(&context), "{fault:?} passed the test");
        assert!(attention_is_right(&context), "what takes its place is wrong");
    }
}

#[test]
fn matrices_can_be_turned_off() {
    let Some(context) = device(true) else { return };
    assert_eq!(context.capabilities().matrix, None);
    assert!(product_is_right(&context));
    assert!(!takes_matrices(&context));
    assert_eq!(context.matrix_verdict(KERNEL.name), None);
}

/// The step of the ladder, with matrices of the size that the driver lists, with mistakes planted in it, and of the other.
#[cfg(feature = "cli")]
#[test]
fn the_lesson_on_matrices_matches_the_twin_and_mistakes_in_it_do_not() {
    use mmae::bench::foreign::Foreign;
    use mmae::bench::ladder::STEPS;

    let step = STEPS.iter().find(|step| step.file.contains("cooperative")).expect("a step");
    // Not the place of a bias in a batch: cases with batches have a transposed B, which the text does not declare.
    let mistakes = [
        (" >= p.inner", " > 4u * p.inner"),
        ("coopLoadT<MatrixA>", "coopLoad<MatrixA>"),
        ("coopLoadT<MatrixB>", "coopLoad<MatrixB>"),
        ("coopMultiplyAdd(a1, b1, c11)", "coopMultiplyAdd(a1, b0, c11)"),
        ("&tiles[MATRIX * pitch_a]", "&tiles[0]"),
        ("y >= p.rows", "y > p.rows"),
    ];
    for unlisted_matrix in [None, Some(Matrix::M16)] {
        if device(false).is_none() {
            return;
        }
        let Some(context) = common::open(ContextOptions { unlisted_matrix, ..Default::default() }) else { return };
        assert_eq!(step.missing(&context), None);
        let parity = |name: &str, text: &str| {
            let text = Foreign::new(name, text, step.like).unwrap().on(context.capabilities()).unwrap();
            assert!(text.halves_only() && text.parity(&context, DType::F32).unwrap().covered == 0);
            text.parity(&context, DType::F16).unwrap()
        };
        let found = parity(step.file, step.text);
        println!("{} of {} cases, {:?}", found.covered, found.cases, context.capabilities().matrix);
        assert!(found.covered >= 3 && found.wrong.is_empty(), "{found:#?}");
        // The mistakes take as long each as the text: with the listed size they are enough.
        if unlisted_matrix.is_some() {
            continue;
        }
        // Pipelines are kept by the names of texts: one for each text.
        let missed = |(i, (find, replace)): &(usize, &(&str, &str))| {
            assert!(step.text.contains(find), "{find:?} is not in the text");
            parity(&format!("wrong_{i}.wgsl"), &step.text.replace(find, replace)).wrong.is_empty()
        };
        let missed: Vec<_> = mistakes.iter().enumerate().filter(missed).collect();
        assert!(missed.is_empty(), "not found: {missed:?}");
    }
}
