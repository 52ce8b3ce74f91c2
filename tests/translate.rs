//! Every text of every kernel, without a device: it validates, it becomes SPIR-V, MSL and HLSL, and it declares what its
//! Rust side says it does.

use std::fs;
use std::path::Path;

use mmae::Error;
use mmae::device::{
    Binding, Element, Kernel, Lanes, Language, Matrix, Part, Source, Storage, Translation, Twin, Variant, translate,
    validate,
};
use mmae::kernels::ALL;
use naga::{AddressSpace, Module, ScalarKind, StorageAccess, TypeInner};

/// The engine's own limits: what WebGPU's defaults give every device.
const MAX_STORAGE_BUFFERS: usize = 8;
const MAX_WORKGROUP_BYTES: u32 = 16 << 10;
/// What every device with cooperative matrices gives, and nearly every GPU; kernels with such matrices and attention's tiles are taken
/// where they fit the device.
const MAX_LARGE_WORKGROUP_BYTES: u32 = 32 << 10;
const MAX_INVOCATIONS: u32 = 256;
const MAX_PARAMS_BYTES: u32 = 128;

fn variants(kernel: &Kernel) -> Vec<Variant> {
    [true, false].into_iter().flat_map(|immediates| kernel.variants(immediates)).collect()
}

fn label(kernel: &Kernel, variant: &Variant) -> String {
    format!(
        "{} (storage {}, output {}, epilogue {}, lanes {}, {})",
        kernel.name,
        variant.storage.name(),
        variant.output,
        variant.epilogue.name(),
        variant.lanes.name(),
        if variant.immediates { "immediates" } else { "uniform" }
    )
}

#[test]
fn every_variant_translates_to_every_language() {
    let mut failures = Vec::new();
    let mut count = 0;
    for kernel in ALL.iter().map(|entry| entry.kernel) {
        for variant in variants(kernel) {
            let source = Source::join(kernel, variant, None);
            for language in Language::ALL {
                count += 1;
                let impossible = impossible(kernel, &variant, language);
                let wrong = match translate(&source, language) {
                    Err(_) if impossible == Some("refused") => continue,
                    Err(error) => error.to_string(),
                    Ok(_) if impossible == Some("refused") => "translated, but the table says it cannot be".into(),
                    Ok(_) if impossible.is_some() => continue,
                    Ok(Translation::Words(words)) if words.first() == Some(&0x0723_0203) => continue,
                    Ok(Translation::Text(text)) if text.contains("main") => continue,
                    Ok(_) => "the translation has no entry point".into(),
                };
                failures.push(format!("{} to {}: {wrong}", label(kernel, &variant), language.name()));
            }
        }
    }
    println!("{count} translations");
    assert!(failures.is_empty(), "{} of {count} failed:\n{}", failures.len(), failures.join("\n"));
}

/// What a language cannot express: cooperative matrices are unknown to HLSL, and Metal has no others than 8x8. naga
/// writes Metal text for 16x16 all the same; no compiler would take it, and the engine never asks: the device lists none.
fn impossible(kernel: &Kernel, variant: &Variant, language: Language) -> Option<&'static str> {
    match (kernel.has_matrix(), variant.matrix, language) {
        (true, _, Language::Hlsl) => Some("refused"),
        (true, Matrix::M16, Language::Msl) => Some("meaningless"),
        _ => None,
    }
}

fn no_twin(_: &mut Twin<'_>) -> mmae::Result<()> {
    Ok(())
}

const XY: &[Binding] = &[Binding::stored("x"), Binding::stored_mut("y")];

/// A kernel that copies, with `body` as its last line but one: line 13 of the file.
fn broken(body: &str) -> Kernel {
    let text = format!(
        "// A kernel with a mistake in it.\n\
         struct Params {{\n    cells: u32,\n}}\n\
         @group(0) @binding(0) var<storage, read> x: array<Stored4>;\n\
         @group(0) @binding(1) var<storage, read_write> y: array<Stored4>;\n\
         @compute @workgroup_size(64)\n\
         fn main(\n    @builtin(workgroup_id) wid: vec3<u32>,\n    @builtin(num_workgroups) count: vec3<u32>,\n) {{\n    \
         let i = group_index(wid, count);\n    {body}\n}}\n"
    );
    Kernel { name: "broken", source: text.leak(), parts: &[Part::Grid], bindings: XY, epilogues: false, twin: no_twin }
}

#[test]
fn a_mistake_is_reported_with_its_file_and_line() {
    assert!(checked(&broken("y[i] = pack4(unpack4(x[i]));")).is_ok(), "the kernel without a mistake is refused");
    let cases = [
        ("y[i] = pack4(unpack4(x[i])", "a missing bracket"),
        ("y[i] = pack4(unknown(x[i]));", "an unknown name"),
        ("y[i] = pack4(i);", "a wrong argument type, found by the validator"),
        ("x[i] = y[i];", "a store to a read-only buffer, found by the validator"),
    ];
    let mut failures = Vec::new();
    for (body, what) in cases {
        match checked(&broken(body)) {
            Err(Error::Kernel { file, line, .. }) if file == "shaders/broken.wgsl" && (13..=14).contains(&line) => {}
            Err(error) => failures.push(format!("{what}: reported as {error}")),
            Ok(()) => failures.push(format!("{what}: not reported")),
        }
    }
    // A mistake inside a part belongs to the part's file.
    let part = Storage::F32.file().1.lines().count();
    let source = Source::join(&broken(""), broken("").variants(true).remove(0), None);
    assert_eq!(source.locate(part), (format!("shaders/{}", Storage::F32.file().0), part));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn checked(kernel: &Kernel) -> mmae::Result<()> {
    validate(&Source::join(kernel, kernel.variants(true).remove(0), None)).map(|_| ())
}

#[test]
fn texts_declare_what_their_launches_say() {
    let mut failures = Vec::new();
    for kernel in ALL.iter().map(|entry| entry.kernel) {
        for variant in variants(kernel) {
            let Ok((module, _)) = validate(&Source::join(kernel, variant, None)) else { continue };
            let large = kernel.has_matrix() || kernel.parts.contains(&Part::AttentionTile);
            let mut wrong = resources(&module, large);
            wrong.extend(bindings(&module, 0, kernel.bindings, variant));
            wrong.extend(bindings(&module, 1, variant.epilogue.bindings(), variant));
            failures.extend(wrong.into_iter().map(|w| format!("{}: {w}", label(kernel, &variant))));
        }
        if let Ok((module, _)) = validate(&Source::join(kernel, kernel.variants(true).remove(0), None)) {
            failures
                .extend(params(&module, &rust_file(kernel.name)).into_iter().map(|w| format!("{}: {w}", kernel.name)));
        }
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

/// Limits of the default path: storage buffers, workgroup memory, invocations; and no atomics.
fn resources(module: &Module, large: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let space = |name: AddressSpace| module.global_variables.iter().filter(move |(_, v)| v.space == name);
    let storage =
        module.global_variables.iter().filter(|(_, v)| matches!(v.space, AddressSpace::Storage { .. })).count();
    if storage > MAX_STORAGE_BUFFERS {
        wrong.push(format!("{storage} storage buffers, at most {MAX_STORAGE_BUFFERS} are on every device"));
    }
    let shared: u32 = space(AddressSpace::WorkGroup).map(|(_, v)| module.types[v.ty].inner.size(module.to_ctx())).sum();
    let most = if large { MAX_LARGE_WORKGROUP_BYTES } else { MAX_WORKGROUP_BYTES };
    if shared > most {
        wrong.push(format!("{shared} bytes of workgroup memory, at most {most} are on every device"));
    }
    match module.entry_points.as_slice() {
        [main] if main.name == "main" => {
            let invocations: u32 = main.workgroup_size.iter().product();
            if invocations > MAX_INVOCATIONS {
                wrong.push(format!("{invocations} invocations in a workgroup, at most {MAX_INVOCATIONS} are allowed"));
            }
        }
        _ => wrong.push("the one entry point must be `main`".into()),
    }
    if module.types.iter().any(|(_, ty)| matches!(ty.inner, TypeInner::Atomic(_))) {
        wrong.push("an atomic: results must not depend on the order of invocations".into());
    }
    wrong
}

/// The buffers of `group` against their declaration: names, order, access, element type.
fn bindings(module: &Module, group: u32, declared: &[Binding], variant: Variant) -> Vec<String> {
    let mut found: Vec<_> = module
        .global_variables
        .iter()
        .filter_map(|(_, v)| v.binding.filter(|b| b.group == group).map(|b| (b.binding, v)))
        .collect();
    found.sort_by_key(|(index, _)| *index);
    let mut wrong = Vec::new();
    if found.len() != declared.len() {
        wrong.push(format!("group {group} has {} buffers, {} are declared", found.len(), declared.len()));
    }
    for (i, ((index, variable), binding)) in found.iter().zip(declared).enumerate() {
        let name = variable.name.as_deref().unwrap_or_default();
        let AddressSpace::Storage { access } = variable.space else {
            wrong.push(format!("{name} is not a storage buffer"));
            continue;
        };
        if *index as usize != i || name != binding.name {
            wrong.push(format!("binding {index} is `{name}`, binding {i} is declared as `{}`", binding.name));
        }
        if access.contains(StorageAccess::STORE) != binding.write {
            wrong.push(format!("`{name}` is {access:?}, declared with write = {}", binding.write));
        }
        let element = element(module, variable.ty);
        if !expected(binding.element, variant).iter().any(|wanted| *wanted == element) {
            wrong.push(format!("`{name}` holds {element}, declared as {:?}", binding.element));
        }
    }
    wrong
}

/// The element of a runtime-sized array, as in WGSL.
fn element(module: &Module, ty: naga::Handle<naga::Type>) -> String {
    let TypeInner::Array { base, .. } = module.types[ty].inner else { return "no array".into() };
    let (size, scalar) = match module.types[base].inner {
        TypeInner::Scalar(scalar) => (1, scalar),
        TypeInner::Vector { size, scalar } => (size as u32, scalar),
        _ => return "neither scalars nor vectors".into(),
    };
    let kind = match scalar.kind {
        ScalarKind::Float => "f",
        ScalarKind::Uint => "u",
        _ => "another kind of ",
    };
    let scalar = format!("{kind}{}", scalar.width * 8);
    if size == 1 { scalar } else { format!("vec{size}<{scalar}>") }
}

/// What a binding may look like in WGSL, given the parts that are joined.
fn expected(element: Element, variant: Variant) -> &'static [&'static str] {
    let (floats, halves): (&[&str], &[&str]) = match variant.lanes {
        Lanes::Any | Lanes::Known => (&["vec4<f32>"], &["vec2<u32>"]),
        Lanes::Eight => (&["vec2<u64>"], &["u64"]),
    };
    let stored: &[&str] = match variant.storage {
        Storage::F32 => floats,
        Storage::F16Native => &["vec4<f16>"],
        Storage::F16Packed | Storage::F16Integer => halves,
    };
    match element {
        Element::Stored => stored,
        Element::Output if variant.output == mmae::DType::F32 => floats,
        Element::Output if variant.storage == Storage::F32 => halves,
        Element::Output => stored,
        Element::F32 if variant.lanes == Lanes::Eight => &["f32", "vec4<f32>", "vec2<u64>"],
        Element::F32 => &["f32", "vec4<f32>"],
        Element::U32 => &["u32", "vec4<u32>"],
    }
}

/// The Rust file that holds a kernel's parameter struct: its own, or that of its family (`attention` for `attention_backward_key`).
fn rust_file(name: &str) -> String {
    let path = format!("{}/src/kernels/{name}.rs", env!("CARGO_MANIFEST_DIR"));
    match fs::read_to_string(path) {
        Ok(text) if text.contains("struct Params {") => text,
        _ => name.rsplit_once('_').map(|(family, _)| rust_file(family)).unwrap_or_default(),
    }
}

/// The parameter struct: 4-byte scalars only, few enough for immediates, the same fields in WGSL and in Rust.
fn params(module: &Module, rust: &str) -> Vec<String> {
    let Some((_, variable)) = module.global_variables.iter().find(|(_, v)| v.name.as_deref() == Some("p")) else {
        return vec!["no parameters".into()];
    };
    let TypeInner::Struct { members, span } = &module.types[variable.ty].inner else {
        return vec!["`p` is not a struct".into()];
    };
    let mut wrong = Vec::new();
    if *span > MAX_PARAMS_BYTES {
        wrong.push(format!("Params takes {span} bytes, immediates hold {MAX_PARAMS_BYTES}"));
    }
    let in_wgsl: Vec<_> = members
        .iter()
        .map(|member| {
            let ty = match module.types[member.ty].inner {
                TypeInner::Scalar(naga::Scalar::U32) => "u32",
                TypeInner::Scalar(naga::Scalar::F32) => "f32",
                _ => "neither u32 nor f32",
            };
            format!("{}: {ty}", member.name.as_deref().unwrap_or_default())
        })
        .collect();
    let in_rust = rust_fields(rust);
    if in_wgsl != in_rust {
        wrong.push(format!("Params is {in_wgsl:?} in WGSL, {in_rust:?} in Rust"));
    }
    wrong
}

/// `name: type` of each field of `struct Params` in a Rust file.
fn rust_fields(text: &str) -> Vec<String> {
    text.lines()
        .skip_while(|line| !line.contains("struct Params {"))
        .skip(1)
        .map(str::trim)
        .take_while(|line| *line != "}")
        .filter(|line| !line.starts_with("//") && !line.starts_with('#'))
        .filter_map(|line| line.split(',').next())
        .map(|field| field.trim_start_matches("pub(super) ").trim_start_matches("pub ").to_owned())
        .filter(|field| field.contains(": "))
        .collect()
}

#[test]
fn wrong_declarations_are_seen() {
    let kernel = broken("y[i] = pack4(unpack4(x[i]));");
    let variant = kernel.variants(true).remove(0);
    let (module, _) = validate(&Source::join(&kernel, variant, None)).unwrap();
    assert_eq!(bindings(&module, 0, kernel.bindings, variant), Vec::<String>::new());
    let declared: [&[Binding]; 5] = [
        &[Binding::stored("x")],
        &[Binding::stored("y"), Binding::stored_mut("x")],
        &[Binding::stored("x"), Binding::stored("y")],
        &[Binding::stored("x"), Binding::u32_mut("y")],
        &[Binding::stored_mut("x"), Binding::stored_mut("y")],
    ];
    let missed: Vec<_> = declared.iter().filter(|d| bindings(&module, 0, d, variant).is_empty()).collect();
    assert!(missed.is_empty(), "not objected to: {missed:?}");
    assert_eq!(params(&module, "struct Params {\n    cells: u32,\n}\n"), Vec::<String>::new());
    for rust in ["", "struct Params {\n    cells: f32,\n}", "struct Params {\n    cells: u32,\n    more: u32,\n}"] {
        assert!(!params(&module, rust).is_empty(), "{rust:?} is accepted");
    }
}

#[test]
fn files_in_the_shader_folder_are_kernels() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut orphans = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|e| e == "wgsl") && !ALL.iter().any(|e| e.kernel.name == stem) {
            orphans.push(stem);
        }
    }
    assert!(orphans.is_empty(), "shaders that no line of ALL names: {orphans:?}");
}
