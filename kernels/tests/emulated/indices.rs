//! Elements picked by an index and added back: the numbers of the CPU's kernels.

use alcyon_kernels::cuda::memory::Buffer;
use alcyon_kernels::cuda::{self, CudaError, Scalar, Slice, SliceMut};
use alcyon_kernels::{along, index};

use crate::{device, read};

#[test]
fn picking_and_adding_back_agree_with_the_cpu() {
    let Some((gpu, _guard)) = device() else { return };
    let (outer, n, inner, k) = (2, 5, 3, 4);
    let numbers = |len: usize| (0..len).map(|i| (i * i % 17) as f32 - 8.0).collect::<Vec<_>>();
    let (x, g) = (numbers(outer * n * inner), numbers(outer * k * inner));
    let shared = [4_i64, 0, 4, 2];
    let own: Vec<i64> = (0..g.len() as i64).map(|i| 7 * i % n as i64).collect();
    let [on_x, on_g] = [&x, &g].map(|values| gpu.write(values).unwrap());
    let (on_shared, on_own) = (gpu.write(&shared).unwrap(), gpu.write(&own).unwrap());
    let floats = |b, len| Slice::new(b, Scalar::F32, 0, len);
    let [x_there, g_there] = [floats(&on_x, x.len()), floats(&on_g, g.len())];
    let shared_there = Slice::new(&on_shared, Scalar::I64, 0, k);
    let own_there = Slice::new(&on_own, Scalar::I64, 0, own.len());
    let sizes = (outer, n, inner);
    let run = |len: usize, f: &dyn Fn(&SliceMut<'_>) -> Result<(), CudaError>| -> Vec<f32> {
        let mut out: Buffer = gpu.memory().allocate(len * 4).unwrap();
        f(&SliceMut::new(&mut out, Scalar::F32, len)).unwrap();
        read::<f32>(&gpu, &out, len)
    };
    let mut picked = vec![f32::NAN; g.len()];
    let mut added = vec![f32::NAN; x.len()];
    index::gather_axis(&x, outer, n, inner, &shared, k, &mut picked);
    index::scatter_add_axis(&g, outer, n, inner, &shared, k, &mut added);
    assert_eq!(
        run(g.len(), &|y| cuda::index::gather(&gpu, x_there, sizes, shared_there, y)),
        picked
    );
    assert_eq!(
        run(x.len(), &|y| cuda::index::scatter_add(&gpu, g_there, sizes, shared_there, y)),
        added
    );
    along::take(&x, outer, n, inner, &own, k, &mut picked);
    along::add(&g, outer, n, inner, &own, k, &mut added);
    assert_eq!(run(g.len(), &|y| cuda::along::take(&gpu, x_there, sizes, own_there, y)), picked);
    assert_eq!(run(x.len(), &|y| cuda::along::add(&gpu, g_there, sizes, own_there, y)), added);
}
