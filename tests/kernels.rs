//! Every kernel against its twin: all cases, all storage parts, with poisoned buffers and guard words.

mod common;

use mmae::device::{ContextOptions, Part, Storage};
use mmae::kernels::{ALL, add};
use mmae::{Context, DType, Tensor};

fn parity(half: Storage, no_immediates: bool, dtypes: &[DType]) {
    let Some(gpu) = common::gpu(half, no_immediates) else { return };
    compare(&gpu, dtypes, |_| true);
}

fn compare(gpu: &Context, dtypes: &[DType], wanted: impl Fn(&str) -> bool) {
    println!("{}, halves {}", gpu.capabilities().summary(), gpu.capabilities().half.name());
    let cpu = Context::cpu();
    let mut failures = Vec::new();
    let mut run = 0;
    for entry in ALL.iter().filter(|e| common::selected(e.kernel.name) && wanted(e.kernel.name)) {
        for &dtype in dtypes {
            if dtype == DType::F16 && !entry.kernel.is_stored() && !entry.kernel.has_output()
                || !common::runs(entry, gpu, dtype)
            {
                continue;
            }
            for case in (entry.cases)() {
                run += 1;
                let label = format!("{} {} {dtype}", entry.kernel.name, case.label);
                match case.compare(gpu, &cpu, dtype, 3) {
                    Ok(wrong) => failures.extend(wrong.into_iter().map(|w| format!("{label}: {w}"))),
                    Err(error) => failures.push(format!("{label}: {error}")),
                }
            }
        }
    }
    println!("{run} comparisons");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn kernels_match_their_twins_in_f32_and_packed_halves() {
    parity(Storage::F16Packed, false, &[DType::F32, DType::F16]);
}

#[test]
fn kernels_match_their_twins_in_native_halves() {
    parity(Storage::F16Native, false, &[DType::F16]);
}

#[test]
fn kernels_match_their_twins_in_integer_halves() {
    parity(Storage::F16Integer, false, &[DType::F16]);
}

#[test]
fn kernels_match_their_twins_with_a_uniform_ring() {
    parity(Storage::F16Packed, true, &[DType::F32]);
}

/// Which bits a device gives to what is no number is its own choice; that it is seen is not.
#[test]
fn halves_that_are_no_numbers_stay_so_in_a_backward_pass() {
    for half in [Storage::F16Packed, Storage::F16Native, Storage::F16Integer] {
        let Some(gpu) = common::gpu(half, false) else { return };
        let twice = |values: &[f32]| {
            let x = Tensor::from_f32(&gpu, &[4], values, DType::F16).unwrap();
            add::launch(&gpu, &x, &x).unwrap()
        };
        let sum = gpu.saturating(false, || {
            // Infinity less infinity is no number.
            let (a, b) = (twice(&[65504.0, 1.0, 2.0, -65504.0]), twice(&[-65504.0, 1.0, 2.0, 1.0]));
            add::launch(&gpu, &a, &b).unwrap().to_f32().unwrap()
        });
        let finite: Vec<_> = sum.iter().map(|v| v.is_finite().then_some(*v)).collect();
        assert_eq!(finite, [None, Some(4.0), Some(8.0), None], "{}: {sum:?}", half.name());
    }
}

#[test]
fn products_on_the_path_of_hardware_match_their_twins() {
    let options = ContextOptions { as_hardware: true, half: Some(Storage::F16Native), ..Default::default() };
    let Some(gpu) = common::open(options) else { return };
    compare(&gpu, &[DType::F32, DType::F16], |name| name == "matmul" || name.starts_with("patch_conv"));
    println!("cooperative matrices: {:?}", gpu.matrix_verdict("matmul_cooperative"));
}

#[test]
fn sums_over_subgroups_of_any_size_match_their_twins() {
    let Some(gpu) = common::open(ContextOptions { as_hardware: true, ..Default::default() }) else { return };
    println!("subgroups of {:?}", gpu.capabilities().subgroup_size);
    let reduces = |name: &str| ALL.iter().any(|e| e.kernel.name == name && e.kernel.parts.contains(&Part::Reduce));
    compare(&gpu, &[DType::F32, DType::F16], reduces);
}

#[test]
fn the_same_launch_gives_the_same_bytes() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let mut failures = Vec::new();
    for entry in ALL.iter().filter(|e| common::selected(e.kernel.name)) {
        let dtype = [DType::F32, DType::F16].into_iter().find(|&dtype| common::runs(entry, &gpu, dtype));
        for case in dtype.map_or_else(Vec::new, |_| (entry.cases)()) {
            let bytes = || {
                (case.run)(&gpu, dtype.unwrap_or(DType::F32))
                    .and_then(|all| all.iter().map(|t| t.to_bytes()).collect::<Result<Vec<_>, _>>())
            };
            match (bytes(), bytes()) {
                (Ok(a), Ok(b)) if a == b => {}
                (Ok(_), Ok(_)) => failures.push(format!("{} {}: bytes differ", entry.kernel.name, case.label)),
                (Err(e), _) | (_, Err(e)) => failures.push(format!("{} {}: {e}", entry.kernel.name, case.label)),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_kernel_has_cases_and_faults() {
    for entry in ALL {
        assert!(!(entry.cases)().is_empty(), "{} has no cases", entry.kernel.name);
        assert!(!entry.faults.is_empty(), "{} has no planted faults", entry.kernel.name);
    }
    assert!(ALL.windows(2).all(|pair| pair[0].kernel.name < pair[1].kernel.name), "ALL is not in alphabetical order");
}
