"""Writes shampoo_exact.json: the case `gupta_every3` of shampoo_steps.json with 50 digits.

    pip install mpmath; python tests/golden/data/shampoo_exact.py
"""
import json
import pathlib

import mpmath as mp

here = pathlib.Path(__file__).parent
steps = json.loads((here / "shampoo_steps.json").read_text())
mp.mp.dps = 50


def matrices(name):
    *batch, m, n = steps["inputs"][name]["shape"]
    data = steps["inputs"][name]["data"]
    count = batch[0] if batch else 1
    return [mp.matrix(m, n) + mp.matrix([data[(k * m + i) * n:(k * m + i + 1) * n] for i in range(m)]) for k in range(count)]


def root(a):
    values, vectors = mp.eigsy(a)
    return vectors * mp.diag([value ** mp.mpf("-0.25") for value in values]) * vectors.T


(w,), gradients = matrices("W0"), matrices("grads_W")
rate, epsilon = (mp.mpf(steps["hyper"]["gupta"][name]) for name in ("lr", "eps"))
left, right = mp.eye(w.rows) * epsilon, mp.eye(w.cols) * epsilon
trajectory = []
for t, g in enumerate(gradients):
    left, right = left + g * g.T, right + g.T * g
    if t % 3 == 0:
        roots = root(left), root(right)
    w = w - rate * roots[0] * g * roots[1]
    trajectory += [float(x) for x in w]
(here / "shampoo_exact.json").write_text(json.dumps({
    "schema": "golden-v1",
    "name": "shampoo_exact",
    "description": "gupta_every3 of shampoo_steps, computed with 50 digits and rounded once.",
    "dtype": "float64",
    "versions": {"mpmath": mp.__version__},
    "hyper": {name: steps["hyper"][name] for name in ("gupta", "gupta_every3")},
    "inputs": {name: steps["inputs"][name] for name in ("W0", "grads_W")},
    "expected": {"gupta_every3": {"W": {"shape": steps["expected"]["gupta_every3"]["W"]["shape"], "data": trajectory}}},
    "tolerance": {"rtol": 1e-12, "atol": 1e-14},
}) + "\n")
