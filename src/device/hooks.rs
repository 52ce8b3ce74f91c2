//! Looking at launches and replacing their text: what the kernel laboratory needs of a context. Costs a launch one relaxed
//! load while nothing is hooked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::context::{Context, lock};
use super::kernel::{EpilogueKind, Kernel};
use super::launch::Launch;
use crate::error::Result;
use crate::shape::DType;

/// One launch as it was made, for reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// Name of the kernel whose text ran.
    pub kernel: &'static str,
    /// Element types of the stored bindings and of the output.
    pub dtypes: (DType, DType),
    /// Epilogue part.
    pub epilogue: EpilogueKind,
    /// Override constants that the launch set.
    pub constants: Vec<(&'static str, f64)>,
    /// Workgroups.
    pub groups: u64,
    /// Arithmetic, as the kernel states it.
    pub flops: f64,
    /// Bytes of the tensors that it only reads.
    pub read: u64,
    /// Bytes of the tensors that it writes, or reads and writes.
    pub written: u64,
}

/// How a foreign text is launched in place of a kernel's own.
pub(crate) struct Fitted {
    pub params: Vec<u8>,
    pub constants: Vec<(&'static str, f64)>,
    pub groups: u64,
}

/// Parameters, constants and epilogue of a launch -> those of the foreign text; `None` when it does not cover this launch.
type Fit = Box<dyn Fn(&[u8], &[(&'static str, f64)], EpilogueKind) -> Option<Fitted> + Send + Sync>;

/// A text that runs instead of a kernel's own, with the same buffers and parameters.
pub(crate) struct Substitute {
    /// Names of the kernels that it stands in for: variants that take the same buffers and parameters.
    pub of: &'static [&'static str],
    /// The text; bindings as those of the kernel.
    pub kernel: &'static Kernel,
    /// How to launch it.
    pub fit: Fit,
    /// Launches that it has taken.
    pub taken: AtomicU64,
}

#[derive(Default)]
pub(super) struct Hooks {
    any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    trace: Option<Vec<Launched>>,
    substitute: Option<Arc<Substitute>>,
}

impl Hooks {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let result = change(&mut state);
        self.any.store(state.trace.is_some() || state.substitute.is_some(), Ordering::Relaxed);
        result
    }

    /// The launch to make instead, if there is one; notes whichever is made.
    pub(super) fn apply<'a>(&self, launch: &Launch<'a>) -> Option<Launch<'a>> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = lock(&self.state);
        let other = state.substitute.as_ref().filter(|s| s.of.contains(&launch.kernel.name)).and_then(|substitute| {
            let fitted = (substitute.fit)(&launch.params, &launch.constants, launch.epilogue)?;
            substitute.taken.fetch_add(1, Ordering::Relaxed);
            Some(Launch {
                kernel: substitute.kernel,
                tensors: launch.tensors.clone(),
                epilogue: launch.epilogue,
                params: fitted.params,
                constants: fitted.constants,
                groups: fitted.groups,
                flops: launch.flops,
            })
        });
        if let Some(trace) = &mut state.trace {
            let made = other.as_ref().unwrap_or(launch);
            let written = made.written();
            trace.push(Launched {
                kernel: made.kernel.name,
                dtypes: made.dtypes(),
                epilogue: made.epilogue,
                constants: made.constants.clone(),
                groups: made.groups,
                flops: made.flops,
                read: made.bytes() - written,
                written,
            });
        }
        other
    }
}

impl Context {
    /// The launches that `f` makes, beside its result.
    ///
    /// # Errors
    /// What `f` returns.
    pub fn traced<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Launched>)> {
        let hooks = &self.0.hooks;
        hooks.change(|state| state.trace = Some(Vec::new()));
        let result = f();
        let trace = hooks.change(|state| state.trace.take()).unwrap_or_default();
        Ok((result?, trace))
    }

    /// While `f` runs, launches of the substitute's kernel that it covers run its text instead.
    pub(crate) fn substituting<T>(&self, substitute: Option<&Arc<Substitute>>, f: impl FnOnce() -> T) -> T {
        let hooks = &self.0.hooks;
        let before = hooks.change(|state| std::mem::replace(&mut state.substitute, substitute.cloned()));
        let result = f();
        hooks.change(|state| state.substitute = before);
        result
    }
}
