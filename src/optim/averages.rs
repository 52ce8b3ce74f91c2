//! Moving averages of parameters, gathered into runs that one launch moves.

use crate::error::{Error, Result};
use crate::nn::{ParamSet, Place, Stretch};

/// One launch: `average` follows `source`, element by element.
pub(super) struct Run {
    pub(super) average: Stretch,
    pub(super) source: Stretch,
}

/// The launches for `pairs` of (average, source) names: neighbours whose sources are neighbours too share one, up to what
/// a launch may bind.
pub(super) fn runs(params: &ParamSet, pairs: &[(String, String)]) -> Result<Vec<Run>> {
    let mut places = Vec::with_capacity(pairs.len());
    for (average, source) in pairs {
        let refuse = |reason: &str| Err(Error::config(average, format!("cannot follow {source}: {reason}")));
        let (to, from) = (params.place(average)?, params.place(source)?);
        if params.get(average)?.shape != params.get(source)?.shape {
            return refuse("it has another shape");
        }
        if params.get(average)?.is_trained() {
            return refuse("an average cannot be trained as well");
        }
        if to.arena == from.arena {
            return refuse("it must begin as a copy of its source");
        }
        places.push((to, from));
    }
    places.sort_by_key(|(to, _)| (to.arena, to.offset));
    let mut merged: Vec<(Place, Place)> = Vec::new();
    for (to, from) in places {
        match merged.last_mut() {
            Some((a, b)) if follows(a, &to) && follows(b, &from) => {
                a.length += to.length;
                b.length += from.length;
            }
            _ => merged.push((to, from)),
        }
    }
    let mut runs = Vec::new();
    for (to, from) in merged {
        for start in (0..to.length).step_by(params.most_bound()) {
            let length = params.most_bound().min(to.length - start);
            let cut = |place: &Place| {
                let arena = params.arenas().get(place.arena);
                let arena = arena.ok_or_else(|| Error::shape("moving average", "an arena", place.arena))?;
                arena.stretch(place.offset + start, length)
            };
            runs.push(Run { average: cut(&to)?, source: cut(&from)? });
        }
    }
    Ok(runs)
}

/// Whether `next` begins where `place` ends.
fn follows(place: &Place, next: &Place) -> bool {
    place.arena == next.arena && place.offset + place.length == next.offset
}
