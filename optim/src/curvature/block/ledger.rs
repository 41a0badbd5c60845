//! What curvature will cost, layer by layer, before the first step; and what a budget affords.
//!
//! Sizes follow from shapes: a layer of n inputs (the bias's constant among them) and m outputs in each
//! of k groups, with P numbers, keeps f64 numbers
//!
//! | kind | factors | inverses | as in |
//! |---|---|---|---|
//! | diagonal | 3 (n + k m): the batch's, the average, the one in use | — | AdaFisher |
//! | diagonal | k (n + m) | the same | K-FAC with a budget |
//! | block (sides to 2,048, beyond them n or m) | k (n² + m²); a table V + D²; a norm C for each of scale and shift | the same (a norm: one more for each) | K-FAC |
//! | full | P² | P² | the exact block, K-FAC with a budget |
//!
//! (matrices of inverses are of the parameters' own type; factors that are cut are sums over blocks)
//! beside a moment of P numbers of that type, and the rows that the sweep hands over:
//! the layer's input and the gradient of its output, for as large a batch as was observed. An estimator
//! reduces rows as they pass, so they are not added to the total; optimizers that keep them (EKFAC's
//! kind) hold them in f64.

use std::fmt;

use engine::{Error, Layer, LayerRecord, ParamId, Parameters, Result, Shape};

use crate::LongSides;
use crate::algebra::pattern::Pattern;
use crate::curvature::form::Kind;
use crate::curvature::form::{Form, Reduction, Share, form_and_groups};

/// The sizes of one layer, or of a parameter outside layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path of the weight.
    pub path: String,
    /// P, the numbers of the weight and of the bias beside it.
    pub numbers: usize,
    /// Bytes of one moment.
    pub moment: usize,
    /// Bytes of the inputs and output gradients of all its uses.
    pub rows: usize,
    /// Bytes of factors and inverses of each kind; `None` for a parameter without a layer.
    factors: Option<[(usize, usize); 3]>,
}

impl Entry {
    /// Bytes of (factors, inverses) of a kind; zeros for a parameter without a layer.
    #[must_use]
    pub fn curvature(&self, kind: Kind) -> (usize, usize) {
        self.factors.map_or((0, 0), |of| of[kind as usize])
    }

    /// Bytes kept between steps: factors, inverses and one moment.
    #[must_use]
    pub fn bytes(&self, kind: Kind) -> usize {
        let (factors, inverses) = self.curvature(kind);
        factors + inverses + self.moment
    }

    /// Whether a layer has shown it.
    #[must_use]
    pub const fn has_layer(&self) -> bool {
        self.factors.is_some()
    }
}

/// The sizes of all parameters of a model that are trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// In the model's order.
    pub entries: Vec<Entry>,
}

impl Ledger {
    /// From the records of one sweep (`Vec<LayerRecord>` is an observer), of any batch.
    ///
    /// # Example
    /// ```
    /// use engine::{DType, LayerRecord, Parameter, Tape, Tensor};
    /// use alcyon_optim::curvature::{Kind, Ledger};
    /// let weight = Parameter::new(Tensor::ones([2, 3], DType::F32));
    /// let tape = Tape::new();
    /// let x = tape.input(Tensor::ones([5, 3], DType::F32));
    /// let loss = x.linear(&tape.bind(&weight), None)?.sum_all()?;
    /// let mut records: Vec<LayerRecord> = Vec::new();
    /// tape.backward_observed(&loss, &mut records)?;
    /// let ledger = Ledger::of(&weight, &records);
    /// assert_eq!(ledger.entries[0].curvature(Kind::Block), (8 * (9 + 4), 4 * (9 + 4)));
    /// assert_eq!(ledger.entries[0].bytes(Kind::Diagonal), 8 * 3 * (3 + 2) + 4 * 6);
    /// assert_eq!(ledger.entries[0].rows, 4 * 5 * (3 + 2));
    /// # Ok::<(), engine::Error>(())
    /// ```
    #[must_use]
    pub fn of(model: &dyn Parameters, records: &[LayerRecord]) -> Self {
        let parameters = model.parameters();
        let bytes_of = |id| {
            let found = parameters.iter().find(|(_, p)| p.id() == id && p.is_trainable());
            found.map_or((0, 0), |(_, p)| (p.value().numel(), p.value().bytes()))
        };
        let is_bias = |id| records.iter().any(|record| record.bias == Some(id));
        let entry = |path: &String, id| {
            let uses = || records.iter().filter(move |record| record.weight == id);
            let bias = uses().find_map(|record| record.bias);
            let (numbers, moment) = bytes_of(id);
            let (more, beside) = bias.map_or((0, 0), bytes_of);
            let rows = uses().map(|r| r.input.bytes() + r.output_grad.bytes()).sum();
            let factors = uses().next().and_then(|record| {
                let kfac = |kind| kfac(record, kind, LongSides::default());
                Some([(adafisher(record)?, 0), kfac(Kind::Block)?, kfac(Kind::Full)?])
            });
            let (path, numbers, moment) = (path.clone(), numbers + more, moment + beside);
            Entry { path, numbers, moment, rows, factors }
        };
        let own = parameters.iter().filter(|(_, p)| p.is_trainable() && !is_bias(p.id()));
        Self { entries: own.map(|(path, p)| entry(path, p.id())).collect() }
    }

    /// The layers of some records and what K-FAC keeps for each of the three kinds, without moments.
    pub(in crate::curvature) fn of_layers<'a>(
        records: impl Iterator<Item = &'a LayerRecord>,
        sides: LongSides,
    ) -> (Vec<ParamId>, Self) {
        let (mut weights, mut entries) = (Vec::new(), Vec::new());
        for record in records.filter(|record| form_and_groups(record).is_some()) {
            if weights.contains(&record.weight) {
                continue;
            }
            let [diagonal, block, full] = Kind::ALL.map(|kind| kfac(record, kind, sides));
            let factors = diagonal.zip(block).zip(full).map(|((d, b), f)| [d, b, f]);
            let (path, numbers) = (format!("{:?}", record.weight), numbers(record));
            weights.push(record.weight);
            entries.push(Entry { path, numbers, moment: 0, rows: 0, factors });
        }
        (weights, Self { entries })
    }

    /// Bytes of a choice, one kind for each entry.
    #[must_use]
    pub fn bytes(&self, kinds: &[Kind]) -> usize {
        self.entries.iter().zip(kinds).map(|(entry, kind)| entry.bytes(*kind)).sum()
    }

    /// The kinds that so many bytes afford: diagonal everywhere first; then, again and again, the
    /// layer whose next larger kind costs the fewest bytes for each of its numbers, as long as one fits.
    ///
    /// # Errors
    /// [`Error::Argument`] when not even the diagonals fit.
    pub fn plan(&self, budget: usize) -> Result<Vec<Kind>> {
        let mut kinds = vec![Kind::Diagonal; self.entries.len()];
        let mut spent = self.bytes(&kinds);
        if spent > budget {
            return Err(Error::Argument {
                op: "ledger",
                name: "budget",
                expected: "at least the bytes of all diagonals and moments",
                got: format!("{budget}, and {spent} are needed"),
            });
        }
        loop {
            let upgrade = |(at, entry): (usize, &Entry)| {
                let next = kinds[at].next().filter(|_| entry.has_layer())?;
                let (now, then) = (entry.bytes(kinds[at]), entry.bytes(next));
                let fits = spent - now + then <= budget;
                let price = (then as f64 - now as f64) / entry.numbers.max(1) as f64;
                fits.then_some((at, next, price))
            };
            let all = self.entries.iter().enumerate().filter_map(upgrade);
            let Some((at, next, _)) = all.min_by(|x, y| x.2.total_cmp(&y.2)) else { break };
            spent = spent - self.entries[at].bytes(kinds[at]) + self.entries[at].bytes(next);
            kinds[at] = next;
        }
        Ok(kinds)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.entries.iter().map(|e| e.path.chars().count()).max().unwrap_or(0).max(5);
        let head = ["numbers", "moment", "rows", "diagonal", "block", "full"];
        write!(f, "{:width$}", "layer")?;
        head.iter().try_for_each(|word| write!(f, " {word:>12}"))?;
        for entry in &self.entries {
            write!(f, "\n{:width$}", entry.path)?;
            let sizes = [entry.numbers, entry.moment, entry.rows];
            let kinds = Kind::ALL.map(|kind| entry.bytes(kind));
            sizes.iter().chain(&kinds).try_for_each(|bytes| write!(f, " {bytes:>12}"))?;
        }
        Ok(())
    }
}

/// P, of the weight and the bias of a record.
fn numbers(record: &LayerRecord) -> usize {
    let shape: &Shape = &record.weight_shape;
    let biases = shape.first().copied().unwrap_or(1);
    shape.numel() + if record.bias.is_some() { biases } else { 0 }
}

/// Bytes that AdaFisher keeps; it has no rule for some layers.
fn adafisher(record: &LayerRecord) -> Option<usize> {
    let (form, groups) = form_and_groups(record)?;
    let kind = Reduction { share: Share::Expand, kind: Kind::Diagonal, sides: LongSides::whole() };
    let (inputs, outputs) = kind.patterns(record, form, groups);
    let diagonal = match form {
        // One H for all groups, and an S for each output.
        Form::Dense if record.layer == Layer::Bias => 0,
        Form::Dense | Form::Lookup => inputs.size() + groups * outputs.size(),
        Form::ScaleShift => 2 * outputs.size(),
        Form::Transposed | Form::Joint { .. } => 0,
    };
    Some(3 * diagonal * size_of::<f64>())
}

/// Bytes of (factors, inverses) that K-FAC keeps, by the π rule.
fn kfac(record: &LayerRecord, kind: Kind, sides: LongSides) -> Option<(usize, usize)> {
    let width = record.output_grad.dtype().bytes();
    let of = |pattern: &Pattern| match pattern {
        Pattern::Blocks(_) => (pattern.numbers() * size_of::<f64>(), pattern.numbers() * width),
        Pattern::Diagonal(n) => (n * size_of::<f64>(), n * size_of::<f64>()),
    };
    if kind == Kind::Full {
        return Some(of(&Pattern::whole(numbers(record))));
    }
    let (form, groups) = form_and_groups(record)?;
    let reduction = Reduction { share: Share::Expand, kind, sides };
    let (inputs, outputs) = reduction.patterns(record, form, groups);
    // The inverse of a diagonal block is one of G ⊗ 1.
    let beside = if form == Form::ScaleShift { size_of::<f64>() } else { 0 };
    let ((a, of_a), (g, of_g)) = (of(&inputs), of(&outputs));
    Some((groups * (a + g), groups * (of_a + of_g + beside)))
}
