#!/usr/bin/env python3
"""Builds the peers, lets them take turns on the same cases, and prints one table. Standard library only.

    python3 benches/peers/run.py                                  # everything
    python3 benches/peers/run.py --peers torch --cases mlp_adam   # one peer, one case
    python3 benches/peers/run.py --write                          # and keep it: benches/results/peers.md
    python3 benches/peers/run.py --device cuda --write            # on a GPU: benches/results/gpu.md

A round runs one case once in every program, one after the other; a ratio is taken within a round and
the table has the median of the rounds, so that a machine that slows down slows all columns alike.
PEERS_PYTHON is a Python that has torch (default: python3).
"""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.path.join(ROOT, "target", "peers")
PYTHON = os.environ.get("PEERS_PYTHON", "python3")

CASES = {
    "matmul_512": "product 512 x 512 x 512",
    "matmul_1024": "product 1024 x 1024 x 1024",
    "matmul_64x4096x64": "product 64 x 4096 x 64",
    "add_16m": "sum of two, 16 Mi",
    "relu_16m": "ReLU, 16 Mi",
    "sum_16m": "sum of all, 16 Mi",
    "mlp_adam": "MLP 784-256-256-10, batch 128, Adam",
    "gpt_adamw": "GPT 4 x 128, 16 x 64 tokens, AdamW",
    "gpt_adamw_sdpa": "the same with fused attention",
    "cnn_sgd": "CNN 1-16-32, 28 x 28, batch 64, SGD",
    "resnet18_sgd": "ResNet-18, 32 x 32, batch 32, SGD",
}
MODELS = ["mlp_adam", "gpt_adamw", "gpt_adamw_sdpa", "cnn_sgd", "resnet18_sgd"]
RACES = ["mlp_adafisher", "gpt_adafisher", "cnn_adafisher"]
DEVICE_CASES = {
    "mlp_adam": "MLP 784-256-256-10, batch 128, Adam",
    "cnn_sgd": "CNN 1-16-32, 28 x 28, batch 64, SGD",
    "gpt_adamw_sdpa": "GPT 4 x 128, 16 x 64 tokens, AdamW",
    "resnet18_256": "ResNet-18, 32 x 32, batch 256, SGD",
    "gpt_small": "GPT 12 x 768, 8 x 512 tokens, AdamW",
}
DEVICE_RACES = ["cnn_adafisher", "gpt_adafisher", "resnet18_adafisher"]
DEVICE_PEERS = {
    "alcyon-graph": "Alcyon, captured",
    "torch": "PyTorch, eager",
    "torch-compile": "PyTorch, compiled",
}
PRECISIONS = ["f32", "tf32", "bf16"]
PEERS = {
    "torch": "PyTorch",
    "torch-fused": "PyTorch, fused",
    "candle": "candle",
    "burn": "burn",
}


def build(names):
    for name in names:
        folder = os.path.join(HERE, name)
        command = ["cargo", "build", "--release", "--quiet", "--target-dir", os.path.join(TARGET, name)]
        subprocess.run(command, cwd=folder, check=True)


def on_device(name, case, precision):
    """The same on a CUDA device."""
    how = ["--case", case, "--device", args.device, "--precision", precision]
    if name.startswith("torch"):
        compiled = ["--compile"] if name == "torch-compile" else []
        return [PYTHON, os.path.join(HERE, "torch", "bench.py"), *how, *compiled]
    return [args.alcyon, *how, "--graph", "yes" if name == "alcyon-graph" else "no"]


def command(name, case):
    """What runs a case, or None where the peer does not have it."""
    if name == "torch":
        return [PYTHON, os.path.join(HERE, "torch", "bench.py"), "--threads", str(args.threads), "--case", case]
    if name == "torch-fused":  # the fused optimizer, and fused attention in the GPT
        fused = {"mlp_adam": "mlp_adam", "gpt_adamw": "gpt_adamw_sdpa", "gpt_adamw_sdpa": "gpt_adamw_sdpa"}.get(case)
        return fused and [*command("torch", fused), "--fused"]
    if case == "gpt_adamw_sdpa" and name != "alcyon":  # neither has one with a gradient
        return None
    program = args.alcyon if name == "alcyon" else os.path.join(TARGET, name, "release", name + "-bench")
    return [program, "--case", case]


def first_in_line():
    """Puts a run ahead of other programs, where the system lets us."""
    os.setsid()
    try:
        os.nice(-19)
        with open("/proc/self/autogroup", "w") as group:
            group.write("-19")
    except OSError:
        pass


def once(name, case, precision=None):
    """The rows of one run; none if it fails, which is said."""
    words = on_device(name, case, precision) if precision else command(name, case)
    if words is None:
        return []
    words += ["--seconds", str(args.seconds), "--iterations", str(args.iterations)]
    threads = dict.fromkeys(("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(args.threads))
    ahead = first_in_line if args.priority else None
    done = subprocess.run(words, env={**os.environ, **threads}, capture_output=True, text=True, preexec_fn=ahead)
    if done.returncode:
        print(f"{name} {case}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return []
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def middle(numbers):
    return statistics.median(numbers) if numbers else None


def compare(case, peers):
    """Two lines, of time and of memory: ours, and for each peer its own and ours as a share of it."""
    rounds = []
    for _ in range(args.rounds):
        for row in once("alcyon", case):
            rounds.append((row, {peer: other for peer in peers for other in once(peer, case)}))
    return [line(case, peers, rounds, figure) for figure in ("ms", "peak_mb")]


def line(case, peers, rounds, figure, title=None):
    cells = [f"{middle([row[figure] for row, _ in rounds]):.3g}" if rounds else "-"]
    for peer in peers:
        pairs = [(row[figure], others[peer][figure]) for row, others in rounds if peer in others]
        theirs, share = middle([b for _, b in pairs]), middle([a / b for a, b in pairs if b > 0])
        cells.append("-" if share is None else f"{theirs:.3g} ({share:.2f})")
    return f"| {title or CASES[case]} | " + " | ".join(cells) + " |"


def race(case):
    """One line: Adam's step, and AdaFisher's as a share of it (measured inside one process)."""
    rows = [{row["case"].split("_race_")[1]: row["ms"] for row in once("alcyon", case)} for _ in range(args.rounds)]
    rows = [row for row in rows if row]
    share = lambda name: middle([row[name] / row["adam"] for row in rows])
    adam = middle([row["adam"] for row in rows])
    return f"| {case.split('_')[0]} | {adam:.3g} | {share('adafisher'):.3f} | {share('adafisher_every10'):.3f} |"


def device_tables(say):
    """Training steps by precision, and the optimizers' steps beside Adam's."""
    columns = " | Alcyon | " + " | ".join(DEVICE_PEERS.values()) + " |"
    for precision in PRECISIONS:
        say(f"| {precision}, median ms (ours / theirs)" + columns)
        say("|---|" + "---:|" * (1 + len(DEVICE_PEERS)))
        for case in (case for case in DEVICE_CASES if args.cases is None or case in args.cases):
            rounds = []
            for _ in range(args.rounds):
                for row in once("alcyon", case, precision):
                    rounds.append((row, {p: other for p in DEVICE_PEERS for other in once(p, case, precision)}))
            say(line(case, DEVICE_PEERS, rounds, "ms", DEVICE_CASES[case]))
        say("")
    say("| full step, f32 | Adam, ms | AdaFisher, curvature every step / Adam | every 10 / Adam | K-FAC, 10 and 100 / Adam |")
    say("|---|---:|---:|---:|---:|")
    for case in (case for case in DEVICE_RACES if args.cases is None or case in args.cases):
        rows = [{row["case"].split("_race_")[1]: row["ms"] for row in once("alcyon", case, "f32")} for _ in range(args.rounds)]
        rows = [row for row in rows if row]
        if rows:
            shares = [f"{middle([row[name] / row['adam'] for row in rows]):.3f}" for name in ("adafisher", "adafisher_every10", "kfac")]
            say(f"| {case.split('_')[0]} | {middle([row['adam'] for row in rows]):.3g} | " + " | ".join(shares) + " |")


def device_name():
    asked = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True)
    return asked.stdout.strip() or "no GPU that nvidia-smi knows of"


def machine():
    model = platform.processor() or platform.machine()
    vectors = ""
    if os.path.exists("/proc/cpuinfo"):
        lines = dict(line.split(":", 1) for line in open("/proc/cpuinfo") if ":" in line)
        lines = {key.strip(): value.strip() for key, value in lines.items()}
        model = lines.get("model name", model)
        vectors = ", AVX-512" if "avx512f" in lines.get("flags", "") else ", AVX2" if "avx2" in lines.get("flags", "") else ""
    return f"{model}{vectors}, {os.cpu_count()} processors"


def write(name, head, lines):
    with open(os.path.join(ROOT, "benches", "results", name), "w") as out:
        out.write(head + "\n".join(lines) + "\n")


def main():
    if args.device != "cpu":
        lines = [f"{device_name()}; {args.rounds} rounds; {datetime.date.today()}", ""]

        def tell(line):
            lines.append(line)
            print(line, flush=True)

        if not args.built:
            build(["alcyon"])
        device_tables(tell)
        if args.write:
            write("gpu.md", "# Alcyon and PyTorch on a GPU\n\nThe last table of `benches/peers/run.py --device cuda`.\n\n", lines)
        return
    args.cases = args.cases or ",".join([*CASES, *RACES])
    cases, peers = args.cases.split(","), args.peers.split(",")
    if not args.built:
        build(["alcyon", *[p for p in peers if not p.startswith("torch")]])
    lines = [f"{machine()}; {args.threads} threads; {args.rounds} rounds; {datetime.date.today()}", ""]

    def say(line):
        lines.append(line)
        print(line, flush=True)

    columns = " | Alcyon | " + " | ".join(PEERS[p] for p in peers) + " |"
    rule, memory = "|---|" + "---:|" * (1 + len(peers)), []
    say("| f32, median ms (ours / theirs)" + columns)
    say(rule)
    for case in cases:
        if case in CASES:
            time, most = compare(case, peers)
            say(time)
            memory += [most] if case in MODELS else []
    if memory:
        for row in ["", "| full step, most memory, MB (ours / theirs)" + columns, rule, *memory]:
            say(row)
    say("")
    say("| full step | Adam, ms | AdaFisher, curvature every step / Adam | every 10 / Adam |")
    say("|---|---:|---:|---:|")
    for case in cases:
        if case in RACES:
            say(race(case))
    if args.write:
        head = "# Alcyon and its peers\n\nThe last table of `benches/peers/run.py`; its README says what is compared.\n\n"
        write("peers.md", head, lines)


ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--cases", help="names, with commas between them; all if not given")
ap.add_argument("--device", default="cpu", help="cuda: another table, beside PyTorch alone")
ap.add_argument("--alcyon", default=os.path.join(TARGET, "alcyon", "release", "alcyon-bench"), help="our program")
ap.add_argument("--peers", default=",".join(PEERS))
ap.add_argument("--threads", type=int, default=2)
ap.add_argument("--rounds", type=int, default=5)
ap.add_argument("--seconds", type=float, default=1.0, help="the least time a case is measured in a round")
ap.add_argument("--iterations", type=int, default=10, help="the least number of timed iterations")
ap.add_argument("--built", action="store_true", help="do not build: the programs are as wanted")
ap.add_argument("--priority", action="store_true", help="ahead of other programs (root, Linux)")
ap.add_argument("--write", action="store_true", help="keep the table in benches/results/peers.md")
args = ap.parse_args()
main()
