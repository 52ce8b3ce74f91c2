//! A text of the reader's own in a kernel's place: same buffers, same `Params`, its own grid.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use naga::{Expression, Literal, Module, TypeInner};

pub use super::contracts::likes;
use super::contracts::{self, Contract, Grid};
use crate::device::{
    Capabilities, Context, EpilogueKind, Fitted, Kernel, Lanes, Language, Matrix, Part, Source, Substitute, Variant,
    parse, resolve, translate,
};
use crate::error::{Error, Result};
use crate::kernels::ALL;
use crate::shape::DType;

/// A text that can be measured beside a kernel.
pub struct Foreign {
    /// How the report calls it: the file's name.
    pub name: String,
    /// The kernel that it stands in for.
    pub like: &'static str,
    /// What a context takes.
    pub(crate) substitute: Arc<Substitute>,
    /// Invocations of a workgroup.
    invocations: u32,
}

impl Foreign {
    /// Reads a text from a path that ends in `.wgsl`, checks what it declares, and finds its grid.
    ///
    /// # Errors
    /// `Error::Config` for a kernel that has no contract, `Error::Kernel` with file and line for a text that does not
    /// compile or declares something else.
    pub fn new(path: &str, text: &str, like: &str) -> Result<Self> {
        Self::with(path, text, like, (Matrix::M16, None))
    }

    /// The same text for a device: its cooperative matrices, on which the grid may depend, and what an `override SUBGROUP` is
    /// there.
    ///
    /// # Errors
    /// `Error::Config` where the text wants matrices that the device has not, `Error::Kernel` where its workgroups are too large;
    /// else as [`Foreign::new`].
    pub fn on(self, has: &Capabilities) -> Result<Self> {
        let Kernel { name, source, .. } = *self.substitute.kernel;
        if self.halves_only() && has.matrix.is_none() {
            return Err(Error::config("--wgsl", format!("{name} needs cooperative matrices; the device has none")));
        }
        let fitted = Self::with(
            name,
            source,
            self.like,
            (has.matrix.unwrap_or(Matrix::M16), has.subgroup_size.or(has.matrix_subgroup)),
        )?;
        // wgpu looks at this only where the number stands in the attribute itself.
        let (wanted, allowed) = (fitted.invocations, has.workgroup_invocations);
        if wanted > allowed {
            return Err(Error::Kernel {
                name: name.into(),
                file: name.into(),
                line: line_of(source, "@workgroup_size"),
                message: format!("{wanted} invocations in a workgroup, the device allows {allowed}"),
            });
        }
        Ok(Self { name: self.name, ..fitted })
    }

    fn with(path: &str, text: &str, like: &str, (matrix, subgroup): (Matrix, Option<u32>)) -> Result<Self> {
        let contract = contracts::find(like)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if !path.ends_with(".wgsl") {
            return Err(Error::config("--wgsl", format!("{path} does not end in .wgsl")));
        }
        let own = ALL.iter().map(|e| e.kernel).find(|k| k.name == contract.like);
        let own = own.ok_or_else(|| Error::config("--like", "no such kernel"))?;
        // Read once a process: the launches of a device hold kernels for as long as it runs.
        let kernel: &'static Kernel = Box::leak(Box::new(Kernel {
            name: Box::leak(path.to_owned().into_boxed_str()),
            source: Box::leak(text.to_owned().into_boxed_str()),
            parts: Box::leak(parts(path, text, own.parts)?.into_boxed_slice()),
            bindings: own.bindings,
            epilogues: own.epilogues,
            twin: own.twin,
        }));
        let source = Source::join(kernel, plain(kernel, matrix), None);
        let wanted = fields(&parse(&Source::join(own, plain(own, matrix), None))?);
        if !text.contains("struct Params") && own.source.contains("struct Params") {
            let message = format!("declare `struct Params` as {like} has it, with the fields {}", names(&wanted));
            return Err(Error::Kernel { name: path.into(), file: path.into(), line: 1, message });
        }
        let module = parse(&source)?;
        let fields = fields(&module);
        if fields != wanted {
            let message = format!("Params must be that of {like}: {}", names(&wanted));
            return Err(Error::Kernel {
                name: path.into(),
                file: path.into(),
                line: line_of(text, "struct Params"),
                message,
            });
        }
        let fit = Fit::new(path, text, &module, contract, (fields, subgroup))?;
        // As large as the device's subgroups make them.
        let declared = |name: &str| module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(name));
        let lanes = subgroup.filter(|_| declared("SUBGROUP")).map(|lanes| ("SUBGROUP".to_owned(), f64::from(lanes)));
        let (resolved, _) = resolve(&source, &lanes.into_iter().collect())?;
        let invocations = resolved.entry_points.iter().map(|entry| entry.workgroup_size.iter().product()).max();
        let substitute = Substitute {
            of: contract.family,
            kernel,
            fit: Box::new(move |params, constants, epilogue| fit.launch(params, constants, epilogue)),
            taken: AtomicU64::new(0),
        };
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned();
        let invocations = invocations.unwrap_or(1);
        Ok(Self { name, like: contract.like, substitute: Arc::new(substitute), invocations })
    }

    /// Whether the text takes tensors of halves alone: one with cooperative matrices.
    #[must_use]
    pub fn halves_only(&self) -> bool {
        self.substitute.kernel.has_matrix()
    }

    /// Name by which launches of the text are traced.
    #[must_use]
    pub fn traced_as(&self) -> &'static str {
        self.substitute.kernel.name
    }

    /// The kernel's own test cases with this text in its place, on a context that checks bounds and guards memory.
    ///
    /// # Errors
    /// What a launch reports.
    pub fn parity(&self, checked: &Context, dtype: DType) -> Result<Parity> {
        let cpu = Context::cpu();
        let mut found = Parity::default();
        if self.halves_only() && dtype != DType::F16 {
            return Ok(found);
        }
        for case in ALL.iter().filter(|e| e.kernel.name == self.like).flat_map(|e| (e.cases)()) {
            let before = self.substitute.taken.load(Ordering::Relaxed);
            let wrong = checked.substituting(Some(&self.substitute), || case.compare(checked, &cpu, dtype, 2))?;
            found.cases += 1;
            if self.substitute.taken.load(Ordering::Relaxed) > before {
                found.covered += 1;
                found.wrong.extend(wrong.into_iter().map(|w| format!("{} {dtype}: {w}", case.label)));
            }
        }
        Ok(found)
    }
}

/// What the test cases said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parity {
    /// Cases of the kernel.
    pub cases: usize,
    /// Of these, those that the text covers.
    pub covered: usize,
    /// Differences from the twin.
    pub wrong: Vec<String>,
}

/// What is wrong with a text's translations to SPIR-V, MSL and HLSL in all storages; for tests.
#[must_use]
pub fn translations(text: &Foreign) -> Vec<Error> {
    let kernel = text.substitute.kernel;
    let variants = [true, false].into_iter().flat_map(|immediates| kernel.variants(immediates));
    // HLSL has no cooperative matrices, and Metal none of 16x16.
    let can = |variant: &Variant, language: Language| match language {
        Language::Spirv => true,
        Language::Msl => !kernel.has_matrix() || variant.matrix == Matrix::M8,
        Language::Hlsl => !kernel.has_matrix(),
    };
    let each = |variant: Variant| {
        let source = Source::join(kernel, variant, None);
        Language::ALL.map(|language| if can(&variant, language) { translate(&source, language).err() } else { None })
    };
    variants.flat_map(each).flatten().collect()
}

/// The variant that a text is first tried in.
fn plain(kernel: &Kernel, matrix: Matrix) -> Variant {
    Variant {
        storage: kernel.storages()[0],
        output: DType::F32,
        epilogue: EpilogueKind::None,
        immediates: true,
        matrix,
        lanes: Lanes::Any,
    }
}

/// Parts that the text asks for in a comment `// parts: grid reduce` before its first line of code, else those of the kernel
/// that it can serve: a text without shared rows has no use for their loads, one with `Params` of its own none for the kernel's.
fn parts(path: &str, text: &str, own: &[Part]) -> Result<Vec<Part>> {
    let head = text.lines().take_while(|line| line.trim().is_empty() || line.starts_with("//"));
    let Some((line, list)) =
        head.zip(1..).find_map(|(l, n)| Some((n, l.trim_start_matches('/').trim().strip_prefix("parts:")?)))
    else {
        // What a text calls and does not declare itself.
        let calls = |name: &str| text.contains(&format!("{name}(")) && !text.contains(&format!("fn {name}("));
        let shares = text.contains("fn place(") || calls("places");
        let serves = |part: &&Part| match part {
            Part::Loads | Part::Tile | Part::Attention => shares,
            Part::AttentionKeys => shares && !text.contains("fn place("),
            Part::AttentionDelta => calls("deltas"),
            Part::Given => calls("show") || calls("hold"),
            Part::AttentionParams | Part::ProductParams => !text.contains("struct Params"),
            _ => true,
        };
        return Ok(own.iter().filter(serves).copied().collect());
    };
    let known: [(&str, &[Part]); 5] = [
        ("grid", &[Part::Grid]),
        ("reduce", &[Part::Rows, Part::ReduceAny]),
        ("philox", &[Part::Philox]),
        ("gelu", &[Part::Gelu]),
        ("matrix", &[Part::Matrix]),
    ];
    let mut parts = Vec::new();
    for name in list.split_whitespace() {
        let found = known.iter().find(|(known, _)| *known == name).ok_or_else(|| Error::Kernel {
            name: path.into(),
            file: path.into(),
            line,
            message: format!("no part is called `{name}`; there are grid, reduce, philox, gelu and matrix"),
        })?;
        parts.extend(found.1);
    }
    Ok(parts)
}

/// Name and offset of each field of `Params`.
fn fields(module: &Module) -> Vec<(String, u32)> {
    let found = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params"));
    match found.map(|(_, ty)| &ty.inner) {
        Some(TypeInner::Struct { members, .. }) => {
            members.iter().map(|m| (m.name.clone().unwrap_or_default(), m.offset)).collect()
        }
        _ => Vec::new(),
    }
}

fn names(fields: &[(String, u32)]) -> String {
    fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn line_of(text: &str, what: &str) -> usize {
    text.lines().position(|line| line.contains(what)).map_or(0, |at| at + 1)
}

/// How launches of the kernel become launches of the text.
struct Fit {
    grid: Grid,
    fields: Vec<(String, u32)>,
    /// Rows and columns, or rows, or cells of a workgroup.
    tile: [u64; 2],
    /// Constants of the contract, with what an undeclared one stands for.
    constants: Vec<(&'static str, Option<f64>)>,
    /// Invocations of the device's subgroups, for a text that declares SUBGROUP.
    subgroup: Option<f64>,
    epilogue: bool,
    /// Whether its result is called `c`, which epilogues that add to it must know.
    adds: bool,
    /// Whether it sums rows of the left operand for the epilogue that stores them.
    sums: bool,
}

impl Fit {
    fn new(
        path: &str,
        text: &str,
        module: &Module,
        contract: &Contract,
        (fields, subgroup): (Vec<(String, u32)>, Option<u32>),
    ) -> Result<Self> {
        let tile = |name| number(path, text, module, name);
        let tile = match contract.grid {
            Grid::Tiles => [tile("TILE_ROWS")?, tile("TILE_COLUMNS")?],
            Grid::Rows | Grid::Queries => [tile("ROWS_PER_GROUP")?, 1],
            Grid::Units(name, _) => [tile(name)?, 1],
        };
        let declared = |name: &str| module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(name));
        let constants =
            contract.constants.iter().map(|(name, plain)| (*name, (!declared(name)).then_some(*plain))).collect();
        let adds = module.global_variables.iter().any(|(_, v)| v.name.as_deref() == Some("c"));
        let subgroup = subgroup.filter(|_| declared("SUBGROUP")).map(f64::from);
        let (epilogue, sums) = (text.contains("epilogue("), text.contains("put_row_sums("));
        Ok(Self { grid: contract.grid, fields, tile, constants, subgroup, epilogue, adds, sums })
    }

    fn launch(&self, params: &[u8], set: &[(&'static str, f64)], epilogue: EpilogueKind) -> Option<Fitted> {
        let takes = self.epilogue
            && match epilogue {
                EpilogueKind::Added => self.adds,
                EpilogueKind::RowSums => self.adds && self.sums,
                _ => true,
            };
        if epilogue != EpilogueKind::None && !takes {
            return None;
        }
        let mut constants: Vec<_> = self.subgroup.map(|lanes| ("SUBGROUP", lanes)).into_iter().collect();
        for (name, plain) in &self.constants {
            let value = set.iter().find(|(n, _)| n == name).map(|(_, value)| *value);
            match (value, plain) {
                (Some(value), Some(plain)) if value != *plain => return None,
                (Some(value), None) => constants.push((*name, value)),
                _ => {}
            }
        }
        let mut params = params.to_vec();
        let get = |name: &str| Some(u64::from(word(&params, self.at(name)?)?));
        let groups = match self.grid {
            Grid::Tiles => {
                let (rows, columns) = (get("rows")?.div_ceil(self.tile[0]), get("width")?.div_ceil(self.tile[1]));
                let groups = rows * columns * get("batches")?;
                self.put(&mut params, "row_tiles", rows);
                self.put(&mut params, "column_tiles", columns);
                groups
            }
            Grid::Queries => {
                let tiles = get("tokens")?.div_ceil(self.tile[0]);
                let groups = tiles * get("batches")?;
                self.put(&mut params, "tiles", tiles);
                self.put(&mut params, "slices", 1);
                groups
            }
            Grid::Rows => get("rows")?.next_multiple_of(4).div_ceil(self.tile[0]),
            Grid::Units(_, counts) => {
                counts.iter().try_fold(1, |units, name| Some(units * get(name)?))?.div_ceil(self.tile[0])
            }
        };
        Some(Fitted { params, constants, groups })
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, offset)| *offset as usize)
    }

    fn put(&self, params: &mut [u8], name: &str, value: u64) {
        if let Some(place) = self.at(name).and_then(|at| params.get_mut(at..at + 4)) {
            place.copy_from_slice(&(value as u32).to_ne_bytes());
        }
    }
}

fn word(params: &[u8], at: usize) -> Option<u32> {
    params.get(at..at + 4).map(bytemuck::pod_read_unaligned)
}

/// The default of an `override NAME: u32`, at least 1.
fn number(path: &str, text: &str, module: &Module, name: &str) -> Result<u64> {
    let wrong =
        |message: String| Error::Kernel { name: path.into(), file: path.into(), line: line_of(text, name), message };
    let found = module.overrides.iter().find(|(_, o)| o.name.as_deref() == Some(name));
    let Some((_, found)) = found else {
        return Err(wrong(format!(
            "declare `override {name}: u32 = …;`, what one workgroup computes; see docs/bench.md"
        )));
    };
    match found.init.map(|init| &module.global_expressions[init]) {
        Some(Expression::Literal(Literal::U32(value))) if *value > 0 => Ok(u64::from(*value)),
        _ => Err(wrong(format!("the default of {name} must be a u32 above 0, written as a number"))),
    }
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;
