//! Which kernel computes a product, and how it is cut: a pure function of shapes and of what the device can do, so that the
//! same product gives the same bytes on the same device every time. A context with measured choices
//! ([`Context::set_tuning`]) is asked first.

use std::fmt;

use super::matmul::{Batched, Tiles};
use super::matmul_images::Operand;
use super::{matmul_cooperative, matmul_tiled};
use crate::device::{Context, Matrix};
use crate::shape::DType;

/// A kernel with its cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `matmul`: everything in registers. Processors that play GPU, and a few rows on GPUs.
    Registers(Tiles),
    /// `matmul_tiled`: tiles in workgroup memory.
    Tiled(matmul_tiled::Tile),
    /// `matmul_cooperative`: halves through cooperative matrices.
    Cooperative(matmul_cooperative::Tile),
}

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The kernel.
    pub variant: Variant,
    /// Parts that K is cut into: partial sums in f32, added in order by `matmul_sum`. 1: no cut.
    pub splits: usize,
}

/// Invocations that keep a large GPU busy: about 500, each with many registers, for each of its 130 processors.
const FULL: usize = 65_536;
/// Shortest part of K worth the memory traffic of its partial sums, and where most of the device would stand idle without more.
const LEAST_PART: usize = 256;
const LEAST_PART_IDLE: usize = 64;
/// The same for tiles of more than 256 invocations.
const LEAST_PART_ALONE: usize = 512;
/// Rows that one invocation of the register kernel holds: below this a tile would be mostly empty.
const FEW_ROWS: usize = 16;

impl Plan {
    /// The plan for `m` on this context's device, with operands stored as `dtype`.
    #[must_use]
    pub fn new(ctx: &Context, m: &Batched, dtype: DType) -> Self {
        let measured = ctx.tuned(|| class(m, dtype));
        let known = measured.and_then(|name| variants(ctx, m, dtype).into_iter().find(|(known, _)| *known == name));
        known.map_or_else(|| Self::by_rule(ctx, m, dtype), |(_, plan)| plan)
    }

    /// The plan that follows from shapes and abilities alone.
    fn by_rule(ctx: &Context, m: &Batched, dtype: DType) -> Self {
        if ctx.capabilities().software {
            return Self::whole(Variant::Registers(Tiles::new(ctx, m.rows, m.width.div_ceil(4))));
        }
        let halves = dtype == DType::F16 && matmul_cooperative::available(ctx);
        Self::on_gpu(m, if halves { matmul_cooperative::tiles(ctx.capabilities()) } else { Vec::new() })
    }

    const fn whole(variant: Variant) -> Self {
        Self { variant, splits: 1 }
    }

    /// The choice on hardware; `cooperative` tiles where they may be used, largest first.
    fn on_gpu(m: &Batched, cooperative: Vec<matmul_cooperative::Tile>) -> Self {
        let tiles = |rows: usize, columns: usize| m.rows.div_ceil(rows) * m.width.div_ceil(columns) * m.batches;
        // A tile that fills most of the device once K is cut: the larger one moves fewer bytes. The largest is all that a processor
        // holds, with nobody to work while it begins and ends, and what it is good for is feeding matrices of 16.
        let busy = |tile: &matmul_cooperative::Tile| {
            let invocations = tiles(tile.rows(), tile.columns()) * tile.invocations();
            let splits = splits(m, invocations);
            let alone = tile.invocations() > 256;
            let long = tile.matrix == Matrix::M16 && m.inner / splits >= LEAST_PART_ALONE;
            4 * invocations * splits >= 3 * FULL && (long || !alone)
        };
        let last = cooperative.last().copied();
        if let Some(tile) = cooperative.into_iter().find(busy).or(last)
            && m.inner >= tile.matrix.size()
        {
            let splits = splits(m, tiles(tile.rows(), tile.columns()) * tile.invocations());
            return Self { variant: Variant::Cooperative(tile), splits };
        }
        if m.rows <= FEW_ROWS {
            let cut = Tiles::few_rows(m.rows, m.width.div_ceil(4));
            return Self {
                variant: Variant::Registers(cut),
                splits: splits(m, cut.columns * m.batches * cut.workgroup),
            };
        }
        let large = matmul_tiled::LARGE;
        if tiles(large.rows(), large.columns()) * large.invocations() >= FULL {
            return Self::whole(Variant::Tiled(large));
        }
        let small = matmul_tiled::SMALL;
        let invocations = tiles(small.rows(), small.columns()) * small.invocations();
        Self { variant: Variant::Tiled(small), splits: splits(m, invocations) }
    }
}

/// The class that a measured choice holds for: form, storage of the operands, and M, N, K each rounded to a power of two, as in
/// `NT f32 2048 1024 512`. A batch has its number of products behind it, rounded alike: `NT f32 8 1024 1024 x64`.
#[must_use]
pub fn class(m: &Batched, dtype: DType) -> String {
    let letter = |t: bool| if t { 'T' } else { 'N' };
    let power = |n: usize| 1_u64 << (n.max(1) as f64).log2().round() as u32;
    let (left, right) = (letter(m.form.trans_a), letter(m.form.trans_b));
    let batches = if m.batches > 1 { format!(" x{}", power(m.batches)) } else { String::new() };
    format!("{left}{right} {dtype} {} {} {}{batches}", power(m.rows), power(m.width), power(m.inner))
}

/// What may compute a product on this context's device, each with its name in a table of measured choices. A name that is not
/// here, such as one of cooperative matrices where K is too short for them, leaves the choice to the rule.
#[must_use]
pub fn variants(ctx: &Context, m: &Batched, dtype: DType) -> Vec<(String, Plan)> {
    let cells = m.width.div_ceil(4);
    let software = ctx.capabilities().software;
    let cut = |(blocks, width, workgroup)| {
        let tiles = Tiles::cut(m.rows, cells, blocks, width, workgroup);
        (format!("registers {blocks}x{width}x{workgroup}"), Plan::whole(Variant::Registers(tiles)))
    };
    if software {
        return ON_SOFTWARE.into_iter().map(cut).collect();
    }
    let tiles = |rows: usize, columns: usize| m.rows.div_ceil(rows) * m.width.div_ceil(columns) * m.batches;
    let mut all: Vec<_> = ON_HARDWARE.into_iter().map(cut).collect();
    for tile in [matmul_tiled::LARGE, matmul_tiled::SMALL] {
        let invocations = tiles(tile.rows(), tile.columns()) * tile.invocations();
        let plan = Plan { variant: Variant::Tiled(tile), splits: splits(m, invocations) };
        all.push((format!("tiled {}x{}x{}", tile.rows(), tile.columns(), tile.depth), plan));
    }
    if dtype == DType::F16 && matmul_cooperative::available(ctx) {
        let fitting = matmul_cooperative::tiles(ctx.capabilities()).into_iter();
        all.extend(fitting.filter(|tile| m.inner >= tile.matrix.size()).map(|tile| {
            let invocations = tiles(tile.rows(), tile.columns()) * tile.invocations();
            let plan = Plan { variant: Variant::Cooperative(tile), splits: splits(m, invocations) };
            (format!("cooperative {}x{}x{}", tile.rows(), tile.columns(), tile.depth), plan)
        }));
    }
    all
}

/// Blocks of rows, cells of columns, invocations of the register kernel that are tried on processors.
const ON_SOFTWARE: [(usize, usize, usize); 8] =
    [(8, 2, 8), (8, 1, 8), (4, 2, 8), (4, 1, 8), (2, 2, 8), (2, 1, 8), (1, 2, 8), (8, 2, 16)];
/// The same on GPUs, where registers are scarcer.
const ON_HARDWARE: [(usize, usize, usize); 5] = [(4, 1, 32), (2, 2, 32), (2, 1, 32), (1, 2, 32), (1, 1, 32)];

/// Parts of K for a product of that many invocations: as many as fill the device, equal, of whole cells, none too short.
/// A K without such a divisor stays whole, and so does a batch.
fn splits(m: &Batched, invocations: usize) -> usize {
    // Only the rows of B can begin elsewhere in images.
    if m.batches > 1 || m.images.is_some_and(|images| images.of != Operand::B) {
        return 1;
    }
    let invocations = invocations.max(1);
    let parts = |full: usize, least: usize| (full / invocations).min(m.inner / least);
    // An eighth of the device is too little to hide how long a step along K takes: shorter parts, up to that eighth.
    let most = parts(FULL, LEAST_PART).max(parts(FULL / 8, LEAST_PART_IDLE));
    (2..=most).rev().find(|s| m.inner.is_multiple_of(4 * s)).unwrap_or(1)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.variant {
            Variant::Registers(tiles) => write!(f, "registers {}x{}", 4 * tiles.blocks, 4 * tiles.cells)?,
            Variant::Tiled(tile) => write!(f, "tiled {}x{}x{}", tile.rows(), tile.columns(), tile.depth)?,
            Variant::Cooperative(tile) => {
                write!(f, "cooperative {} {}x{}x{}", tile.matrix.name(), tile.rows(), tile.columns(), tile.depth)?;
            }
        }
        if self.splits > 1 { write!(f, ", K in {} parts", self.splits) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Capabilities;

    fn product(rows: usize, width: usize, inner: usize) -> Batched {
        Batched { batches: 1, rows, width, inner, ..Batched::default() }
    }

    #[test]
    fn plans_on_hardware_are_these() {
        let device = |matrix, subgroup, workgroup_bytes| {
            let host = Context::cpu().capabilities().clone();
            let subgroup_size = Some(subgroup);
            let matrix = Some(matrix);
            Some(Capabilities { matrix, subgroup_size, workgroup_bytes, workgroup_invocations: 1024, ..host })
        };
        let (h200, small) = (device(Matrix::M16, 32, 48 << 10), device(Matrix::M16, 32, 16 << 10));
        let apple = device(Matrix::M8, 32, 32 << 10);
        let table = [
            ((4096, 4096, 4096), &None, "tiled 128x128x16"),
            ((1568, 768, 768), &None, "tiled 64x64x16, K in 3 parts"),
            ((768, 768, 12544), &None, "tiled 64x64x16, K in 7 parts"),
            ((64, 768, 12544), &None, "tiled 64x64x16, K in 49 parts"),
            ((768, 10, 12544), &None, "tiled 64x64x16, K in 49 parts"),
            ((8, 768, 768), &None, "registers 8x4, K in 12 parts"),
            ((8, 768, 770), &None, "registers 8x4"),
            ((4096, 4096, 4096), &h200, "cooperative 16x16x16 256x128x32"),
            ((4096, 4096, 256), &h200, "cooperative 16x16x16 128x128x32"),
            ((12544, 768, 768), &h200, "cooperative 16x16x16 256x128x32"),
            ((4096, 4096, 4096), &small, "cooperative 16x16x16 64x64x32"),
            ((768, 768, 12544), &h200, "cooperative 16x16x16 256x128x32, K in 7 parts"),
            ((1568, 768, 768), &h200, "cooperative 16x16x16 128x128x32, K in 3 parts"),
            ((64, 768, 768), &h200, "cooperative 16x16x16 64x64x32, K in 8 parts"),
            ((4096, 4096, 8), &h200, "tiled 128x128x16"),
            ((4096, 4096, 4096), &apple, "cooperative 8x8x8 64x64x32"),
        ];
        let mut wrong = Vec::new();
        for ((m, n, k), device, want) in table {
            let tiles = device.as_ref().map(matmul_cooperative::tiles).unwrap_or_default();
            let got = Plan::on_gpu(&product(m, n, k), tiles).to_string();
            if got != want {
                wrong.push(format!("{m}x{n}x{k}: {got}, not {want}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Classes of tables written before there were any of batches are as they were, and a batch asks for its own.
    #[test]
    fn a_batch_has_a_class_of_its_own() {
        let one = product(8, 1000, 768);
        let many = Batched { batches: 56, ..one };
        let names = [&one, &many].map(|m| class(m, DType::F32));
        assert_eq!(names, ["NN f32 8 1024 1024", "NN f32 8 1024 1024 x64"]);
        let ctx = Context::cpu();
        let by_rule = [&one, &many].map(|m| Plan::new(&ctx, m, DType::F32));
        for (at, name) in names.iter().enumerate() {
            ctx.set_tuning([(name.clone(), "registers 1x2x8".to_owned())].into());
            let chosen = [&one, &many].map(|m| Plan::new(&ctx, m, DType::F32));
            assert!(chosen[at] != by_rule[at] && chosen[1 - at] == by_rule[1 - at], "{name}: {chosen:?}");
        }
    }

    #[test]
    fn parts_of_k_are_equal_whole_cells() {
        let mut wrong = Vec::new();
        for inner in [256, 512, 768, 1000, 1568, 3072, 12_544, 30_522, 49_408] {
            for invocations in [64, 192, 3000, 10_000, 70_000] {
                let s = splits(&product(64, 64, inner), invocations);
                let idle = inner / s >= LEAST_PART_IDLE && s * invocations <= FULL / 8;
                let long = inner / s >= LEAST_PART && s * invocations <= FULL;
                if s > 1 && (inner % (4 * s) != 0 || !(idle || long)) {
                    wrong.push((inner, invocations, s));
                }
            }
        }
        assert!(wrong.is_empty(), "(K, invocations, parts): {wrong:?}");
    }
}
