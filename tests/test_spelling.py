"""Chinese pages use one term for one thing; English is spelled by scripts/check_spelling.py."""

from __future__ import annotations

from pathlib import Path

import pytest

import check_spelling


def test_chinese_terms_are_those_of_the_list() -> None:
    assert list(check_spelling.wrong_terms()) == []


def test_no_wrong_term_is_part_of_a_right_one() -> None:
    terms = check_spelling.read_terms()
    rights = [right for right, _ in terms]
    for right, every in terms:
        assert right not in every
        assert not [(wrong, other) for wrong in every for other in rights if wrong in other]


def test_a_wrong_term_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text(
        "递归神经网络。\n`过度拟合`\n```\n误: 过度拟合\n```\n对, 错。\n"
    )
    monkeypatch.setattr(check_spelling, "CHINESE", tmp_path)
    monkeypatch.setattr(check_spelling, "ROOT", tmp_path)
    assert list(check_spelling.wrong_terms()) == [
        "page.md:1: 递归神经网络 ==> 循环神经网络",
        "page.md:6: 对, ==> a mark of full width",
    ]
