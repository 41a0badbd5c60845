//! One weight's H and S, and the F that they make: for the update, which never builds it, and for
//! people, who may look at it.

use engine::{DType, FloatElement, ParamId};
use kernels::step::{self, Curvature};

use crate::curvature::estimate::diagonals::{Diagonal, Form};
use crate::curvature::estimate::running::Averaging;

/// What became of a weight's factors at the last refresh.
///
/// H has one entry per input (the bias last; one run of them per group where groups have their
/// own), S one per output. Normalising layers: one per channel, or two (γ, β), see
/// [`NormFactor`](crate::curvature::NormFactor).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FactorTrace {
    /// The batch's raw H. Empty before the first refresh after [`load_state`](crate::Optimizer::load_state).
    pub h_new: Vec<f64>,
    /// The batch's raw S.
    pub s_new: Vec<f64>,
    /// The batch's H, normalised: where that comes before the average.
    pub h_new_norm: Option<Vec<f64>>,
    /// The batch's S, normalised: where that comes before the average.
    pub s_new_norm: Option<Vec<f64>>,
    /// The running average of H.
    pub h_state: Vec<f64>,
    /// The running average of S.
    pub s_state: Vec<f64>,
    /// H as it enters the product.
    pub h_used: Vec<f64>,
    /// S as it enters the product.
    pub s_used: Vec<f64>,
}

/// The factors of a weight, and of the biases beside it.
#[derive(Debug, Clone)]
pub(super) struct Factor {
    pub(super) form: Form,
    pub(super) biases: Vec<ParamId>,
    pub(super) trace: FactorTrace,
}

/// One parameter's F without λ.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    /// F\[o, p\] = s\[o\] h\[p\]; equal runs of outputs have their own `stride` entries of h, of
    /// which `width` are the weight's.
    Outer { s: &'a [f64], h: &'a [f64], groups: usize, width: usize },
    /// F\[c\] = s\[c\] h\[c\]
    Product { s: &'a [f64], h: &'a [f64] },
    /// F\[o\] = s\[o\] h
    Column { s: &'a [f64], h: f64 },
}

impl Factor {
    pub(super) fn new(form: Form) -> Self {
        Self { form, biases: Vec::new(), trace: FactorTrace::default() }
    }

    /// Takes a batch's diagonals in: Algorithm 1, lines 3 to 5.
    pub(super) fn refresh(&mut self, new: Diagonal, rule: &Averaging) {
        let Diagonal { form, biases, dtype, h, s } = new;
        if form != self.form {
            *self = Self::new(form);
        }
        self.biases = biases;
        let t = &mut self.trace;
        let averaged = rule.refresh(std::mem::take(&mut t.h_state), &h, dtype);
        (t.h_new_norm, t.h_state, t.h_used) = (averaged.new_norm, averaged.state, averaged.used);
        let averaged = rule.refresh(std::mem::take(&mut t.s_state), &s, dtype);
        (t.s_new_norm, t.s_state, t.s_used) = (averaged.new_norm, averaged.state, averaged.used);
        (t.h_new, t.s_new) = (h, s);
    }

    /// Takes saved averages over.
    pub(super) fn restore(&mut self, [h, s]: [Vec<f64>; 2], rule: &Averaging, dtype: DType) {
        let t = &mut self.trace;
        (t.h_used, t.s_used) = (rule.used(&h, dtype), rule.used(&s, dtype));
        (t.h_state, t.s_state) = (h, s);
    }

    /// F of the weight.
    pub(super) fn weight(&self) -> Part<'_> {
        let (h, s) = (self.trace.h_used.as_slice(), self.trace.s_used.as_slice());
        match self.form {
            Form::Outer { groups } => {
                let width = h.len() / groups - usize::from(!self.biases.is_empty());
                Part::Outer { s, h, groups, width }
            }
            Form::Hadamard => Part::Product { s, h },
            Form::Switch => Part::Column { s, h: h[0] },
            Form::Table => Part::Outer { s: h, h: s, groups: 1, width: s.len() },
        }
    }

    /// F of a bias.
    pub(super) fn bias(&self) -> Part<'_> {
        let (h, s) = (self.trace.h_used.as_slice(), self.trace.s_used.as_slice());
        let h = match self.form {
            Form::Hadamard => 1.0,
            // The last entry: that of the ones. All groups have the same.
            Form::Outer { .. } | Form::Switch | Form::Table => h.last().copied().unwrap_or(1.0),
        };
        Part::Column { s, h }
    }

    /// The mean of H·S over the layer.
    pub(super) fn mean(&self) -> f64 {
        let (h, s) = (&self.trace.h_used, &self.trace.s_used);
        let sum = |v: &[f64]| v.iter().sum::<f64>();
        match self.form {
            Form::Outer { groups } => {
                let runs =
                    h.chunks((h.len() / groups).max(1)).zip(s.chunks((s.len() / groups).max(1)));
                let total: f64 = runs.map(|(h, s)| sum(h) * sum(s)).sum();
                total * groups as f64 / (h.len() * s.len()) as f64
            }
            Form::Hadamard => {
                let scale: f64 = h.iter().zip(s).map(|(h, s)| h * s).sum();
                let shift = if self.biases.is_empty() { 0.0 } else { sum(s) };
                (scale + shift) / (s.len() * (1 + self.biases.len().min(1))) as f64
            }
            Form::Switch | Form::Table => sum(h) * sum(s) / (h.len() * s.len()) as f64,
        }
    }

    /// Bytes of all vectors kept.
    pub(super) fn bytes(&self) -> usize {
        let t = &self.trace;
        let norms = t.h_new_norm.iter().chain(&t.s_new_norm).map(Vec::len).sum::<usize>();
        let all = [&t.h_new, &t.s_new, &t.h_state, &t.s_state, &t.h_used, &t.s_used];
        size_of::<f64>() * (norms + all.map(Vec::len).iter().sum::<usize>())
    }
}

impl Part<'_> {
    /// The mean of F.
    pub(super) fn mean(&self) -> f64 {
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len().max(1) as f64;
        match *self {
            Part::Outer { s, h, groups, width } => {
                let (outputs, stride) = (s.len() / groups, h.len() / groups);
                let runs = s.chunks(outputs.max(1)).zip(h.chunks(stride.max(1)));
                runs.map(|(s, h)| mean(s) * mean(&h[..width])).sum::<f64>() / groups as f64
            }
            Part::Product { s, h } => {
                s.iter().zip(h).map(|(s, h)| s * h).sum::<f64>() / s.len().max(1) as f64
            }
            Part::Column { s, h } => h * mean(s),
        }
    }

    /// The update of Algorithm 1, lines 6 to 8, block by block, with F times a `scale`; F is formed entry
    /// by entry and kept nowhere.
    pub(super) fn update<T: FloatElement>(
        &self,
        scale: f64,
        theta: &mut [T],
        grad: &[T],
        m: &mut [T],
        rule: &step::AdaFisher,
    ) {
        let narrow = |v: &[f64]| v.iter().map(|&x| T::of(x)).collect::<Vec<T>>();
        let scaled = |v: &[f64]| v.iter().map(|&x| T::of(scale * x)).collect::<Vec<T>>();
        match *self {
            Part::Outer { s, h, groups, width } => {
                let (s, h) = (scaled(s), narrow(h));
                let (outputs, stride) = (s.len() / groups, h.len() / groups);
                for group in 0..groups {
                    let block = group * outputs * width..(group + 1) * outputs * width;
                    let s = &s[group * outputs..(group + 1) * outputs];
                    let h = &h[group * stride..group * stride + width];
                    let curvature = Curvature::Outer { s, h };
                    let (theta, m) = (&mut theta[block.clone()], &mut m[block.clone()]);
                    step::adafisher(theta, &grad[block], m, curvature, rule);
                }
            }
            Part::Product { s, h } => {
                let (s, h) = (scaled(s), narrow(h));
                step::adafisher(theta, grad, m, Curvature::Product { s: &s, h: &h }, rule);
            }
            Part::Column { s, h } => {
                let curvature = Curvature::Column { s: &scaled(s), h: T::of(h) };
                step::adafisher(theta, grad, m, curvature, rule);
            }
        }
    }

    /// F times a `scale` + λ, written out.
    pub(super) fn materialise(&self, scale: f64, damping: f64) -> Vec<f64> {
        let f = |s: f64, h: f64| scale * s * h + damping;
        match *self {
            Part::Outer { s, h, groups, width } => {
                let (outputs, stride) = (s.len() / groups, h.len() / groups);
                let row = |(o, &s): (usize, &f64)| {
                    let start = o / outputs * stride;
                    h[start..start + width].iter().map(move |&h| f(s, h))
                };
                s.iter().enumerate().flat_map(row).collect()
            }
            Part::Product { s, h } => s.iter().zip(h).map(|(&s, &h)| f(s, h)).collect(),
            Part::Column { s, h } => s.iter().map(|&s| f(s, h)).collect(),
        }
    }
}
