//! Which arena each parameter lies in, and where.

use std::collections::HashMap;

use super::init::Init;
use crate::device::Capabilities;
use crate::error::{Error, Result};
use crate::shape::Shape;

/// A parameter to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamSpec {
    /// Its name in weight files.
    pub name: String,
    /// Its axes.
    pub dims: Vec<usize>,
    /// How it begins.
    pub init: Init,
    /// Whether weight decay falls on it.
    pub decay: bool,
    /// Whether it is trained.
    pub trainable: bool,
}

/// What is done to all parameters of an arena alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Trained, with weight decay.
    Decayed,
    /// Trained, without.
    Undecayed,
    /// Not trained, but followed by moving averages.
    Frozen,
    /// Not trained, and read beside activations only: in f16 precision halves alone, without f32 values.
    Constant,
    /// Not trained, and begun as copies of others: moving averages. They lie in buffers of their own, because a launch may
    /// not read and write one buffer.
    Copies,
}

impl Section {
    /// Whether gradients and moments belong to it.
    #[must_use]
    pub const fn is_trained(self) -> bool {
        matches!(self, Self::Decayed | Self::Undecayed)
    }

    fn of(spec: &ParamSpec, followed: bool) -> Self {
        match (spec.trainable, spec.decay, &spec.init) {
            (true, true, _) => Self::Decayed,
            (true, false, _) => Self::Undecayed,
            (false, _, Init::CopyOf(_)) => Self::Copies,
            (false, ..) if followed => Self::Frozen,
            (false, ..) => Self::Constant,
        }
    }
}

/// Where a parameter lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the arena.
    pub arena: usize,
    /// First element in it.
    pub offset: usize,
    /// Elements in memory, padding up to the next parameter included.
    pub length: usize,
}

/// Elements that every window starts at a multiple of: 256 bytes of halves, the strictest alignment of any device.
pub(super) const ALIGN: usize = 128;

/// Places of all parameters, and section and length of all arenas.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Layout {
    pub(super) shapes: Vec<Shape>,
    pub(super) places: Vec<Place>,
    pub(super) arenas: Vec<(Section, usize)>,
}

/// Elements of f32 that one launch may bind.
pub(super) fn most_bound(capabilities: &Capabilities) -> usize {
    to_elements(capabilities.max_binding)
}

/// Rounded down to whole alignments.
fn to_elements(bytes: u64) -> usize {
    (usize::try_from(bytes / 4).unwrap_or(usize::MAX) / ALIGN).max(1) * ALIGN
}

/// Lays parameters out: sections one after another, in each first those that moving averages follow, so that averages and
/// their sources run in parallel and one launch moves them all.
pub(super) fn plan(specs: &[ParamSpec], capabilities: &Capabilities) -> Result<Layout> {
    let shapes = specs.iter().map(|spec| Shape::new(&spec.dims)).collect::<Result<Vec<_>>>()?;
    let order = order(specs, &shapes)?;
    // Buffers come in size classes up to an eighth larger than asked.
    let buffer = to_elements(capabilities.max_buffer / 9 * 8);
    let comfortable = most_bound(capabilities).min(buffer);
    let mut places = vec![Place { arena: 0, offset: 0, length: 0 }; specs.len()];
    let mut arenas: Vec<(Section, usize)> = Vec::new();
    for (section, index) in order {
        let (Some(shape), Some(place), Some(spec)) = (shapes.get(index), places.get_mut(index), specs.get(index))
        else {
            continue;
        };
        let length = shape.stored().next_multiple_of(ALIGN);
        if length > buffer {
            return Err(Error::Limit {
                what: format!("parameter {}", spec.name),
                needed: 4 * length as u64,
                available: 4 * buffer as u64,
                advice: "use expansion = \"spatial\", or a narrower model",
            });
        }
        match arenas.last_mut() {
            Some((of, used)) if *of == section && *used + length <= comfortable => *used += length,
            _ => arenas.push((section, length)),
        }
        let offset = arenas.last().map_or(0, |(_, used)| used - length);
        *place = Place { arena: arenas.len() - 1, offset, length };
    }
    Ok(Layout { shapes, places, arenas })
}

/// Sections and indices of the parameters as they are laid out.
fn order(specs: &[ParamSpec], shapes: &[Shape]) -> Result<Vec<(Section, usize)>> {
    let mut index = HashMap::new();
    for (i, spec) in specs.iter().enumerate() {
        if index.insert(spec.name.as_str(), i).is_some() {
            return Err(Error::config(&spec.name, "two parameters have this name"));
        }
    }
    let source = |spec: &ParamSpec| match &spec.init {
        Init::CopyOf(name) => index.get(name.as_str()).copied(),
        _ => None,
    };
    let mut followed = vec![false; specs.len()];
    for (i, spec) in specs.iter().enumerate() {
        let Init::CopyOf(name) = &spec.init else { continue };
        let fits = source(spec).filter(|s| {
            shapes.get(*s) == shapes.get(i) && !specs.get(*s).is_some_and(|s| matches!(s.init, Init::CopyOf(_)))
        });
        let Some(followed) = fits.and_then(|s| followed.get_mut(s)) else {
            let reason = format!("copies {name}, which is no parameter of its shape with values of its own");
            return Err(Error::config(&spec.name, reason));
        };
        *followed |= !spec.trainable;
    }
    let section = |i: usize| Some(Section::of(specs.get(i)?, *followed.get(i)?));
    let key = |i: &usize| {
        let own = section(*i)?;
        // An average takes the place of its source, so that both stand in one order.
        let leader = if own == Section::Copies { source(specs.get(*i)?).unwrap_or(*i) } else { *i };
        let alone = !followed.get(leader).copied().unwrap_or_default();
        Some((own, section(leader), alone, leader, *i))
    };
    let mut order: Vec<usize> = (0..specs.len()).collect();
    order.sort_by_cached_key(key);
    Ok(order.into_iter().filter_map(|i| Some((section(i)?, i))).collect())
}
