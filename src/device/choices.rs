//! What a device chooses among the files that stand for one [`Part`](super::Part).

/// Size of the device's cooperative matrices: which of two files stands for [`Part::Matrix`](super::Part::Matrix) and [`Part::Handed`](super::Part::Handed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matrix {
    /// 8 x 8 x 8.
    M8,
    /// 16 x 16 x 16.
    M16,
}

impl Matrix {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::M8, Self::M16];

    /// Rows and columns of each operand.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::M8 => 8,
            Self::M16 => 16,
        }
    }

    /// Rows, columns and length of the sums.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::M8 => "8x8x8",
            Self::M16 => "16x16x16",
        }
    }

    /// File name and text.
    #[must_use]
    pub const fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::M8 => ("parts/matrix_8.wgsl", include_str!("../../shaders/parts/matrix_8.wgsl")),
            Self::M16 => ("parts/matrix_16.wgsl", include_str!("../../shaders/parts/matrix_16.wgsl")),
        }
    }

    pub(super) const fn handed_file(self) -> (&'static str, &'static str) {
        match self {
            Self::M8 => ("parts/handed_8.wgsl", include_str!("../../shaders/parts/handed_8.wgsl")),
            Self::M16 => ("parts/handed_16.wgsl", include_str!("../../shaders/parts/handed_16.wgsl")),
        }
    }
}

/// What a text makes of subgroups: which of two files stands for [`Part::Reduce`](super::Part::Reduce), and for [`Part::Cells`](super::Part::Cells), [`Part::Loads`](super::Part::Loads) and
/// [`Part::Given`](super::Part::Given).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lanes {
    /// Any subgroups, or none.
    Any,
    /// Subgroups of one size, which the override SUBGROUP says where [`Part::Reduce`](super::Part::Reduce) is joined.
    Known,
    /// Eight: processors that play GPU.
    Eight,
}

impl Lanes {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Any, Self::Known, Self::Eight];

    /// Name as in `--lanes`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Known => "known",
            Self::Eight => "eight",
        }
    }
}
