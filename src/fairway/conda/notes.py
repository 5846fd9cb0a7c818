"""What is worth knowing of a package that was accepted: the codes of `Artifact.warnings`, and a sentence for each."""

from collections.abc import Sequence

SENTENCES = {
    "case_collision": "some of its paths differ only by case, so it cannot be installed on Windows and macOS as it is",
    "depends_missing": "its index.json has no 'depends'; it is taken to need nothing",
    "noarch_generic_on_platform": "it says 'noarch: generic' in the subdir of a platform",
    "noarch_legacy": "it says 'noarch: true', which only old packages do",
    "paths_mismatch": "its paths.json does not name the files it holds, or gives them other sizes",
    "setuid": "it holds files with the setuid, setgid or sticky bit",
    "symlink_empty": "it holds symbolic links that lead nowhere; some clients cannot install it",
    "symlink_escape": "it holds symbolic links that lead out of the environment",
    "timestamp_future": "its build time lies in the future",
}


NAMED = 5


def worth_knowing(warnings: Sequence[str], unmet: Sequence[str], hides: int) -> list[str]:
    """A sentence, without its capital and its full stop, for each thing that is worth knowing of an upload."""
    said = [sentence(code) for code in warnings]
    if hides:
        said.append(hiding(hides))
    if unmet:
        said.append(lacking(unmet))
    return said


def sentence(code: str) -> str:
    return SENTENCES.get(code, code)


def lacking(names: Sequence[str]) -> str:
    """What is worth knowing of a package that depends on names nobody has whom clients ask by themselves."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"neither the channel nor one that it is related to has {', '.join(names[:NAMED])}{more}"


def hiding(files: int) -> str:
    """What is worth knowing of a package whose name the channel's upstream has too."""
    count = "1 file" if files == 1 else f"{files} files"
    return f"it hides {count} of the same name that the channel's upstream has"
