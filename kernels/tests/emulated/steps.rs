//! Updates of several parameters in one launch against those of the CPU, parameter by parameter.

use alcyon_kernels::cuda::memory::Buffer;
use alcyon_kernels::cuda::step::{self as cuda, Moving};
use alcyon_kernels::cuda::verdict::{Verdict, settle};
use alcyon_kernels::cuda::{CudaError, Gpu, Scalar, Slice, SliceMut};
use alcyon_kernels::step::{self, AdaFisher, Adam, Sgd};

use crate::{device, read};

/// One after another, none, and more than one piece.
const SIZES: [usize; 4] = [6, 1, 0, 9000];
/// The device may fuse a product and a sum, and divides in another order: a few last bits.
const CLOSE: f32 = 1e-5;

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
}

/// Parameters with `states` numbers kept for each element: on the host, then on the device.
struct Model {
    host: Vec<Vec<Vec<f32>>>,
    there: Vec<Vec<Buffer>>,
    grads: Vec<Vec<f32>>,
    grads_there: Vec<Buffer>,
}

impl Model {
    fn new(gpu: &Gpu, states: usize) -> Self {
        let fill = |n: usize| {
            (0..=states).map(move |k| {
                numbers(n, k + n).iter().map(|x| if k == 0 { *x } else { x.abs() }).collect()
            })
        };
        let host: Vec<Vec<Vec<f32>>> = SIZES.iter().map(|&n| fill(n).collect()).collect();
        let there =
            host.iter().map(|all| all.iter().map(|x| gpu.write(x).unwrap()).collect()).collect();
        let grads: Vec<_> = SIZES.iter().map(|&n| numbers(n, 5)).collect();
        let grads_there = grads.iter().map(|g| gpu.write(g).unwrap()).collect();
        Self { host, there, grads, grads_there }
    }

    /// Runs `update` over the parameters on the device, in one call that launches one kernel.
    fn on_device(&mut self, gpu: &Gpu, steps: [u64; 4], update: impl Fn(&[Moving<'_>])) {
        let mut slices: Vec<Vec<SliceMut<'_>>> = (self.there.iter_mut().zip(SIZES))
            .map(|(all, n)| all.iter_mut().map(|b| SliceMut::new(b, Scalar::F32, n)).collect())
            .collect();
        let slices = &mut slices;
        let moving: Vec<Moving<'_>> = slices
            .iter()
            .zip(&self.grads_there)
            .zip(steps)
            .map(|((all, grad), step)| Moving {
                theta: &all[0],
                grad: Slice::new(grad, Scalar::F32, 0, all[0].len()),
                state: all[1..].iter().collect(),
                step,
                verdict: None,
            })
            .collect();
        let before = gpu.launches();
        update(&moving);
        assert_eq!(gpu.launches(), before + 1, "one launch for all parameters");
    }

    fn assert_alike(&self, gpu: &Gpu) {
        for (host, there) in self.host.iter().flatten().zip(self.there.iter().flatten()) {
            for (a, b) in host.iter().zip(read::<f32>(gpu, there, host.len())) {
                assert!((a - b).abs() <= CLOSE * a.abs().max(1.0), "{a} and {b}");
            }
        }
    }
}

#[test]
fn sgd_moves_all_parameters_as_on_the_cpu() {
    let Some((gpu, _guard)) = device() else { return };
    for (states, nesterov, steps) in
        [(0, false, [1; 4]), (1, false, [1, 2, 3, 4]), (1, true, [2; 4])]
    {
        let mut model = Model::new(&gpu, states);
        let rule = |first| Sgd {
            rate: 0.1,
            momentum: 0.9,
            dampening: 0.0,
            nesterov,
            weight_decay: 0.01,
            first,
        };
        model.on_device(&gpu, steps, |all| cuda::sgd(&gpu, all, &rule(false)).unwrap());
        for ((all, grad), step) in model.host.iter_mut().zip(&model.grads).zip(steps) {
            let (theta, buffer) = all.split_at_mut(1);
            step::sgd(
                &mut theta[0],
                grad,
                buffer.first_mut().map(|b| &mut b[..]),
                &rule(step == 1),
            );
        }
        model.assert_alike(&gpu);
    }
}

#[test]
fn adam_moves_all_parameters_as_on_the_cpu() {
    let Some((gpu, _guard)) = device() else { return };
    for (states, decoupled) in [(2, false), (2, true), (3, false)] {
        let mut model = Model::new(&gpu, states);
        let steps = [1, 2, 3, 1000];
        let rule = |step| Adam {
            rate: 0.1,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            decoupled,
            step,
        };
        model.on_device(&gpu, steps, |all| cuda::adam(&gpu, all, &rule(0)).unwrap());
        for ((all, grad), step) in model.host.iter_mut().zip(&model.grads).zip(steps) {
            let [theta, m, v, largest @ ..] = &mut all[..] else { unreachable!("three at least") };
            step::adam(theta, grad, m, v, largest.first_mut().map(|v| &mut v[..]), &rule(step));
        }
        model.assert_alike(&gpu);
    }
}

#[test]
fn adafisher_moves_all_parameters_as_on_the_cpu() {
    let Some((gpu, _guard)) = device() else { return };
    let positive =
        |n: usize, seed| numbers(n, seed).iter().map(|x| x.abs() + 0.1).collect::<Vec<f32>>();
    for root in [false, true] {
        let mut model = Model::new(&gpu, 1);
        let steps = [1, 2, 3, 4];
        let rule = |step| AdaFisher {
            rate: 0.1,
            beta: 0.9,
            damping: 1e-3,
            coupled_decay: 0.01,
            decoupled_decay: 0.02,
            step,
            root,
        };
        // A weight [2, 3], a bias [1], nothing, and a weight [90, 100] of two pieces.
        let factors: [(Vec<f32>, Vec<f32>); 4] =
            [(2, 3), (1, 1), (0, 0), (90, 100)].map(|(o, i)| (positive(o, 1), positive(i, 2)));
        let there: Vec<_> =
            factors.iter().map(|(s, h)| (gpu.write(s).unwrap(), gpu.write(h).unwrap())).collect();
        let slice = |buffer, n| Slice::new(buffer, Scalar::F32, 0, n);
        let curvature = [
            cuda::Curvature::Outer(slice(&there[0].0, 2), slice(&there[0].1, 3)),
            cuda::Curvature::Column(slice(&there[1].0, 1), 0.7),
            cuda::Curvature::Product(slice(&there[2].0, 0), slice(&there[2].1, 0)),
            cuda::Curvature::Outer(slice(&there[3].0, 90), slice(&there[3].1, 100)),
        ];
        model.on_device(&gpu, steps, |all| {
            cuda::adafisher(&gpu, all, &curvature, &rule(0)).unwrap();
        });
        for (k, (all, grad)) in model.host.iter_mut().zip(&model.grads).enumerate() {
            let (s, h) = (&factors[k].0[..], &factors[k].1[..]);
            let here = match k {
                1 => step::Curvature::Column { s, h: 0.7 },
                2 => step::Curvature::Product { s, h },
                _ => step::Curvature::Outer { s, h },
            };
            let [theta, m] = &mut all[..] else { unreachable!("two") };
            step::adafisher(theta, grad, m, here, &rule(steps[k]));
        }
        model.assert_alike(&gpu);
    }
}

#[test]
fn adafisher_with_a_product_and_with_a_constant_moves_as_on_the_cpu() {
    let Some((gpu, _guard)) = device() else { return };
    let rule = AdaFisher {
        rate: 0.1,
        beta: 0.9,
        damping: 1e-3,
        coupled_decay: 0.0,
        decoupled_decay: 0.0,
        step: 2,
        root: false,
    };
    let (s, h) = ([0.5_f32, 2.0, 1.0, 0.1, 3.0, 0.2], [1.0_f32, 0.3, 2.0, 4.0, 0.5, 0.6]);
    let (on_s, on_h) = (gpu.write(&s).unwrap(), gpu.write(&h).unwrap());
    for product in [true, false] {
        let (mut theta, mut m, grad) = (numbers(6, 1), numbers(6, 2), numbers(6, 3));
        let (mut on_theta, mut on_m) = (gpu.write(&theta).unwrap(), gpu.write(&m).unwrap());
        let on_grad = gpu.write(&grad).unwrap();
        let (there, here) = if product {
            (
                cuda::Curvature::Product(six(&on_s), six(&on_h)),
                step::Curvature::Product { s: &s, h: &h },
            )
        } else {
            (cuda::Curvature::Constant(0.4), step::Curvature::Constant(0.4))
        };
        let of = |buffer| SliceMut::new(buffer, Scalar::F32, 6);
        let (moved, kept) = (of(&mut on_theta), of(&mut on_m));
        let all = [Moving {
            theta: &moved,
            grad: six(&on_grad),
            state: vec![&kept],
            step: 2,
            verdict: None,
        }];
        cuda::adafisher(&gpu, &all, &[there], &rule).unwrap();
        step::adafisher(&mut theta, &grad, &mut m, here, &rule);
        let close = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).all(|(a, b)| (a - b).abs() <= CLOSE * a.abs().max(1.0))
        };
        assert!(
            close(&theta, &read::<f32>(&gpu, &on_theta, 6))
                && close(&m, &read::<f32>(&gpu, &on_m, 6)),
            "{product}"
        );
    }
}

fn six(buffer: &Buffer) -> Slice<'_> {
    Slice::new(buffer, Scalar::F32, 0, 6)
}

#[test]
fn a_step_whose_squares_do_not_add_up_changes_nothing_and_the_next_read_says_so() {
    let Some((gpu, _guard)) = device() else { return };
    let rule = Sgd {
        rate: 0.5,
        momentum: 0.9,
        dampening: 0.0,
        nesterov: false,
        weight_decay: 0.0,
        first: true,
    };
    for (bad, taken) in [(2.0, true), (1e19, false), (f32::NAN, false), (f32::INFINITY, false)] {
        let old = gpu.write(&[7.0_f32; 6]).unwrap();
        let grads = [gpu.write(&[2.0_f32; 6]).unwrap(), gpu.write(&[bad; 6]).unwrap()];
        let verdict = Verdict::of(&gpu, &grads.each_ref().map(six), 1e37).unwrap();
        assert_eq!(verdict.demand(&gpu, "sgd").is_ok(), taken, "{bad}");
        let [mut theta, mut kept, mut made] = [(); 3].map(|()| gpu.write(&[1.0_f32; 6]).unwrap());
        let [moved, buffer, new] =
            [&mut theta, &mut kept, &mut made].map(|b| SliceMut::new(b, Scalar::F32, 6));
        // The first gradient is a good one, the second is of the same step.
        let (state, verdict) = (vec![&buffer], Some(&verdict));
        let all = [Moving { theta: &moved, grad: six(&grads[0]), state, step: 1, verdict }];
        cuda::sgd(&gpu, &all, &rule).unwrap();
        settle(&gpu, verdict.unwrap(), "sgd", six(&old), &new).unwrap();
        if !taken {
            let told = gpu.read(&old, 0, &mut [0.0_f32; 6]);
            assert_eq!(told, Err(CudaError::NotTaken { rule: "sgd" }), "{bad}");
        }
        drop(all);
        let now = [&theta, &kept, &made].map(|buffer| read::<f32>(&gpu, buffer, 6));
        let expected = if taken { [0.0, 2.0, 1.0] } else { [1.0, 1.0, 7.0] };
        assert_eq!(now, expected.map(|x: f32| vec![x; 6]), "{bad}");
    }
}
