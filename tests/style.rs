//! House rules that a machine can check: sizes of files, no panics on input, no leftovers, few dependencies.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const SHADER_LINES: usize = 150;
const SOURCE_LINES: usize = 400;

/// What turns a bad input into a panic.
const PANICS: [&str; 6] = [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!("];

/// The engine's own crates: these six, and one for errors.
const ENGINE: [&str; 6] = ["bytemuck", "half", "naga", "pollster", "thiserror", "wgpu"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with the extension, with their texts.
fn files(folder: &str, extension: &str) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let text = fs::read_to_string(&path).unwrap();
                all.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    all.sort();
    assert!(!all.is_empty(), "no .{extension} files in {folder}");
    all
}

#[test]
fn files_are_short() {
    let limits = [("shaders", "wgsl", SHADER_LINES), ("src", "rs", SOURCE_LINES), ("tests", "rs", SOURCE_LINES)];
    let mut long = Vec::new();
    for (folder, extension, limit) in limits {
        for (path, text) in files(folder, extension) {
            let lines = text.lines().count();
            if lines > limit {
                long.push(format!("{}: {lines} lines, at most {limit}", path.display()));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// Modules that exist in tests only: `#[cfg(test)] mod NAME;`, by name or by `#[path = "FILE"]`.
fn test_files(sources: &[(PathBuf, String)]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in sources {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (i, _) in lines.iter().enumerate().filter(|(_, line)| **line == "#[cfg(test)]") {
            for line in lines.iter().skip(i + 1).take(2) {
                if let Some(path) = line.strip_prefix("#[path = \"") {
                    names.insert(path.trim_end_matches("\"]").to_owned());
                    break;
                }
                if let Some((_, module)) = line.strip_suffix(';').and_then(|line| line.split_once("mod ")) {
                    names.insert(format!("{module}.rs"));
                    break;
                }
            }
        }
    }
    names
}

/// Lines that may panic on bad input, comments and inline test modules aside.
fn panics(text: &str) -> Vec<(usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .map(|(i, line)| (i + 1, line.trim()))
        .filter(|(_, line)| !line.starts_with("//") && PANICS.iter().any(|panic| line.contains(panic)))
        .collect()
}

#[test]
fn the_library_does_not_panic_on_purpose() {
    let sources = files("src", "rs");
    let tests = test_files(&sources);
    let mut found = Vec::new();
    for (path, text) in &sources {
        let name = path.file_name().unwrap().to_string_lossy();
        if !tests.contains(name.as_ref()) {
            found.extend(panics(text).into_iter().map(|(n, line)| format!("{}:{n}: {line}", path.display())));
        }
    }
    assert!(found.is_empty(), "return an error instead:\n{}", found.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut found = Vec::new();
    for (folder, extension) in [("src", "rs"), ("tests", "rs"), ("shaders", "wgsl")] {
        for (path, text) in files(folder, extension) {
            for (i, line) in text.lines().enumerate() {
                if marks.iter().any(|mark| line.contains(mark)) {
                    found.push(format!("{}:{}: {}", path.display(), i + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn shaders_open_with_a_comment_and_leave_variation_to_parts() {
    let mut wrong = Vec::new();
    for (path, text) in files("shaders", "wgsl") {
        if !text.starts_with("// ") {
            wrong.push(format!("{}: does not open with what it computes", path.display()));
        }
        let is_part = path.starts_with("shaders/parts");
        for (i, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line.trim())) {
            if line.starts_with('#') || (line.starts_with("enable ") && !is_part) {
                wrong.push(format!("{}:{i}: {line}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Names under `[dependencies]` that are not optional.
fn required_dependencies(manifest: &str) -> Vec<&str> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim_start().starts_with('#') && !line.contains("optional = true"))
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()))
        .collect()
}

#[test]
fn the_engine_alone_has_few_dependencies() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let found = required_dependencies(&manifest);
    assert!(!found.is_empty(), "no dependencies were found in Cargo.toml");
    let extra: Vec<_> = found.iter().filter(|name| !ENGINE.contains(name)).collect();
    assert!(extra.is_empty(), "make these optional, or leave them out: {extra:?}");
}

#[test]
fn the_checks_see_what_they_must() {
    assert_eq!(panics("let a = b.unwrap();\n// c.unwrap()\n#[cfg(test)]\nd.unwrap();"), [(1, "let a = b.unwrap();")]);
    assert!(panics("b.unwrap_or(3)").is_empty());
    let manifest =
        "[dependencies]\n# one\na = \"1\"\nb = { version = \"1\", optional = true }\n[dev-dependencies]\nc = \"1\"";
    assert_eq!(required_dependencies(manifest), ["a"]);
    let sources = [(
        PathBuf::new(),
        "#[cfg(test)]\npub(crate) mod fixtures;\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;".into(),
    )];
    assert_eq!(test_files(&sources), BTreeSet::from(["a_tests.rs".into(), "fixtures.rs".into()]));
}
