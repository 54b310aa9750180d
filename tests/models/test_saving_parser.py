"""A saved parser is the parser again; a folder that does not fit is refused with the reason."""

import json

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from tailwise.data.labels import LabelSpace
from tailwise.data.task import Task
from tailwise.errors import ModelError
from tailwise.models.encoder import Encoder
from tailwise.models.feature_cache import FeatureCache
from tailwise.models.parsing.model import ParserModel
from tailwise.models.parsing.network import ParserNetwork, ParserSizes
from tailwise.models.saving import load_model, save_model
from tailwise.posthoc.base import AffineStep

WORDS = ["the", "dog", "cat", "sees", "barks", ".", "##s"]
SENTENCES = [["the", "dogs", "barks", "."], [], ["the", "cat", "sees", "the", "dog", "."], ["barks"]]
NAMES = ("root", "det", "nsubj", "obj", "punct")


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(3)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **sizes)).save_pretrained(folder)
    return folder


def make_parser(folder, *, form="linear", layers=1, engine="probe", algorithm="mst"):
    encoder = Encoder.from_pretrained(str(folder), max_length=16, dtype="float32")
    network = ParserNetwork(16, len(NAMES), ParserSizes(layers=layers, hidden=6, arc=5, relation=4), form=form)
    generator = torch.Generator().manual_seed(0)
    network.reset(generator)
    for weight in (network.scorer.arc_weight, network.scorer.relation_weight):
        torch.nn.init.normal_(weight, generator=generator)
    network.scorer.scale = 30.0 if form == "cosine" else 1.0
    return ParserModel(
        encoder=encoder,
        network=network,
        algorithm=algorithm,
        cache=FeatureCache(max_bytes=0),
        label_space=LabelSpace(NAMES, np.array([4, 3, 3, 2, 4])),
        task=Task("tokens", "arcs"),
        recipe={"name": "ce"},
        seed=0,
        engine=engine,
        steps=(AffineStep("shift", np.ones(5), np.linspace(-1, 1, 5), {}),),
        info={"encoder": {"name": "tiny"}},
    )


@pytest.mark.parametrize(
    ("form", "layers", "engine", "algorithm"),
    [("linear", 0, "finetune", "mst"), ("linear", 2, "probe", "eisner"), ("cosine", 1, "probe", "mst")],
)
def test_a_loaded_parser_parses_as_the_saved_one(encoder_folder, tmp_path, form, layers, engine, algorithm):
    parser = make_parser(encoder_folder, form=form, layers=layers, engine=engine, algorithm=algorithm)
    with torch.no_grad():  # weights that only this parser has, as after fine-tuning
        parser.encoder.model.embeddings.word_embeddings.weight.mul_(1.5)
    loaded = load_model(save_model(parser, tmp_path / "parser"))
    assert isinstance(loaded, ParserModel)
    assert (loaded.algorithm, loaded.engine, loaded.network.settings()) == (
        algorithm,
        engine,
        parser.network.settings(),
    )
    saved, again = parser.scores(SENTENCES), loaded.scores(SENTENCES)
    np.testing.assert_array_equal(saved.heads, again.heads)
    np.testing.assert_array_equal(saved.logits, again.logits)
    assert parser.parse(SENTENCES) == loaded.parse(SENTENCES)
    assert not list((tmp_path / "parser").glob("*.bin"))


@pytest.fixture
def saved(encoder_folder, tmp_path):
    return save_model(make_parser(encoder_folder), tmp_path / "parser")


def edit(folder, **settings):
    path = folder / "tailwise.json"
    data = json.loads(path.read_bytes())
    model = data["model"]
    for key, value in settings.items():
        (model if key in model else model["network"])[key] = value
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "greedy"}, "'mst' or 'eisner', but found 'greedy'"),
        ({"hidden": 10**9}, "`model.network.hidden` from 0 to 65536"),
        ({"layers": "two"}, "`model.network.layers` from 0 to 16, but found 'two'"),
        ({"scale": -1.0}, "`model.network.scale` above 0"),
        ({"form": "euclidean"}, "the parser cannot be built .*'euclidean'"),
        ({"arc": 7}, "parser.safetensors: expected the tensor .* belong to another model"),
    ],
)
def test_settings_that_do_not_fit_are_refused(saved, settings, message):
    edit(saved, **settings)
    with pytest.raises(ModelError, match=message):
        load_model(saved)


def test_a_missing_network_is_named(saved):
    (saved / "parser.safetensors").unlink()
    with pytest.raises(ModelError, match=r"parser\.safetensors is missing"):
        load_model(saved)
