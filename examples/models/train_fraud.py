"""Trains the demo's fraud scorer on synthetic payments and writes it as ONNX.

    python examples/models/train_fraud.py [OUTPUT.onnx]

The payments are invented: eight features drawn from simple distributions, and a rule with noise
that says which are fraud. The model learns that rule back and proves nothing about real fraud; it
is here because it is tiny, so that the time around it (the platform's) can be measured.

Needs numpy and onnx. The committed file was made by this script; another machine's arithmetic may
round the weights differently in the last place, the figures in README.md stay the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SEED = 20_261_124
FEATURES = (
    "amount_log10_eur",
    "hour_of_day",
    "payments_last_hour",
    "km_from_last_payment_log10",
    "account_age_days_log10",
    "new_device",
    "foreign_card",
    "failed_attempts",
)
PAYMENTS, TEST_PAYMENTS, HIDDEN, EPOCHS, BATCH, RATE = 60_000, 20_000, 16, 12, 512, 3e-3


def payments(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Invented payments and which of them are fraud (about 1 %)."""
    x = np.stack(
        [
            rng.normal(1.6, 0.6, size),
            rng.uniform(0, 24, size),
            rng.poisson(0.8, size),
            rng.normal(0.7, 0.9, size),
            rng.normal(2.4, 0.6, size),
            rng.random(size) < 0.12,
            rng.random(size) < 0.18,
            rng.poisson(0.3, size),
        ],
        axis=1,
    ).astype(np.float32)
    night = (x[:, 1] < 5).astype(np.float32)
    risk = (
        1.3 * (x[:, 0] - 1.6)
        + 1.2 * night
        + 0.5 * x[:, 2]
        + 0.8 * x[:, 3]
        - 1.1 * (x[:, 4] - 2.4)
        + 1.6 * x[:, 5]
        + 0.7 * x[:, 6] * x[:, 5]
        + 0.9 * x[:, 7]
        - 6.6
    )
    fraud = rng.random(size) < 1 / (1 + np.exp(-1.5 * risk))
    return x, fraud.astype(np.float32)


def train(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """One hidden layer, cross-entropy, Adam; float64 inside."""
    sizes = [(x.shape[1], HIDDEN), (HIDDEN,), (HIDDEN, 1), (1,)]
    weights = [rng.normal(0, 0.3, size) for size in sizes]
    means, squares = ([np.zeros(size) for size in sizes] for _ in range(2))
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            rows = order[start : start + BATCH]
            step += 1
            for i, gradient in enumerate(gradients(x[rows], y[rows], weights)):
                means[i] = 0.9 * means[i] + 0.1 * gradient
                squares[i] = 0.999 * squares[i] + 0.001 * gradient**2
                size = np.sqrt(squares[i] / (1 - 0.999**step)) + 1e-8
                weights[i] = weights[i] - RATE * means[i] / (1 - 0.9**step) / size
    return weights


def gradients(x: np.ndarray, y: np.ndarray, weights: list[np.ndarray]) -> list[np.ndarray]:
    """Of the mean cross-entropy."""
    hidden = np.maximum(x @ weights[0] + weights[1], 0)
    error = ((scores(x, weights) - y) / len(x))[:, None]
    back = (error @ weights[2].T) * (hidden > 0)
    return [x.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]


def scores(x: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Probability of fraud."""
    hidden = np.maximum(x @ weights[0] + weights[1], 0)
    return 1 / (1 + np.exp(-(hidden @ weights[2] + weights[3])[:, 0]))


def area_under_curve(score: np.ndarray, y: np.ndarray) -> float:
    """Chance that a fraud scores above an honest payment (ranks; ties are negligible)."""
    ranks = np.argsort(np.argsort(score)) + 1
    frauds = int(y.sum())
    return float((ranks[y == 1].sum() - frauds * (frauds + 1) / 2) / (frauds * (len(y) - frauds)))


def write(path: Path, mean: np.ndarray, scale: np.ndarray, weights: list[np.ndarray]) -> None:
    """Standardise, Gemm, Relu, Gemm, Sigmoid."""
    constants = {
        "mean": mean,
        "scale": scale,
        "w1": weights[0],
        "b1": weights[1],
        "w2": weights[2],
        "b2": weights[3],
        "last": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["standard"]),
        helper.make_node("Gemm", ["standard", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["logit"]),
        helper.make_node("Squeeze", ["logit", "last"], ["flat"]),
        helper.make_node("Sigmoid", ["flat"], ["probability"]),
    ]
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "fraud-scorer-synthetic",
            [value("features", TensorProto.FLOAT, ["batch", len(FEATURES)])],
            [value("probability", TensorProto.FLOAT, ["batch"])],
            [
                numpy_helper.from_array(v if v.dtype == np.int64 else v.astype(np.float32), name)
                for name, v in constants.items()
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        producer_name="isochrone examples/models/train_fraud.py",
    )
    helper.set_model_props(model, {"features": ",".join(FEATURES), "data": "synthetic"})
    path.write_bytes(model.SerializeToString(deterministic=True))


def main() -> None:
    """Train, test on payments never seen, write."""
    default = Path(__file__).parent / "fraud" / "fraud.onnx"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    rng = np.random.default_rng(SEED)
    x, y = payments(rng, PAYMENTS)
    test_x, test_y = payments(rng, TEST_PAYMENTS)
    mean, scale = x.mean(0), x.std(0)
    weights = train((x - mean) / scale, y, rng)
    area = area_under_curve(scores((test_x - mean) / scale, weights), test_y)
    write(path, mean, scale, weights)
    print(f"frauds {y.mean():.1%}; area under the curve on unseen synthetic payments {area:.3f}")
    print(f"wrote {path} ({path.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
