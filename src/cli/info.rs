//! `mmae info`: what this machine offers and what the engine makes of it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Common, open_device, pipelines, print, print_json};
use crate::bench::report::matrices;
use crate::device::{Context, adapters};
use crate::error::Result;
use crate::kernels::ALL;

/// Show the adapters found, the one chosen, its features and limits, and what replaces the missing ones
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args, common: &Common) -> Result<()> {
    let context = open_device(common)?;
    if common.json { print_json(&to_json(&context)) } else { print(text(&context)) }
}

/// A feature that some devices lack.
struct Feature {
    name: &'static str,
    present: bool,
    /// What it is for.
    used_for: &'static str,
    /// What is used without it.
    otherwise: &'static str,
}

fn features(context: &Context) -> Vec<Feature> {
    let has = context.capabilities();
    let feature = |name, present, used_for, otherwise| Feature { name, present, used_for, otherwise };
    vec![
        feature("f16", has.f16, "native halves in memory", "halves packed in pairs with pack2x16float"),
        feature("immediates", has.immediates, "kernel parameters inside the command", "a ring of uniform slots"),
        feature(
            "pipelines",
            has.pipeline_cache,
            "compiled pipelines kept for the next start",
            "the driver's own cache, if it has one",
        ),
        feature("timestamps", has.timestamps, "kernel times from the device's clock", "wall time"),
        feature(
            "subgroups",
            has.subgroups,
            "cooperative matrices; sums along rows; shared loads on processors of eight lanes",
            "loads by every invocation, sums through workgroup memory",
        ),
        feature("matrices", has.matrix.is_some(), "products of halves on hardware", "products through f32 tiles"),
    ]
}

/// The file of compiled pipelines and its bytes (`None`: not written yet), or why there is none.
fn pipeline_file(context: &Context) -> Result<(PathBuf, Option<u64>), String> {
    match pipelines::path(context) {
        Ok(Some(path)) => {
            let bytes = std::fs::metadata(&path).ok().map(|data| data.len());
            Ok((path, bytes))
        }
        Ok(None) if context.capabilities().pipeline_cache => Err(format!("{}=off", pipelines::VARIABLE)),
        Ok(None) => Err("the device has no pipeline cache".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Limits in use: name, value, unit.
fn limits(context: &Context) -> Vec<(&'static str, u64, &'static str)> {
    let has = context.capabilities();
    let mut all = vec![("largest buffer", has.max_buffer, "bytes"), ("largest binding", has.max_binding, "bytes")];
    if let Some((device, _)) = context.wgpu() {
        let limits = device.limits();
        all.extend([
            ("workgroup memory", u64::from(limits.max_compute_workgroup_storage_size), "bytes"),
            ("workgroup invocations", u64::from(limits.max_compute_invocations_per_workgroup), ""),
            ("workgroups per dimension", u64::from(limits.max_compute_workgroups_per_dimension), ""),
            ("storage buffers per kernel", u64::from(limits.max_storage_buffers_per_shader_stage), ""),
            ("immediates", u64::from(limits.max_immediate_size), "bytes"),
        ]);
    }
    all
}

/// The device part of every report.
pub(super) fn to_json(context: &Context) -> Value {
    let has = context.capabilities();
    let found: Vec<_> = adapters()
        .iter()
        .map(|adapter| {
            json!({
                "name": adapter.name,
                "backend": adapter.backend.to_str(),
                "type": format!("{:?}", adapter.device_type),
                "driver": format!("{} {}", adapter.driver, adapter.driver_info).trim(),
            })
        })
        .collect();
    let features: serde_json::Map<_, _> = features(context)
        .iter()
        .map(|f| (f.name.into(), json!({ "present": f.present, "fallback": (!f.present).then_some(f.otherwise) })))
        .collect();
    let limits: serde_json::Map<_, _> =
        limits(context).iter().map(|(name, value, _)| (name.replace(' ', "_"), json!(value))).collect();
    let file = pipeline_file(context);
    let kept = file.as_ref().ok();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "adapters": found,
        "device": {
            "name": has.adapter,
            "backend": has.backend,
            "driver": has.driver,
            "software": has.software,
            "twins": context.is_cpu(),
            "half_storage": has.half.name(),
            "cooperative_matrices": matrices(context),
        },
        "pipelines": {
            "file": kept.map(|(path, _)| path),
            "bytes": kept.and_then(|(_, bytes)| *bytes),
            "reason": file.as_ref().err(),
        },
        "features": features,
        "limits": limits,
        "kernels": ALL.len(),
    })
}

/// The same for people.
pub(super) fn text(context: &Context) -> String {
    let has = context.capabilities();
    let mut lines = vec![format!("mmae {}, {} kernels", env!("CARGO_PKG_VERSION"), ALL.len()), "adapters".into()];
    let found = adapters();
    for adapter in &found {
        lines.push(format!("  {} ({}, {:?})", adapter.name, adapter.backend.to_str(), adapter.device_type));
    }
    if found.is_empty() {
        lines.push("  none: work runs on the CPU twins; scripts/demo.sh installs a software Vulkan driver".into());
    }
    lines.push(format!("device\n  {}\n  halves stored as {}", has.summary(), has.half.name()));
    lines.push(format!("  cooperative matrices: {}", matrices(context)));
    lines.push(match pipeline_file(context) {
        Ok((path, Some(bytes))) => format!("  compiled pipelines: {bytes} bytes in {}", path.display()),
        Ok((path, None)) => format!("  compiled pipelines: will be kept in {}", path.display()),
        Err(reason) => format!("  compiled pipelines: not kept ({reason})"),
    });
    lines.push("features".into());
    for feature in features(context) {
        let state = if feature.present { "yes" } else { "no " };
        let what = if feature.present { feature.used_for } else { feature.otherwise };
        lines.push(format!("  {:<12} {state}  {what}", feature.name));
    }
    lines.push("limits".into());
    for (name, value, unit) in limits(context) {
        lines.push(format!("  {name:<27} {value} {unit}").trim_end().to_owned());
    }
    lines.join("\n")
}
