//! Reading golden files: arrays of any type by name, and the configuration beside them.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::config::RunConfig;
use crate::error::{Error, Result};

/// The arrays of one safetensors file.
pub struct Arrays {
    path: PathBuf,
    all: Vec<(String, Dtype, Vec<u8>)>,
}

impl Arrays {
    /// Names of the arrays.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(name, _, _)| name.as_str())
    }

    fn find(&self, name: &str, wanted: &[Dtype]) -> Result<(Dtype, &[u8])> {
        let found = self.all.iter().find(|(n, _, _)| n == name);
        let (_, dtype, bytes) = found.ok_or_else(|| Error::checkpoint(&self.path, format!("no array {name}")))?;
        if wanted.contains(dtype) {
            return Ok((*dtype, bytes));
        }
        Err(Error::checkpoint(&self.path, format!("{name} is {dtype:?}, expected one of {wanted:?}")))
    }

    /// An array of 32-bit floats.
    ///
    /// # Errors
    /// `Error::Checkpoint` when it is missing or of another type.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>> {
        Ok(bytemuck::pod_collect_to_vec(self.find(name, &[Dtype::F32])?.1))
    }

    /// An array of 32-bit integers that are not negative.
    ///
    /// # Errors
    /// As [`Arrays::f32`].
    pub fn u32(&self, name: &str) -> Result<Vec<u32>> {
        let values: Vec<u32> = bytemuck::pod_collect_to_vec(self.find(name, &[Dtype::I32, Dtype::U32])?.1);
        match values.iter().find(|v| **v > i32::MAX as u32) {
            Some(v) => Err(Error::checkpoint(&self.path, format!("{name} holds the negative id {}", *v as i32))),
            None => Ok(values),
        }
    }

    /// An array of bytes as flags.
    ///
    /// # Errors
    /// As [`Arrays::f32`].
    pub fn bools(&self, name: &str) -> Result<Vec<bool>> {
        Ok(self.find(name, &[Dtype::U8, Dtype::BOOL])?.1.iter().map(|byte| *byte != 0).collect())
    }
}

/// All arrays of a file.
///
/// # Errors
/// `Error::Io` or `Error::Checkpoint`.
pub fn read_arrays(path: &Path) -> Result<Arrays> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|e| Error::checkpoint(path, e))?;
    let all = tensors.iter().map(|(name, view)| (name.to_owned(), view.dtype(), view.data().to_vec())).collect();
    Ok(Arrays { path: path.into(), all })
}

/// The configuration of a golden folder.
///
/// # Errors
/// `Error::Io`, `Error::Checkpoint` when it is no JSON object, `Error::Config` for its fields.
pub fn read_config(path: &Path) -> Result<RunConfig> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let json = serde_json::from_str::<serde_json::Value>(&text).map_err(|e| Error::checkpoint(path, e))?;
    let object = json.as_object().ok_or_else(|| Error::checkpoint(path, "not a JSON object"))?;
    RunConfig::from_json(object)
}
