"""A channel's address is kept and shown without anything secret, however its secret was spelled; or it is refused."""

from __future__ import annotations

import pytest

from fairway.errors import Invalid, RemoteRefused
from fairway.remote.addresses import channel_address
from fairway.remote.credentials import Credential

SECRET = "tk-SECRET.12"
HOST = "https://conda.example.org"


@pytest.mark.parametrize(
    ("url", "bare", "kind"),
    [
        (f"{HOST}/t/{SECRET}/private", f"{HOST}/private", "path"),
        (f"{HOST}/%74/{SECRET}/private", f"{HOST}/private", "path"),
        (f"{HOST}/T/{SECRET}/private", f"{HOST}/private", "path"),
        (f"{HOST}/%54/{SECRET}/private", f"{HOST}/private", "path"),
        (f"{HOST}/t/%74k-SECRET%2E12/private", f"{HOST}/private", "path"),
        (f"{HOST}/a/t/{SECRET}/private", f"{HOST}/a/private", "path"),
        (f"{HOST}/t/{SECRET}", HOST, "path"),
        (f"https://me:{SECRET}@conda.example.org/private", f"{HOST}/private", "basic"),
        (f"HTTPS://me:{SECRET}@conda.example.org/private", f"{HOST}/private", "basic"),
    ],
)
def test_a_secret_is_taken_out_of_an_address_however_it_is_spelled(url, bare, kind):
    found, credential = Credential.out_of(url)
    assert (found, credential and credential.kind) == (bare, kind)
    assert credential is not None
    assert credential.secret == SECRET
    assert channel_address(found) == bare


@pytest.mark.parametrize(
    "url",
    [
        f"{HOST}/t%2F{SECRET}/private",
        f"{HOST}/t%2f{SECRET}",
        f"{HOST}/%74%2F{SECRET}/private",
        f"{HOST}/%2574/{SECRET}/private",
        f"{HOST}/t//{SECRET}/private",
        f"{HOST}//t//{SECRET}",
        f"{HOST}/t/./{SECRET}/private",
        f"{HOST}/t/x/../{SECRET}/private",
        f"{HOST}/t/%2E/{SECRET}/private",
        f"{HOST}/t/{SECRET}=/private",
        f"{HOST}/t/{SECRET}%3D%3D/private",
        f"{HOST}/t/{SECRET}+/private",
        f"{HOST}/t/a/t/{SECRET}/private",
        f"{HOST}/t/{SECRET}/t/b/private",
        f"{HOST}/private?token={SECRET}",
        f"{HOST}/private?{SECRET}",
        f"{HOST}/private%3Ftoken={SECRET}",
        f"{HOST}/private#{SECRET}",
        f"{HOST}/private#/t/{SECRET}/",
        f"{HOST}/private%23{SECRET}",
        f"{HOST}/t/{SECRET}/private?x",
        f"{HOST}/private%5C{SECRET}",
        f"{HOST}/private%0A{SECRET}",
        f"{HOST}/private%{SECRET}",
        f"{HOST}?{SECRET}",
        f"{HOST}#{SECRET}",
        f"{HOST}/me:{SECRET}@private",
        f"{HOST}/me:{SECRET}%40private",
        f"{HOST}/private;token={SECRET}",
        f"https://{SECRET}@conda.example.org/private",
        f"https://:{SECRET}@conda.example.org/t/{SECRET}/private",
        f"https://me:{SECRET}@conda.example.org/t/{SECRET}/private",
        f"https://me:{SECRET}@me:{SECRET}@conda.example.org/private",
        f"https://me%3A{SECRET}%40conda.example.org/private",
        f"https:me:{SECRET}@conda.example.org/private",
        f"https:/me:{SECRET}@conda.example.org/private",
        f"https:///me:{SECRET}@conda.example.org/private",
        f"https:\\\\me:{SECRET}@conda.example.org/private",
        f"//me:{SECRET}@conda.example.org/private",
        f"me:{SECRET}@conda.example.org/private",
        f"ftp://me:{SECRET}@conda.example.org/private",
        f"https://me:{SECRET}\t@conda.example.org/private",
        f"https://conda.example.org:{SECRET}/private",
        f"https://conda.example.org/t/\n{SECRET}/private",
    ],
)
def test_what_cannot_be_taken_apart_is_refused_with_a_sentence_that_does_not_repeat_it(url):
    with pytest.raises((Invalid, RemoteRefused)) as caught:
        Credential.out_of(url)
    assert SECRET not in caught.value.detail + repr(caught.value)
    assert caught.value.detail.endswith(".")


@pytest.mark.parametrize(
    "url",
    [f"{HOST}/t/{SECRET}/private", f"{HOST}/private?{SECRET}", f"{HOST}/private#{SECRET}", f"{HOST}/t%2F{SECRET}"],
)
def test_what_still_has_a_key_in_it_is_no_channels_address(url):
    with pytest.raises(Invalid):
        channel_address(url)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        (f"{HOST}/t", f"{HOST}/t"),
        (f"{HOST}/team/channel", f"{HOST}/team/channel"),
        (f"{HOST}/my%20channel", f"{HOST}/my%20channel"),
        (f"{HOST}/caf%C3%A9", f"{HOST}/caf%C3%A9"),
        (f"{HOST}/a%7Eb%2dc", f"{HOST}/a~b-c"),
        (f"{HOST}/part/", f"{HOST}/part"),
        ("HTTPS://Conda.Example.org:443/Part", f"{HOST}/Part"),
        (HOST, HOST),
    ],
)
def test_other_addresses_are_kept_in_one_spelling(url, kept):
    found, credential = Credential.out_of(url)
    assert credential is None
    assert channel_address(found) == kept
