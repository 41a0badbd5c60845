"""Writes the golden files of the models: `NAME.safetensors` beside this script.

Each file has a small model's parameters and buffers under the names of the original, an input and the
original's output in evaluation mode under `extra/input` and `extra/output`, and in the header, under
`alcyon`, the names of parameters and of buffers in the original's order. All numbers are random, those
of the norms included, so that no two of them can be confused.

The originals are torchvision, timm and Hugging Face's transformers; where none of these has the model
(CCT, the MLP, the LSTM language model), it is written out here from its paper's formulas. The files in
the repository were made with torch 2.15, torchvision 0.29.2, timm 1.0.31 and transformers 5.23:

    pip install torch torchvision timm transformers safetensors
    python nn/tests/golden/make.py            # all of them
    python nn/tests/golden/make.py cct swin   # some
"""

import json
import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).parent
CLASSES = 5


def images(n, size, channels=3):
    return torch.randn(n, channels, size, size)


def tokens(n, length, vocabulary):
    return torch.randint(vocabulary, (n, length))


def mlp():
    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)])

        def forward(self, x):
            for layer in self.layers[:-1]:
                x = F.relu(layer(x))
            return self.layers[-1](x)

    return Mlp(), torch.randn(3, 6)


def resnet(block, blocks, cifar):
    """torchvision's ResNet with narrow stages, and with or without the stem for small images."""
    from torchvision.models.resnet import ResNet

    class Narrow(ResNet):
        def __init__(self):
            super().__init__(block, [1, 1, 1, 1])
            width = 4
            self.inplanes = width
            if cifar:
                self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
                self.maxpool = nn.Identity()
            else:
                self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            for i, n in enumerate(blocks):
                stage = self._make_layer(block, width << i, n, stride=1 if i == 0 else 2)
                setattr(self, f"layer{i + 1}", stage)
            self.fc = nn.Linear((width << 3) * block.expansion, CLASSES)

    return Narrow(), images(2, 16 if cifar else 32)


def resnet_basic():
    from torchvision.models.resnet import BasicBlock

    return resnet(BasicBlock, [1, 2, 1, 1], cifar=True)


def resnet_bottleneck():
    from torchvision.models.resnet import Bottleneck

    return resnet(Bottleneck, [2, 1, 1, 1], cifar=False)


def densenet():
    from torchvision.models import DenseNet

    model = DenseNet(
        growth_rate=4, block_config=(2, 1, 2), num_init_features=6, bn_size=2, num_classes=CLASSES
    )
    return model, images(2, 32)


def mobilenet_v3():
    from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

    block = partial(InvertedResidualConfig, dilation=1, width_mult=1.0)
    blocks = [
        block(8, 3, 8, 8, True, "RE", 1),
        block(8, 3, 16, 16, False, "RE", 2),
        block(16, 5, 40, 16, True, "HS", 1),
    ]
    return MobileNetV3(blocks, last_channel=16, num_classes=CLASSES), images(2, 16)


def vit():
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(
        img_size=12, patch_size=4, embed_dim=12, depth=2, num_heads=3, num_classes=CLASSES
    )
    return model, images(2, 12)


def swin():
    from torchvision.models import SwinTransformer

    # 28 pixels are 7 patches: windows of 3 need padding, the merging of 2 x 2 as well.
    model = SwinTransformer([4, 4], 8, [2, 2], [2, 4], [3, 3], num_classes=CLASSES)
    return model, images(2, 28)


def focalnet():
    from timm.models.focalnet import FocalNet

    model = FocalNet(
        embed_dim=8,
        depths=(1, 2),
        focal_levels=(2, 3),
        focal_windows=(3, 3),
        num_classes=CLASSES,
    )
    return model, images(2, 24)


def cct():
    """Hassani et al. 2021, with the names of their program, github.com/SHI-Labs/Compact-Transformers."""

    class Attention(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.proj = nn.Linear(width, width)

        def forward(self, x):
            split = lambda t: t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            q, k, v = (split(part) for part in self.qkv(x).chunk(3, -1))
            scores = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
            return self.proj((scores @ v).transpose(1, 2).flatten(2))

    class Layer(nn.Module):
        def __init__(self, width, heads, hidden):
            super().__init__()
            self.pre_norm = nn.LayerNorm(width)
            self.self_attn = Attention(width, heads)
            self.linear1 = nn.Linear(width, hidden)
            self.norm1 = nn.LayerNorm(width)
            self.linear2 = nn.Linear(hidden, width)

        def forward(self, x):
            x = self.norm1(x + self.self_attn(self.pre_norm(x)))
            return x + self.linear2(F.gelu(self.linear1(x)))

    class Tokenizer(nn.Module):
        def __init__(self, middle, width):
            super().__init__()
            stage = lambda i, o: nn.Sequential(
                nn.Conv2d(i, o, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
            )
            self.conv_layers = nn.Sequential(stage(3, middle), stage(middle, width))

        def forward(self, x):
            return self.conv_layers(x).flatten(2).mT

    class Classifier(nn.Module):
        def __init__(self, length, width, heads, layers, hidden):
            super().__init__()
            self.positional_emb = nn.Parameter(torch.zeros(1, length, width))
            self.attention_pool = nn.Linear(width, 1)
            self.blocks = nn.ModuleList([Layer(width, heads, hidden) for _ in range(layers)])
            self.norm = nn.LayerNorm(width)
            self.fc = nn.Linear(width, CLASSES)

        def forward(self, x):
            x = x + self.positional_emb
            for block in self.blocks:
                x = block(x)
            x = self.norm(x)
            return self.fc((self.attention_pool(x).softmax(1).mT @ x).squeeze(1))

    class Cct(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokenizer = Tokenizer(6, 12)
            self.classifier = Classifier(9, 12, 2, 2, 24)

        def forward(self, x):
            return self.classifier(self.tokenizer(x))

    return Cct(), images(2, 12)


def gpt():
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    config = OpenAIGPTConfig(vocab_size=11, n_positions=7, n_embd=12, n_layer=2, n_head=3)
    return OpenAIGPTLMHeadModel(config), tokens(2, 6, 11)


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=11, n_positions=7, n_embd=12, n_layer=2, n_head=3)
    return GPT2LMHeadModel(config), tokens(2, 6, 11)


def lstm():
    """The names of PyTorch's word_language_model example, batch first."""

    class Lstm(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Embedding(11, 6)
            self.rnn = nn.LSTM(6, 8, 2, batch_first=True)
            self.decoder = nn.Linear(8, 11)

        def forward(self, x):
            return self.decoder(self.rnn(self.encoder(x))[0])

    return Lstm(), tokens(3, 5, 11)


MODELS = {
    f.__name__: f
    for f in [
        mlp,
        resnet_basic,
        resnet_bottleneck,
        densenet,
        mobilenet_v3,
        vit,
        swin,
        focalnet,
        cct,
        gpt,
        gpt2,
        lstm,
    ]
}


def randomise(model):
    """Starting values shaken, so that biases, scales and running statistics count."""
    for p in model.parameters():
        p.add_(0.2 * torch.randn_like(p))
    for name, b in model.named_buffers():
        if name.endswith("running_mean"):
            b.copy_(0.3 * torch.randn_like(b))
        if name.endswith("running_var"):
            b.copy_(0.5 + torch.rand_like(b))


@torch.no_grad()
def write(name):
    torch.manual_seed(0)
    model, x = MODELS[name]()
    model.eval()
    randomise(model)
    y = model(x)
    y = getattr(y, "logits", y)
    parameters = [n for n, _ in model.named_parameters()]
    persistent = model.state_dict()
    buffers = [n for n, _ in model.named_buffers() if n in persistent]
    tensors = {n: persistent[n].clone().contiguous() for n in parameters + buffers}
    tensors |= {"extra/input": x, "extra/output": y.contiguous()}
    header = {"parameters": " ".join(parameters), "buffers": " ".join(buffers)}
    save_file(tensors, HERE / f"{name}.safetensors", {"alcyon": json.dumps(header)})
    size = (HERE / f"{name}.safetensors").stat().st_size
    print(f"{name}: {len(parameters)} parameters, {size} bytes, output {tuple(y.shape)} {y.std():.3f}")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or MODELS:
        write(chosen)
