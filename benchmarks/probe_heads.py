"""Twenty probe heads in one batched pass against twenty loops of their own.

    python benchmarks/probe_heads.py [--rounds 5] [--threads 2]

Rows, features, classes and heads are those of the usual comparison of one data set: 20,000 x 384, 50 classes, 20 heads,
one epoch in batches of 64. All ways share initial weights, batch order, learning rates and optimiser; that they end in
the same weights is asserted. Times are medians over interleaved rounds; ratios come from one run. On a machine with
other work to do, look at processor time with ``--threads 1``.

    loader    DataLoader over a TensorDataset, one head after the other
    indexed   the training tensor indexed by each batch, one head after the other
    shared    `train_heads`, the heads differ in the learning rate and share the batch order
    own       `train_heads`, the heads differ in the seed and have batches of their own
    floor     nothing but the matrix products of shared / own
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from tailwise.data.labels import LabelSpace
from tailwise.models.heads.linear import LinearHead
from tailwise.stages.recipe import Component
from tailwise.training import probe_passes
from tailwise.training.probe_passes import TrainingRows, train_heads
from tailwise.training.probe_plan import ProbePlan, StagePlan
from tailwise.training.probe_stacks import PaddedFeatures

ROWS, FEATURES, CLASSES, HEADS, BATCH = 20_000, 384, 50, 20, 64
STEPS = ROWS // BATCH
COMPARISONS = (("shared", "loader", 7), ("shared", "indexed, shared order", 3), ("own", "indexed", 2))


def make_rows() -> TrainingRows:
    generator = np.random.default_rng(0)
    prior = 0.93 ** np.arange(CLASSES)
    labels = np.concatenate([np.arange(CLASSES), generator.choice(CLASSES, ROWS - CLASSES, p=prior / prior.sum())])
    centres = generator.normal(size=(CLASSES, FEATURES))
    features = (centres[labels] + 3 * generator.normal(size=(ROWS, FEATURES))).astype(np.float32)
    space = LabelSpace(tuple(f"class {i:02d}" for i in range(CLASSES)), np.bincount(labels))
    return TrainingRows(torch.from_numpy(features), labels, space)


def make_plans(*, shared: bool) -> list[ProbePlan]:
    stage = StagePlan(Component("natural"), Component("ce"), STEPS, 1.0)
    rates = np.geomspace(1e-3, 1e-1, HEADS) if shared else np.full(HEADS, 1e-2)
    return [
        ProbePlan(Component("linear"), (stage,), BATCH, float(rate), 0.01, 0 if shared else seed)
        for seed, rate in enumerate(rates)
    ]


def batch_order(plan: ProbePlan, rows: TrainingRows) -> torch.Tensor:
    batches = probe_passes.shared_batches([plan], 0, rows)
    return torch.stack([batches.next()[0, :BATCH].clone() for _ in range(STEPS)])


def loop(plan: ProbePlan, rows: TrainingRows, order: torch.Tensor, *, loader: bool) -> LinearHead:
    """What one writes for one head."""
    head = LinearHead(FEATURES, CLASSES)
    head.reset(probe_passes.head_generator(plan.seed))
    scale = PaddedFeatures(rows.features[:1000]).scale
    features, labels = rows.features * scale, torch.from_numpy(rows.labels)
    optimiser = torch.optim.AdamW(
        [{"params": [head.weight], "weight_decay": plan.weight_decay}, {"params": [head.bias], "weight_decay": 0.0}]
    )
    if loader:
        batches = iter(DataLoader(TensorDataset(features, labels), BATCH, sampler=order.flatten().tolist()))
    else:
        batches = ((features[rows], labels[rows]) for rows in order)
    for step, (x, y) in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * probe_passes.decay(step, STEPS)
        optimiser.zero_grad()
        functional.cross_entropy(head(x), y).backward()
        optimiser.step()
    with torch.no_grad():
        head.weight *= scale
    return head


def loops(plans: list[ProbePlan], rows: TrainingRows, orders: list[torch.Tensor], *, loader: bool) -> list[LinearHead]:
    return [loop(plan, rows, order, loader=loader) for plan, order in zip(plans, orders, strict=True)]


def floor(orders: list[torch.Tensor], *, shared: bool) -> None:
    """The matrix products alone, on one resident batch."""
    width = -(-(FEATURES + 1) // 16) * 16
    batch = torch.ones(1, BATCH, width).expand(HEADS, -1, -1) if shared else torch.ones(HEADS, BATCH, width)
    weights, scores = torch.ones(HEADS, width, CLASSES), torch.empty(HEADS, BATCH, CLASSES)
    gradients = torch.empty_like(weights)
    for _ in orders[0]:
        torch.bmm(batch, weights, out=scores)
        torch.bmm(batch.transpose(1, 2), scores, out=gradients)


def largest_difference(left: list[LinearHead], right: list[LinearHead]) -> float:
    return max(
        float(((a.weight - b.weight).norm() / b.weight.norm()).detach()) for a, b in zip(left, right, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = make_rows()
    plans = {name: make_plans(shared=name == "shared") for name in ("shared", "own")}
    orders = {name: [batch_order(plan, rows) for plan in plans[name]] for name in plans}
    ways = {
        "loader": partial(loops, plans["own"], rows, orders["own"], loader=True),
        "indexed": partial(loops, plans["own"], rows, orders["own"], loader=False),
        "indexed, shared order": partial(loops, plans["shared"], rows, orders["shared"], loader=False),
        "shared": lambda: [t.head for t in train_heads(plans["shared"], rows)],
        "own": lambda: [t.head for t in train_heads(plans["own"], rows)],
        "floor shared": partial(floor, orders["shared"], shared=True),
        "floor own": partial(floor, orders["own"], shared=False),
    }
    walls: dict[str, list[float]] = {name: [] for name in ways}
    processors: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        results = {}
        for name, way in ways.items():
            wall, processor = time.perf_counter(), time.process_time()
            results[name] = way()
            walls[name].append(time.perf_counter() - wall)
            processors[name].append(time.process_time() - processor)
    for ours, theirs in (("own", "loader"), ("own", "indexed"), ("shared", "indexed, shared order")):
        difference = largest_difference(results[ours], results[theirs])
        assert difference < 1e-3, (ours, theirs, difference)
        print(f"{ours} and {theirs}: weights differ by {difference:.1e} (relative)")
    seconds, busy = ({name: statistics.median(v) for name, v in times.items()} for times in (walls, processors))
    for name in ways:
        print(f"{name:<24}{seconds[name]:8.2f} s, {busy[name]:.2f} s of the processor")
    for ours, theirs, target in COMPARISONS:
        ratios = [times[theirs] / times[ours] for times in (seconds, busy)]
        print(f"{ours} over {theirs}: {ratios[0]:.1f}x, {ratios[1]:.1f}x in processor time (target {target}x)")
    for name in ("shared", "own"):
        ratios = [times[name] / times["floor " + name] for times in (seconds, busy)]
        print(f"{name}: {ratios[0]:.1f}x, {ratios[1]:.1f}x in processor time, of its matrix products alone")


if __name__ == "__main__":
    main()
