"""Hash lists: each form is read and seen from its first line; a bad line is named with its number and what is wrong."""

import io
import json

import pytest

from storage.bank_members import HashEntry
from storage.errors import InvalidInput
from storage.hash_lists import Bad, Found, Withdrawn, read_list

P, S = "0f" * 32, "a1" * 32
PDQ, SHA = bytes.fromhex(P), bytes.fromhex(S)


def read(text: str | bytes, kind: str = "unacceptable") -> list[Found]:
    return list(read_list(io.BytesIO(text.encode() if isinstance(text, str) else text), kind))


def test_our_own_form_in_any_order_and_quoted() -> None:
    text = f'note,sha256,pdq\r\n"two ""quoted"", and\r\na line",{S},{P.upper()}\r\n\r\nЗаметка 👮,,{P}\r\n,{S},\r\n'
    assert read("\ufeff\n" + text) == read(text) == [
        HashEntry(PDQ, SHA, 'two "quoted", and\r\na line'), HashEntry(PDQ, None, "Заметка 👮"), HashEntry(None, SHA),
    ]  # fmt: skip
    assert read(f"sha256\n{S}\n") == [HashEntry(None, SHA)]
    assert read(f"pdq,quality\n{P},50\n{P},\n") == [HashEntry(PDQ, None)] * 2
    assert read("pdq,note\n") == [] and read("") == [] and read("\n\n") == []


def test_forms_of_threatexchange() -> None:
    printed = f"collab,signal_type,signal_str,category,tags\nSample,pdq,{P},WORTH_INVESTIGATING,\nS,PDQ,{P},X,a b\n"
    assert read(printed) == [HashEntry(PDQ, None), HashEntry(PDQ, None, "a b")]
    bare = f"{P},3156815744433818,2020-07-31T18:47:52+0000,media_type_photo disputed\n{P}\npdq {P}\n"
    assert read(bare) == [HashEntry(PDQ, None, "media_type_photo disputed"), HashEntry(PDQ, None), HashEntry(PDQ, None)]
    assert read(f"hash,type\n{P},pdq\n{S},SHA256\n") == [HashEntry(PDQ, None), HashEntry(None, SHA)]


def test_threat_updates() -> None:
    one = {"id": "1", "type": "HASH_PDQ", "indicator": P, "tags": ["a", "b"], "last_updated": 1601513796}
    other = {"type": "HASH_SHA256", "indicator": S, "tags": {"data": [{"id": "7", "text": "c"}]}}
    gone = {**one, "should_delete": True}
    lines = [one, {"data": [other, gone], "paging": {}}]
    assert read("\n".join(map(json.dumps, lines)) + "\n\n") == [
        HashEntry(PDQ, None, "a b"), HashEntry(None, SHA, "c"), Withdrawn(2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{P[1:]},,", "pdq has 63 digits instead of 64"),
        (f"{P[2:]}zz,,", f"pdq '{P[:40]}…' is not hexadecimal"),
        (f",{S}0,", "sha256 has 65 digits"),
        (",,note", "neither pdq nor sha256"),
        (f"{P},", "2 columns, where the header has 3"),
        (f"{P},,{'x' * 1001}", "note has 1001 characters"),
        (f"{P},,a\0b", "U+0000 at place 2"),
        (f'{P},,"a"b', "not CSV"),
        (f"{P},,{'x' * 140_000}", "not CSV: field larger"),
        ("\ufeff" + P + ",,", "pdq has 65 digits"),
    ],
)
def test_bad_lines_have_a_number(line: str, said: str) -> None:
    found = read(f"pdq,sha256,note\n\n{P},,good\n{line}\n{P},,after\n")
    bad = found[1]
    assert isinstance(bad, Bad) and bad.line == 4 and said in bad.message
    assert len(found) == 3 and found[0] == HashEntry(PDQ, None, "good") and found[2] == HashEntry(PDQ, None, "after")
    bad.message.encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"pdq,quality\n{P},49\n", "quality 49 is below 50"),
        (f"pdq,quality\n{P},good\n", "'good' is no whole number"),
        (f"hash,type\n{P},video_md5\n", "type 'video_md5' are not kept"),
        (f"collab,signal_type,signal_str,category,tags\nc,pdq,{P},FALSE_POSITIVE,\n", "contradicts a bank of unacceptable"),
        ('{"type": "HASH_PDQ"}\n', "indicator is missing"),
        ("{\n", "not JSON: '{'"),
        ('{"data": 7}\n', "neither a threat update nor"),
        ('{"data": [7]}\n', "not a JSON object"),
        ('{"a":' * 9999 + "\n", "not JSON"),
        (json.dumps({"type": "HASH_PDQ", "indicator": "00"}), "pdq has 2 digits"),
        ("0f" * 31 + "\n", "pdq has 62 digits"),
    ],
)  # fmt: skip
def test_bad_lines_of_other_forms(text: str, said: str) -> None:
    (bad,) = read(text)
    assert isinstance(bad, Bad) and said in bad.message and bad.line == text.strip().count("\n") + 1


def test_an_allowed_bank_refuses_what_is_said_to_be_bad() -> None:
    line = json.dumps({"type": "HASH_PDQ", "indicator": P, "status": "MALICIOUS"})
    assert isinstance(read(line, "allowed")[0], Bad) and isinstance(read(line)[0], HashEntry)


def test_bytes_that_are_no_text() -> None:
    found = read(b"pdq,note\n" + P.encode() + b",\xff\xfe\n\xff,\n" + P.encode() + b",ok\n")
    assert found == [
        Bad(2, "the note is not UTF-8"),
        Bad(3, "pdq has 1 digits instead of 64"),
        HashEntry(PDQ, None, "ok"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{}]", "one object a line"),
        ("colour,size\nred,1\n", "neither a hash nor a header"),
        ("pdq,colour\n", "unknown columns 'colour'; known are note, pdq, quality, sha256"),
        ("pdq,note,pdq\n", "a column twice"),
        ("x" * (2**20 + 1), "this is no list of hashes"),
        (b"\x89PNG\r\n\x1a\n", "neither a hash nor a header"),
    ],
)
def test_what_is_no_list(text: str | bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        read(text)
    str(caught.value).encode()
