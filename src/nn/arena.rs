//! All parameters of a model, in a few long buffers: updating, averaging, clearing and measuring gradients then takes a
//! handful of launches whatever the model.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::init::Init;
use super::layout::{self, ParamSpec, Place, Section};
use super::param::Param;
use crate::device::{Capabilities, Context};
use crate::error::{Error, Result, nearest};
use crate::kernels::clamp;
use crate::kernels::step_control::{Control, WORDS};
use crate::shape::DType;
use crate::tape::Written;
use crate::tensor::Tensor;

/// A tensor on the host: name, shape, values without padding.
pub type Entry = (String, Vec<usize>, Vec<f32>);

/// What training adds to an arena: all f32, of the arena's length.
#[derive(Clone, Debug)]
pub struct State {
    /// Sum of the gradients since they were cleared.
    pub grad: Tensor,
    /// First moment.
    pub m: Tensor,
    /// Second moment.
    pub v: Tensor,
}

/// Parameters of one section, one behind the other.
#[derive(Clone, Debug)]
pub struct Arena {
    /// What is done to them.
    pub section: Section,
    /// Values, flat: f32, but halves for constants in f16 precision.
    pub values: Tensor,
    /// The f16 copy of f32 values, in f16 precision.
    pub halves: Option<Tensor>,
    /// Gradients and moments of trained parameters.
    pub state: Option<State>,
}

/// A piece of an arena that one launch may bind.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// What is done to it.
    pub section: Section,
    /// Values.
    pub values: Tensor,
    /// Their f16 copy.
    pub halves: Option<Tensor>,
    /// Gradients and moments.
    pub state: Option<State>,
}

impl Arena {
    fn new(context: &Context, section: Section, length: usize, precision: DType) -> Result<Self> {
        // Zeros lie between the parameters from the start, and every update keeps them.
        let zeros = |dtype| Tensor::zeros(context, &[length], dtype);
        let state = || Ok::<_, Error>(State { grad: zeros(DType::F32)?, m: zeros(DType::F32)?, v: zeros(DType::F32)? });
        let kept = if section == Section::Constant { precision } else { DType::F32 };
        Ok(Self {
            section,
            values: zeros(kept)?,
            halves: (precision != kept).then(|| zeros(DType::F16)).transpose()?,
            state: section.is_trained().then(state).transpose()?,
        })
    }

    /// `length` elements from `offset` on, which is a multiple of 64.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not lie in the arena.
    pub fn stretch(&self, offset: usize, length: usize) -> Result<Stretch> {
        let cut = |tensor: &Tensor| tensor.window(offset, &[length]);
        let state = |s: &State| Ok::<_, Error>(State { grad: cut(&s.grad)?, m: cut(&s.m)?, v: cut(&s.v)? });
        Ok(Stretch {
            section: self.section,
            values: cut(&self.values)?,
            halves: self.halves.as_ref().map(cut).transpose()?,
            state: self.state.as_ref().map(state).transpose()?,
        })
    }
}

/// The parameters of a model.
pub struct ParamSet {
    context: Context,
    params: Vec<Param>,
    places: Vec<Place>,
    arenas: Vec<Arena>,
    index: HashMap<Arc<str>, usize>,
    most_bound: usize,
}

impl ParamSet {
    /// Lays out and draws the parameters. `precision` is the storage of activations: with [`DType::F16`] every parameter
    /// that changes has an f16 copy beside its f32 value, and one that never does is kept as halves alone. A parameter that is not trained and begins as a copy of another is taken for
    /// its moving average.
    ///
    /// # Errors
    /// [`Error::Config`] for a name given twice or a copy of nothing, [`Error::Limit`] for a parameter larger than the
    /// device's largest buffer, [`Error::OutOfMemory`].
    pub fn build(context: &Context, specs: &[ParamSpec], precision: DType, seed: u64) -> Result<Self> {
        Self::build_within(context, specs, precision, seed, context.capabilities())
    }

    /// [`ParamSet::build`] under given limits of buffers and bindings.
    pub(crate) fn build_within(
        context: &Context,
        specs: &[ParamSpec],
        precision: DType,
        seed: u64,
        limits: &Capabilities,
    ) -> Result<Self> {
        let plan = layout::plan(specs, limits)?;
        let arena = |(section, length): &(Section, usize)| Arena::new(context, *section, *length, precision);
        let arenas = plan.arenas.iter().map(arena).collect::<Result<Vec<_>>>()?;
        let mut set = Self {
            context: context.clone(),
            params: Vec::with_capacity(specs.len()),
            places: plan.places,
            arenas,
            index: HashMap::new(),
            most_bound: layout::most_bound(limits),
        };
        for ((spec, shape), place) in specs.iter().zip(plan.shapes).zip(&set.places) {
            let Some(arena) = set.arenas.get(place.arena) else { continue };
            let cut = |tensor: &Tensor| tensor.window(place.offset, &spec.dims);
            let value = cut(&arena.values)?;
            let working = arena.halves.as_ref().map_or_else(|| Ok(value.clone()), cut)?;
            let grad = arena.state.as_ref().map(|state| cut(&state.grad)).transpose()?;
            let name: Arc<str> = spec.name.as_str().into();
            set.index.insert(Arc::clone(&name), set.params.len());
            set.params.push(Param { name, shape, value, working, grad });
        }
        // A dry run has nowhere to put initial values, and drawing them would take most of its time.
        let drawn = if context.is_dry() { &[] } else { specs };
        let mut copies: HashMap<&str, Vec<&Param>> = HashMap::new();
        for (spec, param) in drawn.iter().zip(&set.params) {
            if let Init::CopyOf(source) = &spec.init {
                copies.entry(source).or_default().push(param);
            }
        }
        for (spec, param) in drawn.iter().zip(&set.params) {
            if matches!(spec.init, Init::CopyOf(_)) {
                continue;
            }
            let values = spec.init.values(seed, &spec.name, param.shape.elements(), param.shape.last());
            for param in copies.get(spec.name.as_str()).into_iter().flatten().chain([&param]) {
                param.value.write_f32(&values)?;
            }
        }
        set.refresh()?;
        Ok(set)
    }

    /// Where the parameters lie.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// All parameters, in the order of their specifications.
    #[must_use]
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// A parameter by name.
    ///
    /// # Errors
    /// [`Error::Config`] with the nearest name when there is none.
    pub fn get(&self, name: &str) -> Result<&Param> {
        self.index.get(name).and_then(|i| self.params.get(*i)).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> Error {
        Error::Config {
            field: name.to_owned(),
            reason: "no parameter has this name".to_owned(),
            nearest: nearest(name, self.params.iter().map(|param| &*param.name)),
        }
    }

    /// Where a parameter lies.
    ///
    /// # Errors
    /// As [`ParamSet::get`].
    pub fn place(&self, name: &str) -> Result<Place> {
        self.index.get(name).and_then(|i| self.places.get(*i)).copied().ok_or_else(|| self.unknown(name))
    }

    /// All arenas.
    #[must_use]
    pub fn arenas(&self) -> &[Arena] {
        &self.arenas
    }

    /// Elements that one launch may bind.
    #[must_use]
    pub const fn most_bound(&self) -> usize {
        self.most_bound
    }

    /// The arenas in pieces that one launch may bind: nearly always one piece each.
    ///
    /// # Errors
    /// [`Error::Shape`] when a piece does not lie in its arena, which cannot happen.
    pub fn stretches(&self) -> Result<Vec<Stretch>> {
        let mut all = Vec::new();
        for arena in &self.arenas {
            let length = arena.values.shape().elements();
            for offset in (0..length).step_by(self.most_bound) {
                all.push(arena.stretch(offset, self.most_bound.min(length - offset))?);
            }
        }
        Ok(all)
    }

    /// Elements of all parameters, without padding.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.params.iter().map(|param| param.shape.elements()).sum()
    }

    /// Sets every gradient to zero, for callers that add gradients up by themselves.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn zero_gradients(&self) -> Result<()> {
        self.arenas.iter().filter_map(|arena| arena.state.as_ref()).try_for_each(|state| state.grad.clear())
    }

    /// Sets those gradients to zero that a backward pass has not written: without them the others would stand beside those of an
    /// earlier pass. In most models there are none.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn zero_gradients_but(&self, written: &Written) -> Result<()> {
        self.params
            .iter()
            .filter_map(|param| param.grad.as_ref())
            .filter(|slot| !written.contains(slot))
            .try_for_each(Tensor::clear)
    }

    /// Writes the f16 copies anew from the values; nothing to do in f32. The device rounds, as it does in an update, so that
    /// a resumed run has the very copies of one that went on.
    fn refresh(&self) -> Result<()> {
        if self.arenas.iter().all(|arena| arena.halves.is_none()) {
            return Ok(());
        }
        let control = Tensor::from_u32(&self.context, &[WORDS], &Control::new(1.0).to_words())?;
        for stretch in self.stretches()?.iter().filter(|stretch| stretch.halves.is_some()) {
            // A clamp to everything that a half can hold is the copy of an update without the update.
            clamp::launch(&self.context, &control, &stretch.values, stretch.halves.as_ref(), (f32::MIN, f32::MAX))?;
        }
        Ok(())
    }

    /// Reads all values back.
    ///
    /// # Errors
    /// What the device reports.
    pub fn read(&self) -> Result<Vec<Entry>> {
        let entry = |p: &Param| Ok((p.name.to_string(), p.shape.dims().to_vec(), p.value.to_f32()?));
        self.params.iter().map(entry).collect()
    }

    /// Replaces all values, in any order. Nothing changes unless everything fits.
    ///
    /// # Errors
    /// [`Error::Shape`] that lists every name missing, unexpected, given twice or of another shape.
    pub fn load(&self, entries: &[Entry]) -> Result<()> {
        let wanted = self.params.iter().map(|param| (param.name.to_string(), &param.value));
        write_all("load parameters", wanted.collect(), entries)?;
        self.refresh()
    }

    /// Replaces one parameter.
    ///
    /// # Errors
    /// As [`ParamSet::get`]; [`Error::Shape`] when the count of values does not fit.
    pub fn set(&self, name: &str, values: &[f32]) -> Result<()> {
        self.get(name)?.value.write_f32(values)?;
        self.refresh()
    }

    /// Reads the moments of all trained parameters back, as `m.NAME` and `v.NAME`.
    ///
    /// # Errors
    /// What the device reports.
    pub fn read_moments(&self) -> Result<Vec<Entry>> {
        let entry = |(name, t): (String, Tensor)| Ok((name, t.dims().to_vec(), t.to_f32()?));
        self.moments()?.into_iter().map(entry).collect()
    }

    /// Replaces the moments of all trained parameters. Nothing changes unless everything fits.
    ///
    /// # Errors
    /// As [`ParamSet::load`].
    pub fn load_moments(&self, entries: &[Entry]) -> Result<()> {
        let moments = self.moments()?;
        write_all("load moments", moments.iter().map(|(name, tensor)| (name.clone(), tensor)).collect(), entries)
    }

    fn moments(&self) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        for (param, place) in self.params.iter().zip(&self.places) {
            let Some(state) = self.arenas.get(place.arena).and_then(|arena| arena.state.as_ref()) else { continue };
            for (prefix, tensor) in [("m", &state.m), ("v", &state.v)] {
                let window = tensor.window(place.offset, param.shape.dims())?;
                all.push((format!("{prefix}.{}", param.name), window));
            }
        }
        Ok(all)
    }
}

/// Writes entries into the tensors of their names, after every check.
fn write_all(operation: &'static str, wanted: Vec<(String, &Tensor)>, entries: &[Entry]) -> Result<()> {
    let mut found: HashMap<&str, &Entry> = entries.iter().map(|entry| (entry.0.as_str(), entry)).collect();
    let mut wrong = Vec::new();
    let mut seen = HashSet::new();
    wrong.extend(entries.iter().filter(|e| !seen.insert(&e.0)).map(|e| format!("{} given twice", e.0)));
    let mut pairs = Vec::with_capacity(wanted.len());
    for (name, tensor) in &wanted {
        match found.remove(name.as_str()) {
            None => wrong.push(format!("{name} missing")),
            Some((_, dims, values)) if dims != tensor.dims() || values.len() != tensor.shape().elements() => {
                wrong.push(format!("{name} is {dims:?} with {} values, expected {}", values.len(), tensor.shape()));
            }
            Some((_, _, values)) => pairs.push((tensor, values)),
        }
    }
    let mut extra: Vec<_> = found.into_keys().collect();
    extra.sort_unstable();
    wrong.extend(extra.into_iter().map(|name| format!("{name} unexpected")));
    if !wrong.is_empty() {
        return Err(Error::shape(operation, format!("{} tensors", wanted.len()), wrong.join("; ")));
    }
    pairs.into_iter().try_for_each(|(tensor, values)| tensor.write_f32(values))
}
