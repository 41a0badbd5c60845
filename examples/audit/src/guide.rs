//! What `audit --help` says after the options.

/// The closing part of `--help`.
pub(crate) const GUIDE: &str = "\
WHAT IS MEASURED
  A layer with P numbers (weight and bias) has a Fisher block F: the P x P second moment of the
  gradients of single examples. It is the curvature that second-order optimizers would like to
  divide by, and too large to keep: each of them keeps an approximation B instead. Here the layers
  are small enough to have F itself, from the same tape and the same batch.

ROWS
  gradient       B = 0: plain gradient descent. Whatever has a smaller cosine does harm.
  diagonal       F's own diagonal: the best that a diagonal can be.
  AdaFisher, …   H (x) S, two short vectors, brought to [0, 1] and averaged as each preset says.
  raw H·S        The same before it is normalised, in F's own units: the shape that the preset `root` has.
  K-FAC, …       G (x) A. `expand` takes every position for an example, `reduce` gathers them first.
  EKFAC          K-FAC's eigenvectors with the eigenvalues that are right for them.
  Shampoo²       L (x) R / tr L from the examples' gradients: what the square of Shampoo's divisor is.

COLUMNS
  error          |F - B| / |F| (Frobenius). 0 is exact, 1 is what B = 0 has.
  basis          The part of it that is due to B's eigenvectors: no eigenvalues can do better.
  shape          The error that is left with the best scale for B. AdaFisher's presets normalise
                 their factors, so for them this is the column to read.
  cosine         Between the step (B + λ)⁻¹ ∇L that the method takes, with its own λ, and the step
                 of the exact block.
  aligned        The same after B has been given F's trace and λ: what is left is B's form.
  bytes          What the optimizer keeps for B between steps.

HOW MUCH OF IT IS λ
  λ              Added to every eigenvalue.
  curvature      tr B / tr(B + λ): the share of the trace that is not λ.
  effective      The mean of s / (s + λ) over B's eigenvalues s: the share of directions in which B
                 has the say.
  spread         Largest over smallest eigenvalue of B + λ. Near 1 the method is gradient descent at
                 the rate α/λ; AdaFisher by its authors' program is.

FACTORS (A of inputs and G of output gradients; AdaFisher keeps their diagonals)
  diagonal       Energy on the diagonal: Σ mᵢᵢ² / Σ mᵢⱼ². 1/n when all rows are alike, 1 when diagonal.
  radius         Median radius of the Gershgorin discs over their centres; a row dominates below 1.
  dominant       Share of rows that do.
  corr           The largest correlation off the diagonal.
  SNR            Thesis, section 3.2: diagonal over off-diagonal energy under noise of σ = 1e-3, in dB;
                 then with σ = 1e-3 of the mean diagonal entry.
  shift          The largest relative shift of an eigenvalue above the mean one (Kaiser's criterion)
                 under that noise, again with both σ.
  Kaiser         How many eigenvalues are above the mean, and their share of the trace.
  FFT            Energy on the diagonal of the factor's Fourier spectrum. It is 1 for every matrix
                 whose wrapped diagonals are constant, ones everywhere among them: it says little.

GRADIENT NOISE (McCandlish et al. 2018)
  The variance of one example's gradient over the squared length of the true one: far below so many
  examples a batch twice as large is worth twice as much.

FIGURES
  errors, aligned   The columns `shape` and `aligned`, a cell for each layer and method.
  spectra           Eigenvalues of F and of its approximations, for each layer, with λ.
  discs             Gershgorin discs of each factor (bars) and its eigenvalues (crosses).

EXAMPLES
  cargo run --release -p audit
  cargo run --release -p audit -- --quick
  cargo run --release -p audit -- --epochs 0
  cargo run --release -p audit -- --fisher empirical --damping 0.01
";
