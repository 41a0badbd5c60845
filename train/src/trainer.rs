//! `Trainer`: the loop, for those who want one.

use engine::{Error, Parameters, Result};
use nn::data::Batch;
use optim::{Optimizer, with_averages};

use crate::folder::Folder;
use crate::replays::Replays;
use crate::snapshot::{Manifest, Snapshot};
use crate::step::{Stepping, Taken};
use crate::{
    About, Average, Batches, Best, Clock, Evaluation, Event, Every, Observer, Outcome, Place, Plan,
    Score, Settings, Snapshots, Step, Stop, Task, WallClock, best, evaluate,
};

/// A model in training: reads batches, steps, evaluates, saves, and tells its observers.
///
/// # Example
/// ```
/// use alcyon_train::{Budget, Plan, Shuffled, Supervised, Trainer};
/// use engine::Rng;
/// use nn::{Mlp, data::{self, Loader}};
/// let (train, test) = data::iris()?;
/// let mut model = Mlp::new(&[4, 16, 3], &mut Rng::new(0));
/// let mut optimizer = optim::build("adam", Some(0.01))?;
/// let task = Supervised::classification();
/// let plan = Plan { budget: Budget::epochs(20), ..Plan::default() };
/// let outcome = Trainer::new(&mut model, &mut *optimizer, &task, plan)?
///     .run(&Shuffled::new(Loader::new(&train, 16)?, 1), &Loader::new(&test, 64)?)?;
/// assert_eq!(outcome.place.step, 20 * 8);
/// assert!(outcome.best().is_some_and(|best| best.score > 0.85));
/// # Ok::<(), engine::Error>(())
/// ```
pub struct Trainer<'a, M> {
    pub(crate) model: &'a mut M,
    pub(crate) optimizer: &'a mut dyn Optimizer,
    pub(crate) task: &'a dyn Task<M>,
    pub(crate) plan: Plan,
    clock: Box<dyn Clock + 'a>,
    pub(crate) observers: Vec<&'a mut dyn Observer>,
    pub(crate) snapshots: Option<Snapshots>,
    /// Settings that cannot be seen from here.
    pub(crate) settings: Settings,
    pub(crate) fresh: bool,
    pub(crate) extend: bool,
    asked: Box<dyn Fn() -> bool + 'a>,
    pub(crate) average: Option<Average>,
    pub(crate) place: Place,
    replays: Replays,
    last: Option<Evaluation>,
    saved_at: f64,
    /// The place of the last snapshot.
    pub(crate) saved: Option<Place>,
    /// Snapshots that are whole, oldest first.
    pub(crate) whole: Vec<Manifest>,
    /// What is written to, locked.
    pub(crate) folders: Vec<Folder>,
    pub(crate) about: About,
    /// Whether the best model's file is damaged or gone: then the next evaluation is the best.
    pub(crate) best_lost: bool,
    /// Whether the run has been accepted.
    pub(crate) started: bool,
}

impl<'a, M: Parameters> Trainer<'a, M> {
    /// Nothing is done yet.
    ///
    /// # Errors
    /// Those of [`Plan::check`].
    pub fn new(
        model: &'a mut M,
        optimizer: &'a mut dyn Optimizer,
        task: &'a dyn Task<M>,
        plan: Plan,
    ) -> Result<Self> {
        plan.check()?;
        let average = plan.average.map(|decay| Average::new(decay, model)).transpose()?;
        Ok(Self {
            model,
            optimizer,
            task,
            plan,
            clock: Box::new(WallClock::default()),
            observers: Vec::new(),
            snapshots: None,
            settings: Settings::default(),
            fresh: false,
            extend: false,
            asked: Box::new(|| false),
            average,
            place: Place::default(),
            replays: Replays::default(),
            last: None,
            saved_at: 0.0,
            saved: None,
            whole: Vec::new(),
            folders: Vec::new(),
            about: About::new("", Score::Loss),
            best_lost: false,
            started: false,
        })
    }

    /// Tells one more observer, after those before it.
    #[must_use]
    pub fn observe(mut self, observer: &'a mut dyn Observer) -> Self {
        self.observers.push(observer);
        self
    }

    /// Adds settings that the trainer cannot see: the data, and changes of it. They belong to
    /// the folders that are written to, as all settings do ([`Settings`]).
    #[must_use]
    pub fn settings(mut self, settings: impl Into<Settings>) -> Self {
        self.settings = self.settings.and(&settings.into());
        self
    }

    /// Whether a run that is in the folder already is removed, whatever its settings.
    #[must_use]
    pub fn fresh(mut self, fresh: bool) -> Self {
        self.fresh = fresh;
        self
    }

    /// Whether another budget is let pass though the schedule is stretched over it: the rates of the steps that
    /// are left change.
    #[must_use]
    pub fn extend(mut self, extend: bool) -> Self {
        self.extend = extend;
        self
    }

    /// Asks between steps whether to stop. A run that is stopped writes a snapshot and ends with
    /// [`Stop::Asked`]: what a program does on a signal.
    #[must_use]
    pub fn stop_when(mut self, asked: impl Fn() -> bool + 'a) -> Self {
        self.asked = Box::new(asked);
        self
    }

    /// Writes snapshots, and goes on from the last one that is whole.
    #[must_use]
    pub fn snapshots(mut self, snapshots: Snapshots) -> Self {
        self.snapshots = Some(snapshots);
        self
    }

    /// Another clock than that on the wall.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock + 'a) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Trains until the budget is used up, patience is lost, or somebody asks for an end.
    ///
    /// # Errors
    /// Before anything is written: [`Error::Settings`] in a folder that was made with others, [`Error::InUse`] in
    /// another process's, [`Error::Lost`] when the run in it was saved and nothing of that is whole,
    /// [`Error::Format`] when another version saved it. Later [`Error::NotFinite`] naming the op when the loss is no longer finite: the weights are those before
    /// that step. Else the model's, the data's, the optimizer's, an observer's, or those of reading and writing
    /// snapshots; observers hear of it first.
    pub fn run(mut self, train: &dyn Batches, held_out: &dyn Batches) -> Result<Outcome> {
        let done = self.train(train, held_out);
        if let (true, Err(error)) = (self.started, &done) {
            let place = self.place;
            self.about.end(place.step, error.to_string());
            // The first error is the one to report.
            let _ = self.write_about();
            let _ = tell(&mut self.observers, &Event::Failed { place: &place, error });
        }
        done
    }

    fn train(&mut self, train: &dyn Batches, held_out: &dyn Batches) -> Result<Outcome> {
        let steps_per_epoch = self.start(train, held_out)?;
        self.saved_at = self.clock.seconds();
        let stop = loop {
            let mut stream = train.epoch(self.place.epoch, self.place.batch);
            let stop = loop {
                if let Some(stop) = self.stop(steps_per_epoch) {
                    break Some(stop);
                }
                self.step(train.count(), steps_per_epoch, &mut stream)?;
                let epoch_over = self.place.batch == 0;
                if self.evaluation_due(epoch_over) {
                    self.evaluate(held_out)?;
                }
                if self.save_due() {
                    self.save()?;
                }
                if epoch_over {
                    break None;
                }
            };
            if let Some(stop) = stop {
                break stop;
            }
        };
        self.finish(stop, held_out)
    }

    pub(crate) fn steps_per_epoch(&self, train: &dyn Batches) -> Result<u64> {
        match train.count() {
            0 => Err(Error::Argument {
                op: "train",
                name: "batches",
                expected: "at least one an epoch",
                got: "none".into(),
            }),
            batches => Ok(batches.div_ceil(self.plan.accumulate) as u64),
        }
    }

    fn stop(&self, steps_per_epoch: u64) -> Option<Stop> {
        let lost = self.plan.patience.is_some_and(|patience| self.place.since_best >= patience);
        match self.plan.budget.used(&self.place, steps_per_epoch) >= 1.0 {
            true => Some(Stop::Budget),
            false if lost => Some(Stop::Patience),
            false => (self.asked)().then_some(Stop::Asked),
        }
    }

    /// One step, and whatever is told of it.
    fn step(
        &mut self,
        batches_per_epoch: usize,
        steps_per_epoch: u64,
        stream: &mut dyn Iterator<Item = Result<Batch>>,
    ) -> Result<()> {
        let before = self.clock.seconds();
        let left = batches_per_epoch.saturating_sub(self.place.batch);
        let batches: Vec<Batch> =
            stream.take(left.min(self.plan.accumulate)).collect::<Result<_>>()?;
        if batches.is_empty() {
            return Err(Error::Argument {
                op: "train",
                name: "batches",
                expected: "as many an epoch as were announced",
                got: format!("{} of {batches_per_epoch}", self.place.batch),
            });
        }
        if let Some(pace) = &self.plan.pace {
            let used = self.plan.budget.used(&self.place, steps_per_epoch);
            self.optimizer.set_rate(pace.rate(self.place.step, used));
        }
        let number = self.place.step;
        let mut stepping = Stepping {
            model: &mut *self.model,
            optimizer: &mut *self.optimizer,
            task: self.task,
            plan: &self.plan,
            number,
            scale: &mut self.place.loss_scale,
            replays: &mut self.replays,
        };
        let taken = stepping.take(&batches)?;
        if taken.skipped {
            let (step, loss_scale) = (number + 1, self.place.loss_scale);
            self.tell(&Event::Overflowed { step, loss_scale })?;
        }
        if let Some(average) = &mut self.average {
            average.update(self.model)?;
        }
        self.place.seconds += self.clock.seconds() - before;
        self.go_on(batches.len(), batches_per_epoch, steps_per_epoch, taken)
    }

    /// Moves the place on by a step, and tells of it when that is due.
    fn go_on(
        &mut self,
        batches: usize,
        batches_per_epoch: usize,
        steps_per_epoch: u64,
        taken: Taken,
    ) -> Result<()> {
        let place = &mut self.place;
        let epoch = place.epoch;
        place.step += 1;
        place.batch += batches;
        if place.batch >= batches_per_epoch {
            (place.epoch, place.batch) = (epoch + 1, 0);
        }
        if place.calibrated.is_none() {
            place.calibrated = self.plan.budget.calibrated(place);
        }
        place.loss_sum += taken.loss;
        place.loss_count += 1;
        if !place.step.is_multiple_of(self.plan.log_every) {
            return Ok(());
        }
        let loss = place.loss_sum / place.loss_count as f64;
        (place.loss_sum, place.loss_count) = (0.0, 0);
        let step = Step {
            step: place.step,
            epoch,
            seconds: place.seconds,
            loss,
            rate: self.optimizer.rate(),
            norm: taken.norm,
            used: self.plan.budget.used(place, steps_per_epoch).min(1.0),
        };
        self.tell(&Event::Stepped(&step))
    }

    fn evaluation_due(&self, epoch_over: bool) -> bool {
        match self.plan.evaluate {
            Every::Epochs(n) => epoch_over && n > 0 && self.place.epoch.is_multiple_of(n),
            Every::Steps(n) => n > 0 && self.place.step.is_multiple_of(n),
        }
    }

    /// Evaluates at the average of the weights, at the point that the optimizer recommends, or at the
    /// weights themselves; keeps the model if it is the best.
    fn evaluate(&mut self, held_out: &dyn Batches) -> Result<()> {
        let best_yet = self.place.best.filter(|_| !self.best_lost);
        let (task, step) = (self.task, self.place.step);
        let snapshots = self.snapshots.as_ref();
        let judge = |model: &M| -> Result<(f64, f64, bool)> {
            let (loss, score) = evaluate(model, task, held_out)?;
            let better = score.is_finite()
                && best_yet.is_none_or(|best| task.score().is_better(score, best.score));
            if let (true, Some(snapshots)) = (better, snapshots) {
                best::save(&snapshots.folder, model, &Best { score, step })?;
            }
            Ok((loss, score, better))
        };
        let (loss, score, better) = match &self.average {
            Some(average) => average.with(self.model, judge)?,
            None => with_averages(self.model, self.optimizer, judge)??,
        };
        let place = &mut self.place;
        place.evaluated = Some(place.step);
        place.since_best += 1;
        if better {
            place.best = Some(Best { score, step: place.step });
            self.best_lost = false;
            place.since_best = 0;
        }
        let Place { step, epoch, seconds, .. } = *place;
        let evaluation = Evaluation { step, epoch, seconds, loss, score, best: better };
        self.last = Some(evaluation);
        if !self.folders.is_empty() {
            self.about.look(self.model, self.optimizer);
            self.write_about()?;
        }
        let (model, optimizer) = (&*self.model, &*self.optimizer);
        let event = Event::Evaluated { evaluation: &evaluation, model, optimizer };
        tell(&mut self.observers, &event)
    }

    fn save_due(&self) -> bool {
        let Some(snapshots) = &self.snapshots else { return false };
        let by_steps = snapshots.steps.is_some_and(|n| n > 0 && self.place.step.is_multiple_of(n));
        let waited = || self.clock.seconds() - self.saved_at;
        by_steps || snapshots.seconds.is_some_and(|seconds| waited() >= seconds)
    }

    fn save(&mut self) -> Result<()> {
        let Some(snapshots) = self.snapshots.clone() else { return Ok(()) };
        let place = self.place;
        if self.saved == Some(place) {
            return Ok(());
        }
        self.tell(&Event::Saving { place: &place })?;
        let snapshot = Snapshot {
            model: self.model,
            optimizer: self.optimizer,
            average: self.average.as_ref(),
            place: &place,
            settings: &self.about.settings,
        };
        let file = snapshots.save(&snapshot, &mut self.whole)?;
        (self.saved, self.saved_at) = (Some(place), self.clock.seconds());
        if let Some(segment) = self.about.segments.last_mut() {
            (segment.saved, segment.to) = (Some(place.step), place.step);
        }
        self.write_about()?;
        self.tell(&Event::Saved { file: &file })
    }

    fn finish(&mut self, stop: Stop, held_out: &dyn Batches) -> Result<Outcome> {
        if stop != Stop::Asked && self.place.evaluated != Some(self.place.step) {
            self.evaluate(held_out)?;
        }
        self.save()?;
        let outcome = Outcome { place: self.place, stop, last: self.last };
        self.about.end(self.place.step, stop.why().into());
        self.write_about()?;
        let (model, optimizer) = (&*self.model, &*self.optimizer);
        let event = Event::Finished { outcome: &outcome, model, optimizer };
        tell(&mut self.observers, &event)?;
        Ok(outcome)
    }

    pub(crate) fn tell(&mut self, event: &Event<'_>) -> Result<()> {
        tell(&mut self.observers, event)
    }

    pub(crate) fn write_about(&self) -> Result<()> {
        self.folders.iter().try_for_each(|folder| folder.write(&self.about))
    }
}

pub(crate) fn tell(observers: &mut [&mut dyn Observer], event: &Event<'_>) -> Result<()> {
    observers.iter_mut().try_for_each(|observer| observer.on(event))
}

impl<M> std::fmt::Debug for Trainer<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainer")
            .field("plan", &self.plan)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
