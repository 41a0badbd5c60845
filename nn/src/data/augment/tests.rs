use super::*;
use crate::data::Loader;

fn views(change: &dyn Augment, size: [usize; 2]) -> Vec<View> {
    let draw = Draw::of_epoch(5, 0);
    let view = |place| {
        let mut view = View::whole(size);
        change.change(&mut view, &mut draw.example(place));
        view
    };
    (0..2000).map(view).collect()
}

fn images(shape: [usize; 3], count: usize) -> Images {
    let bytes = (0..count * shape.iter().product::<usize>()).map(|i| (i % 256) as u8).collect();
    let labels = (0..count as i64).map(|i| i % 2).collect();
    Images::new("t", shape, bytes, labels, &["a", "b"]).unwrap()
}

#[test]
fn every_shift_of_a_padded_crop_occurs_about_equally_often() {
    let mut counts = [[0_usize; 3]; 3];
    for view in views(&PadCrop { padding: 1 }, [5, 5]) {
        assert_eq!(view.size(), [5, 5]);
        for (row, counts) in counts.iter_mut().enumerate() {
            for (column, count) in counts.iter_mut().enumerate() {
                let mut shifted = View::whole([5, 5]);
                shifted.crop([row as f64 - 1.0, column as f64 - 1.0], [5.0; 2], [5; 2]);
                *count += usize::from(view == shifted);
            }
        }
    }
    // 2000 / 9 = 222, deviation 14: within five of them.
    assert!(counts.iter().flatten().all(|&n| (152..=292).contains(&n)), "{counts:?}");
    assert_eq!(counts.iter().flatten().sum::<usize>(), 2000);
}

#[test]
fn half_of_the_pictures_are_mirrored() {
    let plain = View::whole([4, 4]);
    let mirrored = views(&HorizontalFlip, [4, 4]).iter().filter(|&view| *view != plain).count();
    // 1000, deviation 22: within five of them.
    assert!((888..=1112).contains(&mirrored), "{mirrored}");
}

#[test]
fn cutout_zeroes_at_most_its_square_and_at_least_a_quarter_of_it() {
    let mut images = images([1, 8, 8], 200);
    images.normalise = crate::data::Normalise { mean: vec![-1.0], deviation: vec![1.0] };
    let loader = Loader::new(&images.augmented().then(Cutout { side: 4 }), 1).unwrap();
    let mut whole = 0;
    for batch in loader.epoch_at(0, 0) {
        let numbers = batch.unwrap().inputs.to_vec::<f32>().unwrap();
        let zeros = numbers.iter().filter(|x| **x == 0.0).count();
        assert!((4..=16).contains(&zeros), "{zeros}");
        whole += usize::from(zeros == 16);
    }
    // Centres at 2 ..= 6 of 0 ..= 7 in both directions: 25 in 64 of 200 = 78, deviation 7.
    assert!((43..=113).contains(&whole), "{whole}");
}

#[test]
fn random_windows_have_the_areas_and_aspects_asked_for() {
    let crop = RandomResizedCrop { size: [16, 16], area: [0.25, 0.5], aspect: [0.5, 2.0] };
    let whole = |view: &View| {
        let mut bytes = vec![0.0; 256];
        let picture =
            crate::data::picture::Picture { shape: [1, 100, 100], bytes: vec![255; 10_000].into() };
        view.render(&picture, &[[1.0, 0.0]], &mut bytes).unwrap();
        bytes
    };
    for view in views(&crop, [100, 100]).iter().take(50) {
        assert_eq!(view.size(), [16, 16]);
        // Windows inside the picture see no black.
        assert!(whole(view).iter().all(|x| (x - 255.0).abs() < 0.01));
    }
    let mut areas = 0.0;
    for place in 0..2000 {
        let mut view = View::whole([100, 100]);
        crop.change(&mut view, &mut Draw::of_epoch(1, 1).example(place));
        let [height, width] = view.window();
        let area = height * width / 1e4;
        assert!((0.24..=0.51).contains(&area), "{area}");
        assert!((0.49..=2.04).contains(&(width / height)), "{}", width / height);
        areas += area / 2000.0;
    }
    // Uniform over 0.25 ..= 0.5: mean 0.375, deviation 0.072/√2000, plus rounding to pixels.
    assert!((areas - 0.375).abs() < 0.01, "{areas}");
    // A picture that no window of the aspect fits ten times: its middle.
    assert_eq!(RandomResizedCrop::new(4).middle([10, 100]), ([0.0, 43.0], [10.0, 13.0]));
}

#[test]
fn the_center_crop_is_the_middle_and_brings_pictures_to_one_size() {
    let mut view = View::whole([4, 6]);
    CenterCrop { size: 2, shorter: 4 }.change(&mut view, &mut Rng::new(0));
    let mut expected = View::whole([4, 6]);
    expected.crop([1.0, 2.0], [2.0, 2.0], [2, 2]);
    assert_eq!(view, expected);
}

#[test]
fn mixed_classes_sum_to_one_and_the_inputs_are_mixed_alike() {
    // The picture of class 0 is all 0, that of class 1 all 255: the input says the share of 1.
    let bytes = [[0; 4], [255; 4]].concat();
    let images = Images::new("t", [1, 2, 2], bytes, vec![0, 1], &["a", "b"]).unwrap();
    let mixed = images.augmented().mixup(1.0).unwrap();
    let mut between = 0;
    for epoch in 0..50 {
        let batch = Loader::new(&mixed, 2).unwrap().epoch_at(0, epoch).next().unwrap().unwrap();
        let inputs = batch.inputs.to_vec::<f32>().unwrap();
        for (row, pixels) in batch.targets.to_vec::<f32>().unwrap().chunks(2).zip(inputs.chunks(4))
        {
            assert!((row[0] + row[1] - 1.0).abs() < 1e-6, "{row:?}");
            assert!(pixels.iter().all(|x| (x - row[1]).abs() < 1e-6), "{pixels:?} {row:?}");
            between += usize::from(row[1] > 0.01 && row[1] < 0.99);
        }
    }
    // Half of the partners are of the other class.
    assert!((25..=75).contains(&between), "{between}");
    assert!(matches!(images.augmented().mixup(0.0), Err(Error::Argument { .. })));
}

#[test]
fn without_changes_batches_are_the_data_set() {
    let mut images = images([3, 5, 4], 7);
    images.normalise = images.moments().unwrap();
    let data = images.dataset().unwrap();
    let batches = Loader::new(&images.augmented(), 3).unwrap().in_order();
    let got: Vec<f32> =
        batches.flat_map(|batch| batch.unwrap().inputs.to_vec::<f32>().unwrap()).collect();
    assert_eq!(got, data.inputs.to_vec::<f32>().unwrap());
    assert!(matches!(
        images.augmented().batch(&[7], Draw::of_epoch(0, 0)),
        Err(Error::Index { .. })
    ));
}
