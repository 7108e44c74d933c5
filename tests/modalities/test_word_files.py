"""Tables of words from files."""

import pytest

from moerec.errors import ConfigError
from moerec.features.text import NormaliserConfig, normalise_one
from moerec.modalities.word_files import read_words


def test_both_forms_give_the_same_table(tmp_path):
    lines, values = tmp_path / "words.tsv", tmp_path / "words.json"
    lines.write_text("# trade\n\nDIY\tdo it yourself\npcs\tpieces\n")
    values.write_text('{"diy": "do it yourself", "pcs": "pieces"}')
    assert read_words(lines) == read_words(values)
    assert normalise_one("5 pcs, diy.", NormaliserConfig(words=read_words(lines))) == "5 pieces, do it yourself."


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "one two\n", "line 1: write a word, a tab"),
        ("a.tsv", "a\tb\nA\tc\n", "line 2: 'a' stands twice"),
        ("a.json", "{", "no JSON"),
        ("a.json", '{"a": 1}', "both in quotes"),
        ("a.tsv", b"\xff\xfe", "cannot be read"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        read_words(path)
