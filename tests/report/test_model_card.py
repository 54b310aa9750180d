"""The model card: what it says, that it opens the model as it claims, and that hostile names stay inert."""

import re

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import ModelError
from tailwise.evaluation.evaluation import Evaluation
from tailwise.models.encoder import Encoder
from tailwise.models.final_layer import AffineLayer
from tailwise.models.finetuned import FinetunedModel
from tailwise.models.fitted import FittedModel
from tailwise.models.heads.base import AffineForm
from tailwise.models.probe import ProbeModel
from tailwise.models.saving import save_model
from tailwise.posthoc.base import AffineStep
from tailwise.report.model_card import escaped, model_card

COUNTS = np.array([500, 80, 24, 3])
NAMES = ("billing", "fraud", "lost card", "pin")
SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 12}


@pytest.fixture(scope="module")
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "text", "its", "second"]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)})


@pytest.fixture(scope="module")
def encoder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    BertModel(BertConfig(**SIZES)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Encoder.from_pretrained(str(folder), max_length=16, dtype="float32", device="cpu")


@pytest.fixture
def make(encoder, tokenizer):
    def build(kind="probe", names=NAMES, **changes):
        facts = {
            "label_space": LabelSpace(names, COUNTS, unseen=("never seen",)),
            "task": Task(),
            "recipe": {"name": "cas+focal", "stages": [{"sampler": "cas", "loss": {"name": "focal", "focus": 2.0}}]},
            "seed": 11,
            "engine": "probe",
            "steps": (
                AffineStep("logit-adjustment", np.ones(4), np.zeros(4), {"strength": 0.75, "tuned": True}),
                AffineStep("temperature", np.full(4, 0.5), np.zeros(4), {"temperature": 2.0}),
            ),
            "info": {
                "encoder": {"name": "someone/encoder", "max_length": 16},
                "settings": {"epochs": 20},
                "head_start": {"kind": "probe", "c": 10.0},
                "notes": ["the first stage has no effect"],
                "data": {"fingerprint": "abc123"},
                "language": "en",
            },
            **changes,
        }
        torch.manual_seed(1)
        form = AffineForm(torch.randn(4, 8), torch.randn(4), normalise=True)
        if kind == "probe":
            if facts["task"].input_form == "pair":
                form = AffineForm(torch.randn(4, 32), torch.randn(4))
            return ProbeModel(encoder=encoder, head=form, **facts)
        network = BertForSequenceClassification(BertConfig(**SIZES, num_labels=4))
        if kind == "cosine":
            network.classifier = AffineLayer(form)
        return FinetunedModel(model=network, tokenizer=tokenizer, max_length=16, **{**facts, "engine": "finetune"})

    return build


def evaluation(gold, predicted, space):
    logits = np.eye(len(space))[np.array(predicted)] * 3
    return Evaluation(tuple(str(i) for i in range(len(gold))), np.array(gold), logits, space)


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def rows(card, heading):
    section = card.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if not line.startswith("| ---")
    ]


@pytest.mark.parametrize(
    ("kind", "library"),
    [("probe", "sentence-transformers"), ("plain", "transformers"), ("cosine", "tailwise")],
)
def test_the_front_matter_names_the_library_that_opens_the_folder(make, kind, library):
    found = front_matter(model_card(make(kind)))
    assert found["library_name"] == library
    assert found["pipeline_tag"] == "text-classification"
    assert found["base_model"] == "someone/encoder"
    assert found["language"] == "en"
    assert "class-imbalance" in found["tags"]


def test_the_class_table_has_the_exact_figures_of_every_class(make):
    model = make()
    scores = evaluation([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0], model.label_space)
    table = rows(model_card(model, evaluation=scores), "Classes")
    assert table == [
        ["class", "train", "precision", "recall", "F1", "support (test)"],
        ["billing", "500", "0.667", "0.667", "0.667", "3"],
        ["fraud", "80", "0.667", "1.000", "0.800", "2"],
        ["lost card", "24", "0.000", "0.000", "0.000", "1"],
        ["pin", "3", "0.000", "0.000", "0.000", "0"],
    ]
    figures = dict(rows(model_card(model, evaluation=scores), "Figures"))
    assert figures["macro-F1"] == f"{(2 / 3 + 0.8) / 4:.3f}"
    assert figures["accuracy"] == "0.667"


def test_validation_figures_are_marked_as_optimistic_and_missing_ones_said_to_be_missing(make):
    model = make()
    scores = evaluation([0, 1], [0, 1], model.label_space)
    card = model_card(model, evaluation=scores, split="validation")
    assert "On 2 validation instances." in card
    assert "expect less on new data" in card
    assert "expect less on new data" not in model_card(model, evaluation=scores)
    without = model_card(model)
    assert "was not evaluated" in without
    assert rows(without, "Classes")[1:] == [[n, str(c)] for n, c in zip(NAMES, COUNTS, strict=True)]


def test_limits_name_the_classes_that_are_hardly_learnt_absent_or_unseen(make):
    model = make()
    card = model_card(model, evaluation=evaluation([0, 1, 2], [0, 1, 2], model.label_space))
    limits = card.split("## Limits")[1].split("\n## ")[0]
    assert "Under 25 training examples, hardly learnt at all (2): lost card, pin." in limits
    assert "Under 100 training examples, learnt poorly (1): fraud." in limits
    assert "never predicted (1): never seen." in limits
    assert "nothing is known about them (1): pin." in limits
    assert "first 16 tokens" in limits


def test_recipe_steps_calibration_and_fingerprint_are_there(make):
    card = model_card(make())
    recipe = yaml.safe_load(card.split("## Recipe")[1].split("```yaml\n")[1].split("```")[0])
    assert recipe == make().recipe
    assert "1. logit-adjustment (strength = 0.75)" in card
    assert "1. temperature (temperature = 2)" in card
    assert "are calibrated by a temperature" in card
    assert "`abc123`" in card
    assert "the first stage has no effect" in card
    assert "Where the final layer started:" in card
    assert "c: 10.0" in card
    assert "not calibrated" in model_card(make(steps=()))


@pytest.mark.parametrize("kind", ["probe", "plain", "cosine"])
@pytest.mark.parametrize("form", ["text", "pair"])
def test_every_code_block_of_the_card_runs_on_the_saved_folder(make, tmp_path, kind, form, capsys):
    if kind == "probe":
        pytest.importorskip("sentence_transformers")
    model = make(kind, task=Task(form), recipe={"name": "ce", "stages": [{"loss": "ce"}]})
    card = model_card(model)
    folder = save_model(model, tmp_path / "model", card=card)
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    alone = kind == "cosine" or (kind == "probe" and form == "pair")
    assert len(blocks) == (1 if alone else 2)
    probabilities = model.predict_proba(["a text"], ["its second text"] if form == "pair" else None)[0]
    for block in blocks:
        exec(compile(block.replace("path/to/this/folder", str(folder)), "card", "exec"), {})
        printed = capsys.readouterr().out
        assert NAMES[int(probabilities.argmax())] in printed
    assert ("no other library opens" in card) == alone


HOSTILE = (
    "a|b",
    "</td><script>alert(1)</script>",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "line\nbreak\r\n---\n# heading\n\n| x | y |",
)


def test_hostile_class_names_break_no_table_and_smuggle_no_markup(make):
    model = make(names=HOSTILE, recipe={"name": "```\n</pre><b>", "stages": []})
    card = model_card(model, evaluation=evaluation([0, 1, 2, 3], [0, 1, 2, 3], model.label_space), title="<h1>|#")
    table = rows(card, "Classes")
    assert [len(row) for row in table] == [6] * 5
    outside_code = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", card.split("---\n", 2)[2])
    assert not re.search(r"(?<!\\)<", outside_code)
    assert not re.search(r"(?<!\\)\]\(", outside_code)
    assert "http://" not in outside_code
    assert outside_code.count("\n# ") + outside_code.startswith("# ") == 1
    assert front_matter(card)["library_name"] == "sentence-transformers"


@given(st.text(max_size=200))
def test_an_escaped_text_is_one_line_whose_markup_is_all_escaped(text):
    found = escaped(text)
    assert len(found.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<>`*_\[\]#&!]", re.sub(r"\\(.)", "", found))
    assert not set(found) & {"\u202e", "\u2066", "\x00", "\x1b"}


def test_long_names_are_cut_and_ordinary_ones_left_alone():
    assert escaped("refund not showing up") == "refund not showing up"
    assert escaped("card_arrival") == r"card\_arrival"
    assert len(escaped("x" * 1000)) == 80


def test_a_model_that_cannot_be_saved_gets_no_card():
    class Other(FittedModel):
        def raw_scores(self, texts, text_pairs=None):
            raise AssertionError

        raw_split_scores = raw_scores

    space = LabelSpace(NAMES, COUNTS)
    with pytest.raises(ModelError, match="got a Other, which cannot be saved"):
        model_card(Other(label_space=space, task=Task(), recipe={}, seed=0, engine="x"))
