//! The kernel laboratory: what this device can do, what each kernel makes of it, and whether the clock can be believed.
//!
//! ```text
//! clock.rs      one submission timed by the device and by the wall; repetitions, median, quartiles
//! calibrate.rs  twice the work must read as twice the time
//! probes.rs     kernels of the device's own limits; ceilings.rs measures them
//! cases/        the work: shapes of the model; case.rs says what a case is
//! oracle.rs     correct before fast
//! roof.rs       which ceiling a piece of work is held against
//! measure.rs    times of several texts of one kernel, in turns
//! foreign.rs    a reader's own text in a kernel's place; contracts.rs says what it must declare
//! ladder.rs     the teaching versions, shaders/ladder/, by the same way
//! step.rs       whole training steps; agreement.rs holds them against the twins first
//! shares.rs     kernels' shares of a step; sweep.rs how its cost grows
//! tune.rs       variants of a kernel against the choice by rule
//! run.rs        all of it in order; report.rs, text.rs, roofline.rs, compare.rs say what was found
//! ```

pub mod agreement;
pub mod calibrate;
pub mod case;
pub mod cases;
pub mod ceilings;
pub mod clock;
pub mod compare;
mod contracts;
pub mod foreign;
pub mod ladder;
pub mod measure;
pub mod oracle;
pub mod probes;
pub mod report;
pub mod roof;
pub mod roofline;
pub mod run;
pub mod shares;
pub mod step;
pub mod sweep;
pub mod text;
pub mod tune;
