//! What a model owns: parameters that are trained, buffers that are not, and paths to both.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Device, Result, Tensor};

/// The identity of a parameter or buffer: unique in the process, never reused. Everything an
/// optimizer keeps is keyed by it; nothing is matched by index, shape or name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParamId(u64);

impl ParamId {
    fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A tensor that is trained. It is owned by its module; forward reads it, only an optimizer
/// writes it.
///
/// # Why owned and not a shared handle
/// `step(&mut model, …)` is honest about what changes, and models are `Send + Sync`. Tying two
/// layers is explicit: use the one parameter in both places of `forward`; the tape binds it once
/// and records two uses.
#[derive(Debug)]
pub struct Parameter {
    id: ParamId,
    value: Tensor,
    trainable: bool,
}

impl Parameter {
    /// A trainable parameter with a starting value.
    #[must_use]
    pub fn new(value: Tensor) -> Self {
        Self { id: ParamId::fresh(), value, trainable: true }
    }

    /// Its identity.
    #[must_use]
    pub const fn id(&self) -> ParamId {
        self.id
    }

    /// Its value.
    #[must_use]
    pub const fn value(&self) -> &Tensor {
        &self.value
    }

    /// Its value, to be updated in place ([`Tensor::make_mut`]).
    pub const fn value_mut(&mut self) -> &mut Tensor {
        &mut self.value
    }

    /// Whether optimizers update it.
    #[must_use]
    pub const fn is_trainable(&self) -> bool {
        self.trainable
    }

    /// Excludes it from training (`false`) or includes it again.
    pub const fn set_trainable(&mut self, trainable: bool) {
        self.trainable = trainable;
    }
}

/// A tensor that belongs to a model but is not trained by gradients: running statistics.
#[derive(Debug)]
pub struct Buffer {
    id: ParamId,
    value: Tensor,
}

impl Buffer {
    /// A buffer with a starting value.
    #[must_use]
    pub fn new(value: Tensor) -> Self {
        Self { id: ParamId::fresh(), value }
    }

    /// Its identity.
    #[must_use]
    pub const fn id(&self) -> ParamId {
        self.id
    }

    /// Its value.
    #[must_use]
    pub const fn value(&self) -> &Tensor {
        &self.value
    }

    /// Its value, to be replaced.
    pub const fn value_mut(&mut self) -> &mut Tensor {
        &mut self.value
    }
}

/// A parameter or buffer found in a model.
#[derive(Debug, Clone, Copy)]
pub enum Member<'a> {
    /// A parameter.
    Parameter(&'a Parameter),
    /// A buffer.
    Buffer(&'a Buffer),
}

impl<'a> Member<'a> {
    /// The parameter, if it is one.
    const fn parameter(self) -> Option<&'a Parameter> {
        if let Self::Parameter(p) = self { Some(p) } else { None }
    }

    /// The buffer, if it is one.
    const fn buffer(self) -> Option<&'a Buffer> {
        if let Self::Buffer(b) = self { Some(b) } else { None }
    }
}

/// A parameter or buffer found in a model, to be written.
#[derive(Debug)]
pub enum MemberMut<'a> {
    /// A parameter.
    Parameter(&'a mut Parameter),
    /// A buffer.
    Buffer(&'a mut Buffer),
}

impl<'a> MemberMut<'a> {
    /// The parameter, if it is one.
    fn parameter(self) -> Option<&'a mut Parameter> {
        if let Self::Parameter(p) = self { Some(p) } else { None }
    }

    /// The buffer, if it is one.
    fn buffer(self) -> Option<&'a mut Buffer> {
        if let Self::Buffer(b) = self { Some(b) } else { None }
    }
}

/// Something that owns parameters. Modules get it from one line, `parameters!(Linear { weight,
/// bias });`, which lists the fields in order; nesting gives paths like `layers.1.bias`.
pub trait Parameters {
    /// Appends every member with its path below `at`.
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>);

    /// Appends every member with its path below `at`, to be written.
    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>);

    /// All parameters with their paths, in the order of the fields.
    fn parameters(&self) -> Vec<(String, &Parameter)> {
        let mut all = Vec::new();
        self.collect("", &mut all);
        all.into_iter().filter_map(|(path, m)| Some((path, m.parameter()?))).collect()
    }

    /// All parameters with their paths, to be written.
    fn parameters_mut(&mut self) -> Vec<(String, &mut Parameter)> {
        let mut all = Vec::new();
        self.collect_mut("", &mut all);
        all.into_iter().filter_map(|(path, m)| Some((path, m.parameter()?))).collect()
    }

    /// All buffers with their paths.
    fn buffers(&self) -> Vec<(String, &Buffer)> {
        let mut all = Vec::new();
        self.collect("", &mut all);
        all.into_iter().filter_map(|(path, m)| Some((path, m.buffer()?))).collect()
    }

    /// All buffers with their paths, to be written.
    fn buffers_mut(&mut self) -> Vec<(String, &mut Buffer)> {
        let mut all = Vec::new();
        self.collect_mut("", &mut all);
        all.into_iter().filter_map(|(path, m)| Some((path, m.buffer()?))).collect()
    }

    /// The number of trainable scalars.
    fn parameter_count(&self) -> usize {
        let of = |(_, p): (String, &Parameter)| if p.trainable { p.value.numel() } else { 0 };
        self.parameters().into_iter().map(of).sum()
    }

    /// Moves every parameter and buffer to a device; all of them, or none if one cannot go. What an
    /// optimizer keeps follows at its next step.
    ///
    /// # Errors
    /// As [`Tensor::to_device`].
    fn to_device(&mut self, device: Device) -> Result<()> {
        let mut all = Vec::new();
        self.collect_mut("", &mut all);
        let mut values: Vec<&mut Tensor> = all
            .into_iter()
            .map(|(_, member)| match member {
                MemberMut::Parameter(p) => &mut p.value,
                MemberMut::Buffer(b) => &mut b.value,
            })
            .collect();
        let moved: Vec<Tensor> =
            values.iter().map(|value| value.to_device(device)).collect::<Result<_>>()?;
        values.iter_mut().zip(moved).for_each(|(value, moved)| **value = moved);
        Ok(())
    }

    /// Applies the buffer updates that a forward pass staged on its tape
    /// ([`Tape::staged`](crate::Tape::staged)): running means and variances.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) when an update does not have its buffer's shape.
    fn commit(&mut self, staged: crate::tape::Staged) -> Result<()> {
        staged.apply(self.buffers_mut())
    }
}

/// `at.name`, or `name` at the top.
#[must_use]
pub fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

impl Parameters for Parameter {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        out.push((at.to_owned(), Member::Parameter(self)));
    }
    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        out.push((at.to_owned(), MemberMut::Parameter(self)));
    }
}

impl Parameters for Buffer {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        out.push((at.to_owned(), Member::Buffer(self)));
    }
    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        out.push((at.to_owned(), MemberMut::Buffer(self)));
    }
}

impl<P: Parameters> Parameters for Option<P> {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        if let Some(p) = self {
            p.collect(at, out);
        }
    }
    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        if let Some(p) = self {
            p.collect_mut(at, out);
        }
    }
}

impl<P: Parameters> Parameters for Vec<P> {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        for (i, p) in self.iter().enumerate() {
            p.collect(&join(at, &i.to_string()), out);
        }
    }
    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        for (i, p) in self.iter_mut().enumerate() {
            p.collect_mut(&join(at, &i.to_string()), out);
        }
    }
}

impl<P: Parameters + ?Sized> Parameters for Box<P> {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        (**self).collect(at, out);
    }
    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        (**self).collect_mut(at, out);
    }
}

/// Implements [`Parameters`] for a struct by naming the fields that own some.
///
/// # Example
/// ```
/// use alcyon_engine::{parameters, DType, Parameter, Parameters, Tensor};
/// struct Scale { weight: Parameter, rest: Vec<Parameter> }
/// parameters!(Scale { weight, rest });
/// let new = || Parameter::new(Tensor::ones([2], DType::F32));
/// let s = Scale { weight: new(), rest: vec![new()] };
/// let paths: Vec<String> = s.parameters().into_iter().map(|(path, _)| path).collect();
/// assert_eq!(paths, ["weight", "rest.0"]);
/// ```
#[macro_export]
macro_rules! parameters {
    ($module:ty { $($field:ident),* $(,)? }) => {
        impl $crate::Parameters for $module {
            #[allow(unused_variables)]
            fn collect<'a>(
                &'a self,
                at: &str,
                out: &mut Vec<(String, $crate::parameter::Member<'a>)>,
            ) {
                $( self.$field.collect(&$crate::parameter::join(at, stringify!($field)), out); )*
            }
            #[allow(unused_variables)]
            fn collect_mut<'a>(
                &'a mut self,
                at: &str,
                out: &mut Vec<(String, $crate::parameter::MemberMut<'a>)>,
            ) {
                $( self.$field.collect_mut(&$crate::parameter::join(at, stringify!($field)), out); )*
            }
        }
    };
}
