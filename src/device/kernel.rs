//! What a kernel is: its text, the parts joined before it, its bindings and its CPU twin.

use crate::shape::DType;

use super::choices::{Lanes, Matrix};
use super::twin::Twin;
use crate::error::Result;

/// One compute kernel. Its text is `shaders/NAME.wgsl`, its entry point `main`.
pub struct Kernel {
    /// File stem of the shader and of the module that launches it.
    pub name: &'static str,
    /// The WGSL text as it stands in the file.
    pub source: &'static str,
    /// Parts joined before the text, besides those that the bindings ask for.
    pub parts: &'static [Part],
    /// Buffers of group 0 in binding order.
    pub bindings: &'static [Binding],
    /// Whether an epilogue part is joined (buffers in group 1).
    pub epilogues: bool,
    /// The same computation on the CPU, from the formula.
    pub twin: fn(&mut Twin<'_>) -> Result<()>,
}

/// A file of `shaders/parts/` that a kernel asks for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// One-dimensional grids folded to two dimensions.
    Grid,
    /// Sums and maxima over a workgroup of 64: which of two files, the device's subgroups decide. After [`Part::Rows`].
    Reduce,
    /// The same through workgroup memory whatever the subgroups: what a text of the reader's own asks for.
    ReduceAny,
    /// Which values of a cell belong to a row, and what they come to.
    Rows,
    /// Cells in buffers: which of two files, the device's subgroups decide. Joined unasked where a binding is stored or an
    /// output.
    Cells,
    /// Philox4x32-10 random numbers.
    Philox,
    /// GELU and its slope.
    Gelu,
    /// Parameters of the attention kernels.
    AttentionParams,
    /// Their products in registers. After [`Part::Loads`].
    Attention,
    /// Products of rows of outputs and of their gradients.
    AttentionDelta,
    /// Operands and results of the gradients of keys and values. After [`Part::Attention`] and [`Part::Given`].
    AttentionKeys,
    /// Matrices of eight invocations shown to all of them: which of two files, the device's subgroups decide.
    Given,
    /// Tiles of their rows in workgroup memory.
    AttentionTile,
    /// Their products through cooperative matrices. After [`Part::Matrix`].
    AttentionMatrix,
    /// Parameters of the kernels of a product.
    ProductParams,
    /// Rows of a product's matrices that are patches of images.
    Patches,
    /// Blocks in which tiles of a product are copied to workgroup memory. After [`Part::Patches`].
    Blocks,
    /// A tile of a product in registers. After [`Part::Loads`].
    Tile,
    /// Eight cells that all invocations of a workgroup need: which of two files, the device's subgroups decide.
    Loads,
    /// Types of the device's cooperative matrices. Such a kernel takes native halves only.
    Matrix,
    /// Their sums in workgroup memory, where lanes read them.
    Handed,
    /// Sums of the rows of a product's left operand: the kernel takes [`EpilogueKind::RowSums`], whose file stands for this part then.
    RowSums,
}

impl Part {
    /// File name and text; `lanes` and `matrix` choose among files that stand for one part.
    #[must_use]
    pub const fn file(self, lanes: Lanes, matrix: Matrix) -> (&'static str, &'static str) {
        match (self, lanes) {
            (Self::Grid, _) => ("parts/grid.wgsl", include_str!("../../shaders/parts/grid.wgsl")),
            (Self::Rows, _) => ("parts/rows.wgsl", include_str!("../../shaders/parts/rows.wgsl")),
            (Self::Reduce, Lanes::Any) | (Self::ReduceAny, _) => {
                ("parts/reduce_any.wgsl", include_str!("../../shaders/parts/reduce_any.wgsl"))
            }
            (Self::Reduce, Lanes::Known | Lanes::Eight) => {
                ("parts/reduce_subgroup.wgsl", include_str!("../../shaders/parts/reduce_subgroup.wgsl"))
            }
            (Self::Cells, Lanes::Any | Lanes::Known) => {
                ("parts/cells_any.wgsl", include_str!("../../shaders/parts/cells_any.wgsl"))
            }
            (Self::Cells, Lanes::Eight) => {
                ("parts/cells_eight.wgsl", include_str!("../../shaders/parts/cells_eight.wgsl"))
            }
            (Self::Loads, Lanes::Any | Lanes::Known) => {
                ("parts/loads_any.wgsl", include_str!("../../shaders/parts/loads_any.wgsl"))
            }
            (Self::Loads, Lanes::Eight) => {
                ("parts/loads_eight.wgsl", include_str!("../../shaders/parts/loads_eight.wgsl"))
            }
            (Self::Philox, _) => ("parts/philox.wgsl", include_str!("../../shaders/parts/philox.wgsl")),
            (Self::Attention, _) => ("parts/attention.wgsl", include_str!("../../shaders/parts/attention.wgsl")),
            (Self::AttentionDelta, _) => {
                ("parts/attention_delta.wgsl", include_str!("../../shaders/parts/attention_delta.wgsl"))
            }
            (Self::AttentionKeys, _) => {
                ("parts/attention_keys.wgsl", include_str!("../../shaders/parts/attention_keys.wgsl"))
            }
            (Self::Given, Lanes::Any | Lanes::Known) => {
                ("parts/given_any.wgsl", include_str!("../../shaders/parts/given_any.wgsl"))
            }
            (Self::Given, Lanes::Eight) => {
                ("parts/given_eight.wgsl", include_str!("../../shaders/parts/given_eight.wgsl"))
            }
            (Self::AttentionParams, _) => {
                ("parts/attention_params.wgsl", include_str!("../../shaders/parts/attention_params.wgsl"))
            }
            (Self::AttentionMatrix, _) => {
                ("parts/attention_matrix.wgsl", include_str!("../../shaders/parts/attention_matrix.wgsl"))
            }
            (Self::AttentionTile, _) => {
                ("parts/attention_tile.wgsl", include_str!("../../shaders/parts/attention_tile.wgsl"))
            }
            (Self::ProductParams, _) => {
                ("parts/product_params.wgsl", include_str!("../../shaders/parts/product_params.wgsl"))
            }
            (Self::Patches, _) => ("parts/patches.wgsl", include_str!("../../shaders/parts/patches.wgsl")),
            (Self::Blocks, _) => ("parts/blocks.wgsl", include_str!("../../shaders/parts/blocks.wgsl")),
            (Self::Tile, _) => ("parts/tile.wgsl", include_str!("../../shaders/parts/tile.wgsl")),
            (Self::Gelu, _) => ("parts/gelu.wgsl", include_str!("../../shaders/parts/gelu.wgsl")),
            (Self::Matrix, _) => matrix.file(),
            (Self::Handed, _) => matrix.handed_file(),
            (Self::RowSums, _) => ("parts/row_sums_none.wgsl", include_str!("../../shaders/parts/row_sums_none.wgsl")),
        }
    }

    /// Whether two files stand for this part, one of them for subgroups of eight lanes at least.
    #[must_use]
    pub const fn has_lanes(self) -> bool {
        matches!(self, Self::Cells | Self::Loads | Self::Reduce | Self::Given)
    }
}

/// What a bound buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// f32 or f16, through `unpack4` and `pack4`; all stored bindings of a launch agree.
    Stored,
    /// f32 or f16 chosen by the output tensor alone, through `pack_output4`.
    Output,
    /// Always f32.
    F32,
    /// Always u32.
    U32,
}

/// One buffer of group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Name of the WGSL variable.
    pub name: &'static str,
    /// Element type.
    pub element: Element,
    /// Whether the kernel writes it.
    pub write: bool,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident = $element:ident, $write:literal;)*) => {
        impl Binding {
            $($(#[$doc])* #[must_use]
            pub const fn $name(name: &'static str) -> Self {
                Self { name, element: Element::$element, write: $write }
            })*
        }
    };
}
constructors! {
    /// A stored tensor, read.
    stored = Stored, false;
    /// A stored tensor, written or updated in place.
    stored_mut = Stored, true;
    /// A result whose storage the launch chooses.
    output_mut = Output, true;
    /// An f32 array, read.
    f32 = F32, false;
    /// An f32 array, written or updated in place.
    f32_mut = F32, true;
    /// A u32 array, read.
    u32 = U32, false;
    /// A u32 array, written or updated in place.
    u32_mut = U32, true;
}

/// Which epilogue part is joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EpilogueKind {
    /// The result as it is.
    #[default]
    None,
    /// Plus a bias row.
    Bias,
    /// Plus a bias row, then GELU; the value before GELU is kept for the backward pass.
    BiasGelu,
    /// Plus a bias row, plus a residual of the result's shape.
    BiasResidual,
    /// Times the slope of GELU where its argument was: the gradient behind a [`Self::BiasGelu`].
    GeluSlope,
    /// Plus what stands in the result's place already.
    Added,
    /// Plus one value of the bias for each channel, where the result is images.
    BiasChannel,
    /// The result, or plus what stands in its place already; and beside it the sums of the rows of the left operand.
    RowSums,
}

impl EpilogueKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Bias,
        Self::BiasGelu,
        Self::BiasResidual,
        Self::GeluSlope,
        Self::Added,
        Self::BiasChannel,
        Self::RowSums,
    ];

    /// Name as in `--epilogue`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bias => "bias",
            Self::BiasGelu => "bias_gelu",
            Self::BiasResidual => "bias_residual",
            Self::GeluSlope => "gelu_slope",
            Self::Added => "added",
            Self::BiasChannel => "bias_channel",
            Self::RowSums => "row_sums",
        }
    }

    /// File name and text.
    #[must_use]
    pub const fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::None => ("parts/epilogue_none.wgsl", include_str!("../../shaders/parts/epilogue_none.wgsl")),
            Self::Bias => ("parts/epilogue_bias.wgsl", include_str!("../../shaders/parts/epilogue_bias.wgsl")),
            Self::BiasGelu => {
                ("parts/epilogue_bias_gelu.wgsl", include_str!("../../shaders/parts/epilogue_bias_gelu.wgsl"))
            }
            Self::BiasResidual => {
                ("parts/epilogue_bias_residual.wgsl", include_str!("../../shaders/parts/epilogue_bias_residual.wgsl"))
            }
            Self::GeluSlope => {
                ("parts/epilogue_gelu_slope.wgsl", include_str!("../../shaders/parts/epilogue_gelu_slope.wgsl"))
            }
            Self::Added => ("parts/epilogue_added.wgsl", include_str!("../../shaders/parts/epilogue_added.wgsl")),
            Self::BiasChannel => {
                ("parts/epilogue_bias_channel.wgsl", include_str!("../../shaders/parts/epilogue_bias_channel.wgsl"))
            }
            Self::RowSums => {
                ("parts/epilogue_row_sums.wgsl", include_str!("../../shaders/parts/epilogue_row_sums.wgsl"))
            }
        }
    }

    /// Buffers of group 1 in binding order.
    #[must_use]
    pub const fn bindings(self) -> &'static [Binding] {
        const BIAS: &[Binding] = &[Binding::stored("bias")];
        const BIAS_GELU: &[Binding] = &[Binding::stored("bias"), Binding::stored_mut("pre_activation")];
        const BIAS_RESIDUAL: &[Binding] = &[Binding::stored("bias"), Binding::stored("residual")];
        const PRE_ACTIVATION: &[Binding] = &[Binding::stored("pre_activation")];
        const ROW_SUMS: &[Binding] = &[Binding::f32_mut("row_sums")];
        match self {
            Self::None | Self::Added => &[],
            Self::Bias | Self::BiasChannel => BIAS,
            Self::BiasGelu => BIAS_GELU,
            Self::BiasResidual => BIAS_RESIDUAL,
            Self::GeluSlope => PRE_ACTIVATION,
            Self::RowSums => ROW_SUMS,
        }
    }
}

/// How stored tensors lie in memory: the storage part that is joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// 32-bit floats.
    F32,
    /// Halves, converted by the device's own f16 type.
    F16Native,
    /// Halves, converted by `pack2x16float`.
    F16Packed,
    /// Halves, converted by integer arithmetic.
    F16Integer,
}

impl Storage {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16Native, Self::F16Packed, Self::F16Integer];

    /// Name as in `--storage`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16Native => "f16",
            Self::F16Packed => "f16_packed",
            Self::F16Integer => "f16_integer",
        }
    }

    /// File name and text.
    #[must_use]
    pub const fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::F32 => ("parts/storage_f32.wgsl", include_str!("../../shaders/parts/storage_f32.wgsl")),
            Self::F16Native => ("parts/storage_f16.wgsl", include_str!("../../shaders/parts/storage_f16.wgsl")),
            Self::F16Packed => {
                ("parts/storage_f16_packed.wgsl", include_str!("../../shaders/parts/storage_f16_packed.wgsl"))
            }
            Self::F16Integer => {
                ("parts/storage_f16_integer.wgsl", include_str!("../../shaders/parts/storage_f16_integer.wgsl"))
            }
        }
    }

    /// The element type in memory.
    #[must_use]
    pub const fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            _ => DType::F16,
        }
    }
}
