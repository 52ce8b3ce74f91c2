//! `mmae kernels`: the list of kernels, and the text of each as it runs.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use super::{Common, print, print_json};
use crate::device::{
    Binding, EpilogueKind, Kernel, Lanes, Language, Matrix, Source, Storage, Translation, Variant, parse, specialise,
    validate,
};
use crate::error::{Error, Result, nearest};
use crate::kernels::ALL;

/// List the kernels, or print one as it is compiled: its file with the parts joined before it
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("text").args(["print", "wgsl"]))]
pub struct Args {
    /// Print the text of this kernel
    #[arg(long, value_name = "NAME")]
    print: Option<String>,
    /// Only the kernel's own file, without the parts: what to start a text of your own from
    #[arg(long, requires = "print", conflicts_with_all = ["storage", "epilogue", "lanes", "to"])]
    own: bool,
    /// How stored tensors lie in memory
    #[arg(long, requires = "print", value_parser = storages())]
    storage: Option<Storage>,
    /// What is fused behind a matmul
    #[arg(long, requires = "print", value_parser = epilogues())]
    epilogue: Option<EpilogueKind>,
    /// Size of cooperative matrices, for kernels that use them
    #[arg(long, requires = "print", default_value = "16x16x16", value_parser = matrices())]
    matrix: Matrix,
    /// Subgroups: any, of one known size, or eight lanes as on processors that play GPU, for kernels that make something of them
    #[arg(long, requires = "print", default_value = "any", value_parser = lanes())]
    lanes: Lanes,
    /// A whole text of your own in the place of a kernel's, as `--print` writes one: to check and translate
    #[arg(long, value_name = "FILE.wgsl", conflicts_with = "print")]
    wgsl: Option<PathBuf>,
    /// Translate: what a Vulkan, Metal or DirectX driver would be given
    #[arg(long, requires = "text", value_parser = languages())]
    to: Option<Language>,
    /// Translate with constants at the values of a launch, flags as 0 or 1; may be repeated
    #[arg(long, requires = "to", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Write to a file instead (SPIR-V as binary words, for spirv-dis and spirv-val)
    #[arg(long, requires = "text", value_name = "FILE")]
    out: Option<PathBuf>,
}

fn storages() -> impl TypedValueParser<Value = Storage> {
    PossibleValuesParser::new(Storage::ALL.map(Storage::name))
        .map(|name| Storage::ALL.into_iter().find(|s| s.name() == name).unwrap_or(Storage::F32))
}

fn epilogues() -> impl TypedValueParser<Value = EpilogueKind> {
    PossibleValuesParser::new(EpilogueKind::ALL.map(EpilogueKind::name))
        .map(|name| EpilogueKind::ALL.into_iter().find(|e| e.name() == name).unwrap_or_default())
}

fn matrices() -> impl TypedValueParser<Value = Matrix> {
    PossibleValuesParser::new(Matrix::ALL.map(Matrix::name))
        .map(|name| Matrix::ALL.into_iter().find(|m| m.name() == name).unwrap_or(Matrix::M16))
}

fn lanes() -> impl TypedValueParser<Value = Lanes> {
    PossibleValuesParser::new(Lanes::ALL.map(Lanes::name))
        .map(|name| Lanes::ALL.into_iter().find(|l| l.name() == name).unwrap_or(Lanes::Any))
}

fn languages() -> impl TypedValueParser<Value = Language> {
    PossibleValuesParser::new(Language::ALL.map(Language::name))
        .map(|name| Language::ALL.into_iter().find(|l| l.name() == name).unwrap_or(Language::Spirv))
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    match (&args.print, &args.wgsl) {
        (Some(name), _) => show(find(name)?, args, common),
        (None, Some(path)) => show_own(path, args, common),
        _ if common.json => print_json(&ALL.iter().map(|entry| describe(entry.kernel)).collect()),
        _ => ALL.iter().try_for_each(|entry| list(entry.kernel)),
    }
}

fn find(name: &str) -> Result<&'static Kernel> {
    ALL.iter().map(|entry| entry.kernel).find(|kernel| kernel.name == name).ok_or_else(|| Error::Config {
        field: "--print".into(),
        reason: format!("no kernel is named `{name}`; `mmae kernels` lists them"),
        nearest: nearest(name, ALL.iter().map(|entry| entry.kernel.name)),
    })
}

/// The first sentence of the shader: what it computes.
fn headline(kernel: &Kernel) -> &'static str {
    kernel.source.lines().next().unwrap_or_default().trim_start_matches('/').trim()
}

fn binding(binding: &Binding) -> String {
    let access = if binding.write { "mut " } else { "" };
    format!("{access}{}: {}", binding.name, format!("{:?}", binding.element).to_lowercase())
}

fn parts(kernel: &Kernel) -> Vec<&'static str> {
    let stem = |file: &'static str| file.trim_start_matches("parts/").trim_end_matches(".wgsl");
    kernel.parts.iter().map(|part| stem(part.file(Lanes::Any, Matrix::M16).0)).collect()
}

fn list(kernel: &Kernel) -> Result<()> {
    print(format_args!("{}\n  {}", kernel.name, headline(kernel)))?;
    print(format_args!("  buffers:   {}", kernel.bindings.iter().map(binding).collect::<Vec<_>>().join(", ")))?;
    if !kernel.parts.is_empty() {
        print(format_args!("  parts:     {}", parts(kernel).join(", ")))?;
    }
    if kernel.epilogues {
        print(format_args!("  epilogues: {}", EpilogueKind::ALL.map(EpilogueKind::name).join(", ")))?;
    }
    Ok(())
}

fn describe(kernel: &Kernel) -> serde_json::Value {
    let bindings: Vec<_> = kernel
        .bindings
        .iter()
        .map(|b| json!({ "name": b.name, "element": format!("{:?}", b.element).to_lowercase(), "write": b.write }))
        .collect();
    let epilogues = if kernel.epilogues { &EpilogueKind::ALL[..] } else { &[] };
    json!({
        "name": kernel.name,
        "summary": headline(kernel),
        "file": format!("shaders/{}.wgsl", kernel.name),
        "bindings": bindings,
        "parts": parts(kernel),
        "epilogues": epilogues.iter().map(|e| e.name()).collect::<Vec<_>>(),
    })
}

fn show(kernel: &'static Kernel, args: &Args, common: &Common) -> Result<()> {
    if args.epilogue.is_some() && !kernel.epilogues {
        return Err(Error::config("--epilogue", format!("{} takes none", kernel.name)));
    }
    let storage = args.storage.or(kernel.storages().first().copied()).unwrap_or(Storage::F32);
    if kernel.has_matrix() && !kernel.storages().contains(&storage) {
        return Err(Error::config("--storage", format!("{} takes native halves only: f16", kernel.name)));
    }
    let variant = Variant {
        storage,
        output: storage.dtype(),
        epilogue: args.epilogue.unwrap_or_default(),
        matrix: args.matrix,
        lanes: args.lanes,
        immediates: true,
    };
    if args.own {
        return write(kernel.name, Translation::Text(kernel.source.to_owned()), args, common);
    }
    translate(kernel.name, Source::join(kernel, variant, None), args, common)
}

/// A reader's text: checked, and translated where a language is named.
fn show_own(path: &Path, args: &Args, common: &Common) -> Result<()> {
    let name = path.display().to_string();
    if !name.ends_with(".wgsl") {
        return Err(Error::config("--wgsl", format!("takes a file that ends in .wgsl, not {name}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| Error::io("read", path, error))?;
    let source = Source::whole(&name, &text);
    if args.to.is_none() {
        validate(&source)?;
    }
    translate(&name, source, args, common)
}

fn translate(name: &str, source: Source, args: &Args, common: &Common) -> Result<()> {
    let translation = match args.to {
        None => Translation::Text(source.text),
        Some(language) => specialise(&source, &constants(&source, &args.set)?, language)?,
    };
    write(name, translation, args, common)
}

fn write(name: &str, translation: Translation, args: &Args, common: &Common) -> Result<()> {
    if let Some(path) = &args.out {
        let bytes = match &translation {
            Translation::Text(text) => text.as_bytes(),
            Translation::Words(words) => bytemuck::cast_slice(words),
        };
        return std::fs::write(path, bytes).map_err(|error| Error::io("write", path, error));
    }
    let text = match translation {
        Translation::Text(text) => text,
        Translation::Words(words) => listing(&words),
    };
    if common.json {
        let language = args.to.map_or("wgsl", Language::name);
        return print_json(&json!({ "kernel": name, "language": language, "text": text }));
    }
    print(text.trim_end())
}

/// Values for `override` constants of a text.
fn constants<'a>(source: &Source, given: &'a [String]) -> Result<Vec<(&'a str, f64)>> {
    let module = parse(source)?;
    let known: Vec<&str> = module.overrides.iter().filter_map(|(_, constant)| constant.name.as_deref()).collect();
    let constant = |set: &'a String| {
        let (name, value) =
            set.split_once('=').ok_or_else(|| Error::config("--set", format!("`{set}` is not NAME=VALUE")))?;
        if !known.contains(&name) {
            let reason = format!("no constant of this text is named `{name}`, but {}", known.join(", "));
            return Err(Error::Config { field: "--set".into(), reason, nearest: nearest(name, known.iter().copied()) });
        }
        let value = value
            .parse()
            .map_err(|_| Error::config("--set", format!("`{value}` is no number: {name} takes one, a flag 0 or 1")))?;
        Ok((name, value))
    };
    given.iter().map(constant).collect()
}

/// SPIR-V in figures, an instruction on each line: opcode, then operands. Its five header words come first.
fn listing(words: &[u32]) -> String {
    let (header, mut rest) = words.split_at(words.len().min(5));
    let hex = |words: &[u32]| words.iter().map(|word| format!(" {word:08x}")).collect::<String>();
    let mut lines = vec![
        format!("; SPIR-V, {} words; --out FILE writes them for spirv-dis", words.len()),
        format!("header{}", hex(header)),
    ];
    while let Some(&first) = rest.first() {
        // The upper half of the first word counts the words of the instruction.
        let (instruction, tail) = rest.split_at(((first >> 16) as usize).clamp(1, rest.len()));
        lines.push(format!("{:>6}{}", first & 0xffff, hex(&instruction[1..])));
        rest = tail;
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spirv_is_cut_into_instructions() {
        let words = [0x0723_0203, 0x0001_0300, 28, 9, 0, 0x0002_0011, 1, 0x0003_000e, 0, 1];
        let text = listing(&words);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            ["header 07230203 00010300 0000001c 00000009 00000000", "    17 00000001", "    14 00000000 00000001"]
        );
        // A count of 0, or one beyond the end, must not hang or panic.
        assert_eq!(listing(&[0, 0, 0, 0, 0, 0, 0x0009_0001]).lines().count(), 4);
        assert_eq!(listing(&[]).lines().count(), 2);
    }

    #[test]
    fn every_kernel_has_a_headline() {
        let silent: Vec<_> = ALL.iter().map(|e| e.kernel).filter(|k| headline(k).is_empty()).map(|k| k.name).collect();
        assert!(silent.is_empty(), "{silent:?}");
    }
}
