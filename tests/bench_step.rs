//! `mmae bench step`: nothing is timed before it agrees with the twins, everything is a share of what the device can do, and
//! the wall will do where there are no timestamps. No test asks how long anything takes.
#![cfg(feature = "cli")]

mod common;

use std::process::{Command, Output, Stdio};
use std::time::Instant;

use mmae::bench::agreement::Agreement;
use mmae::bench::clock::Effort;
use mmae::bench::step::measure;
use mmae::device::{EpilogueKind, Launched, Storage};
use mmae::kernels::add;
use mmae::model::config::m2ae_tiny;
use mmae::train::config::{Precision, RunConfig};
use mmae::{Context, DType, Error, Tensor};
use serde_json::Value;

/// The tiniest step there is, measured as briefly as can be.
const TINIEST: [&str; 14] = [
    "bench",
    "step",
    "--model",
    "m2ae-tiny",
    "--batch",
    "2",
    "--set",
    "model.image_size=16",
    "--rounds",
    "3",
    "--round-ms",
    "1",
    "--set",
    "model.text_length=6",
];

fn mmae(more: &[&str]) -> Output {
    let args = [&TINIEST[..], more].concat();
    Command::new(env!("CARGO_BIN_EXE_mmae")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn report(more: &[&str]) -> Value {
    let output = mmae(&[more, &["--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn config(precision: Precision) -> RunConfig {
    let mut config = RunConfig::new(m2ae_tiny());
    (config.train.batch, config.train.precision) = (2, precision);
    config
}

#[test]
fn a_step_is_a_share_of_what_the_device_can_do() {
    let report = report(&["--device", "cpu"]);
    let step = &report["steps"][0];
    assert!(report["ceilings"]["fma"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!((report["schema"].as_u64(), report["calibration"].as_array().unwrap().len()), (Some(1), 2));
    let [least, roof, ms] = [&step["least_ms"], &step["roof"], &step["ms"]["median"]].map(|v| v.as_f64().unwrap());
    assert!(least > 0.0 && (roof * ms / least - 1.0).abs() < 1e-6, "{step}");
    assert_eq!(step["checked"], "the twins themselves");
    let said = text(&mmae(&["--device", "cpu"]).stdout);
    let lines = ["checked   ", "roof      ", "waiting for room", "multiply-add, registers", "matrices  none"];
    assert!(lines.iter().all(|line| said.contains(line)), "{said}");
}

#[test]
fn a_sweep_is_a_whole_report() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sweep.json");
    let sweep = ["--device", "cpu", "--sweep", "--max-batch", "2", "--max-seconds", "1"];
    let output = mmae(&[&sweep[..], &["--json", out.to_str().unwrap()]].concat());
    assert!(output.status.success() && text(&output.stdout).contains("exponent"), "{}", text(&output.stderr));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    for report in [file, report(&sweep)] {
        assert!(report["command"].as_str().unwrap().contains("--sweep"), "{report}");
        assert_eq!(report["device"]["adapter"], "cpu twins");
        assert_eq!(report["calibration"].as_array().unwrap().len(), 2, "{report}");
        let growths = report["growths"].as_array().unwrap();
        assert_eq!((&growths[0]["of"], &growths[1]["of"]), (&"samples".into(), &"tokens".into()));
        for point in growths.iter().flat_map(|growth| growth["points"].as_array().unwrap()) {
            assert!(point["ms"].as_f64().unwrap() > 0.0 && point["checked"] == "the twins themselves", "{point}");
        }
    }
    // What one machine wrote another reads.
    let file = out.to_str().unwrap();
    let compared = Command::new(env!("CARGO_BIN_EXE_mmae")).args(["bench", "--compare", file, file]).output().unwrap();
    let said = text(&compared.stdout);
    assert!(said.contains("step at 1 samples, ms") && said.contains("first step, ms"), "{said}");
}

#[test]
fn a_profile_goes_by_either_clock() {
    if common::gpu(Storage::F16Packed, false).is_none() {
        return;
    }
    for (wall, by) in [(false, "device"), (true, "wall")] {
        let report = report(if wall { &["--profile", "--wall"] } else { &["--profile"] });
        let has = report["device"]["features"].as_array().unwrap().contains(&"timestamps".into());
        if !wall && !has {
            continue;
        }
        let step = &report["steps"][0];
        assert!(step["checked"].as_str().unwrap().starts_with("3 steps against the twins at 2 samples"), "{step}");
        assert_eq!((has, step["gpu_ms"].is_null(), &step["kernels_by"]), (!wall, wall, &by.into()));
        let kernels = step["kernels"].as_array().unwrap();
        let sum = |field: &str| kernels.iter().map(|k| k[field].as_f64().unwrap()).sum::<f64>();
        assert!((sum("share") - 1.0).abs() < 1e-6 && sum("roof") > 0.0, "{kernels:?}");
        assert_eq!(sum("launches"), step["launches"].as_f64().unwrap());
        assert!(kernels.iter().all(|k| k["ms"].as_f64().unwrap() > 0.0), "{kernels:?}");
    }
    let said = text(&mmae(&["--profile", "--wall"]).stdout);
    assert!(said.contains("by the wall, for want of timestamps") && said.contains("clock     by the wall"), "{said}");
}

#[test]
fn the_twins_have_no_profile() {
    let output = mmae(&["--profile", "--device", "cpu"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("needs a device"), "{output:?}");
}

#[test]
fn kernels_are_measured_by_the_wall() {
    if common::gpu(Storage::F16Packed, false).is_none() {
        return;
    }
    let args =
        ["bench", "--wall", "--filter", "softmax", "--sizes", "tiny", "--rounds", "3", "--round-ms", "1", "--json"];
    let output = Command::new(env!("CARGO_BIN_EXE_mmae")).args(args).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = report["cases"].as_array().unwrap();
    assert!(!cases.is_empty() && output.status.success(), "{report}");
    for times in cases.iter().map(|case| &case["times"]) {
        assert!(times["gpu_ms"].is_null() && times["ms"] == times["wall_ms"], "{times}");
        assert!(times["ms"]["median"].as_f64().unwrap() > 0.0, "{times}");
    }
    assert!(report["calibration"][0]["launches_gpu"].is_null(), "{report}");
}

/// Kernels that compute something else make the step wrong, and a wrong step has no time.
#[test]
fn a_wrong_step_is_not_timed() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let effort = Effort { rounds: 3, least: 0.0 };
    let run = |precision, fault: Option<(&str, &str, &str)>| {
        gpu.plant_fault(fault);
        let found = measure(&gpu, &config(precision), "tiny", effort, Instant::now(), &mut Agreement::default());
        gpu.plant_fault(None);
        found
    };
    for precision in [Precision::F32, Precision::F16] {
        let (step, launches) = run(precision, None).unwrap();
        assert!(step.checked.contains("3 steps against the twins") && !launches.is_empty(), "{step:?}");
    }
    let mut missed = Vec::new();
    for fault in FAULTS {
        match run(Precision::F32, Some(fault)) {
            Err(Error::Check { what, .. }) if what.contains("before any time") => {}
            other => missed.push((fault, other.map(|(step, _)| step.loss))),
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Of gradients, of their norm, of the update, of the moving average.
const FAULTS: [(&str, &str, &str); 6] = [
    ("masked_mse_backward", "inverse[0] * 2.0", "inverse[0]"),
    ("layernorm_backward", " - n.a * means.y", ""),
    ("attention_backward_key", "return p.scale * mat4x4(w[0]", "return -p.scale * mat4x4(w[0]"),
    ("sum_squares", "sums += v * v", "sums += v"),
    ("adamw", "first / rest1", "first"),
    ("ema", "(1.0 - keep) * floats", "keep * floats"),
];

/// A kernel that the checked steps do not launch is checked in its own test cases.
#[test]
fn a_kernel_that_the_checked_steps_lack_is_examined_apart() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let launched = Launched {
        kernel: "softmax",
        dtypes: (DType::F32, DType::F32),
        epilogue: EpilogueKind::None,
        constants: Vec::new(),
        groups: 1,
        flops: 0.0,
        read: 0,
        written: 0,
    };
    let check = || Agreement::default().check(&gpu, &config(Precision::F32), std::slice::from_ref(&launched));
    assert!(check().unwrap().ends_with("in their own test cases: softmax"), "{:?}", check());
    gpu.plant_fault(Some(SOFTMAX));
    let found = check();
    gpu.plant_fault(None);
    assert!(matches!(&found, Err(Error::Check { what, .. }) if what.starts_with("softmax against")), "{found:?}");
}

const SOFTMAX: (&str, &str, &str) = ("softmax", "exp(held.a - highest)", "exp(held.a)");

#[test]
fn waits_for_the_device_are_counted() {
    assert!(Context::cpu().counters().waited.is_zero());
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let x = Tensor::zeros(&gpu, &[1 << 20], DType::F32).unwrap();
    gpu.wait().unwrap();
    let (before, start) = (gpu.counters().waited, Instant::now());
    for _ in 0..4 {
        add::launch(&gpu, &x, &x).unwrap();
    }
    gpu.wait().unwrap();
    let (waited, elapsed) = (gpu.counters().waited - before, start.elapsed());
    assert!(!waited.is_zero() && waited <= elapsed, "{waited:?} of {elapsed:?}");
}
