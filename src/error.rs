//! One error type for the whole crate: data in the fields, what to do next in the text.

use std::fmt;
use std::path::{Path, PathBuf};

/// The result of every fallible function here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong. Match on it to react; print it to tell a user what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Tensors whose shapes do not fit the operation.
    #[error("{operation}: expected {expected}, got {got}")]
    Shape { operation: &'static str, expected: String, got: String },

    /// A kernel did not compile, or was launched against its declaration.
    #[error("kernel {name} ({file}:{line}): {message}")]
    Kernel { name: String, file: String, line: usize, message: String },

    /// The device cannot hold or bind this much.
    #[error("{what}: {needed} needed, the device allows {available}; {advice}")]
    Limit { what: String, needed: u64, available: u64, advice: &'static str },

    /// No adapter fits the request.
    #[error(
        "no adapter for {wanted:?} (found: {tried}); use --device cpu for the CPU twins, or install a Vulkan driver (scripts/demo.sh does)"
    )]
    NoAdapter { wanted: String, tried: String },

    /// The device stopped working; work since the last checkpoint is lost.
    #[error("the device was lost ({reason}); start again from the last checkpoint with `mmae resume`")]
    DeviceLost { reason: String },

    /// The device refused an allocation.
    #[error(
        "out of device memory: {asked} bytes asked with {in_use} in use; lower train.batch or raise train.micro_batches"
    )]
    OutOfMemory { asked: u64, in_use: u64 },

    /// A checkpoint or weight file that cannot be used. Nothing of it was loaded.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint { path: PathBuf, reason: String },

    /// An input record that cannot be used.
    #[error("{path}{record}: {reason}", record = Record(.record))]
    Data { path: PathBuf, record: Option<String>, reason: String },

    /// A configuration value that cannot be used.
    #[error("config {field}: {reason}{nearest}", nearest = Nearest(.nearest))]
    Config { field: String, reason: String, nearest: Option<String> },

    /// The operating system refused a file operation.
    #[error("{action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    /// A loss or gradient that is not a number where training cannot go on.
    #[error("{what} is not finite at step {step}; {advice}")]
    NotFinite { what: String, step: u64, advice: &'static str },

    /// The user asked to stop (Ctrl-C); a checkpoint was written.
    #[error("interrupted at step {step}; go on with `mmae resume`")]
    Interrupted { step: u64 },

    /// A check that failed (`mmae verify`, self-tests).
    #[error("{what} failed: {detail}")]
    Check { what: String, detail: String },
}

struct Record<'a>(&'a Option<String>);
impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |record| write!(f, ", {record}"))
    }
}

struct Nearest<'a>(&'a Option<String>);
impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |name| write!(f, " (did you mean `{name}`?)"))
    }
}

impl Error {
    /// A shape error; `expected` and `got` are shown as they are.
    pub fn shape(operation: &'static str, expected: impl fmt::Display, got: impl fmt::Display) -> Self {
        Self::Shape { operation, expected: expected.to_string(), got: got.to_string() }
    }

    /// A data error without a record inside the file.
    pub fn data(path: impl AsRef<Path>, reason: impl fmt::Display) -> Self {
        Self::Data { path: path.as_ref().into(), record: None, reason: reason.to_string() }
    }

    /// A data error that names the record: a row, an entry of an archive, a key.
    pub fn record(path: impl AsRef<Path>, record: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::Data { path: path.as_ref().into(), record: Some(record.to_string()), reason: reason.to_string() }
    }

    /// A configuration error without a suggestion.
    pub fn config(field: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self::Config { field: field.to_string(), reason: reason.to_string(), nearest: None }
    }

    /// A checkpoint error.
    pub fn checkpoint(path: impl AsRef<Path>, reason: impl fmt::Display) -> Self {
        Self::Checkpoint { path: path.as_ref().into(), reason: reason.to_string() }
    }

    /// An input/output error with what was attempted ("read", "write", "create").
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.as_ref().into(), source }
    }

    /// The process exit code that fits: 1 failure, 2 usage, 3 no adapter, 130 interrupted.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } => 2,
            Self::NoAdapter { .. } => 3,
            Self::Interrupted { .. } => 130,
            _ => 1,
        }
    }
}
