//! Which kernel computes attention, and how it is cut: a pure function of shapes and of what the device can do, as for products
//! in [`super::matmul_plan`]. A context with measured choices ([`Context::set_tuning`]) is asked first.

use std::fmt;

use super::attention::{MAX_HEAD, Params};
use super::{
    attention, attention_backward_key, attention_backward_query, attention_cooperative,
    attention_cooperative_backward_key, attention_cooperative_backward_query, attention_tiled,
    attention_tiled_backward_key, attention_tiled_backward_query,
};
use crate::device::{Context, Kernel, Lanes, Launch, View};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::tensor::Tensor;

/// The launches that compute products of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// o, and the log-sum-exp of each row.
    Forward,
    /// Gradient of the queries.
    Query,
    /// Gradients of the keys and of the values.
    Key,
    /// All three gradients: see [`whole`].
    Whole,
}

impl Pass {
    /// Those whose variants are measured.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Query, Self::Key];

    const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Query => "query",
            Self::Key => "key",
            Self::Whole => "whole",
        }
    }
}

/// Sizes of attention. The rows of its tensors hold heads side by side, each in whole cells: heads whose width is no multiple of
/// 4 have zeros behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// B.
    pub samples: usize,
    /// H.
    pub heads: usize,
    /// N.
    pub tokens: usize,
    /// d, channels of a head.
    pub width: usize,
}

impl Sizes {
    /// Of a tensor (B, N, 3 H d) that holds queries, keys and values.
    ///
    /// # Errors
    /// `Error::Shape` when it does not split into three parts of so many heads, `Error::Limit` for heads wider than [`MAX_HEAD`].
    pub fn of(qkv: &Tensor, heads: usize) -> Result<Self> {
        let wrong = || Error::shape("attention", format!("qkv (B, N, 3 x {heads} heads x d)"), qkv.shape());
        let &[samples, tokens, columns] = qkv.dims() else { return Err(wrong()) };
        if heads == 0 || !columns.is_multiple_of(3 * heads) {
            return Err(wrong());
        }
        let width = columns / (3 * heads);
        if width > MAX_HEAD {
            return Err(Error::Limit {
                what: "width of an attention head".into(),
                needed: width as u64,
                available: MAX_HEAD as u64,
                advice: "use more heads",
            });
        }
        Ok(Self { samples, heads, tokens, width })
    }

    /// d in whole cells.
    #[must_use]
    pub const fn padded(&self) -> usize {
        self.width.next_multiple_of(4)
    }

    /// Shape of a tensor of tokens whose rows hold so many parts of all heads: 3 for qkv, 1 for o.
    #[must_use]
    pub const fn rows(&self, parts: usize) -> [usize; 3] {
        [self.samples, self.tokens, parts * self.heads * self.padded()]
    }

    /// Shape of what is kept of each row of scores.
    #[must_use]
    pub const fn statistics(&self) -> [usize; 3] {
        [self.samples, self.heads, self.tokens]
    }

    pub(super) fn check(&self, what: &str, tensor: &Tensor, parts: usize) -> Result<()> {
        Self::agree(what, tensor, self.rows(parts))
    }

    pub(super) fn check_statistics(&self, what: &str, tensor: &Tensor) -> Result<()> {
        Self::agree(what, tensor, self.statistics())
    }

    fn agree(what: &str, tensor: &Tensor, dims: [usize; 3]) -> Result<()> {
        if tensor.dims() == dims {
            return Ok(());
        }
        Err(Error::shape("attention", format!("{what} {dims:?}"), tensor.shape()))
    }

    const fn cells(&self) -> usize {
        self.width.div_ceil(4)
    }
}

/// How a pass is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// 4x4 matrices in registers.
    Registers {
        /// Cells of a row of results that an invocation owns.
        slice: usize,
        /// Rows of the other side taken together: 4, 8 or 16.
        block: usize,
        /// Invocations, of four rows each.
        workgroup: usize,
    },
    /// Tiles in workgroup memory.
    Tiled,
    /// Halves through cooperative matrices.
    Cooperative(attention_cooperative::Tile),
}

impl Plan {
    /// The plan for a pass on this context's device, with operands stored as `dtype`.
    #[must_use]
    pub fn new(ctx: &Context, pass: Pass, sizes: &Sizes, dtype: DType) -> Self {
        let measured = ctx.tuned(|| class(pass, sizes, dtype));
        let known = measured.and_then(|name| variants(ctx, sizes, dtype).into_iter().find(|(n, _)| *n == name));
        known.map_or_else(|| Self::by_rule(ctx, pass, sizes, dtype), |(_, plan)| plan)
    }

    /// The plan that follows from shapes and abilities alone.
    pub(super) fn by_rule(ctx: &Context, pass: Pass, sizes: &Sizes, dtype: DType) -> Self {
        let software = ctx.capabilities().software;
        if let Some(tile) = cooperative(ctx, sizes, dtype).filter(|_| pass != Pass::Whole) {
            return Self::Cooperative(tile);
        }
        if !software
            && pass != Pass::Whole
            && sizes.tokens >= TILED
            && attention_tiled::fits(ctx.capabilities(), sizes.width)
        {
            return Self::Tiled;
        }
        // Wide blocks pay off where there are many rows. On GPUs their registers are missing elsewhere, but the forward pass, with
        // one matrix of scores, has some left: with eight keys it reads its own rows half as often.
        let block = match sizes.tokens {
            16.. if !software && pass == Pass::Forward => 8,
            _ if !software && pass != Pass::Whole => 4,
            0..16 => 4,
            16..64 => 8,
            _ => 16,
        };
        let slice = match (software, pass) {
            (true, _) | (_, Pass::Whole) => 16,
            (false, Pass::Key) => 4,
            (false, _) => 8,
        };
        Self::registers(sizes, slice, block, if pass == Pass::Whole { 8 } else { workgroup(ctx) })
    }

    /// The slice is cut down to what a row has.
    fn registers(sizes: &Sizes, slice: usize, block: usize, workgroup: usize) -> Self {
        let slice = slice.min(sizes.cells().div_ceil(4) * 4).next_power_of_two();
        Self::Registers { slice, block, workgroup }
    }

    const fn kernel(&self, pass: Pass) -> &'static Kernel {
        match (self, pass) {
            (Self::Registers { .. }, Pass::Forward) => &attention::KERNEL,
            (Self::Registers { .. }, Pass::Query) => &attention_backward_query::KERNEL,
            (Self::Registers { .. }, Pass::Key | Pass::Whole) => &attention_backward_key::KERNEL,
            (Self::Tiled, Pass::Forward) => &attention_tiled::KERNEL,
            (Self::Tiled, Pass::Query) => &attention_tiled_backward_query::KERNEL,
            (Self::Tiled, Pass::Key | Pass::Whole) => &attention_tiled_backward_key::KERNEL,
            (Self::Cooperative(_), Pass::Forward) => &attention_cooperative::KERNEL,
            (Self::Cooperative(_), Pass::Query) => &attention_cooperative_backward_query::KERNEL,
            (Self::Cooperative(_), Pass::Key | Pass::Whole) => &attention_cooperative_backward_key::KERNEL,
        }
    }

    /// Launches a pass whose operands have been checked, with the tensors of its kernel's bindings in their order.
    pub(super) fn launch(
        &self,
        ctx: &Context,
        pass: Pass,
        sizes: &Sizes,
        masked: bool,
        tensors: &[&View],
    ) -> Result<()> {
        // Own rows of a workgroup, its invocations where the text leaves them open, cells of a slice of the results.
        let (rows, workgroup, slice) = match self {
            Self::Registers { slice, workgroup, .. } => (4 * workgroup, Some(*workgroup), *slice),
            Self::Tiled => (attention_tiled::ROWS, None, attention_tiled::WIDEST / 4),
            Self::Cooperative(tile) => (tile.rows, Some(tile.invocations()), tile.matrix.size()),
        };
        let (batches, cells) = (sizes.samples * sizes.heads, sizes.cells());
        let tiles = if pass == Pass::Whole { 1 } else { sizes.tokens.div_ceil(rows) };
        let slices = cells.div_ceil(slice);
        let params = Params {
            batches: batches as u32,
            heads: sizes.heads as u32,
            tokens: sizes.tokens as u32,
            row: (sizes.heads * cells) as u32,
            cells: cells as u32,
            tiles: tiles as u32,
            slices: slices as u32,
            scale: 1.0 / (sizes.width as f32).sqrt(),
            masked: u32::from(masked),
        };
        // Products with the other side, and one for each result; scores that slices compute again are no use.
        let (products, results) = match pass {
            Pass::Forward => (1, 1),
            Pass::Query => (2, 1),
            Pass::Key => (2, 2),
            Pass::Whole => (2, 3),
        };
        let one = 8.0 * (batches * sizes.tokens * sizes.tokens * cells) as f64;
        let launch = Launch::new(self.kernel(pass)).tensors(tensors).params(&params);
        let launch = workgroup.into_iter().fold(launch, |launch, n| launch.constant("WORKGROUP", n as f64));
        let launch = match (self, pass) {
            (Self::Registers { block, .. }, Pass::Key | Pass::Whole) => launch
                .constant("SLICE", slice as f64)
                .constant("QUERIES", *block as f64)
                .constant("WHOLE", f64::from(pass == Pass::Whole)),
            (Self::Registers { block, .. }, _) => {
                launch.constant("SLICE", slice as f64).constant("KEYS", *block as f64)
            }
            (Self::Tiled, _) => launch.constant("WIDTH", attention_tiled::width(sizes.width) as f64),
            (Self::Cooperative(tile), _) => {
                launch.constant("SUBGROUP", tile.subgroup as f64).constant("WIDTH", tile.width(sizes.width) as f64)
            }
        };
        launch.groups(batches * tiles * slices).flops(one * (products + results) as f64).run(ctx)
    }
}

/// Whether one launch computes all three gradients: five products instead of the seven of two launches, but one workgroup for each
/// head, and sums that pass through memory. For processors that play GPU, in f32, where heads keep the cores busy; what was
/// measured for the two launches is not asked for then.
#[must_use]
pub fn whole(ctx: &Context, sizes: &Sizes, dtype: DType) -> bool {
    // As many as a reduced step of `bench step` has, so that it tries this launch too.
    const BUSY: usize = 4;
    ctx.capabilities().lanes() == Lanes::Eight
        && dtype == DType::F32
        && sizes.padded() <= WIDEST_WHOLE
        && sizes.samples * sizes.heads >= BUSY
}

/// Widest head of such a launch: two cells of a query for each of eight invocations.
pub(super) const WIDEST_WHOLE: usize = 64;

/// Fewest tokens for which tiles of 32 rows are taken: of fewer, less than half a tile would be used.
const TILED: usize = 16;

/// Invocations of a workgroup of the kernels in registers.
fn workgroup(ctx: &Context) -> usize {
    match ctx.capabilities().subgroup_size {
        _ if ctx.capabilities().software => 8,
        // Half of a subgroup of 64 would stand idle.
        Some(64) => 64,
        _ => 32,
    }
}

fn cooperative(ctx: &Context, sizes: &Sizes, dtype: DType) -> Option<attention_cooperative::Tile> {
    let tile = attention_cooperative::tile(ctx.capabilities(), sizes.width)?;
    let wanted = dtype == DType::F16 && !ctx.capabilities().software;
    (wanted && attention_cooperative::available(ctx)).then_some(tile)
}

/// The class that a measured choice holds for: storage, tokens and the width of heads each rounded to a power of two, as in
/// `attention forward f16 256 64`.
#[must_use]
pub fn class(pass: Pass, sizes: &Sizes, dtype: DType) -> String {
    let power = |n: usize| 1_u64 << (n.max(1) as f64).log2().round() as u32;
    let (tokens, width) = (power(sizes.tokens), power(sizes.width));
    format!("attention {} {dtype} {tokens} {width}", pass.name())
}

/// What may compute the passes on this context's device, each with its name in a table of measured choices.
#[must_use]
pub fn variants(ctx: &Context, sizes: &Sizes, dtype: DType) -> Vec<(String, Plan)> {
    let (table, workgroup) = (if ctx.capabilities().software { ON_SOFTWARE } else { ON_HARDWARE }, workgroup(ctx));
    let named = |plan: Plan| (plan.to_string(), plan);
    let cut = table.into_iter().map(|(slice, block)| Plan::registers(sizes, slice, block, workgroup));
    let tiled =
        (!ctx.capabilities().software && attention_tiled::fits(ctx.capabilities(), sizes.width)).then_some(Plan::Tiled);
    let mut all: Vec<_> =
        cut.chain(tiled).chain(cooperative(ctx, sizes, dtype).map(Plan::Cooperative)).map(named).collect();
    // Slices that a narrow head cuts to the same are one variant.
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|(name, _)| seen.insert(name.clone()));
    all
}

/// Cells of a slice and rows of a block that are tried on processors.
const ON_SOFTWARE: [(usize, usize); 5] = [(16, 16), (16, 8), (16, 4), (8, 16), (8, 8)];
/// The same on GPUs, where registers are scarcer.
const ON_HARDWARE: [(usize, usize); 5] = [(16, 4), (8, 4), (4, 4), (8, 8), (4, 8)];

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registers { slice, block, workgroup } => write!(f, "registers {slice}x{block}x{workgroup}"),
            Self::Tiled => f.write_str("tiled"),
            Self::Cooperative(tile) => write!(f, "cooperative {} {}", tile.matrix.name(), tile.rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Capabilities, Matrix};

    #[test]
    fn plans_are_these() {
        let sizes = |tokens, width| Sizes { samples: 1, heads: 1, tokens, width };
        let host = Context::cpu().capabilities().clone();
        let gpu = Capabilities { software: false, workgroup_bytes: 32 << 10, ..host.clone() };
        let small = Capabilities { workgroup_bytes: 24 << 10, ..gpu.clone() };
        let wide = Capabilities { subgroup_size: Some(64), ..gpu.clone() };
        let matrices = |matrix, workgroup_bytes| {
            let (matrix, subgroup_size) = (Some(matrix), Some(32));
            Capabilities { matrix, subgroup_size, workgroup_bytes, ..gpu.clone() }
        };
        let (h200, apple) = (matrices(Matrix::M16, 48 << 10), matrices(Matrix::M8, 32 << 10));
        let table = [
            (&host, Pass::Forward, sizes(196, 64), DType::F32, "registers 16x16x8"),
            (&host, Pass::Key, sizes(20, 24), DType::F32, "registers 8x8x8"),
            (&host, Pass::Whole, sizes(196, 64), DType::F32, "registers 16x16x8"),
            (&host, Pass::Query, sizes(5, 4), DType::F16, "registers 4x4x8"),
            (&gpu, Pass::Forward, sizes(196, 64), DType::F16, "tiled"),
            (&gpu, Pass::Forward, sizes(9, 64), DType::F16, "registers 8x4x32"),
            (&wide, Pass::Query, sizes(196, 65), DType::F16, "registers 8x4x64"),
            (&small, Pass::Key, sizes(196, 64), DType::F16, "registers 4x4x32"),
            (&small, Pass::Forward, sizes(16, 32), DType::F32, "tiled"),
            (&h200, Pass::Forward, sizes(196, 64), DType::F32, "tiled"),
            (&h200, Pass::Forward, sizes(196, 64), DType::F16, "cooperative 16x16x16 64"),
            (&h200, Pass::Key, sizes(196, 128), DType::F16, "cooperative 16x16x16 32"),
            (&apple, Pass::Query, sizes(196, 64), DType::F16, "cooperative 8x8x8 64"),
        ];
        let mut wrong = Vec::new();
        for (has, pass, sizes, dtype, want) in table {
            // A dry run trusts the matrices.
            let ctx = Context::dry(Some(has.clone()));
            let got = Plan::new(&ctx, pass, &sizes, dtype);
            if got.to_string() != want || !variants(&ctx, &sizes, dtype).contains(&(want.to_owned(), got)) {
                wrong.push(format!("{pass:?} {sizes:?} {dtype}: {got}, not {want}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn one_launch_for_all_gradients_where_it_pays() {
        let host = Context::cpu().capabilities().clone();
        let eight = Capabilities { subgroup_size: Some(8), int64: true, ..host };
        let gpu = Capabilities { software: false, ..eight.clone() };
        let sizes = |heads, width| Sizes { samples: 2, heads, tokens: 50, width };
        let table = [
            (&eight, sizes(2, 64), DType::F32, true),
            (&eight, sizes(1, 64), DType::F32, false),
            (&eight, sizes(8, 65), DType::F32, false),
            (&eight, sizes(8, 64), DType::F16, false),
            (&gpu, sizes(8, 64), DType::F32, false),
        ];
        for (has, sizes, dtype, want) in table {
            assert_eq!(whole(&Context::dry(Some(has.clone())), &sizes, dtype), want, "{sizes:?} {dtype}");
        }
    }
}
