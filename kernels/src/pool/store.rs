//! The pool's memory: what is idle, by size class, and the count of what is in use.
//!
//! | it must hold that | because |
//! |---|---|
//! | the store takes back only what it gave out | foreign memory goes in and never comes out |
//! | threads and types share it | what one makes and another drops would pile up |
//! | idle ≤ 1.5 × the recent peak of what was in use | sizes differ: a CNN's step needs 1.3, a GPT's 1.1 |
//! | the recent peak ages, and so does what nobody takes | a large model may have been dropped |
//! | with equal steps nothing is freed or allocated | it would cost page faults |
//!
//! Age is counted in buffers taken, not in seconds: a program does the same on a slow machine.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{OutOfMemory, machine};

/// The bytes of a [`Line`]: that of a cache, and as wide as the widest vector register.
pub(super) const LINE: usize = 64;

/// What memory is counted in. Any type of number may be read from it.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line([u8; LINE]);

/// The classes in which memory is looked for, its own and the next: memory that lies idle costs more
/// than memory that is used in part. (With five a GPT's step took an eighth more, with one a CNN's a
/// quarter more.)
const NEXT: usize = 3;

/// The buffers taken between two ticks of the clock.
const TICK: usize = 128;

/// The ticks that are recent: 2,048 buffers, a step of a large network or 200 of a small one.
const RECENT: usize = 16;

/// What no one has taken for so many ticks is given back.
const OLD: u64 = 16 * RECENT as u64;

/// The pool of this process.
pub(super) static POOL: Pool = Pool::new();

/// A store for all threads, and the bytes in buffers that are vectors.
pub(super) struct Pool {
    store: Mutex<Store>,
    vectors: AtomicUsize,
}

struct Store {
    /// By size class, the last one returned at the end.
    shelves: Vec<Vec<Idle>>,
    idle: usize,
    /// The bytes that have been given out and not come back.
    lent: usize,
    /// The most in use since somebody began to measure.
    peak: usize,
    /// The most in use in each of the recent ticks; the one that goes on is number `now`, modulo their count.
    highs: [usize; RECENT],
    taken: usize,
    now: u64,
}

struct Idle {
    memory: Box<[Line]>,
    since: u64,
}

impl Pool {
    const fn new() -> Self {
        let store = Store {
            shelves: Vec::new(),
            idle: 0,
            lent: 0,
            peak: 0,
            highs: [0; RECENT],
            taken: 0,
            now: 0,
        };
        Self { store: Mutex::new(store), vectors: AtomicUsize::new(0) }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // Every update is whole before anything can panic.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At least so many bytes, whatever is in them.
    pub(super) fn take(&self, bytes: usize) -> Result<Box<[Line]>, OutOfMemory> {
        // Beyond this, a class's capacity could overflow.
        if bytes > isize::MAX as usize / 2 {
            return Err(OutOfMemory { bytes });
        }
        let (class, lines) = class_of(bytes.div_ceil(LINE));
        let mut store = self.store();
        let found = store.find(class);
        if let Some(memory) = &found {
            store.lend(size_of_val(&**memory), self.vectors.load(Ordering::Relaxed));
        }
        let old = store.tick(self.vectors.load(Ordering::Relaxed));
        // Pages are mapped and freed while others may use the store.
        drop(store);
        drop(old);
        let Some(memory) = found else {
            let memory = self.fresh(lines).ok_or(OutOfMemory { bytes })?;
            self.store().lend(size_of_val(&*memory), self.vectors.load(Ordering::Relaxed));
            return Ok(memory);
        };
        Ok(memory)
    }

    /// Memory from the system; idle memory is given back if there is none else.
    fn fresh(&self, lines: usize) -> Option<Box<[Line]>> {
        self.expect_room(lines * LINE).ok()?;
        let allocate = || bytemuck::allocation::try_zeroed_slice_box(lines).ok();
        allocate().or_else(|| {
            self.clear();
            allocate()
        })
    }

    /// Refuses more than the machine has beside what is in use. (What is idle can be given back.)
    pub(super) fn expect_room(&self, bytes: usize) -> Result<(), OutOfMemory> {
        let (live, idle) = (self.live(), self.idle());
        let fits = |held: usize| held.saturating_add(bytes) <= machine::memory();
        if !fits(live + idle) && fits(live) {
            self.clear();
        }
        if fits(live) { Ok(()) } else { Err(OutOfMemory { bytes }) }
    }

    /// Memory comes back: to a shelf, if so much has been in use at once.
    pub(super) fn give(&self, memory: Box<[Line]>) {
        let refused = self.store().put(memory);
        drop(refused);
    }

    /// A vector is in use from now on.
    pub(super) fn lend(&self, bytes: usize) {
        let vectors = self.vectors.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if bytes >= super::SMALLEST {
            self.store().lend(0, vectors);
        }
    }

    /// A vector is freed.
    pub(super) fn end_of(&self, bytes: usize) {
        self.vectors.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn live(&self) -> usize {
        self.store().lent + self.vectors.load(Ordering::Relaxed)
    }

    pub(super) fn idle(&self) -> usize {
        self.store().idle
    }

    pub(super) fn peak(&self) -> usize {
        self.store().peak
    }

    pub(super) fn reset_peak(&self) {
        let mut store = self.store();
        store.peak = store.lent + self.vectors.load(Ordering::Relaxed);
    }

    pub(super) fn clear(&self) {
        let mut store = self.store();
        store.idle = 0;
        let shelves = mem::take(&mut store.shelves);
        drop(store);
        drop(shelves);
    }
}

impl Store {
    /// The warmest memory of a class or of the next ones.
    fn find(&mut self, class: usize) -> Option<Box<[Line]>> {
        let memory = self.shelves.iter_mut().skip(class).take(NEXT).find_map(Vec::pop)?.memory;
        self.idle -= size_of_val(&*memory);
        Some(memory)
    }

    /// So many more bytes are in use.
    fn lend(&mut self, bytes: usize, vectors: usize) {
        self.lent += bytes;
        let live = self.lent + vectors;
        let high = &mut self.highs[self.now as usize % RECENT];
        *high = live.max(*high);
        self.peak = live.max(self.peak);
    }

    /// Returns what is too much.
    fn put(&mut self, memory: Box<[Line]>) -> Option<Box<[Line]>> {
        let bytes = size_of_val(&*memory);
        self.lent -= bytes;
        if self.idle + bytes > self.most() {
            return Some(memory);
        }
        let (class, _) = class_of(memory.len());
        if self.shelves.len() <= class {
            self.shelves.resize_with(class + 1, Vec::new);
        }
        self.shelves[class].push(Idle { memory, since: self.now });
        self.idle += bytes;
        None
    }

    /// The most that may be idle: half as much again as was in use at once.
    fn most(&self) -> usize {
        let peak = self.highs.iter().fold(0, |peak, &high| high.max(peak));
        peak + peak / 2
    }

    /// One more buffer has been taken. At a tick, returns what is to be given back.
    fn tick(&mut self, vectors: usize) -> Vec<Idle> {
        self.taken += 1;
        if self.taken < TICK {
            return Vec::new();
        }
        (self.taken, self.now) = (0, self.now + 1);
        self.highs[self.now as usize % RECENT] = self.lent + vectors;
        let mut gone = Vec::new();
        while let Some(shelf) = self.stalest() {
            let age = self.now - self.shelves[shelf][0].since;
            if age <= OLD && self.idle <= self.most() {
                break;
            }
            let idle = self.shelves[shelf].remove(0);
            self.idle -= size_of_val(&*idle.memory);
            gone.push(idle);
        }
        gone
    }

    /// The class whose first memory has waited longest; of several, that of the largest.
    fn stalest(&self) -> Option<usize> {
        let firsts = self.shelves.iter().enumerate().rev();
        let firsts = firsts.filter_map(|(class, shelf)| Some((shelf.first()?.since, class)));
        firsts.min_by_key(|&(since, _)| since).map(|(_, class)| class)
    }
}

/// The size classes are 4, 5, 6 or 7 times a power of two: at most a quarter is wasted.
/// Returns the class and its capacity, the least one ≥ `lines`, which are 4 at least.
fn class_of(lines: usize) -> (usize, usize) {
    let power = lines.max(4).ilog2() as usize; // 2^power ≤ lines
    let quarter = 1usize << (power - 2);
    let steps = lines.div_ceil(quarter); // 4..=8
    if steps == 8 {
        (4 * (power + 1), 1 << (power + 1))
    } else {
        (4 * power + steps - 4, steps * quarter)
    }
}

#[cfg(test)]
mod tests;
