"""One row of bytes to an object: what other readers pass silently is refused with its reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.data.parse import MAX_DEPTH, READ_REASONS, RowError, parse_object

BAD: tuple[tuple[bytes, str], ...] = (
    (b'{"a": 1', "json_invalid"),
    (b"", "json_invalid"),
    (b'{"a": "x\x00y"}', "json_invalid"),
    (b'{"a": ' + b"9" * 5000 + b"}", "json_invalid"),
    (b'{"a": "\xe9"}', "encoding_invalid"),
    (b"[1]", "json_not_object"),
    (b'"text"', "json_not_object"),
    (b'{"a": "x", "a": "y"}', "json_duplicate_key"),
    (b'{"m": {"b": 1, "b": 2}}', "json_duplicate_key"),
    (b'{"a": NaN}', "json_not_finite"),
    (b'{"a": -Infinity}', "json_not_finite"),
    (b'{"a": "\\u0000"}', "nul_character"),
    (b'{"a": ["\\ud800"]}', "surrogate_lone"),
    (b'{"\\udc00": 1}', "surrogate_lone"),
    (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "json_too_deep"),
    (b'{"a": ' + b"[" * 100_000, "json_too_deep"),
)


@pytest.mark.parametrize(("data", "reason"), BAD, ids=lambda v: str(v)[:30])
def test_a_bad_row_has_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(RowError) as caught:
        parse_object(data)
    assert caught.value.reason.id == reason


def test_every_reason_of_parsing_has_a_case() -> None:
    ours = {"row_too_big"} | {r.id for r in READ_REASONS if r.id.startswith(("json_", "encoding_"))}
    assert ours - {reason for _, reason in BAD} == {"row_too_big"}


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": "\\\\u0000"}', {"a": "\\u0000"}),
        ('{"a": "\u2028"}'.encode(), {"a": "\u2028"}),
        (b'{"a": "' + b"[" * 500 + b'"}', {"a": "[" * 500}),
        (b'{"a": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}", None),
    ],
)
def test_what_only_looks_bad_is_read(data: bytes, value: object) -> None:
    parsed = parse_object(data)
    assert value is None or parsed == value


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_a_known_reason(data: bytes) -> None:
    try:
        assert isinstance(parse_object(data), dict)
    except RowError as error:
        assert error.reason.id in {r.id for r in READ_REASONS}
