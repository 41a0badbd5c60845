//! A network built from a golden file's description, in f64.

use engine::parameter::{Member, MemberMut, join};
use engine::{Geometry, Parameter, Parameters, Tape, Tensor, Var, Window};

use crate::document::{Array, Failure, Node, Result, wrong};

/// Layers in a row.
#[derive(Debug, Default)]
pub(crate) struct Network {
    layers: Vec<Layer>,
}

/// A layer; its parameters are `name.weight` and `name.bias`.
#[derive(Debug)]
struct Layer {
    name: String,
    kind: Kind,
    weight: Option<Parameter>,
    bias: Option<Parameter>,
}

/// What a layer computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// x Wᵀ + b over the last axis.
    Linear,
    /// 2-D cross-correlation.
    Conv2d(Geometry),
    /// With the batch's own moments.
    BatchNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// Over the last axis.
    LayerNorm {
        /// Added to the variance.
        eps: f64,
    },
    /// Rows of a table.
    Embedding,
    /// The hyperbolic tangent.
    Tanh,
    /// max(x, 0).
    Relu,
    /// All axes but the first become one.
    Flatten,
    /// The mean over axis 1.
    MeanOverPositions,
}

impl Network {
    /// A network from `model` (a list of layers) and `init` (tensors by parameter path).
    pub(crate) fn described(model: &Node<'_>, init: &Node<'_>) -> Result<Self> {
        let mut network = Self::default();
        for layer in model.items()? {
            let name = layer.get("name")?.text()?;
            let kind = Kind::described(&layer)?;
            let start = |part: &str| init.find(&format!("{name}.{part}"));
            let weight = start("weight").map(|node| node.array()).transpose()?;
            let bias = start("bias").map(|node| node.array()).transpose()?;
            check_size(&layer, weight.as_ref(), bias.as_ref())?;
            network = network.then(name, kind, weight.as_ref(), bias.as_ref())?;
        }
        let known: Vec<String> = network.parameters().into_iter().map(|(path, _)| path).collect();
        init.only(&known.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(network)
    }

    /// The network with one more layer.
    pub(crate) fn then(
        mut self,
        name: &str,
        kind: Kind,
        weight: Option<&Array>,
        bias: Option<&Array>,
    ) -> Result<Self> {
        let parameter = |array: Option<&Array>| -> Result<Option<Parameter>> {
            array.map(|array| Ok(Parameter::new(array.tensor()?))).transpose()
        };
        let (weight, bias) = (parameter(weight)?, parameter(bias)?);
        self.layers.push(Layer { name: name.to_owned(), kind, weight, bias });
        Ok(self)
    }

    /// The network with one more layer that has no parameters.
    pub(crate) fn and(mut self, kind: Kind) -> Self {
        let name = self.layers.len().to_string();
        self.layers.push(Layer { name, kind, weight: None, bias: None });
        self
    }

    /// The outputs. Indices go in as they are, numbers as f64.
    pub(crate) fn forward(&self, tape: &Tape, x: Tensor) -> Result<Var> {
        Ok(self.outputs(tape, x)?)
    }

    /// The same, with the engine's own error.
    pub(crate) fn outputs(&self, tape: &Tape, x: Tensor) -> engine::Result<Var> {
        let mut x = tape.input(x);
        for layer in &self.layers {
            x = layer.forward(tape, &x).map_err(|e| e.in_layer(&layer.name))?;
        }
        Ok(x)
    }

    /// The parameter at a path.
    pub(crate) fn parameter(&self, path: &str) -> Result<&Parameter> {
        let found = self.parameters().into_iter().find(|(p, _)| p == path);
        found.map_or_else(|| wrong(format!("no parameter `{path}`")), |(_, p)| Ok(p))
    }

    /// Weight and, if there is one, bias of a layer.
    pub(crate) fn layer(&self, name: &str) -> Result<(&Parameter, Option<&Parameter>)> {
        let layer = self.layers.iter().find(|layer| layer.name == name);
        let found = layer.and_then(|layer| Some((layer.weight.as_ref()?, layer.bias.as_ref())));
        found.map_or_else(|| wrong(format!("no layer `{name}` with a weight")), Ok)
    }
}

impl Kind {
    fn described(layer: &Node<'_>) -> Result<Self> {
        let eps = || layer.get("eps")?.number();
        match layer.get("kind")?.text()? {
            "Linear" => Ok(Self::Linear),
            "Conv2d" => {
                let pair_or = |key: &str, absent| layer.find(key).map_or(Ok(absent), |n| n.pair());
                let window = Window {
                    kernel: layer.get("kernel")?.pair()?,
                    stride: pair_or("stride", (1, 1))?,
                    padding: pair_or("padding", (0, 0))?,
                    dilation: pair_or("dilation", (1, 1))?,
                };
                let groups = layer.find("groups").map_or(Ok(1), |node| node.count())?;
                Ok(Self::Conv2d(Geometry { window, groups }))
            }
            "BatchNorm2d" => match layer.find("mode").map_or(Ok("train"), |node| node.text())? {
                "train" => Ok(Self::BatchNorm { eps: eps()? }),
                mode => Err(Failure::NotYet(format!("BatchNorm2d in mode `{mode}`"))),
            },
            "LayerNorm" => Ok(Self::LayerNorm { eps: eps()? }),
            "Embedding" => Ok(Self::Embedding),
            "Tanh" => Ok(Self::Tanh),
            "ReLU" => Ok(Self::Relu),
            "Flatten" => Ok(Self::Flatten),
            kind => Err(Failure::NotYet(format!("a layer of kind `{kind}`"))),
        }
    }
}

impl Layer {
    fn forward(&self, tape: &Tape, x: &Var) -> engine::Result<Var> {
        let weight = self.weight.as_ref().map(|p| tape.bind(p));
        let bias = self.bias.as_ref().map(|p| tape.bind(p));
        match (self.kind, &weight, &bias) {
            (Kind::Linear, Some(weight), bias) => x.linear(weight, bias.as_ref()),
            (Kind::Conv2d(geometry), Some(weight), bias) => {
                x.conv2d(weight, bias.as_ref(), geometry)
            }
            (Kind::BatchNorm { eps }, Some(scale), Some(shift)) => {
                x.batch_norm(scale, shift, eps).map(|(y, ..)| y)
            }
            (Kind::LayerNorm { eps }, scale, shift) => {
                x.layer_norm(scale.as_ref(), shift.as_ref(), eps)
            }
            (Kind::Embedding, Some(table), _) => x.embedding(table),
            (Kind::Tanh, ..) => x.tanh(),
            (Kind::Relu, ..) => x.relu(),
            (Kind::Flatten, ..) => x.flatten(1),
            (Kind::MeanOverPositions, ..) => x.mean(&[1]),
            (kind, ..) => Err(engine::Error::Argument {
                op: "golden network",
                name: "init",
                expected: "the parameters of the layer",
                got: format!("{kind:?} without them"),
            }),
        }
    }
}

impl Parameters for Network {
    fn collect<'a>(&'a self, at: &str, out: &mut Vec<(String, Member<'a>)>) {
        for layer in &self.layers {
            let at = join(at, &layer.name);
            layer.weight.collect(&join(&at, "weight"), out);
            layer.bias.collect(&join(&at, "bias"), out);
        }
    }

    fn collect_mut<'a>(&'a mut self, at: &str, out: &mut Vec<(String, MemberMut<'a>)>) {
        for layer in &mut self.layers {
            let at = join(at, &layer.name);
            layer.weight.collect_mut(&join(&at, "weight"), out);
            layer.bias.collect_mut(&join(&at, "bias"), out);
        }
    }
}

/// The tensors in `init` are those that the description announces.
fn check_size(layer: &Node<'_>, weight: Option<&Array>, bias: Option<&Array>) -> Result<()> {
    let count = |key: &str| layer.get(key)?.count();
    let (shape, has_bias) = match layer.get("kind")?.text()? {
        "Linear" => {
            (vec![count("out_features")?, count("in_features")?], layer.flag_or("bias", true)?)
        }
        "Conv2d" => {
            let (height, width) = layer.get("kernel")?.pair()?;
            let channels = count("in_channels")? / count("groups")?.max(1);
            let shape = vec![count("out_channels")?, channels, height, width];
            (shape, layer.flag_or("bias", true)?)
        }
        "BatchNorm2d" => (vec![count("num_features")?], true),
        "LayerNorm" => {
            let axes = layer.get("normalized_shape")?.items()?;
            (axes.iter().map(Node::count).collect::<Result<_>>()?, true)
        }
        "Embedding" => (vec![count("num_embeddings")?, count("embedding_dim")?], false),
        _ => (Vec::new(), false),
    };
    if weight.map_or(&[][..], |w| &w.shape) != shape || bias.is_some() != has_bias {
        return layer.complain("`init` holds other parameters than this layer's");
    }
    Ok(())
}
