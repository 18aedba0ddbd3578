import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manifests.keys import canonical, digest, recipe_key, sha256_of_file

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values))
def test_the_order_of_keys_never_matters(value):
    assert digest(value) == digest(dict(reversed(value.items())))


def test_canonical_json_is_the_form_that_is_written_down():
    assert canonical({"b": [1, 2.5, None], "a": "ü"}) == '{"a":"ü","b":[1,2.5,null]}'


def test_a_digest_is_the_start_of_the_sha256_of_canonical_json():
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()[:32]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_refused(value):
    with pytest.raises(ValueError):
        digest(value)


values = st.lists(st.text('a"=\\\n', max_size=4), max_size=3)


@given(values, values)
@example(['x"\nfile="y'], ["x", "y"])  # one value that looks like the end of one part and the beginning of the next
@example(["x\nfile=y"], ["x", "y"])
@example(["x", ""], ["x"])
def test_parts_of_a_recipe_cannot_run_into_each_other(one, other):
    keys = [recipe_key("s", [f"file={canonical(value)}" for value in each]) for each in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


def test_a_files_sha256_is_what_hashlib_says(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"bytes" * 100_000)
    assert sha256_of_file(path) == hashlib.sha256(b"bytes" * 100_000).hexdigest()
