//! The verbs that use a trained run, through the binary, on the twins: no device needed.
#![cfg(feature = "cli")]

use std::path::{Path, PathBuf};
use std::process::Output;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/emoji/held_out");

fn mmae(arguments: &[&str]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("mmae").unwrap();
    command.args(arguments).args(["--device", "cpu", "--quiet"]).output().unwrap()
}

/// The JSON that a verb prints; panics with what it said on stderr.
fn json(arguments: &[&str]) -> serde_json::Value {
    let output = mmae(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A run of the smallest model after two steps.
fn trained(folder: &Path) -> PathBuf {
    let run = folder.join("run");
    let arguments = ["--data", DATA, "--model", "m2ae-tiny", "--set", "train.batch=4", "--steps", "2", "--out"];
    json(&[&["train"], &arguments[..], &[run.to_str().unwrap()]].concat());
    run
}

#[test]
fn a_run_is_measured_reconstructed_from_encoded_and_searched() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    let run = run.to_str().unwrap();

    let report = json(&["eval", run, "--data", DATA, "--limit", "6"]);
    for name in ["psnr_eval", "ssim_eval", "psnr_mean_image_eval", "recall10_image_to_text_eval", "token_accuracy_eval"]
    {
        assert!(report[name].is_f64(), "{name} in {report}");
    }
    assert_eq!((&report["step"], &report["queries_text_to_image_eval"]), (&2.into(), &6.0.into()));

    let index = folder.path().join("index.safetensors");
    let index = index.to_str().unwrap();
    let encoded = json(&["encode", run, "--out", index, "--limit", "30"]);
    assert_eq!((&encoded["samples"], &encoded["images"], &encoded["latent"]), (&30.into(), &30.into(), &64.into()));

    // Every query that is itself in the set must find itself, in both forms of search.
    let all = json(&["search", run, "--limit", "30", "--text", "a", "-k", "30"]);
    let own = all["hits"][7].clone();
    let image = format!("{DATA}/{}", own["id"].as_str().unwrap());
    let caption = own["caption"].as_str().unwrap();
    let queries = [("--image", image.as_str(), "images"), ("--text", caption, "texts")];
    for (flag, query, kind) in queries {
        let found = json(&["search", "--index", index, flag, query, "--in", kind, "-k", "3"]);
        assert_eq!(found["hits"].as_array().unwrap().len(), 3, "{found}");
        assert_eq!(found["hits"][0]["id"], own["id"], "{flag} {query}: {found}");
        let score = found["hits"][0]["score"].as_f64().unwrap();
        assert!((score - 1.0).abs() < 1e-4, "{flag} {query}: {score}");
    }

    let out = folder.path().join("out.png");
    for shown in [&["--text", caption][..], &["--image", &image], &["--image", &image, "--text", caption]] {
        let made = json(&[&["reconstruct", run, "--out", out.to_str().unwrap()], shown].concat());
        assert!(made["caption"].is_string(), "{made}");
        let png = std::fs::read(&out).unwrap();
        // Width and height stand at bytes 16 and 20 of a PNG.
        assert_eq!((&png[16..20], &png[20..24]), (&[0, 0, 0, 32][..], &[0, 0, 0, 32][..]), "{shown:?}");
        std::fs::remove_file(&out).unwrap();
    }
}

#[test]
fn wrong_requests_end_with_their_code_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let junk = folder.path().join("junk");
    std::fs::write(&junk, "junk").unwrap();
    let junk = junk.to_str().unwrap();
    let cases: [(&[&str], i32, &str); 9] = [
        (&["eval", nowhere, "--data", DATA], 2, "there is no folder"),
        (&["eval", nowhere], 2, "--data"),
        (&["reconstruct", nowhere], 2, "--text"),
        (&["search", nowhere], 2, "--image"),
        (&["search", "--text", "a"], 2, "--index"),
        (&["search", nowhere, "--text", "a", "-k", "65"], 2, "65"),
        (&["search", "--index", junk, "--text", "a"], 1, "damaged"),
        (&["plan", "--model", "m2ae-tny"], 2, "did you mean `m2ae-tiny`?"),
        (&["plan", "--model", "m2ae", "--set", "train.batch=16000000"], 1, "lower train.batch"),
    ];
    let mut wrong = Vec::new();
    for (arguments, code, reason) in cases {
        let output = mmae(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() != Some(code) || !said.contains(reason) {
            wrong.push(format!("{arguments:?}: {:?} and `{said}`", output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_published_model_is_planned_in_json() {
    let plan = json(&["plan", "--model", "m2ae", "--set", "train.batch=8"]);
    assert_eq!(plan["fits"], true);
    assert!(plan["peak_bytes"].as_u64().unwrap() < 4 << 30 && plan["kernels"].as_array().unwrap().len() > 10, "{plan}");
}
