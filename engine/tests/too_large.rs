//! What does not fit in memory, or in any memory, is a typed error: not an abort, not a wrong size.
#![allow(clippy::needless_pass_by_value, reason = "a result that was asked for is used up")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic as tests do")]

use std::fmt::Debug;

use alcyon_engine::compose::Padding;
use alcyon_engine::ops::interpolate::Interpolation;
use alcyon_engine::{
    DType, Device, Error, Geometry, Parameter, Result, Rng, Shape, Tape, Tensor, Window,
};

const TYPES: [DType; 3] = [DType::F32, DType::F64, DType::I64];

/// 2⁴⁵ numbers: more than any machine of today has.
const HUGE: usize = 1 << 45;

fn lacks_memory<T: Debug>(what: &str, got: Result<T>) {
    assert!(
        matches!(got, Err(Error::OutOfMemory { bytes, .. }) if bytes >= HUGE),
        "{what}: {got:?}"
    );
}

/// No tensor can have that shape.
fn is_no_shape<T: Debug>(what: &str, got: Result<T>) {
    assert!(matches!(got, Err(Error::Argument { name: "shape", .. })), "{what}: {got:?}");
}

/// One number seen as many: memory for one.
fn seen(shape: impl Into<Shape>, dtype: DType) -> Tensor {
    let shape = shape.into();
    let one = Tensor::ones(Shape::new(&vec![1; shape.rank()]).unwrap(), dtype);
    one.broadcast_to(shape).unwrap()
}

#[test]
fn a_tensor_without_memory_says_so_whatever_is_done_with_it() {
    let rng = &mut Rng::new(0);
    for dtype in TYPES {
        let made = [
            Tensor::zeros([HUGE], dtype),
            Tensor::full([2, HUGE], 1.5, dtype),
            Tensor::arange(HUGE, dtype),
            Tensor::eye(1 << 25, dtype),
            Tensor::uniform([HUGE], 0.0, 1.0, dtype, rng),
            Tensor::normal([HUGE], 0.0, 1.0, dtype, rng),
        ];
        for mut x in made {
            lacks_memory("made", x.clone().made());
            assert_eq!((x.dtype(), x.device()), (dtype, Device::Cpu));
            lacks_memory("an op", x.add(&x));
            lacks_memory("a view", x.flatten(0));
            lacks_memory("to_f64_vec", x.to_f64_vec());
            lacks_memory("to_device", x.to_device(Device::Meta));
            assert!(x.to_string().contains("no numbers"));
            lacks_memory("make_mut", x.make_mut::<f32>().map(|_| ()));
            let tape = Tape::new();
            lacks_memory("a Var", tape.watch(x.clone()).sum_all());
            lacks_memory("a parameter", tape.bind(&Parameter::new(x)).sum_all());
        }
        lacks_memory("full_on", Tensor::full_on(Device::Cpu, [HUGE], 0.0, dtype));
    }
    lacks_memory("random_indices", Tensor::random_indices([HUGE], 3, rng));
}

#[test]
fn an_output_or_a_copy_without_memory_is_an_error_of_its_op() {
    let lacks = |name: &str, got: Result<Tensor>| match got {
        Err(Error::OutOfMemory { op, bytes }) => {
            assert!(op == name && bytes >= HUGE, "{op} {bytes}");
        }
        got => panic!("{name}: {got:?}"),
    };
    for dtype in [DType::F32, DType::F64] {
        let (many, few) = (seen([HUGE], dtype), Tensor::ones([1], dtype));
        lacks("exp", many.exp());
        lacks("add", many.add(&many));
        lacks("contiguous", many.contiguous());
        lacks("cast", many.to_dtype(DType::I64));
        lacks("softmax", seen([1 << 22, 1 << 23], dtype).softmax(1));
        lacks("full", few.pad(0, HUGE, 0, Padding::Constant(0.0)));
        lacks("from_fn", few.pad(0, 0, HUGE, Padding::Edge));
        lacks("mul", seen([1 << 23, 1], dtype).mul(&seen([1 << 23], dtype)));
        lacks("matmul", seen([1 << 23, 1], dtype).matmul(&seen([1, 1 << 23], dtype)));
        let image = Tensor::ones([1, 1, 1, 1], dtype);
        lacks("interpolate", image.interpolate((1 << 23, 1 << 22), Interpolation::Nearest));
        let window = Window { padding: (1 << 22, 1 << 21), ..Window::new((1, 1)) };
        lacks("conv2d", image.conv2d(&image, None, Geometry { window, groups: 1 }));
        let tape = Tape::training(0);
        let dropped = tape.watch(many).dropout(0.5);
        lacks("dropout", dropped.map(|x| x.value()));
    }
    lacks_memory("to_vec", seen([HUGE], DType::F32).to_vec::<f32>());
    lacks_memory("to_f64_vec", seen([HUGE], DType::I64).to_f64_vec());
    lacks_memory("make_mut", seen([HUGE], DType::F32).make_mut::<f32>().map(|_| ()));
}

#[test]
fn shapes_whose_product_overflows_are_refused_where_a_tensor_is_made() {
    const BIG: usize = 1 << 32;
    let rng = &mut Rng::new(0);
    for shape in [[BIG, BIG], [1 << 63, 2], [usize::MAX, usize::MAX], [0, usize::MAX], [2, 1 << 59]]
    {
        for dtype in TYPES {
            is_no_shape("zeros", Tensor::zeros(shape, dtype).made());
            is_no_shape("its op", Tensor::zeros(shape, dtype).square());
            is_no_shape("ones", Tensor::ones(shape, dtype).made());
            is_no_shape("from_fn", Tensor::from_fn(shape, dtype, |_| 0.0).made());
            is_no_shape("normal", Tensor::normal(shape, 0.0, 1.0, dtype, rng).made());
            is_no_shape("meta", Tensor::meta(shape, dtype).made());
            is_no_shape("its op", Tensor::meta(shape, dtype).square());
            for device in [Device::Cpu, Device::Meta] {
                is_no_shape("full_on", Tensor::full_on(device, shape, 0.0, dtype));
            }
            is_no_shape("reshape", Tensor::zeros([0], dtype).reshape(shape));
            is_no_shape("meta reshape", Tensor::meta([0], dtype).reshape(shape));
            is_no_shape("broadcast_to", Tensor::zeros([1, 1], dtype).broadcast_to(shape));
            is_no_shape("meta", Tensor::meta([1, 1], dtype).broadcast_to(shape));
        }
        is_no_shape("from_vec", Tensor::from_vec(Vec::<f32>::new(), shape));
        is_no_shape("from_slice", Tensor::from_slice(&[1_i64], shape));
        is_no_shape("random_indices", Tensor::random_indices(shape, 2, rng));
        is_no_shape("eye", Tensor::eye(shape[1].max(1 << 31), DType::F32).made());
    }
    let most = Tensor::meta([(1 << 60) - 1], DType::F64);
    assert_eq!(
        most.made().unwrap().bytes(),
        (1 << 63) - 8,
        "the most that memory can be asked for"
    );
}

/// Tensors of little memory whose ops would give too large ones, and the same on the meta device.
fn both(shape: impl Into<Shape>, dtype: DType) -> [Tensor; 2] {
    let shape = shape.into();
    [seen(shape, dtype), Tensor::meta(shape, dtype)]
}

#[test]
fn an_output_whose_product_overflows_is_refused_on_every_device() {
    const BIG: usize = 1 << 32;
    for (column, row) in both([BIG, 1], DType::F32).iter().zip(&both([1, BIG], DType::F32)) {
        is_no_shape("mul", column.mul(row));
        is_no_shape("add", column.add(row));
        is_no_shape("greater", column.greater(row));
        is_no_shape("maximum", column.maximum(row));
        is_no_shape("matmul", column.matmul(row));
        is_no_shape("linear", column.linear(&row.transpose(0, 1).unwrap(), None));
        is_no_shape(
            "stack",
            Tensor::concat(&[&column.broadcast_to([BIG, 1 << 27]).unwrap(); 4], 1),
        );
    }
    let (column, row) = (Tensor::meta([BIG, 1], DType::F32), Tensor::meta([1, BIG], DType::F32));
    is_no_shape("einsum", Tensor::einsum("ij,kl->ijkl", &[&column, &row]));
    for (a, i) in both([BIG], DType::F32).iter().zip(&both([BIG], DType::I64)) {
        is_no_shape("embedding", i.embedding(&a.broadcast_to([2, BIG]).unwrap()));
        let wide = a.broadcast_to([2, BIG]).unwrap();
        is_no_shape("gather", wide.gather(0, i));
        is_no_shape("scatter_add", wide.scatter_add(0, &i.narrow(0, 0, 2).unwrap(), BIG));
        is_no_shape("pad", a.pad(0, 1 << 61, 0, Padding::Constant(0.0)));
    }
    for image in both([1, 1, 2, 2], DType::F32) {
        let size = (BIG, BIG);
        let kernel = image.narrow(2, 0, 1).unwrap().narrow(3, 0, 1).unwrap();
        let window = Window { padding: size, ..Window::new((1, 1)) };
        let geometry = Geometry { window, groups: 1 };
        is_no_shape("conv2d", image.conv2d(&kernel, None, geometry));
        let apart = Window { stride: size, ..Window::new((1, 1)) };
        let apart = Geometry { window: apart, groups: 1 };
        is_no_shape("conv_transpose2d", image.conv_transpose2d(&kernel, None, apart, (0, 0)));
        is_no_shape("adaptive_avg_pool2d", image.adaptive_avg_pool2d(size));
        is_no_shape("adaptive_max_pool2d", image.adaptive_max_pool2d(size));
        is_no_shape("interpolate", image.interpolate(size, Interpolation::Nearest));
    }
}

#[test]
fn sizes_that_overflow_inside_of_an_op_are_refused() {
    let most = usize::MAX;
    for image in both([1, 1, 2, 2], DType::F32) {
        let kernel = image.narrow(2, 0, 1).unwrap().narrow(3, 0, 1).unwrap();
        for window in [
            Window { padding: (most, 0), ..Window::new((1, 1)) },
            Window { padding: (most / 2, most / 2), ..Window::new((1, 1)) },
            Window { stride: (most, most), dilation: (most, most), ..Window::new((1, 1)) },
        ] {
            let geometry = Geometry { window, groups: 1 };
            let results = [
                image.conv2d(&kernel, None, geometry),
                image.conv_transpose2d(&kernel, None, geometry, (0, 0)),
                image.conv_transpose2d(&kernel, None, geometry, (most, most)),
                image.max_pool2d(window),
                image.avg_pool2d(window, true),
            ];
            // One position of a window that steps out of the picture is a picture of one pixel.
            for got in results {
                assert!(got.as_ref().is_err() || got.as_ref().unwrap().numel() == 1, "{got:?}");
            }
        }
        assert!(image.pad(3, most, most, Padding::Constant(1.0)).is_err());
        assert!(image.narrow(3, most, 2).is_err() && image.narrow(3, 2, most).is_err());
        assert!(image.interpolate((most, most), Interpolation::Nearest).is_err());
        assert!(image.adaptive_avg_pool2d((most, most)).is_err());
    }
}

#[test]
fn windows_and_cells_that_no_number_counts_are_refused_though_the_output_is_small_or_empty() {
    let wide = |width| Window { padding: (1, width / 2), ..Window::new((3, width)) };
    for image in both([1, 1, 8, 9], DType::F32) {
        let window = wide(1 << 60);
        assert!(image.avg_pool2d(window, true).is_err() && image.max_pool2d(window).is_err());
    }
    // As many taps as can be counted, of which an image sees few.
    let image = Tensor::ones([1, 1, 8, 9], DType::F32);
    let window = wide(1 << 40);
    let averages = image.avg_pool2d(window, false).unwrap().to_f64_vec().unwrap();
    assert!(averages.iter().all(|x| *x == 1.0));
    assert!(image.max_pool2d(window).unwrap().to_f64_vec().unwrap().iter().all(|x| *x == 1.0));
    // There is no picture, so these have no numbers; the patches of one would have too many.
    for images in both([0, 1 << 20, 1, 1], DType::F32) {
        let kernel = seen([1, 1 << 20, 3, 3], DType::F32).to_device(images.device()).unwrap();
        let window = Window { padding: (1 << 21, 1 << 21), ..Window::new((3, 3)) };
        assert!(images.conv2d(&kernel, None, Geometry { window, groups: 1 }).is_err());
    }
    for images in both([0, 1024, 1024], DType::F32) {
        assert!(images.adaptive_avg_pool2d((1 << 55, 1)).is_err());
    }
}
