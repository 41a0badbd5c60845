//! What `compare --help` says after the options.

/// The closing part of `--help`.
pub(crate) const GUIDE: &str = "\
OPTIMIZERS
  sgd                Stochastic gradient descent with momentum 0.9.
  adam               Adam: each entry's gradient over the root of its mean square.
  adamw              Adam with decoupled weight decay, 0.01.
  adafisher          AdaFisher by the equations of the thesis: the gradient over the diagonal of
                     Kronecker factors of the Fisher matrix, read from each layer's input and
                     output gradient.
  adafisher-official The rule of the authors' program, refreshed every 100 steps.
  adafisher-paper    The equations of the paper.
  adafisher-root     AdaFisher's factors without min-max, scaled to the gradient, under Adam's root.
  adafisherw         The thesis' rule with decoupled weight decay, 0.01.
  kfac               K-FAC: each layer's gradient between the inverses of its two Kronecker
                     factors; factors every 10 steps, inverses every 100.
  shampoo            Shampoo: each gradient between inverse roots of running averages of its own
                     unfoldings' products; roots every 10 steps, Adam's step length.
  Any other name of the library (`lion`, `soap`, `ekfac`, …; a wrong one lists them) enters with the
  library's settings, and with its rate unless --rate gives another: look for one with --grid.

PROTOCOLS (network, data, budget and schedule; `examples/compare/src/protocol.rs` says where from)
  --model cnn                     8x8 digits, two convolutions with batch norm, cosine schedule.
  --model mlp                     8x8 digits, 64-128-10 ReLU, 30 epochs, constant rate.
  --dataset mnist                 10,000 rows, two convolutions, 5 epochs, constant rate.
  --dataset fashion               8,000 rows, two convolutions with batch norm, 5 epochs, cosine.

COLUMNS
  rate           The learning rate, before the schedule.
  test accuracy  Of the last epoch (never the best one): mean ± standard deviation over seeds.
  train loss     Mean over all training rows after the last epoch, in evaluation mode.
  test loss      The same over the test rows.
  pass           Milliseconds a step for forward and backward.
  factors        … for curvature: extra sweeps, and reducing layer records to factors.
  step           … for the update itself, with inverses and roots where there are any.
  / Adam         The sum of the three over Adam's.
  state          What the optimizer keeps between steps.

  A run whose loss is not finite stops; a line below the tables says at which step, and one above them which
  operation first produced such a value. The others go on.

EXAMPLES
  cargo run --release -p compare
  cargo run --release -p compare -- --quick
  cargo run --release -p compare -- --model mlp --seeds 5
  cargo run --release -p compare -- --optimizers adam,kfac --rate kfac=0.03 --coverage
  cargo run --release -p compare -- --dataset mnist --data-dir ~/data --optimizers sgd,adam
  cargo run --release -p compare -- --grid --optimizers shampoo
";
