//! `mmae bench` from outside: reports, comparisons, texts of the reader's own, and what is said about bad ones. No test
//! asks how long anything takes.
#![cfg(feature = "cli")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use mmae::bench::cases::TINY;
use mmae::bench::clock::Effort;
use mmae::bench::foreign::Foreign;
use mmae::bench::ladder::{STEPS, climb, rungs};
use mmae::bench::probes;
use mmae::device::Storage;
use mmae::{Context, DType};
use serde_json::Value;

fn mmae(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmae")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The least that measures anything.
const SHORT: [&str; 6] = ["--sizes", "tiny", "--rounds", "3", "--round-ms", "1"];

/// A report of some tiny cases on the twins, in `folder`.
fn report(folder: &Path, name: &str, filter: &str) -> PathBuf {
    let out = folder.join(name);
    let args = ["bench", "kernels", "--device", "cpu", "--filter", filter, "--json", out.to_str().unwrap()];
    let output = mmae(&[&args[..], &SHORT].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("kernel, case"), "no table: {}", text(&output.stdout));
    out
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_report_holds_device_clock_ceilings_and_checked_cases() {
    let folder = tempfile::tempdir().unwrap();
    let out = report(folder.path(), "a.json", "layernorm");
    let report = json(&out);
    assert_eq!(report["schema"], 1);
    assert!(report["command"].as_str().unwrap().contains("mmae bench kernels"), "{report}");
    assert_eq!(report["device"]["adapter"], "cpu twins");
    assert_eq!((&report["device"]["matrices"], &report["device"]["lanes"]), (&"none".into(), &"any".into()));
    assert!(report["device"]["max_binding"].as_u64().unwrap() > 0 && report["device"]["subgroup_size"].is_null());
    assert_eq!(report["calibration"].as_array().unwrap().len(), 2);
    assert!(report["ceilings"]["fma"].as_f64().unwrap() > 0.0);
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3, "{cases:?}");
    for case in cases {
        assert_eq!(case["wrong"], Value::Array(Vec::new()));
        let ms = &case["times"]["ms"];
        assert!(ms["low"].as_f64() <= ms["median"].as_f64() && ms["median"].as_f64() <= ms["high"].as_f64(), "{case}");
    }
}

#[test]
fn two_reports_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let first = report(folder.path(), "a.json", "softmax");
    // The same run, with one case ten times as slow and one missing.
    let mut other = json(&first);
    for quartile in ["low", "median", "high"] {
        let ms = &mut other["cases"][0]["times"]["ms"][quartile];
        *ms = (10.0 * ms.as_f64().unwrap()).into();
    }
    other["cases"].as_array_mut().unwrap().pop();
    other["device"]["adapter"] = "another".into();
    let fma = 2.0 * other["ceilings"]["fma"].as_f64().unwrap();
    other["ceilings"]["fma"] = fma.into();
    let second = folder.path().join("b.json");
    std::fs::write(&second, other.to_string()).unwrap();
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());

    let output = mmae(&["bench", "--compare", first, second, "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!((found["cases"][0]["ratio"].as_f64().unwrap() - 10.0).abs() < 1e-6, "{found}");
    assert_eq!(found["cases"][0]["moved"], true, "{found}");
    assert_eq!(found["only_in_one"].as_array().unwrap().len(), 1, "{found}");
    let figures = found["figures"].as_array().unwrap();
    let fma = figures.iter().find(|f| f["name"].as_str().unwrap().contains("in registers")).unwrap();
    assert!((fma["ratio"].as_f64().unwrap() - 2.0).abs() < 1e-6, "{fma}");
    assert!(
        figures.iter().any(|f| f["name"].as_str().unwrap().starts_with("copy of") && f["ratio"] == 1.0),
        "{figures:?}"
    );
    assert!(found["warnings"].to_string().contains("different adapters"), "{found}");

    let written = folder.path().join("compared.json");
    let output = mmae(&["bench", "--compare", first, second, "--json", written.to_str().unwrap()]);
    assert!(output.status.success() && text(&output.stdout).contains("SLOWER"), "{}", text(&output.stderr));
    assert_eq!(json(&written), found);

    let output = mmae(&["bench", "--compare", first, first]);
    let said = text(&output.stdout);
    assert!(said.contains("0 of 2 moved beyond the spread") && !said.contains("SLOWER"), "{said}");
    let said = text(&mmae(&["bench", "kernels", "--compare", first, second]).stdout);
    assert!(said.contains("SLOWER") && said.contains("only in one of them"), "{said}");
}

#[test]
fn the_roofline_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("roof.svg");
    let args = ["bench", "--device", "cpu", "--filter", "softmax", "--svg", out.to_str().unwrap()];
    let output = mmae(&[&args[..], &SHORT].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let svg = std::fs::read_to_string(out).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("softmax_backward") && svg.contains("GFLOP/s"), "{svg}");
}

#[test]
fn the_device_is_measured() {
    let output = mmae(&["bench", "device", "--device", "cpu", "--json", "--rounds", "3", "--round-ms", "1"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in ["fma", "fma_stored_f32", "fma_stored_f16", "launch", "submit", "read_back"] {
        assert!(report["ceilings"][key].as_f64().unwrap() >= 0.0, "{key}: {report}");
    }
    assert!(report["ceilings"]["bandwidth"][0]["copy"].as_f64().unwrap() > 0.0);
}

#[test]
fn wrong_requests_end_with_their_code_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let junk = folder.path().join("junk.json");
    std::fs::write(&junk, "{\"schema\": 1}").unwrap();
    let newer = folder.path().join("newer.json");
    std::fs::write(&newer, "{\"schema\": 99}").unwrap();
    let (junk, newer) = (junk.to_str().unwrap(), newer.to_str().unwrap());
    let cases: [(&[&str], i32, &str); 16] = [
        (&["bench", "--compare", newer, newer], 1, "schema 99, this program reads 1"),
        (&["bench", "device", "--device", "cpu", "--json", "no_such_folder/x.json"], 2, "no folder no_such_folder"),
        (&["bench", "--device", "cpu", "--svg", "no_such_folder/x.svg"], 2, "no folder no_such_folder"),
        (&["bench", "--device", "cpu", "--svg", "x.png"], 2, "does not end in .svg"),
        (&["bench", "device", "kernels", "--device", "cpu"], 2, "neither the one word"),
        (&["bench", "step", "--config", "x.toml", "--model", "m2ae"], 2, "cannot be used with"),
        (&["bench", "--compare", "no.json", "nor.json"], 1, "read no.json"),
        (&["bench", "--compare", junk, junk], 1, "not a report"),
        (&["bench", "--compare", junk], 2, "2 values"),
        (&["bench", "kernel", "--device", "cpu"], 2, "neither the one word"),
        (&["bench", "kernels", "out.json", "--device", "cpu"], 2, "--json"),
        (&["bench", "--filter", "no such kernel", "--device", "cpu", "--sizes", "tiny"], 2, "no case"),
        (&["bench", "--wgsl", "my.wgsl"], 2, "--like"),
        (&["bench", "--wgsl", "no_such_file.wgsl", "--like", "matmul"], 1, "no_such_file.wgsl"),
        (&["bench", "--like", "matmul"], 2, "--wgsl"),
        (&["bench", "--rounds", "1"], 2, "3.."),
    ];
    let mut wrong = Vec::new();
    for (arguments, code, reason) in cases {
        let output = mmae(arguments);
        let said = text(&output.stderr);
        if output.status.code() != Some(code) || !said.contains(reason) {
            wrong.push(format!("{arguments:?}: {:?} and `{said}`", output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn probes_agree_with_their_twins() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let cpu = Context::cpu();
    let mut wrong = Vec::new();
    let matrices = probes::matrices(&gpu).map(probes::matrix_case);
    for case in probes::cases().into_iter().chain(matrices) {
        for dtype in [DType::F32, DType::F16] {
            let found = case.compare(&gpu, &cpu, dtype, 2).unwrap();
            wrong.extend(found.into_iter().map(|w| format!("{} {dtype}: {w}", case.label)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every step on the kernel's own test cases: lengths of one, primes, broken cells, masks, rows past the grid.
#[test]
fn the_ladder_computes_what_it_teaches() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let mut wrong = Vec::new();
    for step in STEPS.iter().filter(|step| step.missing(&gpu).is_none()) {
        let text = step.load().unwrap().on(gpu.capabilities()).unwrap();
        let found = text.parity(&gpu, step.dtype).unwrap();
        if found.covered < 3 || !found.wrong.is_empty() {
            wrong.push((step.file, step.dtype, found));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn steps_of_a_ladder_are_climbed_in_order() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    let report = climb(&gpu, &TINY, Effort { rounds: 3, least: 1e-3 }, "test").unwrap();
    let wrong: Vec<_> = report.cases.iter().filter(|row| row.times.is_none()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let rungs = rungs(&report, "matmul");
    let files: Vec<_> = rungs.iter().map(|rung| rung.row.text.as_str()).collect();
    assert!(files.starts_with(&["matmul_1_naive.wgsl", "matmul_2_tiled.wgsl", "matmul_3_registers.wgsl"]), "{files:?}");
    assert_eq!(files.last(), Some(&"mmae"));
    assert!(rungs[0].change.contains("naive") && !rungs[0].change.starts_with('/'), "{}", rungs[0].change);
}

const NAIVE: &str = include_str!("../shaders/ladder/matmul_1_naive.wgsl");

#[test]
fn a_text_of_the_reader_takes_the_kernels_place() {
    let Some(gpu) = common::gpu(Storage::F16Packed, false) else { return };
    // Right as it is; wrong, where somebody forgets the last step of the sum.
    for (name, from, to, right) in
        [("right.wgsl", "", "", true), ("wrong.wgsl", "k < p.inner;", "k + 1u < p.inner;", false)]
    {
        let text = Foreign::new(name, &NAIVE.replace(from, to), "matmul").unwrap();
        let found = text.parity(&gpu, DType::F32).unwrap();
        assert!(found.covered > 0 && found.covered < found.cases, "{found:?}");
        assert_eq!(found.wrong.is_empty(), right, "{name}: {found:?}");
    }
}

#[test]
fn a_text_of_the_reader_is_ranked_or_refused() {
    if common::gpu(Storage::F16Packed, false).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run_on = |name: &str, text: &str, cases: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let args = ["bench", "--like", "matmul", "--wgsl", path.to_str().unwrap(), "--filter", cases];
        let output = mmae(&[&args[..], &SHORT].concat());
        (output.status.code(), text_of(&output))
    };
    let run = |name: &str, text: &str| run_on(name, text, "nn");
    // It computes plain products only.
    let (code, said) = run_on("plain.wgsl", NAIVE, "NT");
    assert!(code == Some(0) && said.contains("plain.wgsl covers none of these cases"), "{said}");
    let (code, said) = run("mine.wgsl", NAIVE);
    assert!(code == Some(0) && said.contains("[mine.wgsl]") && said.contains("agrees with the twin"), "{said}");
    // Both texts of every case with their ratio, the faster one above.
    let ratios: Vec<f64> =
        said.lines().filter_map(|line| line.split_once("x mmae's")?.0.rsplit(' ').next()?.parse().ok()).collect();
    assert!(ratios.len() >= 2 && ratios.len().is_multiple_of(2) && ratios.contains(&1.0), "{said}");
    assert!(ratios.chunks(2).all(|pair| pair[0] <= pair[1]), "{ratios:?}: {said}");
    let (code, said) = run("wrong.wgsl", &NAIVE.replace("sum += x", "sum -= x"));
    assert!(code == Some(1) && said.contains("differences from the twin"), "{said}");
    let (code, said) = run("broken.wgsl", &NAIVE.replace("var sum = vec4(0.0);", "var sum = vec4(0.0)"));
    let line = NAIVE.lines().position(|line| line.contains("var sum")).unwrap() + 2;
    assert!(code == Some(1) && said.contains(&format!("broken.wgsl:{line}")), "{said}");
}

fn text_of(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}
