//! Layers point downward only: read from the `use crate::` lines.

use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first; modules on one line may use those of earlier lines and, where said, each other.
const LAYERS: &[&[&str]] = &[
    &["error", "shape"],
    &["device"],
    &["tensor"],
    &["kernels"],
    &["tape"],
    &["ops"],
    &["nn", "optim"],
    &["model"],
    &["data", "train", "eval"],
    &["bench"],
    &["cli"],
];

fn level(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn sources(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
}

/// Upward uses in a source text that belongs to `module`.
fn upward(module: &str, text: &str) -> Vec<String> {
    let own = level(module);
    let mut wrong = Vec::new();
    for line in text.lines().take_while(|line| !line.contains("#[cfg(test)]")) {
        for used in line.split("crate::").skip(1) {
            let name: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if let (Some(own), Some(used)) = (own, level(&name))
                && used > own
            {
                wrong.push(line.trim().to_owned());
            }
        }
    }
    wrong
}

#[test]
fn layers_point_downward() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    sources(&root, &mut all);
    let mut wrong = Vec::new();
    for path in all {
        let relative = path.strip_prefix(&root).unwrap();
        let module = relative.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        for line in upward(&module, &fs::read_to_string(&path).unwrap()) {
            wrong.push(format!("{}: {line}", relative.display()));
        }
    }
    assert!(wrong.is_empty(), "upward uses:\n{}", wrong.join("\n"));
}

#[test]
fn an_upward_use_is_seen() {
    assert_eq!(upward("kernels", "use crate::tape::Tape;").len(), 1);
    assert!(upward("ops", "use crate::tape::Tape;").is_empty());
}
