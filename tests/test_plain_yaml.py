import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailwise.errors import SettingError
from tailwise.plain_yaml import read_yaml, write_yaml

NUMBER_LIKE = st.from_regex(r"[-+]?[0-9.]{1,3}e[-+]?[0-9]{1,2}", fullmatch=True)


@pytest.mark.parametrize("text", ["1e-3", "1e9", "1E3", "-2e4", "+1e3", ".5e2", "1.e3", "1.0e9", "1.5e-2", "1e+3"])
def test_numbers_with_an_exponent_are_floats(text):
    read = read_yaml(f"a: {text}", "It is")["a"]
    assert (read, type(read)) == (float(text), float)


@pytest.mark.parametrize(
    ("text", "value"),
    [("'1e3'", "1e3"), ("e3", "e3"), ("1e", "1e"), ("1e3x", "1e3x"), ("0x1e3", 0x1E3), ("1000", 1000), ("yes", True)],
)
def test_everything_else_is_read_as_before(text, value):
    read = read_yaml(f"a: {text}", "It is")["a"]
    assert (read, type(read)) == (value, type(value))


@given(
    st.dictionaries(st.text(max_size=3) | NUMBER_LIKE, st.text(max_size=5) | NUMBER_LIKE | st.integers() | st.floats())
)
def test_what_is_written_is_read_back(data):
    read = read_yaml(write_yaml(data), "It is")
    assert read.keys() == data.keys()
    for key, value in data.items():
        assert type(read[key]) is type(value)
        assert read[key] == value or (math.isnan(value) and math.isnan(read[key]))


@pytest.mark.parametrize("text", ["a: [", "a: 2024-13-01"])
def test_what_is_no_yaml_is_refused(text):
    with pytest.raises(SettingError, match="The recipe is not valid YAML"):
        read_yaml(text, "The recipe is")
