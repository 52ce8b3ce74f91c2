//! Joining a kernel's text: whole files one after another, and a map from joined lines back to files.

use std::borrow::Cow;

use super::choices::{Lanes, Matrix};
use super::kernel::{Element, EpilogueKind, Kernel, Part, Storage};
use crate::shape::DType;

/// Everything that chooses one text of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Storage of the stored bindings.
    pub storage: Storage,
    /// Element type of the output binding, where there is one.
    pub output: DType,
    /// Epilogue part.
    pub epilogue: EpilogueKind,
    /// Size of cooperative matrices, for kernels that use them.
    pub matrix: Matrix,
    /// Whether subgroups have eight lanes, for kernels that make something of it.
    pub lanes: Lanes,
    /// Parameters in immediates (else in a uniform slot).
    pub immediates: bool,
}

/// A joined text with the start line of each file in it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The WGSL text.
    pub text: String,
    files: Vec<(usize, &'static str)>,
    kernel: Cow<'static, str>,
}

impl Source {
    /// A whole text that a reader brings; messages name its lines by `path`, which ends in `.wgsl`.
    #[must_use]
    pub fn whole(path: &str, text: &str) -> Self {
        let mut source = Self { text: String::new(), files: Vec::new(), kernel: Cow::Owned(path.to_owned()) };
        source.push(("", text));
        source
    }

    /// The text of `kernel` in `variant`; `replace` is a planted fault for tests: (find, replace) in the kernel's own file.
    #[must_use]
    pub fn join(kernel: &Kernel, variant: Variant, replace: Option<(&str, &str)>) -> Self {
        let mut source = Self { text: String::new(), files: Vec::new(), kernel: Cow::Borrowed(kernel.name) };
        if kernel.has_matrix() {
            let enable = include_str!("../../shaders/parts/matrix_enable.wgsl");
            source.push(("parts/matrix_enable.wgsl", enable));
        }
        if uses(kernel, Element::Stored) {
            source.push(variant.storage.file());
        }
        if uses(kernel, Element::Output) {
            source.push(output_part(variant));
        }
        if has_cells(kernel) {
            source.push(Part::Cells.file(variant.lanes, variant.matrix));
        }
        source.push(if variant.immediates {
            ("parts/params_immediate.wgsl", include_str!("../../shaders/parts/params_immediate.wgsl"))
        } else {
            ("parts/params_uniform.wgsl", include_str!("../../shaders/parts/params_uniform.wgsl"))
        });
        for part in kernel.parts.iter().filter(|part| **part != Part::Cells) {
            // GELU is what two epilogues need: kernels that have epilogues list it, and other epilogues go without.
            let gelu = matches!(variant.epilogue, EpilogueKind::BiasGelu | EpilogueKind::GeluSlope);
            let left_out = match part {
                Part::Gelu => kernel.epilogues && !gelu,
                Part::RowSums => variant.epilogue == EpilogueKind::RowSums,
                _ => false,
            };
            if !left_out {
                source.push(part.file(variant.lanes, variant.matrix));
            }
        }
        if kernel.epilogues {
            source.push(variant.epilogue.file());
            source.push(("parts/epilogue.wgsl", include_str!("../../shaders/parts/epilogue.wgsl")));
        }
        match replace {
            Some((find, with)) => source.push(("", &kernel.source.replacen(find, with, 1))),
            None => source.push(("", kernel.source)),
        }
        source
    }

    /// Name of the kernel.
    #[must_use]
    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    fn push(&mut self, (file, text): (&'static str, &str)) {
        self.files.push((self.text.lines().count(), file));
        self.text.push_str(text);
        if !text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// File name and line there of a line (from 1) of the joined text.
    #[must_use]
    pub fn locate(&self, line: usize) -> (String, usize) {
        let (start, file) = self.files.iter().rev().find(|(start, _)| *start < line).copied().unwrap_or_default();
        let file = match (file, &*self.kernel) {
            // A text that is not the crate's own goes by its path.
            ("", path) if path.ends_with(".wgsl") => path.to_owned(),
            ("", kernel) => format!("shaders/{kernel}.wgsl"),
            (part, _) => format!("shaders/{part}"),
        };
        (file, line.saturating_sub(start))
    }
}

fn uses(kernel: &Kernel, element: Element) -> bool {
    kernel.epilogues && element == Element::Stored || kernel.bindings.iter().any(|b| b.element == element)
}

/// Whether the text speaks of cells: in its storage and output parts, or itself.
fn has_cells(kernel: &Kernel) -> bool {
    uses(kernel, Element::Stored) || uses(kernel, Element::Output) || kernel.parts.contains(&Part::Cells)
}

fn output_part(variant: Variant) -> (&'static str, &'static str) {
    match (variant.output, variant.storage) {
        (DType::F16, Storage::F32) => {
            ("parts/output_f16_packed.wgsl", include_str!("../../shaders/parts/output_f16_packed.wgsl"))
        }
        (DType::F16, _) => ("parts/output_stored.wgsl", include_str!("../../shaders/parts/output_stored.wgsl")),
        _ => ("parts/output_f32.wgsl", include_str!("../../shaders/parts/output_f32.wgsl")),
    }
}

impl Kernel {
    /// Whether the text depends on the storage of tensors.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        uses(self, Element::Stored)
    }

    /// Whether the text depends on the output's element type.
    #[must_use]
    pub fn has_output(&self) -> bool {
        uses(self, Element::Output)
    }

    /// Whether the text uses cooperative matrices. Such a kernel takes native halves only.
    #[must_use]
    pub fn has_matrix(&self) -> bool {
        self.parts.contains(&Part::Matrix)
    }

    /// The storages that this kernel takes.
    #[must_use]
    pub fn storages(&self) -> &'static [Storage] {
        match (self.has_matrix(), self.is_stored()) {
            (true, _) => &[Storage::F16Native],
            (false, true) => &Storage::ALL,
            (false, false) => &[Storage::F32],
        }
    }

    /// The epilogues that this kernel can be joined with.
    #[must_use]
    pub fn takes_epilogues(&self) -> Vec<EpilogueKind> {
        let takes = |kind: &EpilogueKind| match kind {
            EpilogueKind::None => true,
            EpilogueKind::RowSums => self.epilogues && self.parts.contains(&Part::RowSums),
            _ => self.epilogues,
        };
        EpilogueKind::ALL.into_iter().filter(takes).collect()
    }

    /// All texts of this kernel: every storage, output, epilogue, size of matrices and kind of subgroups that it takes.
    #[must_use]
    pub fn variants(&self, immediates: bool) -> Vec<Variant> {
        let has_lanes = has_cells(self) || self.parts.iter().any(|part| part.has_lanes());
        let lanes: &[Lanes] = match (self.parts.contains(&Part::Reduce), has_lanes) {
            (true, _) => &Lanes::ALL,
            (false, true) => &[Lanes::Any, Lanes::Eight],
            (false, false) => &[Lanes::Any],
        };
        let matrices = if self.has_matrix() { &Matrix::ALL[..] } else { &[Matrix::M16] };
        let outputs = if self.has_output() { &[DType::F32, DType::F16][..] } else { &[DType::F32][..] };
        let epilogues = self.takes_epilogues();
        let mut all = Vec::new();
        for &storage in self.storages() {
            for &output in outputs {
                for &epilogue in &epilogues {
                    all.extend(matrices.iter().flat_map(|&matrix| {
                        let variant = move |&lanes| Variant { storage, output, epilogue, matrix, lanes, immediates };
                        lanes.iter().map(variant)
                    }));
                }
            }
        }
        all
    }
}
