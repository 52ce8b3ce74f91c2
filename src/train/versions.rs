//! What a run's bytes depend on beside its configuration and its data: recorded with every checkpoint, and compared when the
//! run goes on.

use std::collections::BTreeMap;

use super::config::Precision;
use crate::device::Context;
use crate::kernels::{attention_cooperative, matmul_cooperative};

/// wgpu's version, as `Cargo.lock` has it; wgpu does not tell it.
const WGPU: &str = "30.0.1";

/// Names and values: who computes, and by which of the ways that one configuration can take.
#[must_use]
pub fn versions(ctx: &Context, precision: Precision) -> BTreeMap<String, String> {
    let has = ctx.capabilities();
    let all = [
        ("mmae", env!("CARGO_PKG_VERSION").to_owned()),
        ("wgpu", WGPU.to_owned()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("adapter", has.adapter.clone()),
        ("driver", has.driver.clone()),
        ("backend", has.backend.clone()),
        ("path", if has.software { "software" } else { "hardware" }.to_owned()),
        ("halves", has.half.name().to_owned()),
        ("lanes", has.lanes().name().to_owned()),
        ("workgroup_bytes", has.workgroup_bytes.to_string()),
        ("matrices", matrices(ctx, precision)),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What takes cooperative matrices, and what their self-tests found.
fn matrices(ctx: &Context, precision: Precision) -> String {
    let has = ctx.capabilities();
    let Some(matrix) = has.matrix else { return "none".to_owned() };
    if has.software || precision == Precision::F32 {
        return format!("{}, not used", matrix.name());
    }
    let verdict = |passed| if passed { "passed" } else { "failed" };
    let products = verdict(matmul_cooperative::available(ctx));
    let attention = verdict(attention_cooperative::available(ctx));
    format!("{}, self-test of products {products}, of attention {attention}", matrix.name())
}

/// A line for each value that is another one `now` than at `step`. What was not recorded then is not known to differ.
#[must_use]
pub fn differences(step: u64, recorded: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let differ = recorded.iter().filter_map(|(name, then)| Some((name, then, now.get(name)?)));
    differ
        .filter(|(_, then, now)| then != now)
        .map(|(name, then, now)| {
            format!(
                "{name} was \"{then}\" up to step {step} and is \"{now}\" now: what follows may not be the bytes of a run that \
                 never stopped"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Capabilities, Matrix, Storage};

    #[test]
    fn the_version_of_wgpu_is_the_one_built_with() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
        assert!(lock.contains(&format!("name = \"wgpu\"\nversion = \"{WGPU}\"\n")), "WGPU is not what Cargo.lock has");
    }

    /// Each ability that chooses another way of computing shows in what is recorded.
    #[test]
    fn another_way_of_computing_is_a_difference() {
        let has = Context::dry(None).capabilities().clone();
        let of = |has: &Capabilities, precision| versions(&Context::dry(Some(has.clone())), precision);
        let f16 = Precision::F16;
        let hardware =
            Capabilities { software: false, workgroup_bytes: 48 << 10, subgroup_size: Some(32), ..has.clone() };
        let cases = [
            ("driver", &has, Capabilities { driver: "another".into(), ..has.clone() }),
            ("halves", &has, Capabilities { half: Storage::F16Native, ..has.clone() }),
            ("lanes", &has, Capabilities { subgroup_size: Some(8), int64: true, ..has.clone() }),
            ("path", &has, Capabilities { software: false, ..has.clone() }),
            ("matrices", &hardware, Capabilities { matrix: Some(Matrix::M16), ..hardware.clone() }),
        ];
        let mut wrong = Vec::new();
        for (name, one, other) in cases {
            let said = differences(7, &of(one, f16), &of(&other, f16));
            if said.len() != 1 || !said[0].starts_with(&format!("{name} was ")) || !said[0].contains("step 7") {
                wrong.push(format!("{name}: {said:?}"));
            }
        }
        let same = differences(7, &of(&has, f16), &of(&has, f16));
        let older = BTreeMap::from([("mmae".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
        assert!(wrong.is_empty() && same.is_empty(), "{wrong:?} {same:?}");
        assert!(differences(7, &older, &of(&has, f16)).is_empty(), "what was not recorded is not known to differ");
    }
}
