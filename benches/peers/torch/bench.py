"""PyTorch's side of the comparison: one line of JSON a case.

    python bench.py --threads 2 --case mlp_adam [--fused | --compile]
    python bench.py --case resnet18_256,gpt_small --device cuda --precision bf16 [--compile]
"""
import argparse
import json
import os
import statistics
import time

ap = argparse.ArgumentParser()
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--case", required=True)
ap.add_argument("--iterations", type=int, default=20, help="least number of timed iterations")
ap.add_argument("--seconds", type=float, default=1.0, help="go on timing for at least this long")
ap.add_argument("--compile", action="store_true", help="wrap models in torch.compile")
ap.add_argument("--device", default="cpu", help="cpu or cuda")
ap.add_argument("--precision", default="f32", help="on cuda: f32, tf32 or bf16 products")
ap.add_argument("--fused", action="store_true", help="fused=True in Adam/AdamW")
args = ap.parse_args()
os.environ.setdefault("OMP_NUM_THREADS", str(args.threads))
os.environ.setdefault("MKL_NUM_THREADS", str(args.threads))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import models  # noqa: E402

torch.set_num_threads(args.threads)
torch.set_num_interop_threads(1)
torch.manual_seed(0)
cuda = args.device.startswith("cuda")
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
torch.backends.cudnn.benchmark = True


def memory():
    """Resident now, the most so far, resident code; in kB."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return [int(fields[name].split()[0]) for name in ("VmRSS", "VmHWM", "RssFile")]


def small_step():
    """What torch loads when it first convolves, differentiates or updates is not what a step needs."""
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3), torch.nn.Flatten(), torch.nn.Linear(4, 2))
    for optimizer in (torch.optim.Adam(model.parameters()), torch.optim.SGD(model.parameters(), lr=0.1)):
        F.cross_entropy(model(torch.randn(2, 1, 4, 4)), torch.zeros(2, dtype=torch.long)).backward()
        optimizer.step()


small_step()
with open("/proc/self/clear_refs", "w") as peak:  # the peak is counted from here
    peak.write("5")
before = memory()


def peak_mb():
    """The most memory since then, without code."""
    (start, _, old_code), (_, peak, code) = before, memory()
    return max(0, (peak - start) - (code - old_code)) / 1024


def measure(fn, warm=3):
    for _ in range(warm):
        fn()
    times, begin = [], time.perf_counter()
    while len(times) < args.iterations or time.perf_counter() - begin < args.seconds:
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return times


def report(case, times, losses=()):
    row = dict(case=case, iterations=len(times), ms=round(statistics.median(times) * 1e3, 4), peak_mb=round(peak_mb(), 1))
    if losses:
        row.update(loss_first=round(losses[0], 4), loss_last=round(losses[-1], 4))
    print(json.dumps(row), flush=True)


def matmul(name, m, k, n):
    def run():
        a, b = torch.randn(m, k), torch.randn(k, n)
        report(name, measure(lambda: a @ b, warm=10))
    return run


def elementwise(kind):
    n = 16 * 1024 * 1024

    def run():
        a, b = torch.randn(n), torch.randn(n)
        f = {
            "add": lambda: a + b,
            "relu": lambda: F.relu(a),
            "sum": lambda: a.sum().item(),
        }[kind]
        report(f"{kind}_16m", measure(f))
    return run


def train(name, make, batch, opt):
    def run():
        model = make().to(args.device)
        model.train()
        x, y = (z.to(args.device) for z in batch())
        o = opt(model.parameters())
        fwd = torch.compile(model) if args.compile else model
        losses = []

        def step():
            o.zero_grad(set_to_none=True)
            with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"):
                logits = fwd(x).float()
            loss = F.cross_entropy(logits.flatten(0, -2), y.flatten())
            loss.backward()
            o.step()
            losses.append(loss.item())

        ts = measure(step, warm=2 if name.startswith("resnet18") else 5)
        report(name, ts, losses)
    return run


fused = dict(fused=True) if args.fused or cuda else {}


def adam(p):
    return torch.optim.Adam(p, lr=1e-3, **fused)


def adamw(p):
    return torch.optim.AdamW(p, lr=1e-3, weight_decay=0.01, **fused)


def sgd(p):
    return torch.optim.SGD(p, lr=0.01)


CASES = {
    "matmul_512": matmul("matmul_512", 512, 512, 512),
    "matmul_1024": matmul("matmul_1024", 1024, 1024, 1024),
    "matmul_64x4096x64": matmul("matmul_64x4096x64", 64, 4096, 64),
    "mlp_adam": train("mlp_adam", models.Mlp,
                      lambda: (torch.randn(128, 784), torch.randint(10, (128,))), adam),
    "cnn_sgd": train("cnn_sgd", models.Cnn,
                     lambda: (torch.randn(64, 1, 28, 28), torch.randint(10, (64,))), sgd),
    "resnet18_sgd": train("resnet18_sgd", models.ResNet18,
                          lambda: (torch.randn(32, 3, 32, 32), torch.randint(10, (32,))), sgd),
    "gpt_adamw": train("gpt_adamw", lambda: models.Gpt(),
                       lambda: (torch.randint(256, (16, 64)), torch.randint(256, (16, 64))), adamw),
    "gpt_adamw_sdpa": train("gpt_adamw_sdpa", lambda: models.Gpt(sdpa=True),
                            lambda: (torch.randint(256, (16, 64)), torch.randint(256, (16, 64))), adamw),
    "resnet18_256": train("resnet18_256", models.ResNet18,
                          lambda: (torch.randn(256, 3, 32, 32), torch.randint(10, (256,))), sgd),
    "gpt_small": train("gpt_small", lambda: models.Gpt(50304, 512, 768, 12, 12, sdpa=True),
                       lambda: (torch.randint(50304, (8, 512)), torch.randint(50304, (8, 512))), adamw),
    "add_16m": elementwise("add"),
    "relu_16m": elementwise("relu"),
    "sum_16m": elementwise("sum"),
}

for c in args.case.split(","):
    CASES[c]()
