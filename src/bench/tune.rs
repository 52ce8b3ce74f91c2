//! Variants of matrix products against the choice by rule: correct first, then in turns, then once more against each other.

use super::case::{Case, Work};
use super::cases::Shapes;
use super::cases::products::{Product, SHORT, products};
use super::clock::{Clock, Effort, Spread, repetitions};
use super::oracle::verdict;
use crate::device::{Context, Tuning};
use crate::error::{Error, Result};
use crate::kernels::matmul::Batched;
use crate::kernels::matmul_plan::{Plan, class, variants};
use crate::shape::DType;

/// What was found about one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// As in [`class`].
    pub class: String,
    /// The product that stands for it.
    pub label: String,
    /// The plan by rule.
    pub rule: String,
    /// Its time in seconds.
    pub rule_time: Spread,
    /// The fastest other variant that is correct, and its time in seconds; `None` where there is none.
    pub best: Option<(String, Spread)>,
    /// Whether it is faster beyond the spread.
    pub kept: bool,
    /// Variants that are wrong, with the first difference. The rule's own is `rule`.
    pub wrong: Vec<(String, String)>,
}

/// Measures each class of products at these shapes once. The choices that the context had are in effect again afterwards.
///
/// # Errors
/// What the device reports. A wrong variant is no error here.
pub fn tune(
    ctx: &Context,
    clock: &dyn Clock,
    effort: Effort,
    shapes: &Shapes,
    dtypes: &[DType],
    tell: &mut dyn FnMut(&Finding),
) -> Result<Tuning> {
    let before = ctx.tuning();
    let mut won = Tuning::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut all = || {
        for (dtype, product) in dtypes.iter().flat_map(|dtype| products(shapes).into_iter().map(move |p| (*dtype, p))) {
            if seen.insert(class(&batched(product), dtype)) {
                let found = examine(ctx, clock, effort, product, dtype)?;
                tell(&found);
                if let (true, Some((name, _))) = (found.kept, found.best) {
                    won.insert(found.class, name);
                }
            }
        }
        Ok(())
    };
    let done = all();
    ctx.set_tuning((*before).clone());
    done.map(|()| won)
}

fn batched(product: Product) -> Batched {
    let Product { m, n, k, form, .. } = product;
    Batched { form, batches: 1, rows: m, width: n, inner: k, ..Batched::default() }
}

/// The same product with edges everywhere and a K of its own: the variant must be right for the whole class.
fn edged(product: Product) -> Product {
    Product {
        m: product.m.saturating_sub(3).max(1),
        n: product.n.saturating_sub(5).max(1),
        k: 2 * SHORT + 1,
        ..product
    }
}

/// The choice `name` for a product, for the one with edges, and for the shorter ones that the twin does; `None`: by rule.
fn choice(product: Product, dtype: DType, name: Option<&String>) -> Tuning {
    let edged = edged(product);
    let short = |p: Product| Product { k: p.k.min(SHORT), ..p };
    let classes = [product, short(product), edged, short(edged)].map(|p| class(&batched(p), dtype));
    name.map(|name| classes.map(|class| (class, name.clone())).into_iter().collect()).unwrap_or_default()
}

/// The first difference of a product, or of the one with edges, from what is right.
fn difference(ctx: &Context, product: Product, dtype: DType) -> Result<Option<String>> {
    for case in [product.case(), edged(product).case()] {
        match verdict(&case, ctx, dtype, &|work| work.run(ctx)) {
            Ok(found) if found.wrong.is_empty() => {}
            Ok(found) => return Ok(Some(format!("{}: {}", case.label, found.wrong.join("; ")))),
            Err(error @ Error::DeviceLost { .. }) => return Err(error),
            Err(error) => return Ok(Some(error.to_string())),
        }
    }
    Ok(None)
}

fn examine(ctx: &Context, clock: &dyn Clock, effort: Effort, product: Product, dtype: DType) -> Result<Finding> {
    let (case, m) = (product.case(), batched(product));
    ctx.set_tuning(Tuning::new());
    let rule = Plan::new(ctx, &m, dtype);
    // The rule's own plan is one of the variants under another name, most often.
    let names = variants(ctx, &m, dtype).into_iter().filter(|(_, plan)| *plan != rule).map(|(name, _)| Some(name));
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for name in std::iter::once(None).chain(names) {
        let choices = choice(product, dtype, name.as_ref());
        ctx.set_tuning(choices.clone());
        match difference(ctx, product, dtype)? {
            None => right.push((name, choices)),
            Some(difference) => wrong.push((name.unwrap_or_else(|| "rule".into()), difference)),
        }
    }
    let mut found = Finding {
        class: class(&m, dtype),
        label: case.label.clone(),
        rule: rule.to_string(),
        rule_time: Spread::default(),
        best: None,
        kept: false,
        wrong,
    };
    // Where the rule's own choice is wrong the device is broken: nothing is chosen.
    if right.first().is_none_or(|(name, _)| name.is_some()) {
        return Ok(found);
    }
    let choices: Vec<&Tuning> = right.iter().map(|(_, choices)| choices).collect();
    let times = in_turns(&case, ctx, clock, effort, dtype, &choices)?;
    found.rule_time = times.first().copied().unwrap_or_default();
    let fastest = times.iter().zip(&right).skip(1).min_by(|a, b| a.0.median.total_cmp(&b.0.median));
    if let (Some((_, (Some(name), choices))), Some((_, rule))) = (fastest, right.first()) {
        // The fastest of many may be so by luck: both once more.
        let times = in_turns(&case, ctx, clock, effort, dtype, &[rule, choices])?;
        if let [by_rule, other] = times[..] {
            found.kept = other.high < by_rule.low;
            (found.rule_time, found.best) = (by_rule, Some((name.clone(), other)));
        }
    }
    Ok(found)
}

/// Times of one case under each choice, a round of each after the other.
fn in_turns(
    case: &Case,
    ctx: &Context,
    clock: &dyn Clock,
    effort: Effort,
    dtype: DType,
    choices: &[&Tuning],
) -> Result<Vec<Spread>> {
    let work: Work = (case.make)(ctx, dtype, 100)?;
    let mut once = |_| work.run(ctx).map(drop);
    let mut counts = Vec::new();
    for choices in choices {
        ctx.set_tuning((*choices).clone());
        counts.push(repetitions(clock, effort, 1, &mut once)?);
    }
    let mut times = vec![Vec::new(); choices.len()];
    for _ in 0..effort.rounds {
        for ((choices, count), all) in choices.iter().zip(&counts).zip(&mut times) {
            ctx.set_tuning((*choices).clone());
            all.push(clock.time(*count, &mut once)?.best() / *count as f64);
        }
    }
    ctx.trim();
    Ok(times.into_iter().map(Spread::of).collect())
}
