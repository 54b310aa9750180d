"""What every registered loss must do, whatever its formula.

Run as a script, this file forks the two ranks of a distributed run.
"""

import copy
import gc
import itertools
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load, save
from torch._dynamo.utils import counters

from tailwise.errors import TailwiseError
from tailwise.losses import LOSSES

NAMES = list(LOSSES)
SEPARABLE = [name for name in NAMES if LOSSES[name].separable]
GROUPS, FEATURES = 3, 5
FOCUSES = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)
FOCUS_NAMES = ("focus", "positive_focus", "negative_focus")
#: scores, and features where a loss needs them, in units of the largest number of the case
PATTERNS = ("drawn", "zero", "right", "wrong")
TARGETS = ("drawn", "one class", "no positive", "ignored")
DTYPES = ("float32", "float16", "bfloat16", "autocast")
SHAPES = ((4, 1), (5, 2), (1, 3), (6, 3))
LARGE = (4, 20_000)  # beyond where the cross-entropies change their way
#: losses with options under which other code runs
VARIANTS = [
    *((name, {}) for name in NAMES),
    ("term", {"by_class": True}),
    ("group-dro", {"greedy": True, "group_counts": [5, 3, 2]}),
    ("batch-balanced-focal", {"smoothing": 1.0}),
]
#: the class that becomes the first, the second, ... when classes are relabelled, and where each of them goes
ORDER, PLACE = [2, 0, 3, 1], torch.tensor([1, 3, 0, 2])


def arguments(name, counts):
    """What the loss wants to know of classes with these training counts."""
    counts = [int(n) for n in counts]
    known = {
        "class_counts": counts,
        "cell_counts": [[n, 2 * n, max(n - 1, 0)] for n in counts],
        "num_rows": 2 * sum(counts) + 2,
        "num_classes": len(counts),
        "num_groups": GROUPS,
        "catch_all": 0,
    }
    if name == "weighted-sum":
        return {"losses": [LOSSES["wce"](class_counts=counts), LOSSES["dice"]()], "weights": [1.0, 0.5]}
    return {key: value for key, value in known.items() if key in LOSSES.parameters(name)}


def made(name, counts, **settings):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*no training instance")
        return LOSSES[name](**{**arguments(name, counts), **settings})


def counts_of(classes, seed=0):
    """Long-tailed, in any order; the last of three or more classes has no instance."""
    counts = np.random.default_rng(seed).permutation((1000 / np.arange(1, classes + 1)).astype(int) + 1)
    counts[-1] = 0 if classes > 2 else counts[-1]
    return counts


def batch(loss, rows, classes, pattern="drawn", kind="drawn", largest=2.0, dtype=torch.float32, seed=0):
    """Logits, targets and the keyword arguments of a call."""
    generator = torch.Generator().manual_seed(seed)
    gold = torch.randint(classes, (rows,), generator=generator)
    gold = (
        torch.full((rows,), classes - 1) if kind == "one class" else gold.where(torch.tensor(kind != "no positive"), 0)
    )
    logits = torch.randn(rows, classes, generator=generator)
    features = torch.randn(rows, FEATURES, generator=generator)
    if loss.multilabel:
        target = (torch.rand(rows, classes, generator=generator) < 0.3).long().scatter_(1, gold[:, None], 1)
        target = target * 0 if kind == "no positive" else target
        right = 2.0 * target - 1.0
        target = target * 0 - 100 if kind == "ignored" else target
    else:
        target = gold * 0 - 100 if kind == "ignored" else gold
        right = torch.full((rows, classes), -1.0).scatter(1, gold[:, None], 1.0)
    logits = {"drawn": logits / 4, "zero": logits * 0, "right": right, "wrong": -right}[pattern]
    # Without features the influence-balanced weights are 1e6, which float16 does not have.
    features = features * (pattern != "zero" or dtype == torch.float16)
    call = {
        "logits": (largest * logits).to(dtype).requires_grad_(),
        "target": target,
        "features": (largest * features).to(dtype).requires_grad_() if loss.requires_features else None,
        "group": torch.arange(rows) % GROUPS if loss.requires_group else None,
    }
    return {key: value for key, value in call.items() if value is not None}


def value_and_gradients(loss, call, *, by=None, **more):
    """The loss, and its gradient by logits and features, of the call or those it was made `by`, in one vector."""
    value = loss(**call, **more)
    by = call if by is None else by
    leaves = [by[key] for key in ("logits", "features") if key in by]
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return value.detach(), torch.cat([gradient.reshape(-1) for gradient in gradients])


def check_extreme(loss, call, kind, autocast):
    before = {key: tensor.detach().clone() for key, tensor in call.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value, gradient = value_and_gradients(loss, call)
    assert value.shape == ()
    assert value.isfinite()
    assert value.dtype == torch.float32
    assert gradient.isfinite().all()
    assert all(torch.equal(call[key], tensor) for key, tensor in before.items())
    assert torch.is_grad_enabled()
    assert not torch.is_anomaly_enabled()
    if kind == "ignored":
        assert value.item() == 0.0
        assert not gradient.any()


def extreme_cases(name):
    """Arguments of `made` and `batch`, and whether the call is under autocast."""
    sizes = [(size, 1e4, PATTERNS, TARGETS, DTYPES) for size in SHAPES]
    sizes += [(LARGE, 1e4, ("drawn", "wrong"), ("drawn", "ignored"), ("float32",))]
    for size, largest, patterns, targets, dtypes in sizes:
        for pattern, kind, dtype in itertools.product(patterns, targets, dtypes):
            yield {}, size, pattern, kind, largest, dtype
    for key in FOCUS_NAMES:
        focuses = FOCUSES if key in LOSSES.parameters(name) else ()
        for focus, pattern, scale in itertools.product(focuses, ("drawn", "right", "wrong"), (2.0, 45.0, 1e4)):
            yield {key: focus}, (6, 3), pattern, "drawn", scale, "float32"


@pytest.mark.parametrize("name", NAMES)
def test_extreme_batches_give_finite_values_and_gradients_and_are_left_alone(name):
    cases, losses = 0, {}
    for settings, (rows, classes), pattern, kind, largest, dtype in extreme_cases(name):
        key = classes, *settings.items()
        if key not in losses:
            losses[key] = made(name, counts_of(classes), **settings)
        autocast = dtype == "autocast"
        number = torch.float32 if autocast else getattr(torch, dtype)
        call = batch(losses[key], rows, classes, pattern, kind, largest, number)
        try:
            check_extreme(losses[key], call, kind, autocast)
        except Exception as error:
            where = f"{name} {settings} {rows} x {classes} {pattern} {kind} {largest} {dtype}"
            raise AssertionError(where) from error
        cases += 1
    assert cases == len(list(extreme_cases(name)))


def test_the_grid_of_extreme_batches_is_large(record_property):
    cases = sum(len(list(extreme_cases(name))) for name in NAMES)
    record_property("extreme cases", cases)
    print(f"{cases} extreme cases over {len(NAMES)} losses")
    assert cases >= 10_000


@pytest.mark.parametrize("name", NAMES)
def test_the_switches_of_automatic_differentiation_stay_as_they_were(name):
    loss = made(name, counts_of(4))
    loss.eval()
    call = batch(loss, 6, 4)
    value = loss(**call)
    with torch.no_grad():
        unfollowed = loss(**call)
        assert not torch.is_grad_enabled()
    assert not unfollowed.requires_grad
    torch.testing.assert_close(unfollowed, value.detach())
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        loss(**call).backward()
        assert torch.is_anomaly_enabled()


@pytest.mark.parametrize("name", NAMES)
def test_compiled_losses_are_the_same(name):
    loss = made(name, counts_of(4))
    twin = copy.deepcopy(loss)
    call = batch(loss, 8, 4)
    counters.clear()
    compiled = torch.compile(twin, backend="eager")
    for _ in range(2):  # a stateful loss must move alike
        found, wanted = value_and_gradients(compiled, call), value_and_gradients(loss, call)
        torch.testing.assert_close(found, wanted, rtol=2e-5, atol=1e-6)
    assert counters["frames"]["ok"] > 0
    torch._dynamo.reset()


@pytest.mark.parametrize("name", NAMES)
def test_a_state_without_pickle_carries_everything(name):
    loss, fresh = made(name, counts_of(4)), made(name, [5, 6, 7, 8])
    if name in ("confusion-aware", "confusion-aware-f1"):
        loss, fresh = (made(name, [5, 6, 7, 8], mode="population") for _ in range(2))
        loss.update_costs([0, 0, 1, 2, 3, 3], [1, 0, 1, 3, 0, 2])
    call = batch(loss, 8, 4)
    value_and_gradients(loss, call)  # a stateful loss has moved
    state = load(save({key: tensor.contiguous() for key, tensor in loss.state_dict().items()}))
    assert not list(loss.parameters())
    fresh.load_state_dict(state)
    wanted = value_and_gradients(loss.eval(), call)
    for other in (fresh.eval(), copy.deepcopy(loss)):
        for ours, theirs in zip(value_and_gradients(other, call), wanted, strict=True):
            assert torch.equal(ours, theirs)


def parts_of(call, sizes):
    """The call of every part of the batch."""
    pieces = {key: tensor.split(sizes) for key, tensor in call.items()}
    return [{key: pieces[key][i] for key in call} for i in range(len(sizes))]


def hidden(call):
    """Some rows and, of label sets, entries that are unknown, so that parts differ in what they hold."""
    target = call["target"].clone()
    target[0] = -100
    if target.ndim == 2:
        target[5, 1:] = -100
    return {**call, "target": target}


def drawn_weights(rows):
    return torch.rand(rows, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_row_order_changes_nothing(name, options, weighted):
    loss, other = made(name, counts_of(4), **options), made(name, counts_of(4), **options)
    call = hidden(batch(loss, 12, 4, dtype=torch.float64))
    if weighted:
        call["sample_weight"] = drawn_weights(12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    shuffled = {key: tensor[order] for key, tensor in call.items()}
    found, wanted = value_and_gradients(other, shuffled, by=call), value_and_gradients(loss, call)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("weighted", [False, True])
def test_relabelling_the_classes_changes_nothing(name, options, weighted):
    known = LOSSES.parameters(name)
    options = {**options, **({"class_weights": "balanced"} if {"class_weights", "class_counts"} <= set(known) else {})}
    moved = {"catch_all": int(PLACE[0])} if "catch_all" in known else {}
    loss, other = made(name, counts_of(4), **options), made(name, counts_of(4)[ORDER], **options, **moved)
    call = hidden(batch(loss, 12, 4, dtype=torch.float64))
    if weighted:
        call["sample_weight"] = drawn_weights(12)
    target = call["target"]
    renamed = target[:, ORDER] if loss.multilabel else PLACE[target.clamp_min(0)].where(target >= 0, target)
    relabelled = {**call, "logits": call["logits"][:, ORDER], "target": renamed}
    found, wanted = value_and_gradients(other, relabelled, by=call), value_and_gradients(loss, call)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_sample_weights_may_be_numbers_of_any_type(name, options):
    call = hidden(batch(made(name, counts_of(4)), 8, 4))
    weight = torch.tensor([1, 2, 0, 3, 1, 1, 2, 1])
    wanted = value_and_gradients(made(name, counts_of(4), **options), call, sample_weight=weight.float())
    for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8):
        found = value_and_gradients(made(name, counts_of(4), **options), call, sample_weight=weight.to(dtype))
        torch.testing.assert_close(found, wanted, msg=lambda m, dtype=dtype: f"{dtype}: {m}")


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_was_made_or_called_in_inference_mode_still_trains(name):
    counts = counts_of(4)
    loss = made(name, counts)
    call = batch(loss, 12, 4)
    value, gradient = value_and_gradients(copy.deepcopy(loss), call)
    with torch.inference_mode():
        inside = made(name, counts)
        quiet = loss(**{key: tensor.detach() for key, tensor in call.items()})
    # A state that is written in place must be made outside, as that of any module of torch.
    for other in (loss,) if loss.stateful else (inside, loss):
        again, slope = value_and_gradients(other, call)
        torch.testing.assert_close(again, value)
        torch.testing.assert_close(slope, gradient)
    if not loss.stateful:
        torch.testing.assert_close(quiet, value)


@pytest.mark.parametrize("name", [name for name in NAMES if not LOSSES[name].multilabel])
def test_small_integer_types_of_targets_do_not_meet_the_index_to_ignore(name):
    loss = made(name, counts_of(200))
    call = batch(loss, 6, 200)
    call["target"] = torch.tensor([156, 3, 4, 156, 7, 8])  # 156 is -100 in eight bits
    small = {**call, "target": call["target"].to(torch.uint8)}
    values = [copy.deepcopy(loss)(**arguments) for arguments in (call, small)]
    assert torch.equal(*values)
    if loss.separable:
        assert torch.equal(*(loss.denominator(arguments["target"]) for arguments in (call, small)))


@pytest.mark.parametrize(
    ("name", "reduction"),
    [
        (name, reduction)
        for name in NAMES
        if not LOSSES[name].multilabel and name != "supcon" and "ignore_index" in LOSSES.parameters(name)
        for reduction in (("mean", "sum", "none") if LOSSES[name].separable else ("mean",))
    ],
)
def test_the_usual_index_to_ignore_is_no_target_where_another_one_is_set(name, reduction):
    settings = {"reduction": reduction} if LOSSES[name].separable else {}
    loss = made(name, counts_of(3), ignore_index=-1, **settings)
    call = batch(loss, 4, 3)
    call["target"] = torch.tensor([0, 1, -100, -1])
    with pytest.raises(TailwiseError, match="-100"):
        loss(**call)


def test_an_index_to_ignore_that_is_a_target_of_labels_is_refused():
    for index in (0, 1):
        with pytest.raises(TailwiseError, match="none of the targets 0 and 1"):
            LOSSES["bce"](ignore_index=index)


@pytest.mark.parametrize("name", SEPARABLE)
@pytest.mark.parametrize("weighted", [False, True])
def test_parts_of_a_batch_add_up_to_the_whole(name, weighted):
    loss = made(name, counts_of(4))
    call = hidden(batch(loss, 12, 4))
    if weighted:
        call["sample_weight"] = drawn_weights(12)
    wanted, whole = value_and_gradients(loss, call)
    parts = parts_of(call, [5, 1, 6])
    normalizer = sum(loss.denominator(part["target"], part.get("sample_weight")) for part in parts)
    value = sum(loss(**part, normalizer=normalizer) for part in parts)
    leaves = [call[key] for key in ("logits", "features") if key in call]
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    found = torch.cat([gradient.reshape(-1) for gradient in gradients])
    assert abs(value.item() - wanted.item()) <= 1e-6 * abs(wanted.item())
    assert torch.linalg.vector_norm(found - whole) <= 1e-6 * torch.linalg.vector_norm(whole)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SEPARABLE])
def test_losses_that_mix_rows_refuse_parts_of_a_batch(name):
    loss = made(name, counts_of(4))
    assert loss.separable is False
    with pytest.raises(TailwiseError, match="compares the rows of a batch with each other"):
        loss(**batch(loss, 6, 4), normalizer=torch.tensor(6.0))


class Head(torch.nn.Module):
    """A layer whose weights the ranks share."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.weight = torch.nn.Parameter(torch.randn(4, FEATURES, generator=generator) / 4)

    def forward(self, features):
        return features @ self.weight.T


def rows_of_ranks(loss):
    """A batch of 11 rows and the rows of each rank, 7 and 4."""
    call = hidden(batch(loss, 11, 4, seed=3))
    features = torch.randn(11, FEATURES, generator=torch.Generator().manual_seed(4))
    call = {key: value for key, value in call.items() if key not in ("logits", "features")}
    return {**call, "inputs": features}, [7, 4]


def head_gradient(loss, head, call, normalizer=None, factor=1.0):
    inputs = call["inputs"]
    more = {"features": inputs} if loss.requires_features else {}
    more |= {key: value for key, value in call.items() if key != "inputs"}
    (factor * loss(head(inputs), **more, normalizer=normalizer)).backward()
    return next(iter(head.parameters())).grad.double().numpy()


def run_rank(rank, port, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = {}
    for name in SEPARABLE:
        loss = made(name, counts_of(4))
        call, sizes = rows_of_ranks(loss)
        part = parts_of(call, sizes)[rank]
        normalizer = loss.denominator(part["target"]).double()
        dist.all_reduce(normalizer)
        averaging = torch.nn.parallel.DistributedDataParallel  # over the ranks
        found[name] = head_gradient(loss, averaging(Head()), part, normalizer, factor=2.0)
    if rank == 0:
        np.savez(Path(folder) / "found.npz", **found)
    # A wrapper that is the last to hold the group takes it down with the interpreter locked, and gloo waits for that.
    gc.collect()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, __file__, str(folder)], env=environment, check=True, timeout=300)
    with np.load(folder / "found.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("name", SEPARABLE)
def test_two_processes_have_the_gradient_of_the_whole_batch(two_ranks, name):
    loss = made(name, counts_of(4))
    wanted = head_gradient(loss, Head(), rows_of_ranks(loss)[0])
    assert np.linalg.norm(two_ranks[name] - wanted) <= 1e-6 * np.linalg.norm(wanted)


def spoiled(loss):
    """Calls that do not fit, by what is wrong with them."""
    call = batch(loss, 6, 4)
    logits, target = call["logits"], call["target"]
    wrong = {
        "a row short": {"logits": logits[:5]},
        "three dimensions": {"logits": logits[None]},
        "no class": {"logits": logits[:, :0]},
        "integer logits": {"logits": logits.detach().long()},
        "weights of another length": {"sample_weight": torch.ones(5)},
    }
    if loss.multilabel:
        wrong["target out of range"] = {"target": target.where(torch.arange(4) > 0, 2)}
        wrong["indices for label sets"] = {"target": target[:, 0]}
    else:
        wrong["target out of range"] = {"target": target.where(torch.arange(6) > 0, 4)}
        wrong["negative target"] = {"target": target.where(torch.arange(6) > 0, -1)}
        wrong["float target"] = {"target": target.float()}
        wrong["label sets for indices"] = {"target": torch.ones(6, 4, dtype=torch.long)}
    if loss.requires_features:
        wrong["no features"] = {"features": None}
        wrong["features of other rows"] = {"features": call["features"][:5]}
    if loss.requires_group:
        wrong["no group"] = {"group": None}
        wrong["a group too many"] = {"group": call["group"] + 1}
    return {what: {**call, **change} for what, change in wrong.items()}


@pytest.mark.parametrize("name", NAMES)
def test_batches_that_do_not_fit_are_refused_in_words(name):
    loss = made(name, counts_of(4))
    for what, call in spoiled(loss).items():
        if what in ("target out of range", "negative target") and name == "supcon":
            continue  # labels are compared, so any ids will do
        with pytest.raises(TailwiseError, match=r"xpected|made for|outside|one column"):
            pytest.fail(f"{name}, {what}: {loss(**call)}")


@pytest.mark.filterwarnings("ignore:.*no training instance")
@pytest.mark.parametrize("name", NAMES)
def test_settings_that_do_not_fit_are_refused_in_words(name):
    known = LOSSES.parameters(name)
    given = arguments(name, counts_of(4))
    wrong = []
    for key in ("class_counts", "cell_counts"):
        if key in given:
            for number in (-1.0, float("nan"), float("inf")):
                changed = np.array(given[key], dtype=float)
                changed[1] = number
                wrong.append({key: changed})
            wrong.append({key: "many"})
    if "class_weights" in known:
        wrong += [{"class_weights": [1.0, bad, 1.0, 1.0]} for bad in (-1.0, float("nan"), float("inf"))]
        wrong += [
            {"class_weights": [0.0] * 4},
            {"class_weights": "inverse_power", "power": 2.0},
            {"class_weights": "balancd"},
            {"class_weights": [[1.0] * 4]},
        ]
    if "reduction" in known:
        wrong.append({"reduction": "average"})
    for settings in wrong:
        with pytest.raises(TailwiseError, match=r"xpected|Unknown|no reduction"):
            pytest.fail(f"{name}: {LOSSES[name](**{**given, **settings})} of {settings}")
    if {"class_weights", "class_counts"} <= set(known):
        with pytest.raises(TailwiseError, match="Got 5 class weights for 4 classes"):
            LOSSES[name](**{**given, "class_weights": [1.0, 2.0, 3.0, 4.0, 5.0]})


SIZED = [
    name for name in NAMES if {"class_counts", "cell_counts", "num_classes", "losses"} & set(LOSSES.parameters(name))
]


@pytest.mark.parametrize("name", SIZED)
def test_a_loss_made_for_other_classes_is_refused(name):
    weighted = "class_weights" in LOSSES.parameters(name)
    loss = made(name, counts_of(5), **({"class_weights": "balanced"} if weighted else {}))
    with pytest.raises(TailwiseError, match=r"made for 5 (classes|labels), but the logits have 4"):
        loss(**batch(loss, 6, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_losses_on_a_gpu_are_the_same():
    for name in NAMES:
        loss = made(name, counts_of(4))
        on_gpu = copy.deepcopy(loss).cuda()
        call = batch(loss, 12, 4)
        moved = {key: tensor.detach().cuda().requires_grad_(tensor.requires_grad) for key, tensor in call.items()}
        found, wanted = value_and_gradients(on_gpu, moved), value_and_gradients(loss, call)
        for ours, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours.cpu(), theirs, rtol=2e-4, atol=1e-5, msg=name)
        with torch.autocast("cuda", torch.float16):
            assert value_and_gradients(on_gpu, moved)[0].dtype == torch.float32, name


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(run_rank, (port, sys.argv[1]), nprocs=2, start_method="fork")
