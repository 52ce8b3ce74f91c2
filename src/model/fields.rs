//! One list of names per configuration section. TOML, environment, `--set` and JSON all go through [`Section::slots`],
//! so a new field is one line in its struct and one line in that list.

use crate::error::{Error, Result, nearest};

/// A field's value outside its struct.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number, not negative.
    Count(u64),
    /// Any finite number.
    Real(f64),
    /// `true` or `false`.
    Flag(bool),
    /// Text, or the name of a choice.
    Text(String),
    /// Several texts.
    List(Vec<String>),
    /// Not given: the field follows its rule (for example `ema` follows its schedule).
    Default,
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(value) => write!(f, "{value}"),
            Self::Real(value) => write!(f, "{value:?}"),
            Self::Flag(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value}"),
            Self::List(values) => write!(f, "{}", values.join(",")),
            Self::Default => write!(f, "{DEFAULT}"),
        }
    }
}

/// How "not given" is spelled where a value must be text (`--set train.ema=default`).
pub const DEFAULT: &str = "default";

/// An enum whose variants have names in configuration files.
pub trait Choice {
    /// Every name, in order of declaration.
    fn names(&self) -> &'static [&'static str];
    /// The name of the present value.
    fn name(&self) -> &'static str;
    /// Takes the variant called `name`; false when there is none.
    fn choose(&mut self, name: &str) -> bool;
}

/// Where a field lives, with its type.
pub enum Slot<'a> {
    /// A size or a number of things.
    Count(&'a mut usize),
    /// A step number or a seed, at most `i64::MAX` (the largest integer in TOML).
    Long(&'a mut u64),
    /// A step number with a rule of its own when not given.
    MaybeLong(&'a mut Option<u64>),
    /// A number of bytes, perhaps not given; in text also with a unit, `512MiB`.
    MaybeBytes(&'a mut Option<u64>),
    /// A finite number.
    Real(&'a mut f64),
    /// A finite number with a rule of its own when not given.
    MaybeReal(&'a mut Option<f64>),
    /// A switch.
    Flag(&'a mut bool),
    /// A text.
    Text(&'a mut String),
    /// A text that may be absent.
    MaybeText(&'a mut Option<String>),
    /// Several texts.
    List(&'a mut Vec<String>),
    /// One of several names.
    Choice(&'a mut dyn Choice),
}

impl Slot<'_> {
    fn get(&self) -> Value {
        match self {
            Self::Count(value) => Value::Count(**value as u64),
            Self::MaybeLong(value) | Self::MaybeBytes(value) => value.map_or(Value::Default, Value::Count),
            Self::Long(value) => Value::Count(**value),
            Self::Real(value) => Value::Real(**value),
            Self::MaybeReal(value) => value.map_or(Value::Default, Value::Real),
            Self::Flag(value) => Value::Flag(**value),
            Self::Text(value) => Value::Text((**value).clone()),
            Self::MaybeText(value) => (**value).clone().map_or(Value::Default, Value::Text),
            Self::List(values) => Value::List((**values).clone()),
            Self::Choice(choice) => Value::Text(choice.name().into()),
        }
    }

    /// What this slot takes, for messages.
    fn wants(&self) -> String {
        match self {
            Self::Count(_) | Self::Long(_) => "a whole number".into(),
            Self::MaybeLong(_) => format!("a whole number or {DEFAULT}"),
            Self::MaybeBytes(_) => format!("bytes, such as 512MiB or 2GiB, or {DEFAULT}"),
            Self::Real(_) => "a number".into(),
            Self::MaybeReal(_) => format!("a number or {DEFAULT}"),
            Self::Flag(_) => "true or false".into(),
            Self::Text(_) | Self::MaybeText(_) => "text".into(),
            Self::List(_) => "a list of texts".into(),
            Self::Choice(choice) => format!("one of {}", choice.names().join(", ")),
        }
    }

    /// Reads `text` as this slot's type; `None` when it is not one.
    fn parse(&self, text: &str) -> Option<Value> {
        let text = text.trim();
        match self {
            Self::MaybeLong(_) | Self::MaybeBytes(_) | Self::MaybeReal(_) | Self::MaybeText(_) if text == DEFAULT => {
                Some(Value::Default)
            }
            Self::Count(_) | Self::MaybeLong(_) | Self::Long(_) => text.parse().ok().map(Value::Count),
            Self::MaybeBytes(_) => byte_count(text).map(Value::Count),
            Self::Real(_) | Self::MaybeReal(_) => text.parse().ok().map(Value::Real),
            Self::Flag(_) => text.parse().ok().map(Value::Flag),
            Self::Text(_) | Self::MaybeText(_) | Self::Choice(_) => Some(Value::Text(text.into())),
            Self::List(_) => Some(Value::List(
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Into::into).collect(),
            )),
        }
    }

    /// Stores `value`; false when it is of another type or out of range.
    fn put(&mut self, value: &Value) -> bool {
        match (self, value) {
            (Self::Count(slot), Value::Count(v)) => usize::try_from(*v).map(|v| **slot = v).is_ok(),
            (Self::Long(slot), Value::Count(v)) if i64::try_from(*v).is_ok() => store(slot, *v),
            (Self::MaybeLong(slot), Value::Count(v)) if i64::try_from(*v).is_ok() => store(slot, Some(*v)),
            (Self::MaybeBytes(slot), Value::Count(v)) if i64::try_from(*v).is_ok() => store(slot, Some(*v)),
            (Self::MaybeBytes(slot), Value::Text(v)) => byte_count(v).is_some_and(|v| store(slot, Some(v))),
            (Self::Real(slot), Value::Real(v)) if v.is_finite() => store(slot, *v),
            (Self::Real(slot), Value::Count(v)) => store(slot, *v as f64),
            (Self::MaybeReal(slot), Value::Real(v)) if v.is_finite() => store(slot, Some(*v)),
            (Self::MaybeReal(slot), Value::Count(v)) => store(slot, Some(*v as f64)),
            (Self::Flag(slot), Value::Flag(v)) => store(slot, *v),
            (Self::Text(slot), Value::Text(v)) => store(slot, v.clone()),
            (Self::MaybeText(slot), Value::Text(v)) => store(slot, Some(v.clone())),
            (Self::List(slot), Value::List(v)) => store(slot, v.clone()),
            (Self::Choice(choice), Value::Text(v)) => choice.choose(v),
            (Self::MaybeLong(slot), Value::Default) => store(slot, None),
            (Self::MaybeBytes(slot), Value::Default) => store(slot, None),
            (Self::MaybeReal(slot), Value::Default) => store(slot, None),
            (Self::MaybeText(slot), Value::Default) => store(slot, None),
            _ => false,
        }
    }
}

/// `512MiB`, `2 GiB` or plain bytes; at most `i64::MAX`.
fn byte_count(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|count| i64::try_from(*count).is_ok())
}

fn store<T>(slot: &mut &mut T, value: T) -> bool {
    **slot = value;
    true
}

/// A group of named fields: `model`, `loss`, `train`, `data`.
pub trait Section: Clone {
    /// The group's name, the first half of `train.lr`.
    const NAME: &'static str;

    /// Every field with its name, in the order in which files list them.
    fn slots(&mut self) -> Vec<(&'static str, Slot<'_>)>;

    /// Every field with its present value.
    fn fields(&self) -> Vec<(&'static str, Value)> {
        let mut copy = self.clone();
        copy.slots().into_iter().map(|(name, slot)| (name, slot.get())).collect()
    }

    /// Sets the field `key` from text, as the command line and the environment give it.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown name (with the nearest one) or a value of another type.
    fn set(&mut self, key: &str, text: &str) -> Result<()> {
        with_slot(self, key, |mut slot| match slot.parse(text) {
            Some(value) if slot.put(&value) => Ok(()),
            _ => Err(wrong::<Self>(key, &slot, text)),
        })
    }

    /// Sets the field `key` from a typed value, as TOML and JSON give it.
    ///
    /// # Errors
    /// As [`Section::set`].
    fn put(&mut self, key: &str, value: &Value) -> Result<()> {
        with_slot(self, key, |mut slot| match slot.put(value) {
            true => Ok(()),
            false => Err(wrong::<Self>(key, &slot, &value.to_string())),
        })
    }

    /// The names of the fields in which `self` and `other` differ, with both values, `model.width: 48 and 64`.
    fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = self.fields().into_iter().zip(other.fields());
        pairs.filter(|(a, b)| a != b).map(|((name, a), (_, b))| format!("{}.{name}: {a} and {b}", Self::NAME)).collect()
    }
}

fn with_slot<S: Section>(section: &mut S, key: &str, act: impl FnOnce(Slot<'_>) -> Result<()>) -> Result<()> {
    let mut slots = section.slots();
    if let Some(at) = slots.iter().position(|(name, _)| *name == key) {
        return act(slots.swap_remove(at).1);
    }
    let nearest = nearest(key, slots.iter().map(|(name, _)| *name)).map(|name| format!("{}.{name}", S::NAME));
    Err(Error::Config { field: format!("{}.{key}", S::NAME), reason: "no such field".into(), nearest })
}

fn wrong<S: Section>(key: &str, slot: &Slot<'_>, got: &str) -> Error {
    let nearest = match slot {
        Slot::Choice(choice) => nearest(got, choice.names().iter().copied()),
        _ => None,
    };
    Error::Config {
        field: format!("{}.{key}", S::NAME),
        reason: format!("expected {}, got `{got}`", slot.wants()),
        nearest,
    }
}

#[cfg(test)]
mod tests {
    use super::byte_count;

    #[test]
    fn byte_counts_in_words() {
        let cases = [
            ("0", Some(0)),
            ("1536", Some(1536)),
            ("1536 B", Some(1536)),
            ("3KiB", Some(3 << 10)),
            (" 512MiB ", Some(512 << 20)),
            ("2 GiB", Some(2 << 30)),
            ("1TiB", Some(1 << 40)),
            ("8388607TiB", Some(8_388_607 << 40)),
            ("8388608TiB", None),
            ("18446744073709551616", None),
            ("2GB", None),
            ("2gib", None),
            ("1.5GiB", None),
            ("-1", None),
            ("GiB", None),
            ("", None),
        ];
        let wrong: Vec<_> = cases.into_iter().filter(|(text, bytes)| byte_count(text) != *bytes).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
