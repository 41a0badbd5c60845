//! Alcyon's training loop: take it or leave it.
//!
//! Everything here can be written by hand from [`engine`], [`nn`] and [`optim`], and the course does
//! (`examples/06_train.rs`). A [`Trainer`] adds what long runs need: budgets in epochs, steps or seconds,
//! small batches that make the step of a large one, clipping, an average of the weights, patience, and
//! snapshots from which a run that was killed goes on bit for bit. It prints nothing: it tells an
//! [`Observer`] what happens.
//!
//! | to see … | open |
//! |---|---|
//! | the loop | `trainer.rs` |
//! | one step, of one batch or several | `step.rs` |
//! | what is saved, and how it is found again | `snapshot.rs`, `stock.rs`, `start.rs` |
//! | which settings a run's folder holds one to | `settings.rs` |
//! | how a folder is kept from harm | `lock.rs`, `seal.rs`, `disk.rs` |
//! | how a killed run sees the batches it would have seen | `batches.rs` |
//! | what is written while a run goes on | `metrics.rs`, `record.rs` |
//! | the page that is made of it | `report/mod.rs` |
//! | how a run is timed without a timer in the tests | `budget.rs`, `clock.rs` |
#![forbid(unsafe_code)]

mod average;
mod batches;
mod best;
mod budget;
mod clock;
mod disk;
mod evaluate;
pub mod factors;
mod folder;
mod lock;
pub mod metrics;
mod observer;
mod pace;
mod place;
mod plan;
mod precision;
pub mod record;
mod replays;
pub mod report;
mod seal;
mod settings;
mod snapshot;
mod start;
mod step;
mod stock;
mod task;
mod trainer;

pub use average::Average;
pub use batches::{Batches, Shuffled, Stream};
pub use budget::Budget;
pub use clock::{Clock, TickingClock, WallClock};
pub use evaluate::evaluate;
pub use factors::Factor;
pub use metrics::{Metrics, Row};
pub use observer::{Evaluation, Event, Observer, Outcome, Step, Stop};
pub use pace::Pace;
pub use place::{Best, Place};
pub use plan::{Every, Plan};
pub use precision::{LossScale, Precision};
pub use record::{About, Record, Run, Segment};
pub use settings::{MAY_CHANGE, Settings};
pub use snapshot::Snapshots;
pub use task::{LossOf, Score, Supervised, Task};
pub use trainer::Trainer;
