//! Ops without a rule of their own: written with other ops, and differentiated through them.

mod logsumexp;
mod mean;
mod min;
mod split;
mod stack;
