"""The key of a case: taken apart, put together, and as the name of a file."""

import pytest

from speedgate.results.case_key import CaseKey

TEXT = "sdxl/int8/1024px-30steps-b1"


def test_a_key_is_taken_apart_and_put_together():
    """Its text, the name of its file and the key of another stage all come back to the same three parts."""
    key = CaseKey.parse(TEXT)
    assert (key.pipeline, key.stage, key.workload) == ("sdxl", "int8", "1024px-30steps-b1")
    assert str(key) == TEXT
    assert key.file_name == "sdxl__int8__1024px-30steps-b1.json"
    assert CaseKey.from_file_stem(key.file_stem) == key
    assert str(key.at("bf16")) == "sdxl/bf16/1024px-30steps-b1"


@pytest.mark.parametrize("text", ["", "sdxl", "sdxl/int8", "sdxl//1024px", "/int8/1024px", "a/b/c/d", None, 3])
def test_what_is_no_key_is_refused(text):
    """A text without three parts never becomes a key with an empty one."""
    assert not CaseKey.is_key(text)
    with pytest.raises(ValueError, match=r"^expected a case key, PIPELINE/STAGE/WORKLOAD, found "):
        CaseKey.parse(text)


def test_a_key_is_no_longer_than_that_of_a_record():
    """A longer one could not be the name of a file, and the line that refuses it is short."""
    with pytest.raises(ValueError, match="expected a case key, PIPELINE/STAGE/WORKLOAD") as error:
        CaseKey.parse("a/b/" + "c" * 5000)
    assert len(str(error.value)) < 300
