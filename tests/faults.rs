//! The checkers, checked: a wrong shader text must be objected to, and so must a wrong word behind a tensor.

mod common;

use mmae::device::Storage;
use mmae::kernels::{ALL, Tolerance};
use mmae::{Context, DType};

#[test]
fn planted_faults_are_caught() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    println!("{}", gpu.capabilities().summary());
    let cpu = Context::cpu();
    let mut missed = Vec::new();
    for entry in ALL.iter().filter(|e| common::selected(e.kernel.name)) {
        let Some(dtype) = [DType::F32, DType::F16].into_iter().find(|&dtype| common::runs(entry, &gpu, dtype)) else {
            continue;
        };
        for fault in entry.faults {
            let name = entry.kernel.name;
            if !entry.kernel.source.contains(fault.find) {
                missed.push(format!("{name}: {:?} is not in the shader", fault.find));
                continue;
            }
            gpu.plant_fault(Some((name, fault.find, fault.replace)));
            let mut caught = false;
            for case in (entry.cases)() {
                match case.compare(&gpu, &cpu, dtype, 1) {
                    Ok(wrong) => caught |= !wrong.is_empty(),
                    Err(error) => {
                        missed.push(format!("{name}: {:?} -> {:?} does not run: {error}", fault.find, fault.replace));
                        caught = true;
                    }
                }
                if caught {
                    break;
                }
            }
            if !caught {
                missed.push(format!("{name}: {:?} -> {:?} passes all cases", fault.find, fault.replace));
            }
        }
    }
    gpu.plant_fault(None);
    assert!(missed.is_empty(), "{} faults not caught:\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn tolerances_object_to_what_they_must() {
    let sum = Tolerance::sum(100);
    for (got, want, ok) in [
        (1.0, 1.0, true),
        (1.0, 1.001, false),
        (f32::NAN, 1.0, false),
        (1.0, f32::NAN, false),
        (f32::NAN, f32::NAN, true),
        (f32::INFINITY, 1.0, false),
        (f32::INFINITY, f32::INFINITY, true),
        (0.0, 1e-3, false),
    ] {
        assert_eq!(sum.accepts(got, want), ok, "{got} against {want}");
    }
    assert!(!Tolerance::exact().accepts(1.0, 1.000_000_1));
}
