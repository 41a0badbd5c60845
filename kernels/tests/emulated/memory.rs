//! The allocator and copies.

use alcyon_kernels::cuda::CudaError;

use crate::{device, read};

#[test]
fn freed_memory_is_handed_out_again_and_counted() {
    let Some((gpu, _guard)) = device() else { return };
    let memory = gpu.memory();
    memory.release().unwrap();
    let before = memory.statistics();
    let first = memory.allocate(1000).unwrap();
    let address = first.pointer();
    assert_eq!(memory.statistics().live, before.live + 1024);
    drop(first);
    assert_eq!((memory.statistics().live, memory.statistics().cached), (before.live, 1024));
    let second = memory.allocate(900).unwrap();
    assert_eq!(second.pointer(), address);
    assert_eq!(memory.statistics().from_driver, before.from_driver + 1);
    assert_eq!(memory.statistics().reused, before.reused + 1);
    drop(second);
    memory.release().unwrap();
    assert_eq!(memory.statistics().cached, 0);
}

#[test]
fn when_memory_runs_out_the_cache_is_given_back_before_the_request_fails() {
    let Some((gpu, _guard)) = device() else { return };
    let (memory, total) = (gpu.memory(), gpu.info().memory);
    memory.release().unwrap();
    drop(memory.allocate(total / 2).unwrap());
    // Only fits once the cached half has gone back.
    let most = memory.allocate(total / 4 * 3).unwrap();
    let refused = memory.allocate(total / 2).unwrap_err();
    assert!(
        matches!(refused, CudaError::OutOfMemory { wanted, total: all, .. } if wanted == total / 2 && all == total),
        "{refused}"
    );
    drop(most);
    assert!(memory.allocate(total / 2).is_ok());
    memory.release().unwrap();
}

#[test]
fn numbers_come_back_as_they_went_and_every_read_is_counted() {
    let Some((gpu, _guard)) = device() else { return };
    let buffer = gpu.write(&[1.5_f32, -2.0, 3.25]).unwrap();
    let reads = gpu.reads();
    assert_eq!(read::<f32>(&gpu, &buffer, 3), [1.5, -2.0, 3.25]);
    assert_eq!(gpu.reads(), reads + 1);
    let nothing = gpu.write::<f32>(&[]).unwrap();
    assert_eq!(read::<f32>(&gpu, &nothing, 0), [0.0; 0]);
}
