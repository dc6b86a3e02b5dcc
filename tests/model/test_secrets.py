from __future__ import annotations

import pytest

from nightmill.errors import ConfigError
from nightmill.model.secrets import has_secret, masked, resolved


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:a/b?c#d@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql://me@h/db?password=x&sslmode=require", "postgresql://me@h/db?password=***&sslmode=require"),
        ("https://TOKEN@host/x", "https://***@host/x"),
        ("s3://k:s@b/x?X-Amz-Signature=abc&x=1", "s3://k:***@b/x?X-Amz-Signature=***&x=1"),
        ("https://h/x?Access_Token=a;api-key=b&X-Amz-Credential=c", "https://h/x?Access_Token=***;api-key=***"
         "&X-Amz-Credential=***"),
        ("postgresql://me:${P}x@h/d", "postgresql://me:***@h/d"),
        ("first https://a:b@c, then postgresql://x:y@z", "first https://a:***@c, then postgresql://x:***@z"),
    ],
)  # fmt: skip
def test_secrets_of_a_url_are_not_shown(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert has_secret(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://h:8080/x?night=1",
        "file:///a/b@c",
        "sqlite:////x/y.db",
        "postgresql://me@host/db",
        "https://u:${PW}@h/x?token=${T}",
        "https://${TOKEN}@h",
        "${URL}",
    ],
)
def test_what_is_no_secret_or_only_refers_to_one_is_shown(url: str) -> None:
    assert masked(url) == url
    assert not has_secret(url)


def test_a_reference_is_filled_in_or_missed_by_name() -> None:
    assert resolved("store 'far'", "s3://k:${KEY}@b", {"KEY": "a/b"}) == "s3://k:a%2Fb@b"
    with pytest.raises(ConfigError, match=r"store 'far' has the URL s3://k:\$\{KEY\}@b, .* variable KEY is not set"):
        resolved("store 'far'", "s3://k:${KEY}@b", {})
