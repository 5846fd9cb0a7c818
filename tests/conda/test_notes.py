"""Every warning a package can be accepted with has a sentence, and no sentence is for a warning there is not."""

import ast
from pathlib import Path

import fairway.conda
from fairway.conda import notes

FOLDER = Path(fairway.conda.__file__).parent


def strings(path: Path) -> set[str]:
    found = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in found if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_sentences_are_for_warnings_that_can_come():
    used = set().union(*(strings(path) for path in FOLDER.glob("*.py") if path.name != "notes.py"))
    assert used.issuperset(notes.SENTENCES)


def test_a_warning_without_a_sentence_is_shown_as_it_is():
    assert notes.sentence("setuid") == "it holds files with the setuid, setgid or sticky bit"
    assert notes.sentence("something_new") == "something_new"
