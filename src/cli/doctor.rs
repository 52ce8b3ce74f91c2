//! `mmae doctor`: does this device compute what the formulas say?

use serde_json::json;

use super::output::open_with;
use super::{Common, info, print, print_json};
use crate::device::{Context, ContextOptions};
use crate::error::{Error, Result};
use crate::kernels::{ALL, Entry};
use crate::shape::DType;

/// Check the device: run every kernel on it and compare with the same formula on the CPU
#[derive(clap::Args)]
pub struct Args {}

/// One kernel in one storage.
struct Finding {
    kernel: &'static str,
    case: String,
    dtype: DType,
    wrong: Vec<String>,
}

pub fn run(_: &Args, common: &Common) -> Result<()> {
    // Poisoned memory and guard words show what is left unwritten and what is written too far.
    let options = ContextOptions { checks: true, poison: true, ..Default::default() };
    let device = open_with(common, options)?;
    if device.is_cpu() {
        common.note("the twins are compared with themselves: only crashes would show");
    }
    let twins = Context::cpu();
    let mut findings = Vec::new();
    for entry in ALL {
        for dtype in [DType::F32, DType::F16] {
            if let Some(why) = (entry.missing)(&device, dtype) {
                common.detail(format_args!("{} {dtype} left out: {why}", entry.kernel.name));
            } else if dtype == DType::F32 || entry.kernel.is_stored() || entry.kernel.has_output() {
                common.detail(format_args!("{} {dtype}", entry.kernel.name));
                findings.extend(examine(entry, dtype, &device, &twins));
            }
        }
    }
    let failed = findings.iter().filter(|f| !f.wrong.is_empty()).count();
    if common.json {
        let kernels: Vec<_> = findings.iter().map(Finding::json).collect();
        let mut report = info::to_json(&device);
        report["checks"] = json!({ "run": findings.len(), "failed": failed, "kernels": kernels });
        print_json(&report)?;
    } else {
        print(info::text(&device))?;
        print("kernels")?;
        for finding in findings.iter().filter(|f| !f.wrong.is_empty()) {
            print(format_args!("  {} {}, case {}: wrong", finding.kernel, finding.dtype, finding.case))?;
            for line in &finding.wrong {
                print(format_args!("    {line}"))?;
            }
        }
        print(format_args!("  {} of {} checks passed", findings.len() - failed, findings.len()))?;
    }
    if failed == 0 {
        return Ok(());
    }
    let detail = format!("{failed} of {} kernel checks; update the driver, or use another --device", findings.len());
    Err(Error::Check { what: "doctor".into(), detail })
}

/// The first case of a kernel; a launch that fails is a finding too.
fn examine(entry: &Entry, dtype: DType, device: &Context, twins: &Context) -> Option<Finding> {
    let case = (entry.cases)().into_iter().next()?;
    let wrong = case.compare(device, twins, dtype, 3).unwrap_or_else(|error| vec![error.to_string()]);
    Some(Finding { kernel: entry.kernel.name, case: case.label, dtype, wrong })
}

impl Finding {
    fn json(&self) -> serde_json::Value {
        json!({
            "kernel": self.kernel,
            "case": self.case,
            "dtype": self.dtype.to_string(),
            "passed": self.wrong.is_empty(),
            "wrong": self.wrong,
        })
    }
}
