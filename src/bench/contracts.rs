//! What a text must do to stand in for a kernel, by kernel.

use crate::error::{Error, Result, nearest};

/// How the grid of a foreign text follows from `Params` and the overrides that it declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grid {
    /// Workgroups of TILE_ROWS x TILE_COLUMNS values of C, row tiles fastest, then column tiles, then batches.
    Tiles,
    /// ROWS_PER_GROUP rows a workgroup, and as many more as fill the statistics' last cell.
    Rows,
    /// ROWS_PER_GROUP queries, or keys, of one head a workgroup, tiles fastest, then heads.
    Queries,
    /// So many units a workgroup as the override of this name says; their number is the product of these fields.
    Units(&'static str, &'static [&'static str]),
}

/// One invocation or more for each cell of four values.
const CELLS: Grid = Grid::Units("CELLS_PER_GROUP", &["cells"]);

/// A constant that a text does not declare has the value given here: launches with another value are not its business.
pub(super) struct Contract {
    pub like: &'static str,
    /// Kernels whose launches it takes: those that a device may choose for the same work.
    pub family: &'static [&'static str],
    pub grid: Grid,
    pub constants: &'static [(&'static str, f64)],
}

const fn contract(family: &'static [&'static str], grid: Grid, constants: &'static [(&'static str, f64)]) -> Contract {
    Contract { like: family[0], family, grid, constants }
}

static CONTRACTS: [Contract; 17] = [
    contract(
        &["matmul", "matmul_tiled", "matmul_cooperative"],
        Grid::Tiles,
        &[("TRANS_A", 0.0), ("TRANS_B", 0.0), ("PATCHES", 0.0)],
    ),
    contract(&["attention", "attention_tiled", "attention_cooperative"], Grid::Queries, &[]),
    contract(
        &["attention_backward_query", "attention_tiled_backward_query", "attention_cooperative_backward_query"],
        Grid::Queries,
        &[],
    ),
    contract(
        &["attention_backward_key", "attention_tiled_backward_key", "attention_cooperative_backward_key"],
        Grid::Queries,
        &[("WHOLE", 0.0)],
    ),
    contract(&["layernorm"], Grid::Rows, &[("AFFINE", 1.0)]),
    contract(&["layernorm_backward"], Grid::Rows, &[("AFFINE", 1.0), ("ADDED", 0.0)]),
    contract(&["softmax"], Grid::Rows, &[]),
    contract(&["softmax_backward"], Grid::Rows, &[]),
    contract(&["l2_normalise"], Grid::Rows, &[]),
    contract(&["cross_entropy"], Grid::Rows, &[]),
    contract(&["gelu"], CELLS, &[]),
    contract(&["gelu_backward"], CELLS, &[]),
    contract(&["add"], CELLS, &[]),
    contract(&["adamw"], CELLS, &[("WRITE_WORKING", 1.0)]),
    contract(&["ema"], CELLS, &[("WRITE_WORKING", 1.0)]),
    contract(
        &["column_sum"],
        Grid::Units("CELLS_PER_GROUP", &["chunks", "period", "cells"]),
        &[("WEIGHTED", 0.0), ("ADDED", 0.0), ("PAIR", 0.0)],
    ),
    contract(&["masked_mse"], Grid::Units("CHUNKS_PER_GROUP", &["chunks"]), &[("ROW_MASK", 1.0), ("SAMPLE_MASK", 0.0)]),
];

/// Kernels that a text can stand in for.
#[must_use]
pub fn likes() -> Vec<&'static str> {
    CONTRACTS.iter().map(|c| c.like).collect()
}

/// The contract of a kernel.
pub(super) fn find(like: &str) -> Result<&'static Contract> {
    CONTRACTS.iter().find(|c| c.like == like).ok_or_else(|| Error::Config {
        field: "--like".into(),
        reason: format!("no text can stand in for `{like}`, but for {}", likes().join(", ")),
        nearest: nearest(like, likes()),
    })
}

/// Whether launches of `kernel` are those of a kernel that a text can stand in for, or of a variant of it.
#[cfg(test)]
pub(super) fn variant_of(kernel: &str) -> Option<&'static str> {
    CONTRACTS.iter().find(|c| c.family.contains(&kernel)).map(|c| c.like)
}
