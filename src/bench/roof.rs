//! Which ceiling a piece of work is held against: what it computes with and which way its bytes go decide.

use super::ceilings::Ceilings;
use crate::device::Launched;

/// Outputs smaller than this part of the inputs are nothing beside them: such work only reads.
const NOTHING_WRITTEN: f64 = 1.0 / 16.0;

/// What limits a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roof {
    /// Multiply-adds in registers.
    Arithmetic,
    /// Multiply-adds of cooperative matrices.
    Matrix,
    /// Memory that is read and written.
    Memory,
    /// Memory that is only read.
    Read,
}

impl Roof {
    /// As reports call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Matrix => "matrix",
            Self::Memory => "memory",
            Self::Read => "read",
        }
    }

    /// Whether bytes are what takes the time.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Memory | Self::Read)
    }

    /// As tables call it, from the name in a report.
    #[must_use]
    pub fn letter(name: &str) -> &'static str {
        match name {
            "arithmetic" => "a",
            "matrix" => "x",
            "memory" => "m",
            "read" => "r",
            _ => " ",
        }
    }
}

/// What a piece of work must do, by the units that do it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Operations on ordinary numbers.
    pub flops: f64,
    /// Operations of cooperative matrices.
    pub matrix_flops: f64,
    /// Bytes read.
    pub read: f64,
    /// Bytes written.
    pub written: f64,
}

/// Whether a kernel's products run through cooperative matrices.
#[must_use]
pub fn uses_matrices(kernel: &str) -> bool {
    kernel.contains("_cooperative")
}

impl Load {
    /// Of a case that states its operations and bytes: `written` are the bytes of its outputs, and its launches say which
    /// units did the arithmetic.
    #[must_use]
    pub fn of_case(flops: f64, bytes: f64, written: f64, launches: &[Launched]) -> Self {
        let sum = |only: bool| launches.iter().filter(|l| !only || uses_matrices(l.kernel)).map(|l| l.flops).sum();
        let (all, matrices): (f64, f64) = (sum(false), sum(true));
        let matrix_flops = if all > 0.0 { flops * matrices / all } else { 0.0 };
        let written = written.min(bytes);
        Self { flops: flops - matrix_flops, matrix_flops, read: bytes - written, written }
    }

    /// Of one launch, every tensor that is bound counted once.
    #[must_use]
    pub fn of_launch(kernel: &str, flops: f64, read: f64, written: f64) -> Self {
        let matrix_flops = if uses_matrices(kernel) { flops } else { 0.0 };
        Self { flops: flops - matrix_flops, matrix_flops, read, written }
    }

    /// Seconds that it takes at least, and what makes it so: the longer of its arithmetic and its bytes.
    #[must_use]
    pub fn least(&self, ceilings: &Ceilings) -> (f64, Roof) {
        let over = |work: f64, rate: f64| if rate > 0.0 { work / rate } else { 0.0 };
        let registers = over(self.flops, ceilings.fma);
        let matrices = over(self.matrix_flops, ceilings.matrix.unwrap_or(ceilings.fma));
        let unit = if matrices > registers && ceilings.matrix.is_some() { Roof::Matrix } else { Roof::Arithmetic };
        let (rate, way) = if self.written <= NOTHING_WRITTEN * self.read {
            (ceilings.read(), Roof::Read)
        } else {
            (ceilings.copy(), Roof::Memory)
        };
        let moved = over(self.read + self.written, rate);
        if moved > registers + matrices { (moved, way) } else { (registers + matrices, unit) }
    }
}

/// Seconds that launches take at least, one after the other, each under its own roof.
#[must_use]
pub fn least_of(launches: &[Launched], ceilings: &Ceilings) -> f64 {
    let load = |l: &Launched| Load::of_launch(l.kernel, l.flops, l.read as f64, l.written as f64);
    launches.iter().map(|l| load(l).least(ceilings).0).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bench::ceilings::Bandwidth;
    use crate::device::EpilogueKind;
    use crate::shape::DType;

    /// 100 FLOP/s in registers, 1,000 by matrices where there are any, 10 B/s copied, 20 B/s read.
    pub(crate) fn ceilings(matrix: Option<f64>) -> Ceilings {
        Ceilings {
            fma: 100.0,
            fma_form: String::new(),
            fma_stored_f32: 50.0,
            fma_stored_f16: 50.0,
            matrix,
            bandwidth: vec![
                Bandwidth { bytes: 1, copy: 99.0, read: 99.0 },
                Bandwidth { bytes: 2, copy: 10.0, read: 20.0 },
            ],
            launch: 0.0,
            record: 0.0,
            submit: 0.0,
            read_back: 0.0,
        }
    }

    fn launched(kernel: &'static str, flops: f64, read: u64, written: u64) -> Launched {
        let dtypes = (DType::F16, DType::F16);
        Launched { kernel, dtypes, epilogue: EpilogueKind::None, constants: vec![], groups: 1, flops, read, written }
    }

    #[test]
    fn work_is_held_against_the_unit_that_does_it() {
        let load = |flops, matrix_flops, read, written| Load { flops, matrix_flops, read, written };
        let (with, without) = (ceilings(Some(1000.0)), ceilings(None));
        let cases = [
            ("registers", load(1000.0, 0.0, 1.0, 1.0), &with, (10.0, Roof::Arithmetic)),
            ("matrices", load(0.0, 1000.0, 1.0, 1.0), &with, (1.0, Roof::Matrix)),
            ("matrices that were not measured", load(0.0, 1000.0, 1.0, 1.0), &without, (10.0, Roof::Arithmetic)),
            ("matrices, then a sum in registers", load(10.0, 1000.0, 1.0, 1.0), &with, (1.1, Roof::Matrix)),
            ("as much copied", load(1.0, 0.0, 50.0, 50.0), &with, (10.0, Roof::Memory)),
            ("as much read", load(1.0, 0.0, 100.0, 0.0), &with, (5.0, Roof::Read)),
            ("next to nothing written", load(1.0, 0.0, 96.0, 4.0), &with, (5.0, Roof::Read)),
            ("a tenth written", load(1.0, 0.0, 90.0, 10.0), &with, (10.0, Roof::Memory)),
            ("nothing at all", Load::default(), &with, (0.0, Roof::Arithmetic)),
        ];
        let wrong: Vec<_> = cases
            .into_iter()
            .map(|(name, load, ceilings, want)| (name, load.least(ceilings), want))
            .filter(|(_, got, want)| (got.0 - want.0).abs() > 1e-9 || got.1 != want.1)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn the_launches_of_a_case_say_which_unit_it_used() {
        let product = launched("matmul_cooperative", 30.0, 7, 1);
        let sum = launched("matmul_sum", 10.0, 7, 1);
        let of = |launches: &[Launched]| Load::of_case(80.0, 100.0, 40.0, launches);
        let want = Load { flops: 20.0, matrix_flops: 60.0, read: 60.0, written: 40.0 };
        assert_eq!(of(&[product.clone(), sum.clone()]), want);
        assert_eq!(of(std::slice::from_ref(&sum)).matrix_flops, 0.0);
        assert_eq!(of(&[]), Load { flops: 80.0, matrix_flops: 0.0, ..want });
        // Outputs that the case counts in part only.
        assert_eq!(Load::of_case(1.0, 10.0, 99.0, &[]).read, 0.0);
        // Each moves 8 bytes in 0.8 s; their arithmetic takes 0.03 and 0.1.
        let all = ceilings(Some(1000.0));
        assert!((least_of(&[product, sum], &all) - 1.6).abs() < 1e-9);
        let names = ["attention_cooperative_backward_key", "matmul_cooperative", "matmul_tiled", "attention"];
        assert_eq!(names.map(uses_matrices), [true, true, false, false]);
    }

    #[test]
    fn every_roof_has_a_letter_of_its_own() {
        let letters = [Roof::Arithmetic, Roof::Matrix, Roof::Memory, Roof::Read].map(|roof| Roof::letter(roof.name()));
        assert_eq!(letters, ["a", "x", "m", "r"]);
        assert_eq!(Roof::letter("another"), " ");
    }
}
