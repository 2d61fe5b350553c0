"""Licences: what they allow, and which one a file is."""

import pytest

from sftprep.model.licences import LICENCES, PHRASES, Licence, judge, licence_in


@pytest.mark.parametrize(
    ("licence", "use", "standing"),
    [
        ("apache-2.0", "commercial", "free"),
        ("Apache-2.0 ", "commercial", "free"),
        ("mit", "research", "free"),
        ("llama2", "commercial", "conditions"),
        ("gemma", "research", "conditions"),
        ("cc-by-nc-4.0", "commercial", "forbidden"),
        ("cc-by-nc-4.0", "research", "conditions"),
        ("qwen-research", "commercial", "forbidden"),
        ("falcon-llm-license", "commercial", "conditions"),  # as the hub's model cards name it
        ("house-rules-1", "research", "unknown"),
        (None, "research", "unknown"),
    ],
)
def test_a_licence_is_held_against_the_use(licence: str | None, use: str, standing: str) -> None:
    assert judge(licence, use).standing == standing  # type: ignore[arg-type]


@pytest.mark.parametrize("licence", LICENCES, ids=lambda licence: licence.id)
def test_each_licence_states_its_conditions_and_its_text(licence: Licence) -> None:
    assert licence.conditions != ()
    assert licence.text.startswith("https://")
    assert licence.commercial in ("free", "conditions", "forbidden")


def test_phrases_lead_to_known_licences() -> None:
    assert {found for _, found in PHRASES} <= {licence.id for licence in LICENCES}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nLlama 3.1 Version", "llama3.1"),
        ("LLAMA 3.3 COMMUNITY LICENSE AGREEMENT", "llama3.3"),
        ("Qwen RESEARCH LICENSE AGREEMENT", "qwen-research"),
        ("# Falcon-LLM License 2.0", "falcon-llm-license"),
        ("Attribution-NonCommercial 4.0 International", "cc-by-nc-4.0"),
        ("Attribution-ShareAlike 4.0 International", "cc-by-sa-4.0"),
        ("Permission is hereby granted,\nfree of charge, to any person", "mit"),
        ("All rights reserved.", None),
        ("", None),
    ],
)
def test_a_licence_file_is_recognised(text: str, expected: str | None) -> None:
    assert licence_in(text) == expected
