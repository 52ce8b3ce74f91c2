//! The teaching versions of three kernels, in order: what each step changed, and what it gained on this device.

use super::cases::Shapes;
use super::ceilings::ceilings;
use super::clock::{DeviceClock, Effort};
use super::foreign::Foreign;
use super::probes;
use super::report::{Report, Row};
use super::run::{Event, Options, begin, end, every_case};
use crate::device::Context;
use crate::error::Result;
use crate::shape::DType;

/// One step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The kernel that it is a version of.
    pub like: &'static str,
    /// File below `shaders/ladder/`.
    pub file: &'static str,
    /// Its text.
    pub text: &'static str,
    /// Storage of tensors; the step "f16 storage" is a text run again with another part.
    pub dtype: DType,
    /// What a device must have to run it.
    pub needs: Needs,
}

/// What not every device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Any device will do.
    Nothing,
    /// Subgroup operations.
    Subgroups,
    /// Cooperative matrices of halves whose results are right.
    Matrices,
}

macro_rules! step {
    ($like:literal, $file:literal) => {
        step!($like, $file, DType::F32, Nothing)
    };
    ($like:literal, $file:literal, $dtype:expr, $needs:ident) => {
        Step {
            like: $like,
            file: $file,
            text: include_str!(concat!("../../shaders/ladder/", $file)),
            dtype: $dtype,
            needs: Needs::$needs,
        }
    };
}

/// All steps, each family in order.
pub const STEPS: [Step; 13] = [
    step!("matmul", "matmul_1_naive.wgsl"),
    step!("matmul", "matmul_2_tiled.wgsl"),
    step!("matmul", "matmul_3_registers.wgsl"),
    step!("matmul", "matmul_4_vec4.wgsl"),
    step!("matmul", "matmul_4_vec4.wgsl", DType::F16, Nothing),
    step!("matmul", "matmul_5_subgroup.wgsl", DType::F32, Subgroups),
    step!("matmul", "matmul_6_cooperative.wgsl", DType::F16, Matrices),
    step!("attention", "attention_1_three_pass.wgsl"),
    step!("attention", "attention_2_online.wgsl"),
    step!("attention", "attention_3_tiled.wgsl"),
    step!("layernorm", "layernorm_1_row.wgsl"),
    step!("layernorm", "layernorm_2_workgroup.wgsl"),
    step!("layernorm", "layernorm_3_subgroup.wgsl", DType::F32, Subgroups),
];

/// The kernels that the ladders lead to, and what they add to the last step.
pub const OWN: [(&str, &str); 3] = [
    ("matmul", "what training uses: tiles in registers, and the form that suits the device (see variant)"),
    (
        "attention",
        "what training uses: online softmax, four queries and their outputs in the registers of one invocation",
    ),
    ("layernorm", "what training uses: a workgroup shared by several rows where they are many"),
];

impl Step {
    /// The text as a stand-in for its kernel.
    ///
    /// # Errors
    /// As [`Foreign::new`].
    pub fn load(&self) -> Result<Foreign> {
        Foreign::new(&format!("shaders/ladder/{}", self.file), self.text, self.like)
    }

    /// What the step changed: the first line of the file.
    #[must_use]
    pub fn change(&self) -> String {
        let line = self.text.lines().next().unwrap_or_default().trim_start_matches('/').trim();
        let again = self.dtype == DType::F16 && self.needs != Needs::Matrices;
        if again { "f16 storage: the same text, half the bytes".to_owned() } else { line.to_owned() }
    }

    /// Why a device cannot run the step.
    #[must_use]
    pub fn missing(&self, ctx: &Context) -> Option<&'static str> {
        match self.needs {
            Needs::Subgroups if !ctx.capabilities().subgroups => Some("the device has no subgroup operations"),
            Needs::Matrices if probes::matrices(ctx).is_none() => {
                Some("the device has no cooperative matrices of halves that kernels may use")
            }
            _ => None,
        }
    }
}

/// A row with its place on the ladder.
pub struct Rung<'a> {
    /// What was measured.
    pub row: &'a Row,
    /// What the step changed.
    pub change: String,
}

/// Climbs every ladder: all steps that the device can run, in turns on one case, then the kernel that training uses.
///
/// # Errors
/// What the device reports. A wrong result is a row without times.
pub fn climb(ctx: &Context, shapes: &Shapes, effort: Effort, command: &str) -> Result<Report> {
    let clock = DeviceClock::new(ctx);
    let mut report = begin(ctx, &clock, effort, command)?;
    let found = ceilings(ctx, &clock, effort)?;
    report.ceilings = Some(found.clone());
    for (like, _) in OWN {
        for dtype in [DType::F32, DType::F16] {
            let mut texts = Vec::new();
            for step in STEPS.iter().filter(|s| s.like == like && s.dtype == dtype) {
                match step.missing(ctx) {
                    Some(why) => report.skipped.push(format!("{}: {why}", step.file)),
                    None => texts.push(step.load()?.on(ctx.capabilities())?),
                }
            }
            if texts.is_empty() {
                continue;
            }
            let filter = Some(shapes.ladder_case(like));
            let options = Options { filter, dtypes: vec![dtype], shapes, effort, texts, command: command.to_owned() };
            every_case(ctx, &clock, &found, &options, &mut report, &mut |_: Event<'_>| {})?;
        }
    }
    end(ctx, &clock, effort, &mut report)?;
    Ok(report)
}

/// The rows of a ladder in its order: steps by their files, f16 after f32, the kernel itself last.
#[must_use]
pub fn rungs<'a>(report: &'a Report, like: &str) -> Vec<Rung<'a>> {
    let place = |row: &Row| {
        let step = STEPS.iter().position(|s| s.file == row.text && s.dtype.to_string() == row.storage);
        step.unwrap_or(STEPS.len() + usize::from(row.storage != "f32"))
    };
    let mut rows: Vec<_> = report.cases.iter().filter(|row| row.kernel == like).collect();
    rows.sort_by_key(|row| place(row));
    let own = OWN.iter().find(|(kernel, _)| *kernel == like).map_or("", |(_, change)| change);
    let change = |row: &Row| STEPS.get(place(row)).map_or_else(|| own.to_owned(), Step::change);
    rows.into_iter().map(|row| Rung { row, change: change(row) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_compiles_in_every_storage_and_says_what_it_changed() {
        use crate::bench::foreign::translations;
        let mut wrong = Vec::new();
        for step in STEPS {
            let text = step.load().unwrap();
            if step.change().len() < 20 || text.like != step.like {
                wrong.push(format!("{}: {:?}", step.file, step.change()));
            }
            wrong.extend(translations(&text).into_iter().map(|error| error.to_string()));
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
