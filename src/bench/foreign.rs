//! A text of the reader's own in a kernel's place: same buffers, same `Params`, its own grid.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use naga::{Expression, Literal, Module, TypeInner};

use crate::device::{
    Context, EpilogueKind, Fitted, Kernel, Lanes, Language, Matrix, Part, Source, Storage, Substitute, Variant, parse,
    translate, validate,
};
use crate::error::{Error, Result, nearest};
use crate::kernels::ALL;
use crate::shape::DType;

/// How the grid of a foreign text follows from `Params` and the overrides that it declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grid {
    /// Workgroups of TILE_ROWS x TILE_COLUMNS values of C, row tiles fastest, then column tiles, then batches.
    Tiles,
    /// ROWS_PER_GROUP rows a workgroup, and as many more as fill the statistics' last cell.
    Rows,
    /// ROWS_PER_GROUP queries of one head a workgroup, tiles fastest, then heads.
    Queries,
    /// CELLS_PER_GROUP cells of four values a workgroup.
    Cells,
}

/// What a text must do to stand in for a kernel. A constant that it does not declare has the value given here: launches
/// with another value are not its business.
struct Contract {
    like: &'static str,
    /// Kernels whose launches it takes: those that a device may choose for the same work.
    family: &'static [&'static str],
    grid: Grid,
    constants: &'static [(&'static str, f64)],
}

const CONTRACTS: [Contract; 10] = [
    Contract {
        like: "matmul",
        family: &["matmul", "matmul_tiled", "matmul_cooperative"],
        grid: Grid::Tiles,
        constants: &[("TRANS_A", 0.0), ("TRANS_B", 0.0), ("PATCHES", 0.0)],
    },
    Contract {
        like: "attention",
        family: &["attention", "attention_cooperative"],
        grid: Grid::Queries,
        constants: &[],
    },
    Contract { like: "layernorm", family: &["layernorm"], grid: Grid::Rows, constants: &[("AFFINE", 1.0)] },
    Contract {
        like: "layernorm_backward",
        family: &["layernorm_backward"],
        grid: Grid::Rows,
        constants: &[("AFFINE", 1.0), ("ADDED", 0.0)],
    },
    Contract { like: "softmax", family: &["softmax"], grid: Grid::Rows, constants: &[] },
    Contract { like: "softmax_backward", family: &["softmax_backward"], grid: Grid::Rows, constants: &[] },
    Contract { like: "l2_normalise", family: &["l2_normalise"], grid: Grid::Rows, constants: &[] },
    Contract { like: "gelu", family: &["gelu"], grid: Grid::Cells, constants: &[] },
    Contract { like: "gelu_backward", family: &["gelu_backward"], grid: Grid::Cells, constants: &[] },
    Contract { like: "add", family: &["add"], grid: Grid::Cells, constants: &[] },
];

/// Kernels that a text can stand in for.
#[must_use]
pub fn likes() -> Vec<&'static str> {
    CONTRACTS.iter().map(|c| c.like).collect()
}

/// A text that can be measured beside a kernel.
pub struct Foreign {
    /// How the report calls it: the file's name.
    pub name: String,
    /// The kernel that it stands in for.
    pub like: &'static str,
    /// What a context takes.
    pub(crate) substitute: Arc<Substitute>,
}

impl Foreign {
    /// Reads a text from a path that ends in `.wgsl`, checks what it declares, and finds its grid.
    ///
    /// # Errors
    /// `Error::Config` for a kernel that has no contract, `Error::Kernel` with file and line for a text that does not
    /// compile or declares something else.
    pub fn new(path: &str, text: &str, like: &str) -> Result<Self> {
        let contract = CONTRACTS.iter().find(|c| c.like == like).ok_or_else(|| Error::Config {
            field: "--like".into(),
            reason: format!("no text can stand in for `{like}`, but for {}", likes().join(", ")),
            nearest: nearest(like, likes()),
        })?;
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
        let source = Source::join(kernel, plain(), None);
        let module = parse(&source)?;
        let fields = fields(&module);
        let wanted = self::fields(&parse(&Source::join(own, plain(), None))?);
        if fields != wanted {
            let message = format!("Params must be that of {like}: {}", names(&wanted));
            return Err(Error::Kernel {
                name: path.into(),
                file: path.into(),
                line: line_of(text, "struct Params"),
                message,
            });
        }
        let fit = Fit::new(path, text, &module, contract, fields)?;
        validate(&source)?;
        let substitute = Substitute {
            of: contract.family,
            kernel,
            fit: Box::new(move |params, constants, epilogue| fit.launch(params, constants, epilogue)),
            taken: AtomicU64::new(0),
        };
        let name = path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned();
        Ok(Self { name, like: contract.like, substitute: Arc::new(substitute) })
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
    let sources = variants.map(|variant| Source::join(kernel, variant, None));
    let each = |source: Source| Language::ALL.map(|language| translate(&source, language).err());
    sources.flat_map(each).flatten().collect()
}

/// The variant that a text is first tried in.
fn plain() -> Variant {
    Variant {
        storage: Storage::F32,
        output: DType::F32,
        epilogue: EpilogueKind::None,
        immediates: true,
        matrix: Matrix::M16,
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
        let shares = text.contains("fn place(");
        let serves = |part: &&Part| match part {
            Part::Loads | Part::Tile | Part::Attention => shares,
            Part::AttentionParams | Part::ProductParams => !text.contains("struct Params"),
            _ => true,
        };
        return Ok(own.iter().filter(serves).copied().collect());
    };
    let known: [(&str, &[Part]); 4] = [
        ("grid", &[Part::Grid]),
        ("reduce", &[Part::Rows, Part::ReduceAny]),
        ("philox", &[Part::Philox]),
        ("gelu", &[Part::Gelu]),
    ];
    let mut parts = Vec::new();
    for name in list.split_whitespace() {
        let found = known.iter().find(|(known, _)| *known == name).ok_or_else(|| Error::Kernel {
            name: path.into(),
            file: path.into(),
            line,
            message: format!("no part is called `{name}`; there are grid, reduce, philox and gelu"),
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
    epilogue: bool,
    /// Whether its result is called `c`, which epilogues that add to it must know.
    adds: bool,
    /// Whether it sums rows of the left operand for the epilogue that stores them.
    sums: bool,
}

impl Fit {
    fn new(path: &str, text: &str, module: &Module, contract: &Contract, fields: Vec<(String, u32)>) -> Result<Self> {
        let tile = |name| number(path, text, module, name);
        let tile = match contract.grid {
            Grid::Tiles => [tile("TILE_ROWS")?, tile("TILE_COLUMNS")?],
            Grid::Rows | Grid::Queries => [tile("ROWS_PER_GROUP")?, 1],
            Grid::Cells => [tile("CELLS_PER_GROUP")?, 1],
        };
        let declared = |name: &str| module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(name));
        let constants =
            contract.constants.iter().map(|(name, plain)| (*name, (!declared(name)).then_some(*plain))).collect();
        let adds = module.global_variables.iter().any(|(_, v)| v.name.as_deref() == Some("c"));
        let (epilogue, sums) = (text.contains("epilogue("), text.contains("put_row_sums("));
        Ok(Self { grid: contract.grid, fields, tile, constants, epilogue, adds, sums })
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
        let mut constants = Vec::new();
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
            Grid::Cells => get("cells")?.div_ceil(self.tile[0]),
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
