//! Balance, bounds and ageing, each in a pool of its own: other tests use the process's.

use std::sync::mpsc;

use super::*;

const MIB: usize = 1 << 20;

#[test]
fn a_size_class_holds_its_length_and_wastes_at_most_a_quarter() {
    for lines in 4..5000 {
        let (class, capacity) = class_of(lines);
        assert!(capacity >= lines && capacity <= lines + lines / 4 + 1, "{lines} → {capacity}");
        assert_eq!(class_of(capacity), (class, capacity), "a class contains its own capacity");
    }
}

#[test]
fn dropped_memory_is_taken_again_by_its_own_size_and_a_little_less() {
    let pool = Pool::new();
    let lines = |lines: usize| pool.take(lines * LINE).unwrap();
    let first = lines(63);
    let address = first.as_ptr();
    pool.give(first);
    assert_eq!(pool.idle(), 64 * LINE);
    for (fits, why) in [(64, "63 and 64 share a class"), (44, "better in part than idle")] {
        let again = lines(fits);
        assert_eq!(again.as_ptr(), address, "{why}");
        pool.give(again);
    }
    let other = lines(38);
    assert_ne!(other.as_ptr(), address, "too much of it would idle");
    pool.clear();
    assert_eq!(pool.idle(), 0);
}

#[test]
fn memory_that_the_pool_did_not_give_out_counts_while_it_lives_and_never_waits() {
    let pool = Pool::new();
    for _ in 0..1000 {
        pool.lend(64 * MIB);
        assert_eq!((pool.live(), pool.idle()), (64 * MIB, 0));
        pool.end_of(64 * MIB);
    }
    assert_eq!((pool.live(), pool.idle(), pool.peak()), (0, 0, 64 * MIB));
}

#[test]
fn what_one_thread_makes_and_another_drops_is_used_again() {
    let pool = Pool::new();
    let (send, receive) = mpsc::sync_channel::<Box<[Line]>>(2);
    std::thread::scope(|scope| {
        let pool = &pool;
        scope.spawn(move || receive.iter().for_each(|memory| pool.give(memory)));
        for _ in 0..200 {
            send.send(pool.take(MIB).unwrap()).unwrap();
        }
        drop(send);
    });
    // Two in the channel, one in each hand.
    assert!(pool.idle() <= 4 * MIB && pool.idle() <= pool.peak(), "{}", pool.idle());
    assert_eq!(pool.live(), 0);
}

#[test]
fn idle_memory_is_at_most_half_as_much_again_as_was_in_use_at_once() {
    let pool = Pool::new();
    // Ten sizes that cannot replace each other, one after the other.
    for i in 0..50 {
        pool.give(pool.take(LINE << (i % 10 + 5)).unwrap());
        assert!(pool.idle() <= pool.peak() + pool.peak() / 2);
    }
}

#[test]
fn a_large_model_that_is_dropped_gives_its_memory_back_while_a_small_one_works() {
    let pool = Pool::new();
    let large: Vec<_> = (0..100).map(|_| pool.take(MIB).unwrap()).collect();
    large.into_iter().for_each(|memory| pool.give(memory));
    assert_eq!(pool.idle(), 100 * MIB);
    let small = || pool.give(pool.take(4096).unwrap());
    (0..RECENT * TICK).for_each(|_| small());
    assert_eq!(pool.idle(), 4096);
}

#[test]
fn memory_that_nobody_takes_any_more_is_given_back() {
    let pool = Pool::new();
    let _weights = pool.take(10 * MIB).unwrap();
    pool.give(pool.take(MIB).unwrap());
    let small = || pool.give(pool.take(4096).unwrap());
    (0..OLD as usize * TICK).for_each(|_| small());
    assert_eq!(pool.idle(), MIB + 4096);
    (0..2 * TICK).for_each(|_| small());
    assert_eq!(pool.idle(), 4096);
}

#[test]
fn equal_steps_neither_free_nor_allocate() {
    let pool = Pool::new();
    let weights = pool.take(5 * MIB).unwrap();
    let step = |buffers: usize| {
        let taken = (0..buffers).map(|i| pool.take(1000 + 4096 * (i % 7)).unwrap());
        taken.collect::<Vec<_>>().into_iter().for_each(|memory| pool.give(memory));
    };
    step(100);
    let held = pool.live() + pool.idle();
    for _ in 0..2000 {
        step(100);
        assert_eq!(pool.live() + pool.idle(), held);
    }
    pool.give(weights);
}

#[test]
fn the_peak_counts_what_was_in_use_together() {
    let pool = Pool::new();
    pool.give(pool.take(MIB).unwrap());
    let two = [pool.take(MIB).unwrap(), pool.take(MIB).unwrap()];
    assert_eq!((pool.live(), pool.peak()), (2 * MIB, 2 * MIB));
    two.into_iter().for_each(|memory| pool.give(memory));
    assert_eq!((pool.live(), pool.peak()), (0, 2 * MIB), "two at once, not three");
    pool.reset_peak();
    assert_eq!(pool.peak(), 0);
}

#[test]
fn a_request_beyond_the_machine_is_refused_and_counts_nothing() {
    let pool = Pool::new();
    let all = machine::memory().min(1 << 60);
    assert!(pool.take(all + 1).is_err());
    assert_eq!((pool.live(), pool.peak()), (0, 0));
    pool.lend(all / 2);
    assert!(pool.expect_room(all / 4).is_ok());
    assert!(pool.expect_room(all / 4 * 3).is_err());
}
