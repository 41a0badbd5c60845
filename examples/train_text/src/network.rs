//! Language models by name.

use alcyon::nn::models::{GptConfig, LstmConfig};
use alcyon::prelude::*;

use crate::cli::Cli;

/// The names there are.
const NAMES: [&str; 3] = ["gpt", "gpt2", "lstm"];

pub(crate) fn build(cli: &Cli, vocabulary: usize, rng: &mut Rng) -> Result<Box<dyn Module>> {
    let Cli { width, layers, heads, dropout, context, .. } = *cli;
    let decoder =
        GptConfig { vocabulary, context, width, layers, heads, dropout, frozen_tables: false };
    Ok(match cli.model.as_str() {
        "gpt" => Box::new(decoder.build(rng)?),
        "gpt2" => Box::new(decoder.build_gpt2(rng)?),
        "lstm" => {
            Box::new(LstmConfig { vocabulary, width, hidden: width, layers, dropout }.build(rng)?)
        }
        other => {
            let known = NAMES.map(str::to_owned).to_vec();
            return Err(Error::Unknown { what: "model", got: other.to_owned(), known });
        }
    })
}
