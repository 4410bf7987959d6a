"""The documents name what exists: classes, files; and no two classes or modules share a name without a reason."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

import eggcluster

SOURCE = Path(eggcluster.__file__).parent
ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = sorted(SOURCE.rglob("*.py"))

ENTRY_POINTS = {"__init__", "__main__", "main"}
# Module name -> why several modules may have it.
SHARED_MODULE_NAMES: dict[str, str] = {}
# Class name -> why several classes may have it.
SHARED_CLASS_NAMES: dict[str, str] = {}
# A file that a page names but that is not in this tree -> where it is.
ELSEWHERE = {
    "app.py": "the application's",
    "agent.py": "the application's",
    "main.py": "the application's",
    "pyproject.toml": "the application's",
    "eggcluster.toml": "the application's",
    "prices.json": "an example's",
    "app/schedule/*.js": "Egg's",
    "app.js": "Egg's",
    "agent.js": "Egg's",
}
PATH = re.compile(r"[\w*/.-]+\.(?:py|md|toml|json|js)")


def classes(path: Path) -> list[str]:
    """Return the names of a module's top-level classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def members() -> dict[str, set[str]]:
    """Return the names that each class of the package defines, its methods above all."""
    found: dict[str, set[str]] = {}
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = {each.name for each in ast.walk(node) if hasattr(each, "name") and each is not node}
    return found


def repeated(names: list[str]) -> set[str]:
    return {name for name, count in Counter(names).items() if count > 1}


def in_backticks(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def test_each_class_of_the_glossary_exists() -> None:
    known = {name for path in FILES for name in classes(path)}
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    entries = [line.split("|")[1] for line in glossary.splitlines() if line.startswith("| `")]
    named = {name for entry in entries for name in in_backticks(entry) if name[0].isupper()}
    assert len(named) > 40
    assert named - known == set()


def test_no_two_classes_share_a_name() -> None:
    assert repeated([name for path in FILES for name in classes(path)]) == set(SHARED_CLASS_NAMES)


def test_no_two_modules_share_a_name() -> None:
    assert repeated([path.stem for path in FILES if path.stem not in ENTRY_POINTS]) == set(SHARED_MODULE_NAMES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    named = [name for span in in_backticks(text) for name in span.split() if PATH.fullmatch(name)]
    roots = (page.parent, ROOT, SOURCE)
    missing = {name for name in [*links, *named] if name and not any((root / name).exists() for root in roots)}
    assert missing - set(ELSEWHERE) == set()


@pytest.mark.parametrize("page", ["architecture", "debugging", "glossary"])
def test_each_method_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    known = members()
    named = [re.fullmatch(r"([A-Z]\w+)\.(\w+)", span) for span in in_backticks(text)]
    missing = {match.group() for match in named if match and match.group(2) not in known.get(match.group(1), set())}
    assert missing == set()
