//! The command from outside: what goes to stdout, what to stderr, and the exit codes.
#![cfg(feature = "cli")]

use std::process::{Command, Output, Stdio};

fn mmae(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmae")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn exit_codes_and_messages() {
    // Arguments, exit code, on stdout, on stderr.
    let cases: [(&[&str], i32, &str, &str); 23] = [
        (&["--version"], 0, env!("CARGO_PKG_VERSION"), ""),
        (&["--help"], 0, "--device", ""),
        (&[], 2, "", "Usage"),
        (&["inof"], 2, "", "info"),
        (&["info", "--device", "cpu"], 0, "cpu twins", "device: cpu twins"),
        (&["--device", "cpu", "info"], 0, "cpu twins", "device: cpu twins"),
        (&["info", "--device", "no such adapter"], 3, "", "error: no adapter"),
        (&["info", "--quiet", "--verbose"], 2, "", "cannot be used with"),
        (&["kernels"], 0, "buffers:", ""),
        (&["kernels", "--print", "add"], 0, "fn main(", ""),
        (&["kernels", "--print", "add", "--storage", "f16"], 0, "enable f16;", ""),
        (&["kernels", "--print", "add", "--to", "msl"], 0, "kernel void", ""),
        (&["kernels", "--print", "layernorm", "--to", "hlsl", "--set", "WORKGROUP=128"], 0, "numthreads(128", ""),
        (&["kernels", "--print", "layernorm", "--to", "hlsl", "--set", "AFINE=1"], 2, "", "did you mean `AFFINE`?"),
        (&["kernels", "--print", "layernorm", "--to", "hlsl", "--set", "AFFINE=yes"], 2, "", "a flag 0 or 1"),
        (&["kernels", "--print", "ad"], 2, "", "did you mean `add`?"),
        (&["kernels", "--print", "add", "--epilogue", "bias"], 2, "", "takes none"),
        (&["kernels", "--storage", "f16"], 2, "", "--print"),
        (&["kernels", "--to", "msl"], 2, "", "--print"),
        (&["kernels", "--wgsl", "shaders/ladder/attention_1_three_pass.wgsl"], 1, "", "three_pass.wgsl:"),
        (&["kernels", "--wgsl", "README.md"], 2, "", "ends in .wgsl"),
        (&["kernels", "--wgsl", "nowhere.wgsl"], 1, "", "nowhere.wgsl"),
        (&["kernels", "--wgsl", "a.wgsl", "--print", "add"], 2, "", "cannot be used with"),
    ];
    let mut wrong = Vec::new();
    for (args, code, on_stdout, on_stderr) in cases {
        let output = mmae(args);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        if output.status.code() != Some(code) || !stdout.contains(on_stdout) || !stderr.contains(on_stderr) {
            wrong.push(format!("mmae {args:?}: {}\nstdout: {stdout}\nstderr: {stderr}", output.status));
        }
        if code != 0 && !stdout.is_empty() {
            wrong.push(format!("mmae {args:?}: a failure wrote to stdout: {stdout}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn json_is_one_object() {
    let mut wrong = Vec::new();
    for (args, key) in [
        (&["info", "--json", "--device", "cpu"][..], "/device/name"),
        (&["kernels", "--json", "--print", "add"], "/text"),
        (&["kernels", "--json"], "/0/bindings/0/name"),
    ] {
        let output = mmae(args);
        match serde_json::from_slice::<serde_json::Value>(&output.stdout) {
            Ok(value) if value.pointer(key).is_some_and(serde_json::Value::is_string) => {}
            Ok(value) => wrong.push(format!("mmae {args:?} has no {key}: {value}")),
            Err(error) => wrong.push(format!("mmae {args:?}: {error}: {}", text(&output.stdout))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_doctor_passes_the_twins() {
    let output = mmae(&["doctor", "--device", "cpu", "--json", "-q"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = report.pointer("/checks/run").and_then(serde_json::Value::as_u64).unwrap();
    assert!(run > 0, "no kernel was checked");
    assert!(output.stderr.is_empty(), "--quiet, but: {}", text(&output.stderr));
}

#[test]
fn spirv_is_written_as_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("add.spv");
    let output = mmae(&["kernels", "--print", "add", "--to", "spirv", "--out", file.to_str().unwrap()]);
    assert!(output.status.success() && output.stdout.is_empty(), "{}", text(&output.stderr));
    let words = std::fs::read(file).unwrap();
    assert_eq!(words.get(..4), Some(&0x0723_0203u32.to_le_bytes()[..]));
    assert_eq!(words.len() % 4, 0);
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mmae"))
        .args(["kernels", "--print", "add"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}
