//! Files of GPT models in Hugging Face's layout.

use engine::{Error, Result, Tensor};

use crate::Checkpoint;

/// The layers whose weights those files have as `[in, out]`.
const TRANSPOSED: [&str; 3] = ["c_attn.weight", "c_proj.weight", "c_fc.weight"];

/// A file of `OpenAIGPTLMHeadModel` or `GPT2LMHeadModel`, or of their bodies alone, as
/// [`Gpt`](super::Gpt) and [`Gpt2`](super::Gpt2) have it.
///
/// Those programs keep the weights of linear layers transposed; ours are `[out, in]`, as layer records
/// need them. A body alone lacks `transformer.` before its names. The causal masks (`attn.bias`,
/// `attn.masked_bias`) that older files hold are left out, and so is the tied readout.
///
/// # Errors
/// [`Error::Argument`] when the readout is not the table of tokens; those models are not tied.
///
/// # Example
/// ```no_run
/// use alcyon_nn::models::{GptConfig, from_hugging_face};
/// use alcyon_nn::Checkpoint;
/// let mut model = GptConfig::gpt2().build_gpt2(&mut engine::Rng::new(0))?;
/// from_hugging_face(Checkpoint::read("gpt2/model.safetensors".as_ref())?)?.restore(&mut model)?;
/// # Ok::<(), engine::Error>(())
/// ```
pub fn from_hugging_face(checkpoint: Checkpoint) -> Result<Checkpoint> {
    // Names come in alphabetical order: the readout before either table.
    let mut readout: Option<Tensor> = None;
    checkpoint.translate(|name, value| {
        if name == "lm_head.weight" {
            readout = Some(value);
            return Ok(None);
        }
        if name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") {
            return Ok(None);
        }
        if (name.ends_with("tokens_embed.weight") || name.ends_with("wte.weight"))
            && let Some(readout) = &readout
        {
            tied(readout, &value)?;
        }
        let name = match name.strip_prefix("transformer.") {
            Some(_) => name.to_owned(),
            None => format!("transformer.{name}"),
        };
        if TRANSPOSED.iter().any(|layer| name.ends_with(layer)) {
            return Ok(Some((name, value.transpose(0, 1)?.contiguous()?)));
        }
        Ok(Some((name, value)))
    })
}

fn tied(readout: &Tensor, table: &Tensor) -> Result<()> {
    if readout.shape() == table.shape() && readout.to_f64_vec()? == table.to_f64_vec()? {
        return Ok(());
    }
    let (expected, got) = ("the table of tokens", "other numbers".to_owned());
    Err(Error::Argument { op: "from_hugging_face", name: "lm_head.weight", expected, got })
}

#[cfg(test)]
mod tests {
    use engine::parameter::{Member, MemberMut};
    use engine::{DType, Parameter, Parameters, Rng, Var};

    use super::*;
    use crate::models::GptConfig;
    use crate::{Module, Sequential, checkpoint};

    /// A tensor under the name that it is given.
    struct Bare(Parameter);

    impl Parameters for Bare {
        fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
            self.0.collect(at, out);
        }
        fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
            self.0.collect_mut(at, out);
        }
    }

    impl Module for Bare {
        fn forward(&self, x: &Var) -> Result<Var> {
            Ok(x.clone())
        }
    }

    #[test]
    fn bodies_masks_and_tied_readouts_are_understood_and_untied_ones_refused() {
        let sizes = GptConfig {
            vocabulary: 3,
            context: 2,
            width: 2,
            layers: 1,
            heads: 1,
            ..GptConfig::default()
        };
        let model = sizes.build(&mut Rng::new(0)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c");
        checkpoint::save(&file, &model, &[].into(), &[].into()).unwrap();
        // As the other program writes it: a body, transposed, with a mask and a readout.
        let theirs = dir.path().join("theirs");
        let foreign = |factor: f64| {
            let mut all = Sequential::new();
            for (path, p) in model.parameters() {
                let turned = TRANSPOSED.iter().any(|layer| path.ends_with(layer));
                let value = p.value().clone();
                let value = if turned { value.transpose(0, 1).unwrap() } else { value };
                all =
                    all.named(path.trim_start_matches("transformer."), Bare(Parameter::new(value)));
            }
            let readout = model.transformer.tokens_embed.weight.value().scale(factor).unwrap();
            let mask = Tensor::ones([1, 1, 2, 2], DType::F32);
            for (name, value) in [("lm_head.weight", readout), ("h.0.attn.bias", mask)] {
                all = all.named(name, Bare(Parameter::new(value)));
            }
            checkpoint::save(&theirs, &all, &[].into(), &[].into()).unwrap();
            Checkpoint::read(&theirs).unwrap()
        };
        let mut fresh = sizes.build(&mut Rng::new(1)).unwrap();
        from_hugging_face(foreign(1.0)).unwrap().restore(&mut fresh).unwrap();
        for ((path, got), (_, saved)) in fresh.parameters().into_iter().zip(model.parameters()) {
            let [got, saved] = [got, saved].map(|p| p.value().to_vec::<f32>().unwrap());
            assert_eq!(got, saved, "{path}");
        }
        let error = from_hugging_face(foreign(2.0)).unwrap_err();
        assert!(matches!(error, Error::Argument { name: "lm_head.weight", .. }));
    }
}
