//! `mmae verify`: the model on this device against golden files.

use std::path::PathBuf;

use serde_json::json;

use super::{Common, open_device, print, print_json};
use crate::error::Result;
use crate::train::config::Precision;
use crate::train::verify::{Row, require, verify};

/// Run a golden folder forward, backward and through optimiser steps; exit 1 when a tensor is beyond its tolerance
#[derive(clap::Args)]
pub struct Args {
    /// Folder with config.json, weights.safetensors, inputs.safetensors and what they make (see docs/golden.md)
    #[arg(long, value_name = "DIR")]
    golden: PathBuf,
    /// Optimiser steps to compare; the final weights are compared when all stored ones are run
    #[arg(long, value_name = "N", default_value_t = 10)]
    steps: usize,
    /// Storage of activations and working weights
    #[arg(long, value_name = "f32|f16", default_value = "f32", value_parser = ["f32", "f16"])]
    precision: String,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let context = open_device(common)?;
    let precision = if args.precision == "f16" { Precision::F16 } else { Precision::F32 };
    let rows = verify(&context, &args.golden, args.steps, precision)?;
    let failed = rows.iter().filter(|row| !row.passes()).count();
    if common.json {
        let one = |r: &Row| json!({ "name": r.name, "error": r.error, "tolerance": finite(r.tolerance), "passed": r.passes() });
        print_json(&json!({
            "adapter": context.capabilities().adapter,
            "golden": args.golden,
            "precision": args.precision,
            "steps": args.steps,
            "compared": rows.len(),
            "failed": failed,
            "rows": rows.iter().map(one).collect::<Vec<_>>(),
        }))?;
    } else {
        let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        print(format_args!("{:width$}  {:>9}  {:>9}", "tensor", "error", "tolerance"))?;
        for row in &rows {
            let mark = if row.passes() { "" } else { "  BEYOND" };
            let tolerance = finite(row.tolerance).map_or_else(|| "-".to_owned(), |t| format!("{t:.0e}"));
            print(format_args!("{:width$}  {:9.2e}  {tolerance:>9}{mark}", row.name, row.error))?;
        }
        let judged = rows.iter().filter(|row| row.judged()).count();
        let passed = rows.iter().filter(|row| row.judged() && row.passes()).count();
        let reported = match rows.len() - judged {
            0 => String::new(),
            n => format!(", {n} more reported without one,"),
        };
        let device = context.capabilities().summary();
        print(format_args!("{passed} of {judged} within tolerance{reported} on {device}"))?;
    }
    require(&rows)
}

/// JSON has no infinity: a row that is only reported has no tolerance.
fn finite(tolerance: f64) -> Option<f64> {
    tolerance.is_finite().then_some(tolerance)
}
