"""Results say which code made them."""

from pathlib import Path

import pytest

from experiments.study import code_digest as module


def test_the_digest_changes_with_any_line_that_trains_or_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    source = tmp_path / "clients" / "deep" / "one.py"
    source.parent.mkdir(parents=True)

    def digest(text: str) -> str:
        source.write_text(text)
        module.code_digest.cache_clear()
        return module.code_digest()

    try:
        assert digest("x = 1\n") == digest("x = 1\n") != digest("x = 2\n")
        assert len(digest("x = 1\n")) == module.LENGTH
    finally:
        module.code_digest.cache_clear()


def test_it_is_that_of_this_tree() -> None:
    root = Path(module.__file__).parents[2]
    assert all((root / name / "__init__.py").exists() for name in module.PACKAGES)
