//! Variants of matrix products, of batches of them and of attention against the choice by rule: correct first, then in turns, then once more against each other.

mod batches;

use super::case::{Case, Work};
use super::cases::Shapes;
use super::cases::attention::{Heads, passes};
use super::cases::products::{Product, SHORT, products};
use super::clock::{Clock, Effort, Spread, repetitions};
use super::oracle::verdict;
use crate::device::{Context, Tuning};
use crate::error::{Error, Result};
use crate::kernels::matmul::Batched;
use crate::kernels::{attention_plan, matmul_plan};
use crate::shape::DType;

/// A variant is kept from this much faster on: less is not worth a choice that the next driver may turn round.
const LEAST_GAIN: f64 = 1.03;

/// What was found about one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// As in [`matmul_plan::class`] or [`attention_plan::class`].
    pub class: String,
    /// The case that stands for it.
    pub label: String,
    /// The plan by rule.
    pub rule: String,
    /// Its time in seconds.
    pub rule_time: Spread,
    /// The fastest other variant that is correct, and its time in seconds; `None` where there is none.
    pub best: Option<(String, Spread)>,
    /// Whether it is faster beyond the spread, and by 3 % at least.
    pub kept: bool,
    /// Variants that are wrong, with the first difference. The rule's own is `rule`.
    pub wrong: Vec<(String, String)>,
}

/// Measures each class of products, of batches of products and of attention at these shapes once. The choices that the context had are in effect again
/// afterwards.
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
        for &dtype in dtypes {
            for subject in subjects(ctx, shapes, dtype) {
                if seen.insert(subject.class.clone()) {
                    let found = examine(ctx, clock, effort, &subject)?;
                    tell(&found);
                    if let (true, Some((name, _))) = (found.kept, found.best) {
                        won.insert(found.class, name);
                    }
                }
            }
        }
        Ok(())
    };
    let done = all();
    ctx.set_tuning((*before).clone());
    done.map(|()| won)
}

/// Work that has variants.
struct Subject {
    dtype: DType,
    /// Of the case.
    class: String,
    /// Classes that a choice must hold for, so that everything that `cases` launch goes by it.
    classes: Vec<String>,
    /// What is measured, then the same with edges everywhere: a variant must be right for the whole class.
    cases: [Case; 2],
    /// The plan by rule.
    rule: String,
    /// The other variants.
    names: Vec<String>,
}

/// Everything to examine, planned by rule.
fn subjects(ctx: &Context, shapes: &Shapes, dtype: DType) -> Vec<Subject> {
    ctx.set_tuning(Tuning::new());
    let mut all: Vec<_> = products(shapes).into_iter().map(|p| of_product(ctx, p, dtype)).collect();
    all.extend(batches::products(ctx, shapes).map(|p| of_batch(ctx, p, dtype)));
    // Where one launch computes all gradients the two others are not launched.
    let launched =
        |p: &Heads| p.kind == attention_plan::Pass::Forward || !attention_plan::whole(ctx, &p.sizes(), dtype);
    all.extend(passes(shapes).into_iter().filter(launched).map(|p| of_attention(ctx, p, dtype)));
    all
}

fn of_product(ctx: &Context, product: Product, dtype: DType) -> Subject {
    let batched = |p: Product| {
        let Product { m, n, k, form, .. } = p;
        Batched { form, batches: 1, rows: m, width: n, inner: k, ..Batched::default() }
    };
    let edged = Product {
        m: product.m.saturating_sub(3).max(1),
        n: product.n.saturating_sub(5).max(1),
        k: 2 * SHORT + 1,
        ..product
    };
    // The twin does products of a shorter K.
    let short = |p: Product| Product { k: p.k.min(SHORT), ..p };
    let class = |p: Product| matmul_plan::class(&batched(p), dtype);
    let rule = matmul_plan::Plan::new(ctx, &batched(product), dtype);
    // The rule's own plan is one of the variants under another name, most often.
    let others = matmul_plan::variants(ctx, &batched(product), dtype).into_iter().filter(|(_, plan)| *plan != rule);
    Subject {
        dtype,
        class: class(product),
        classes: [product, short(product), edged, short(edged)].map(class).to_vec(),
        cases: [product.case(), edged.case()],
        rule: rule.to_string(),
        names: others.map(|(name, _)| name).collect(),
    }
}

fn of_batch(ctx: &Context, batch: batches::Products, dtype: DType) -> Subject {
    let edged = batch.edged();
    let class = |p: batches::Products| matmul_plan::class(&p.batched(), dtype);
    let rule = matmul_plan::Plan::new(ctx, &batch.batched(), dtype);
    let others = matmul_plan::variants(ctx, &batch.batched(), dtype).into_iter().filter(|(_, plan)| *plan != rule);
    Subject {
        dtype,
        class: class(batch),
        classes: [batch, batch.short(), edged, edged.short()].map(class).to_vec(),
        cases: [batch.case(), edged.case()],
        rule: rule.to_string(),
        names: others.map(|(name, _)| name).collect(),
    }
}

fn of_attention(ctx: &Context, pass: Heads, dtype: DType) -> Subject {
    let edged = Heads { tokens: pass.tokens.saturating_sub(3).max(1), ..pass };
    let class = |p: Heads| attention_plan::class(p.kind, &p.sizes(), dtype);
    let rule = attention_plan::Plan::new(ctx, pass.kind, &pass.sizes(), dtype);
    let others = attention_plan::variants(ctx, &pass.sizes(), dtype).into_iter().filter(|(_, plan)| *plan != rule);
    Subject {
        dtype,
        class: class(pass),
        classes: [pass, edged].map(class).to_vec(),
        cases: [pass.case(), edged.case()],
        rule: rule.to_string(),
        names: others.map(|(name, _)| name).collect(),
    }
}

impl Subject {
    /// The choice of a variant; `None`: by rule.
    fn choice(&self, name: Option<&String>) -> Tuning {
        let all = |name: &String| self.classes.iter().map(|class| (class.clone(), name.clone())).collect();
        name.map(all).unwrap_or_default()
    }

    /// The first difference of a case from what is right.
    fn difference(&self, ctx: &Context) -> Result<Option<String>> {
        for case in &self.cases {
            match verdict(case, ctx, self.dtype, &|work| work.run(ctx)) {
                Ok(found) if found.wrong.is_empty() => {}
                Ok(found) => return Ok(Some(format!("{}: {}", case.label, found.wrong.join("; ")))),
                Err(error @ Error::DeviceLost { .. }) => return Err(error),
                Err(error) => return Ok(Some(error.to_string())),
            }
        }
        Ok(None)
    }
}

fn examine(ctx: &Context, clock: &dyn Clock, effort: Effort, subject: &Subject) -> Result<Finding> {
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for name in std::iter::once(None).chain(subject.names.iter().map(Some)) {
        let choices = subject.choice(name);
        ctx.set_tuning(choices.clone());
        match subject.difference(ctx)? {
            None => right.push((name, choices)),
            Some(difference) => wrong.push((name.map_or("rule", String::as_str).to_owned(), difference)),
        }
    }
    let [case, _] = &subject.cases;
    let mut found = Finding {
        class: subject.class.clone(),
        label: case.label.clone(),
        rule: subject.rule.clone(),
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
    let times = in_turns(case, ctx, clock, effort, subject.dtype, &choices)?;
    found.rule_time = times.first().copied().unwrap_or_default();
    let fastest = times.iter().zip(&right).skip(1).min_by(|a, b| a.0.median.total_cmp(&b.0.median));
    if let (Some((_, (Some(name), choices))), Some((_, rule))) = (fastest, right.first()) {
        // The fastest of many may be so by luck: both once more.
        let times = in_turns(case, ctx, clock, effort, subject.dtype, &[rule, choices])?;
        if let [by_rule, other] = times[..] {
            found.kept = other.high < by_rule.low && LEAST_GAIN * other.median < by_rule.median;
            (found.rule_time, found.best) = (by_rule, Some(((*name).clone(), other)));
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
