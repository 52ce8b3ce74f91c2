//! Configuration as text: TOML, JSON, and which source wins (preset < file < environment < command line).

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::config::{DEFAULT_PRESET, RunConfig};
use crate::error::{Error, Result, nearest};
use crate::model::config::{ModelConfig, preset};
use crate::model::fields::{Section, Value};

/// What the sections are called in files, in order.
const SECTIONS: [&str; 4] = ["model", "loss", "train", "data"];
/// Environment variables of the form `MMAE_TRAIN__LR` set `train.lr`.
const PREFIX: &str = "MMAE_";

/// Where a configuration comes from; later fields win over earlier ones, except that `preset` given here wins over a
/// preset named anywhere else.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// A TOML file: its path (for messages) and its text.
    pub file: Option<(&'a Path, &'a str)>,
    /// Environment variables, from [`environment`].
    pub environment: &'a [(String, String)],
    /// `section.field=value` from the command line.
    pub set: &'a [String],
    /// The model preset from the command line.
    pub preset: Option<&'a str>,
    /// `train.total_steps` where no other source gives it: where this part of the run stops.
    pub steps: Option<u64>,
}

/// This process's environment variables that begin with `MMAE_`, sorted.
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    let text = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((key.into_string().ok()?, value.into_string().ok()?))
    };
    let mut found: Vec<_> = std::env::vars_os().filter_map(text).filter(|(key, _)| key.starts_with(PREFIX)).collect();
    found.sort();
    found
}

/// One value on its way into a section: text from a person, or a typed value from a file.
enum Given<'a> {
    Text(&'a str),
    Typed(&'a Value),
}

impl RunConfig {
    /// Puts all sources together and checks the result.
    ///
    /// # Errors
    /// [`Error::Config`] for unknown names and wrong values, with the source; [`Error::Data`] for text that is not TOML.
    pub fn resolve(sources: &Sources<'_>) -> Result<Self> {
        let file = match sources.file {
            Some((path, text)) => text.parse::<toml::Table>().map_err(|e| Error::data(path, e))?,
            None => toml::Table::new(),
        };
        let mut set = Vec::new();
        for item in sources.set {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| Error::config(item, "--set takes section.field=value, for example train.lr=3e-4"))?;
            set.push((key.trim(), value.trim()));
        }
        let given =
            |pairs: &[(&str, &str)], name| pairs.iter().rev().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned());
        let variables: Vec<_> = sources.environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let name = sources.preset.map(str::to_owned).or_else(|| given(&set, "preset"));
        let name = name.or_else(|| given(&variables, "MMAE_PRESET"));
        let name = name.or_else(|| file.get("preset").map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)));
        let mut config = Self::new(preset(name.as_deref().unwrap_or(DEFAULT_PRESET))?);
        config.train.steps = sources.steps.unwrap_or(config.train.steps);

        if let Some((path, _)) = sources.file {
            config.merge_toml(&file).map_err(|e| from(e, &path.display()))?;
        }
        for (key, value) in variables {
            // Variables without a double underscore belong to other parts of the program.
            if let Some((section, field)) = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once("__")) {
                let (section, field) = (section.to_lowercase(), field.to_lowercase());
                config.give(&section, &field, &Given::Text(value)).map_err(|e| from(e, &key))?;
            }
        }
        for (key, value) in set.into_iter().filter(|(key, _)| *key != "preset") {
            config.set(key, value)?;
        }
        config.validate()?;
        Ok(config)
    }

    /// Sets `section.field` from text.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown name (with the nearest) or a value of another type.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match key.split_once('.') {
            Some((section, field)) => self.give(section, field, &Given::Text(value)),
            None => {
                let home = self.sections().into_iter().find(|(_, fields)| fields.iter().any(|(name, _)| *name == key));
                let nearest = home.map(|(section, _)| format!("{section}.{key}"));
                Err(Error::Config { field: key.into(), reason: "fields are named section.field".into(), nearest })
            }
        }
    }

    /// Every section with its fields and present values.
    #[must_use]
    pub fn sections(&self) -> [(&'static str, Vec<(&'static str, Value)>); 4] {
        [
            ("model", self.model.fields()),
            ("loss", self.loss.fields()),
            ("train", self.train.fields()),
            ("data", self.data.fields()),
        ]
    }

    fn give(&mut self, section: &str, field: &str, given: &Given<'_>) -> Result<()> {
        fn into<S: Section>(section: &mut S, field: &str, given: &Given<'_>) -> Result<()> {
            match given {
                Given::Text(text) => section.set(field, text),
                Given::Typed(value) => section.put(field, value),
            }
        }
        match section {
            "model" => into(&mut self.model, field, given),
            "loss" => into(&mut self.loss, field, given),
            "train" => into(&mut self.train, field, given),
            "data" => into(&mut self.data, field, given),
            _ => Err(unknown(section)),
        }
    }

    fn merge_toml(&mut self, file: &toml::Table) -> Result<()> {
        for (section, fields) in file.iter().filter(|(key, _)| *key != "preset") {
            let Some(fields) = fields.as_table() else {
                return Err(match SECTIONS.contains(&section.as_str()) {
                    true => Error::config(section, format!("expected a table of fields, got `{fields}`")),
                    false => unknown(section),
                });
            };
            // An unknown section without fields is a mistake too.
            if !SECTIONS.contains(&section.as_str()) {
                return Err(unknown(section));
            }
            for (field, value) in fields {
                let value = typed_toml(value).ok_or_else(|| unusable(section, field, &value.to_string()))?;
                self.give(section, field, &Given::Typed(&value))?;
            }
        }
        Ok(())
    }

    /// The configuration as TOML, fields that follow their rule as comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (section, fields) in self.sections() {
            text += &format!("{}[{section}]\n", if text.is_empty() { "" } else { "\n" });
            for (name, value) in fields {
                text += &match &value {
                    Value::Default => format!("# {name} = {value}\n"),
                    Value::Text(v) => format!("{name} = {}\n", toml::Value::from(v.as_str())),
                    Value::List(v) => format!("{name} = {}\n", toml::Value::from(v.clone())),
                    Value::Count(_) | Value::Real(_) | Value::Flag(_) => format!("{name} = {value}\n"),
                };
            }
        }
        text
    }

    /// The configuration as one JSON object with an object per section.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Json> {
        let object = |fields: Vec<(&str, Value)>| {
            Json::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), untyped_json(value))).collect())
        };
        self.sections().into_iter().map(|(section, fields)| (section.to_owned(), object(fields))).collect()
    }

    /// Reads what [`RunConfig::to_json`] writes. `model` must be whole; other fields keep their defaults when left out;
    /// keys that are no section are passed over (they belong to the file around the configuration).
    ///
    /// # Errors
    /// [`Error::Config`] naming a missing, unknown or wrong field.
    pub fn from_json(json: &Map<String, Json>) -> Result<Self> {
        let model = json.get("model").ok_or_else(|| Error::config("model", "missing"))?;
        let mut config = Self::new(model_from_json(model)?);
        for section in SECTIONS.into_iter().skip(1) {
            let Some(value) = json.get(section) else { continue };
            for (field, value) in object(section, value)? {
                let value = typed_json(value).ok_or_else(|| unusable(section, field, &value.to_string()))?;
                // Golden files of the model call it so.
                let field = if (section, field.as_str()) == ("train", "steps") { "total_steps" } else { field };
                config.give(section, field, &Given::Typed(&value))?;
            }
        }
        config.validate()?;
        Ok(config)
    }
}

/// The model configuration as the one-line JSON object that weight files carry.
#[must_use]
pub fn model_to_json(model: &ModelConfig) -> String {
    let fields = model.fields().into_iter().map(|(name, value)| (name.to_owned(), untyped_json(value)));
    Json::Object(fields.collect()).to_string()
}

/// Reads a model configuration in which every field is given.
///
/// # Errors
/// [`Error::Config`] naming a missing, unknown or wrong field.
pub fn model_from_json(json: &Json) -> Result<ModelConfig> {
    let given = object("model", json)?;
    let mut model = preset(DEFAULT_PRESET)?;
    for (field, value) in given {
        let value = typed_json(value).ok_or_else(|| unusable("model", field, &value.to_string()))?;
        model.put(field, &value)?;
    }
    let missing: Vec<_> =
        model.fields().iter().map(|(name, _)| *name).filter(|name| !given.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(Error::config("model", format!("without {}", missing.join(", "))));
    }
    model.validate()?;
    Ok(model)
}

fn object<'a>(section: &str, json: &'a Json) -> Result<&'a Map<String, Json>> {
    json.as_object().ok_or_else(|| Error::config(section, format!("expected an object of fields, got `{json}`")))
}

fn unknown(section: &str) -> Error {
    let reason = format!("no such section, there are {}", SECTIONS.join(", "));
    Error::Config { field: section.into(), reason, nearest: nearest(section, SECTIONS) }
}

fn unusable(section: &str, field: &str, value: &str) -> Error {
    Error::config(format!("{section}.{field}"), format!("cannot be `{value}`"))
}

/// Says where a wrong value came from.
fn from(error: Error, source: &dyn std::fmt::Display) -> Error {
    match error {
        Error::Config { field, reason, nearest } => {
            Error::Config { field, reason: format!("{reason} (from {source})"), nearest }
        }
        other => other,
    }
}

fn typed_toml(value: &toml::Value) -> Option<Value> {
    match value {
        toml::Value::Integer(v) => Some(u64::try_from(*v).map_or(Value::Real(*v as f64), Value::Count)),
        toml::Value::Float(v) => Some(Value::Real(*v)),
        toml::Value::Boolean(v) => Some(Value::Flag(*v)),
        toml::Value::String(v) => Some(Value::Text(v.clone())),
        toml::Value::Array(v) => {
            v.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<_>>().map(Value::List)
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn typed_json(value: &Json) -> Option<Value> {
    match value {
        Json::Null => Some(Value::Default),
        Json::Bool(v) => Some(Value::Flag(*v)),
        Json::Number(v) => v.as_u64().map(Value::Count).or_else(|| v.as_f64().map(Value::Real)),
        Json::String(v) => Some(Value::Text(v.clone())),
        Json::Array(v) => v.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<_>>().map(Value::List),
        Json::Object(_) => None,
    }
}

fn untyped_json(value: Value) -> Json {
    match value {
        Value::Count(v) => v.into(),
        Value::Real(v) => v.into(),
        Value::Flag(v) => v.into(),
        Value::Text(v) => v.into(),
        Value::List(v) => v.into(),
        Value::Default => Json::Null,
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
