//! Making a training step fit a memory budget: gradient checkpointing and smaller micro-batches, as little as is needed.

use super::config::RunConfig;
use super::plan::{Plan, bytes, plan};
use crate::device::Capabilities;
use crate::error::{Error, Result};

/// Changes `config` so that the predicted peak of a step stays within `train.memory_budget`, and says what was chosen and
/// why. `None` without a budget. Samples per update stay as given.
///
/// Tried in this order: as given, checkpointing, then 2, 4, … parts of each batch, for each number of parts what takes
/// fewer operations first. Parts come last because they change the losses: each is a mean over one part, and the
/// contrastive loss has its negatives only there.
///
/// # Errors
/// `Error::Config` with the smallest peak that can be reached; `Error::Limit` when only the device's limits are in the way.
pub fn fit(config: &mut RunConfig, capabilities: &Capabilities) -> Result<Option<String>> {
    let Some(budget) = config.train.memory_budget else { return Ok(None) };
    let (given, mut smallest, mut refused) = (config.train.clone(), u64::MAX, None);
    let mut first = None;
    let mut parts = 1;
    while parts <= given.batch && given.batch % parts == 0 {
        for (candidate, planned) in candidates(config, parts, capabilities)? {
            let as_given = *first.get_or_insert((planned.peak_bytes, planned.flops, planned.launches));
            smallest = smallest.min(planned.peak_bytes);
            let limit = planned.refused();
            if planned.peak_bytes <= budget && limit.is_none() {
                let said = explain(config, &candidate, &planned, as_given, parts);
                *config = candidate;
                return Ok(Some(said));
            }
            refused = limit.or(refused);
        }
        parts *= 2;
    }
    match refused {
        Some(error) if smallest <= budget => Err(error),
        _ => Err(Error::config(
            "train.memory_budget",
            format!(
                "{budget} bytes, but a step takes at least {smallest} ({}) with checkpointing and the smallest parts of \
                 train.batch={} that halving gives; raise the budget, lower train.batch, or take a smaller model",
                bytes(smallest as f64),
                given.batch
            ),
        )),
    }
}

/// The configurations with each batch in `parts`, without and with checkpointing, fewest operations first; where nothing
/// is split, as given first.
fn candidates(config: &RunConfig, parts: usize, capabilities: &Capabilities) -> Result<Vec<(RunConfig, Plan)>> {
    let mut all = Vec::new();
    for again in [false, true] {
        if config.train.checkpoint_blocks && !again {
            continue;
        }
        let mut candidate = config.clone();
        candidate.train.checkpoint_blocks = again;
        candidate.train.batch /= parts;
        candidate.train.micro_batches *= parts;
        candidate.train.validate()?;
        let planned = plan(&candidate, Some(capabilities.clone()))?;
        all.push((candidate, planned));
    }
    all.sort_by(|(_, a), (_, b)| a.flops.total_cmp(&b.flops).then(a.launches.cmp(&b.launches)));
    Ok(all)
}

fn explain(given: &RunConfig, chosen: &RunConfig, planned: &Plan, as_given: (u64, f64, u64), parts: usize) -> String {
    let budget = bytes(given.train.memory_budget.unwrap_or_default() as f64);
    let (peak, before) = (bytes(planned.peak_bytes as f64), bytes(as_given.0 as f64));
    if chosen.train == given.train {
        return format!("memory budget {budget}: the step fits as given, {peak} at the peak");
    }
    let mut changes = Vec::new();
    if chosen.train.checkpoint_blocks != given.train.checkpoint_blocks {
        changes.push("train.checkpoint_blocks=true".to_owned());
    }
    if parts > 1 {
        let (batch, micro) = (chosen.train.batch, chosen.train.micro_batches);
        changes.push(format!("train.batch={batch} train.micro_batches={micro}"));
    }
    let operations = planned.flops / as_given.1.max(1.0);
    let launches = planned.launches as f64 / as_given.2.max(1) as f64;
    let note = if parts > 1 {
        "; losses are means over a micro-batch, and the contrastive loss compares a sample only with its own micro-batch, \
         so it has fewer negatives than as given"
    } else {
        ""
    };
    format!(
        "memory budget {budget}: {before} at the peak as given; chosen {} with {peak}, {operations:.2} times the operations \
         and {launches:.2} times the launches{note}",
        changes.join(" ")
    )
}
