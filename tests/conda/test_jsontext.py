"""JSON is read strictly: what is ambiguous is refused, all else is what any parser says."""

import json
import time

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway.conda import jsontext
from fairway.errors import PackageRefused


def code(data: bytes) -> str:
    with pytest.raises(PackageRefused) as error:
        jsontext.loads(data)
    return error.value.code


GOOD = [
    b"1", b"-0", b"0", b"null", b"true", b'""', b"[]", b"{}", b" [1] \n", b"1.5e300", b"1e-400", b"9007199254740992",
    b"-9007199254740992", rb'"\u00e9"', rb'"\ud83d\ude00"', rb'"\\u0000"', rb'"\\\\u0000"', b'{"a":{"a":1}}',
    b'{"a:b": "c:d", "e": ":"}', '{"ключ": "é"}'.encode(), b'"12345678901234567890"', b'["a, 12345678901234567890"]',
    b"[" * 32 + b"]" * 32, b'{"a":' * 32 + b"1" + b"}" * 32, b"[" + b"[]," * 50 + b"[]]", b'"\x7f"',
]  # fmt: skip
BAD = [
    (b"[" * 33 + b"]" * 33, "json_depth"),
    (b'{"a":' * 33 + b"1" + b"}" * 33, "json_depth"),
    (b"[" * 100_000 + b"]" * 100_000, "json_depth"),
    (b'{"a":' * 100_000, "json_depth"),
    (b"[" * 500 + rb'"\u00e9"' + b"]" * 500, "json_depth"),
    *((text, "json_number") for text in (b"NaN", b"[Infinity]", b"-Infinity", b"1e400", b"[-1e400]", b"9" * 5000)),
    *((text, "json_number") for text in (b"9007199254740993", b"[-9007199254740993]", b'{"a": 18446744073709551616}')),
    (b'{"name":"a","name":"b"}', "json_duplicate_key"),
    (b'[{"x":[{"a":1,"b":2,"a":1}]}]', "json_duplicate_key"),
    (rb'{"a":1,"\u0061":2}', "json_duplicate_key"),
    (b'{":":1,":":2}', "json_duplicate_key"),
    *((text, "json_text") for text in (rb'"\ud800"', rb'"\udc00\ud800"', rb'{"\ud800":1}', rb'"\u0000"', rb'"\\\u0000"')),
    *((text, "json_text") for text in (b"\xff", b'"\xc0\x80"', b"\xef\xbb\xbf{}", '{"a":1}'.encode("utf-16"))),
    *((text, "json_text") for text in ('{"a":1}'.encode("utf-16-le"), b'"\xed\xa0\x80"', b'"\0"')),
    *((text, "json_invalid") for text in (b"", b" ", b"[1,]", b'{"a":1,}', b"{} // x", b"{'a':1}", b"01", b"+1", b"1.")),
    *((text, "json_invalid") for text in (b'"\n"', b"{}{}", b'{"a"}', b"tru", rb'"\x"', b"[1 2]", b"\xc2\xa01")),
    (b"[" + b"[]," * 1_600_000 + b"[]]", "metadata_too_large"),
    (b"[" + b"0," * 8_100_000 + b"0]", "metadata_too_large"),
]  # fmt: skip


@pytest.mark.parametrize("data", GOOD, ids=lambda data: repr(data[:30]))
def test_good(data):
    assert jsontext.loads(data) == json.loads(data)


@pytest.mark.parametrize(("data", "expected"), BAD, ids=lambda part: repr(part[:30]))
def test_bad(data, expected):
    assert code(data) == expected


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from([":", "::", "a:b", ", 1234567890123456", "\0", "\ud800", "9" * 20]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2) | st.just(":"), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(VALUES, st.booleans(), st.integers(0, 200), st.sampled_from([b"", b":", b'"', b",", b'"a":1,', b"0" * 16]))
def test_what_is_read_is_what_orjson_reads_and_writes_again(value, escaped, place, junk):
    data = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    data = data[:place] + junk + data[place:]
    try:
        read = jsontext.loads(data)
    except PackageRefused:
        return
    assert read == json.loads(data) == orjson.loads(data)
    assert jsontext.loads(orjson.dumps(read)) == read


def test_a_duplicate_among_very_many_keys_is_found_at_once():
    keys = b",".join(b'"%d":0' % i for i in range(200_000))
    start = time.process_time()
    assert code(b"{" + keys + b',"199999":0}') == "json_duplicate_key"
    assert time.process_time() - start < 5


def test_a_large_listing_is_read_in_seconds():
    entry = b'{"_path": "lib/python3.12/site-packages/pkg/module_%07d.py", "path_type": "hardlink", "sha256": "%064x"}'
    entries = b",\n".join(entry % (i, i * 0x123456789ABCDEF1234567) for i in range(100_000))
    start = time.process_time()
    value = jsontext.loads(b'{"paths": [' + entries + b'], "paths_version": 1}')
    assert len(value["paths"]) == 100_000
    assert time.process_time() - start < 10
