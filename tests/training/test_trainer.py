"""`ImbalanceTrainer` with models of transformers: labels, metrics, evaluation, inherited behaviour, errors."""

import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    EarlyStoppingCallback,
    TrainingArguments,
)

from tailwise.errors import SettingError, UnknownNameError
from tailwise.losses import CrossEntropyLoss, WeightedCrossEntropyLoss
from tailwise.sampling import (
    ClassAwareMultiLabelSampler,
    ClassAwareSampler,
    MixedSampler,
    NaturalSampler,
    PerformanceSampler,
    RandomOverSampler,
    SentenceRaritySampler,
)
from tailwise.stages.recipe import Component
from tailwise.training.dealing import DealtBatches
from tailwise.training.trainer import ImbalanceTrainer, score_predictions

pytestmark = pytest.mark.usefixtures("quick_garbage_collection")

LABELS = np.repeat([0, 1, 2], [12, 6, 2])
SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}


def make_model(kind=BertForSequenceClassification, **settings):
    torch.manual_seed(0)
    return kind(BertConfig(**{**SIZES, "num_labels": 3, **settings}))


def make_rows(labels=LABELS, width=6):
    rng = np.random.default_rng(2)
    return [{"input_ids": rng.integers(1, 40, width).tolist(), "labels": int(y)} for y in labels]


def make_args(folder, **settings):
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_steps": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**{**defaults, **settings})


def make_trainer(folder, model=None, *, labels=LABELS, arguments=None, **settings):
    settings = {"train_dataset": make_rows(labels), **settings}
    return ImbalanceTrainer(model or make_model(), make_args(folder, **(arguments or {})), **settings)


@given(
    rows=st.integers(1, 70),
    batch_size=st.integers(1, 9),
    ranks=st.integers(1, 5),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 9),
)
def test_every_row_of_the_plan_is_dealt_to_exactly_one_rank(rows, batch_size, ranks, epoch, seed):
    dealt = []
    for rank in range(ranks):
        sampler = NaturalSampler(np.zeros(rows, dtype=np.int64), seed=seed)
        batches = DealtBatches(sampler, batch_size, rank=rank, world_size=ranks)
        batches.set_epoch(epoch)
        mine = list(batches)
        assert len(mine) == len(batches)
        assert all(1 <= len(batch) <= batch_size for batch in mine)
        dealt.append(mine[:-1] if batches.last_is_filler else mine)
    assert len({len(mine) for mine in dealt}) <= 2
    rounds = max(len(mine) for mine in dealt)
    order = [row for i in range(rounds) for mine in dealt if i < len(mine) for row in mine[i]]
    assert order == NaturalSampler(np.zeros(rows, dtype=np.int64), seed=seed).plan(epoch).tolist()


def test_drop_last_leaves_out_the_incomplete_round():
    sampler = NaturalSampler(np.zeros(21, dtype=np.int64), seed=1)
    parts = [list(DealtBatches(sampler, 4, rank=rank, world_size=2, drop_last=True)) for rank in range(2)]
    assert [[len(batch) for batch in part] for part in parts] == [[4, 4], [4, 4]]


def test_the_loader_follows_the_epoch_also_after_skipping_batches(tmp_path):
    trainer = make_trainer(tmp_path, sampler="cas")
    rows = [row["input_ids"] for row in trainer.train_dataset]
    loader = skip_first_batches(trainer.get_train_dataloader(), 2)
    loader.set_epoch(3)
    seen = [ids for batch in loader for ids in batch["input_ids"].tolist()]
    plan = ClassAwareSampler(LABELS, seed=42, num_classes=3).plan(3)
    assert seen == [rows[i] for i in plan[8:]]


def test_names_are_built_from_the_training_labels_and_the_seed(tmp_path):
    trainer = make_trainer(
        tmp_path,
        loss=Component("wce", {"class_weights": "inverse"}),
        sampler="natural",
        arguments={"seed": 7, "data_seed": 9},
    )
    expected = WeightedCrossEntropyLoss("inverse", class_counts=[12, 6, 2])
    torch.testing.assert_close(trainer.loss.class_weights, expected.class_weights)
    assert isinstance(trainer.label_sampler, NaturalSampler)
    assert trainer.label_sampler.seed == 9


def test_a_sampler_by_name_leaves_a_weighted_loss_by_name_nothing_to_correct(tmp_path):
    trainer = make_trainer(tmp_path, loss=Component("wce", {"class_weights": "inverse"}), sampler="ros")
    torch.testing.assert_close(trainer.loss.class_weights, torch.ones_like(trainer.loss.class_weights))
    assert isinstance(trainer.label_sampler, RandomOverSampler)


def test_class_counts_given_go_before_those_of_the_labels(tmp_path):
    trainer = make_trainer(tmp_path, loss="wce", class_counts=[1, 1, 1])
    torch.testing.assert_close(trainer.loss.class_weights, torch.ones_like(trainer.loss.class_weights))


def test_a_datasets_dataset_with_a_label_column_trains(tmp_path):
    columns = {"input_ids": [row["input_ids"] for row in make_rows()], "label": LABELS, "text": ["x"] * len(LABELS)}
    trainer = make_trainer(tmp_path, train_dataset=Dataset.from_dict(columns), loss="balanced-softmax", sampler="rus")
    assert np.isfinite(trainer.train().training_loss)


def test_the_models_own_loss_is_not_computed(tmp_path):
    model = make_model()
    model.loss_function = None  # would be called with labels
    make_trainer(tmp_path, model).train()


def test_the_first_logged_loss_is_that_of_the_batch(tmp_path):
    trainer = make_trainer(tmp_path, make_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    rows = [make_rows()[i] for i in trainer.label_sampler.plan(0)[:4]]
    with torch.no_grad():
        logits = make_model().eval()(input_ids=torch.tensor([row["input_ids"] for row in rows])).logits
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([row["labels"] for row in rows]))
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected.item(), rel=1e-3)


def token_rows(number=6, width=5):
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(number):
        labels = rng.integers(0, 3, width)
        labels[-2:] = -100
        rows.append({"input_ids": rng.integers(1, 40, width).tolist(), "labels": labels.tolist()})
    return rows


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (2, 2)])
def test_a_token_head_is_trained_on_its_valid_tokens(batch_size, accumulation, tmp_path):
    rows = token_rows()
    settings = {"per_device_train_batch_size": batch_size, "gradient_accumulation_steps": accumulation, "max_steps": 1}
    settings |= {"learning_rate": 0.0, "max_grad_norm": 0.0}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    trainer = make_trainer(
        tmp_path, make_model(BertForTokenClassification, **still), train_dataset=rows, loss="wce", arguments=settings
    )
    counts = np.bincount(np.concatenate([row["labels"][:-2] for row in rows]), minlength=3)
    chosen = [rows[i] for i in trainer.label_sampler.plan(0)[:4]]
    trainer.train()
    logits = trainer.model(input_ids=torch.tensor([row["input_ids"] for row in chosen])).logits.reshape(-1, 3)
    target = torch.tensor([row["labels"] for row in chosen]).reshape(-1)
    weights = WeightedCrossEntropyLoss(class_counts=counts).class_weights
    expected = torch.nn.functional.cross_entropy(logits, target, weight=weights.float())
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected.item(), rel=1e-3)


def test_sentences_are_drawn_by_name_with_the_tags_of_the_configuration(tmp_path):
    rows, names = token_rows(), {0: "O", 1: "B-x", 2: "I-x"}
    arguments = {"max_steps": 2, "per_device_train_batch_size": 4}
    model = make_model(BertForTokenClassification, id2label=names)
    trainer = make_trainer(
        tmp_path, model, train_dataset=rows, loss="wce", sampler="sentence-rarity", arguments=arguments
    )
    sequences = [np.array(row["labels"]) for row in rows]
    wanted = SentenceRaritySampler(sequences, tag_types=[0, 1, 1], seed=trainer.args.seed, num_classes=3)
    assert trainer.label_sampler.plan(1).tolist() == wanted.plan(1).tolist()
    assert len(trainer.label_sampler) > len(rows)
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_sampler_by_name_needs_one_label_per_row(tmp_path):
    with pytest.raises(SettingError, match="The sampler 'ros' needs one label per row"):
        make_trainer(tmp_path, make_model(BertForTokenClassification), train_dataset=token_rows(), sampler="ros")


def test_evaluation_reports_minority_aware_metrics_and_counts_unseen_classes_as_errors(tmp_path):
    rows = make_rows([0, 1, 2, 4])
    trainer = make_trainer(tmp_path, eval_dataset=rows)
    found = trainer.evaluate()
    logits = trainer.predict(rows).predictions
    predicted = logits.argmax(axis=1)
    assert found["eval_accuracy"] == (predicted == [0, 1, 2, 4]).mean()
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits[:3]), torch.tensor([0, 1, 2]))
    assert found["eval_loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert {"eval_macro_f1", "eval_balanced_accuracy", "eval_worst_class_f1"} <= set(found)


def test_scores_of_tokens_leave_out_ignored_ones():
    logits = np.eye(3)[[[0, 1, 2], [2, 2, 0]]]
    scores = score_predictions(logits, np.array([[0, 1, -100], [2, 1, -100]]))
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_evaluating_does_not_change_the_training(tmp_path):
    weights = []
    for evaluation in ({}, {"eval_strategy": "steps", "eval_steps": 1}):
        trainer = make_trainer(
            tmp_path, arguments={"max_steps": 6, "learning_rate": 1e-2, **evaluation}, eval_dataset=make_rows()
        )
        trainer.train()
        weights.append(torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters()]))
    assert torch.equal(*weights)


def test_the_best_checkpoint_and_early_stopping_follow_macro_f1_by_default(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 40}
    settings |= {"load_best_model_at_end": True, "save_total_limit": 1, "learning_rate": 1e-7}
    arguments = make_args(tmp_path, **settings)
    trainer = ImbalanceTrainer(
        make_model(),
        arguments,
        train_dataset=make_rows(),
        eval_dataset=make_rows(),
        callbacks=[EarlyStoppingCallback(2)],
    )
    trainer.train()
    assert trainer.args.metric_for_best_model == "macro_f1"
    assert trainer.state.global_step == 3  # nothing gets better at this learning rate
    assert trainer.state.best_metric == trainer.state.log_history[1]["eval_macro_f1"]
    assert arguments.metric_for_best_model == "loss"  # the caller's arguments are left as they were


@pytest.mark.parametrize("metric", ["eval_loss", "accuracy"])
def test_another_metric_that_is_named_is_kept(metric, tmp_path):
    settings = {"metric_for_best_model": metric, "load_best_model_at_end": True}
    settings |= {"eval_strategy": "steps", "save_strategy": "steps"}
    trainer = make_trainer(tmp_path, arguments=settings, eval_dataset=make_rows())
    assert trainer.args.metric_for_best_model == metric


def test_bfloat16_trains_with_a_loss_in_float32(tmp_path):
    seen = []

    class Watched(CrossEntropyLoss):
        def forward(self, *args, **kwargs):
            seen.append(super().forward(*args, **kwargs))
            return seen[-1]

    model = make_model()
    model.classifier.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    make_trainer(tmp_path, model, loss=Watched(), arguments={"bf16": True}).train()
    assert [tensor.dtype for tensor in seen] == 2 * [torch.bfloat16, torch.float32]


class Contrast(CrossEntropyLoss):
    separable = False


def test_a_loss_that_mixes_rows_trains_whole_batches_and_refuses_parts(tmp_path):
    assert np.isfinite(make_trainer(tmp_path, loss=Contrast()).train().training_loss)
    with pytest.raises(SettingError, match=r"Contrast .* 2 micro-batches x 1 ranks.*gradient_accumulation_steps=1"):
        make_trainer(tmp_path, loss=Contrast(), arguments={"gradient_accumulation_steps": 2})


@pytest.mark.parametrize("initializer_range", [1.0, 0.02])  # too large at once, or after some steps
def test_a_cosine_loss_on_linear_scores_is_an_error(initializer_range, tmp_path):
    model = make_model(initializer_range=initializer_range)
    settings = {"learning_rate": 0.1, "max_steps": 20}
    with pytest.raises(SettingError, match=r"LDAMLoss with scale 30 needs cosine scores .* `CosineHead`"):
        make_trainer(tmp_path, model, loss="ldam", arguments=settings).train()
    make_trainer(tmp_path, model, loss=Component("ldam", {"scale": 1.0})).train()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": [0, 1, 3]}, "have the label 3, but the model has 3 classes: expected indices from 0 to 2"),
        ({"labels": [0, -1]}, "have the label -1"),
        ({"train_dataset": [{"input_ids": [1], "labels": 0.5}]}, "Row 0: expected integer class indices in `labels`"),
        (
            {"train_dataset": [{"input_ids": [1]}]},
            "Expected a column `labels` or `label`, but the rows have: input_ids",
        ),
        ({"train_dataset": iter([])}, "Expected a map-style data set with a length"),
        ({"train_dataset": []}, "The training data have no row"),
        ({"train_dataset": None}, "The loss 'wce' needs class counts"),
        ({"arguments": {"label_smoothing_factor": 0.1}}, "`label_smoothing_factor` has no effect here"),
        (
            {"arguments": {"train_sampling_strategy": "group_by_length"}},
            r"`sampler` decides the order\. Leave it unset",
        ),
        ({"arguments": {"accelerator_config": {"split_batches": True}}}, "`split_batches` and `dispatch_batches`"),
        ({"compute_loss_func": lambda *_: 0}, "Give the loss as `loss`"),
        ({"loss": CrossEntropyLoss(reduction="none")}, "reduction='none' gives no scalar"),
    ],
)
def test_a_wrong_argument_is_explained(settings, message, tmp_path):
    with pytest.raises(SettingError, match=message):
        make_trainer(tmp_path, **{"loss": "wce", **settings})


OVER = {
    "classes": ClassAwareSampler,
    "mixture": MixedSampler,
    "classes, some rows held out": lambda labels: PerformanceSampler(labels, feedback_share=0.3),
    "label sets": lambda labels: ClassAwareMultiLabelSampler(np.eye(3)[labels]),
    "sentences": lambda labels: SentenceRaritySampler([[0, y] for y in labels]),
}


@pytest.mark.parametrize("rows", [10, 20, 40])
@pytest.mark.parametrize("over", OVER)
def test_a_sampler_is_over_the_rows_of_the_training_data(over, rows, tmp_path):
    sampler = OVER[over](np.resize(LABELS[::-1], rows))
    if rows == len(LABELS):
        assert make_trainer(tmp_path, sampler=sampler).label_sampler is sampler
        return
    message = rf"{type(sampler).__name__} is over {rows} rows, but the training data have 20: .* Build the sampler"
    with pytest.raises(SettingError, match=message):
        make_trainer(tmp_path, sampler=sampler)


def test_an_unknown_name_gets_a_suggestion(tmp_path):
    with pytest.raises(UnknownNameError, match=r"Unknown loss 'focl'\. Did you mean 'focal'"):
        make_trainer(tmp_path, loss="focl")
    with pytest.raises(UnknownNameError, match="Unknown sampler 'oversample'"):
        make_trainer(tmp_path, sampler="oversample")


def test_training_without_data_and_batches_without_labels_are_explained(tmp_path):
    with pytest.raises(SettingError, match="Training needs a `train_dataset`"):
        make_trainer(tmp_path, train_dataset=None, loss=CrossEntropyLoss()).train()
    trainer = make_trainer(tmp_path)
    with pytest.raises(SettingError, match="Expected `labels` in every batch, but found only: input_ids"):
        trainer.compute_loss(trainer.model, {"input_ids": torch.ones(1, 3, dtype=torch.long)})
