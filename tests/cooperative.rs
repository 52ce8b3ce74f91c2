//! Cooperative matrices: used where their test passes, refused where it does not, off where they are not wanted.

mod common;

use mmae::device::{ContextOptions, Epilogue, Matrix, Storage};
use mmae::kernels::ALL;
use mmae::kernels::matmul::{self, Batched, Matmul};
use mmae::kernels::matmul_cooperative::{self, KERNEL};
use mmae::kernels::matmul_plan::{Plan, Variant};
use mmae::kernels::samples;
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
    assert_eq!(context.matrix_verdict(), None, "the test ran before anybody asked");
    assert!(product_is_right(&context));
    println!("{:?} on {}", context.matrix_verdict(), context.capabilities().summary());
    assert_eq!(context.matrix_verdict(), Some(&Ok(())));
    assert!(takes_matrices(&context));
    assert!(context.counters().kernels.contains_key(KERNEL.name));
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
        assert!(matches!(context.matrix_verdict(), Some(Err(_))));
        assert!(!takes_matrices(&context));
        assert!(product_is_right(&context), "what takes its place is wrong");
        println!("{:?}", context.matrix_verdict());
    }
}

/// What GPUs list is 16x16x16. lavapipe lists 8x8x8 alone, but its compiler makes the other as well: the text for GPUs is
/// tried without one. Not in tests/kernels.rs, which also runs under the validation layer: that would rightly object.
#[test]
fn matrices_that_the_driver_does_not_list_match_the_twin() {
    let options = ContextOptions { unlisted_matrix: Some(Matrix::M16), ..Default::default() };
    let Some(context) = common::open(options) else { return };
    let entry = ALL.iter().find(|e| e.kernel.name == KERNEL.name).unwrap();
    if !common::runs(entry, &context, DType::F16) {
        return;
    }
    let cpu = Context::cpu();
    let wrong: Vec<_> = (entry.cases)()
        .iter()
        .flat_map(|case| {
            case.compare(&context, &cpu, DType::F16, 3).unwrap().into_iter().map(|w| (case.label.clone(), w))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn matrices_can_be_turned_off() {
    let Some(context) = device(true) else { return };
    assert_eq!(context.capabilities().matrix, None);
    assert!(product_is_right(&context));
    assert!(!takes_matrices(&context));
    assert_eq!(context.matrix_verdict(), None);
}
