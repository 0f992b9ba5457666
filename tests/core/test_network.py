import ssl
from pathlib import Path

import pytest

from safeeraser.core import network
from safeeraser.core.errors import UserError

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBiTCCAS+gAwIBAgIUD0IvzBTnF2SB/FOlnlj1kwOec2EwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOdGVzdCBhdXRob3JpdHkwIBcNMjYxMTI1MjAwNTIyWhgPMjEy
NjExMDEyMDA1MjJaMBkxFzAVBgNVBAMMDnRlc3QgYXV0aG9yaXR5MFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAEI7vZKi3Uroih6WuELb32IiGC9Cv6YA+KFWLgjkQl
wLvDGHe2VoqFCLsKilWN1IvgqdSAFdXoHwT4/YLiJ9Nfm6NTMFEwHQYDVR0OBBYE
FIBcHUdjxtqmBPdt8VlCBUsocMDjMB8GA1UdIwQYMBaAFIBcHUdjxtqmBPdt8VlC
BUsocMDjMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAKe/JsbQ
h7VifPEFNX53kEKDSjSq9bKtz0zymz3OElb/AiAudAOhKmzPUtazHNTPRKApduOB
+BtGDaq6kaye6zILMw==
-----END CERTIFICATE-----
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in (*VARIABLES, *map(str.lower, VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({}, "https://host/v1", None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://host/v1", ("HTTPS_PROXY", "http://proxy:3128")),
        ({"https_proxy": "proxy:3128"}, "https://host/v1", ("https_proxy", "http://proxy:3128")),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, "https://host/v1", ("https_proxy", "http://b:1")),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://host/v1", None),
        ({"ALL_PROXY": "http://proxy:3128"}, "http://host/v1", ("ALL_PROXY", "http://proxy:3128")),
        ({"ALL_PROXY": "socks5://x:1", "HTTPS_PROXY": "http://p:1"}, "https://host/v1", ("HTTPS_PROXY", "http://p:1")),
        ({"ALL_PROXY": "socks5://x:1", "NO_PROXY": "host"}, "https://host/v1", None),
        ({"ALL_PROXY": "nonsense:", "NO_PROXY": ".example.com"}, "https://api.example.com/v1", None),
        ({"ALL_PROXY": "socks5://x:1", "NO_PROXY": "*"}, "https://host/v1", None),
        ({"ALL_PROXY": "socks5://x:1", "NO_PROXY": "localhost, 10.0.0.0/8"}, "http://10.1.2.3:8000/v1", None),
        ({"ALL_PROXY": "http://x:1", "NO_PROXY": "10.0.0.0/8"}, "http://11.1.2.3:8000/v1", ("ALL_PROXY", "http://x:1")),
        ({"ALL_PROXY": "socks5://x:1", "NO_PROXY": "[::1]"}, "http://[::1]:8000/v1", None),
        ({"ALL_PROXY": "socks5://x:1", "NO_PROXY": "host:8000"}, "http://host:8000/v1", None),
    ],
)
def test_the_variable_that_counts_for_a_url_is_the_one_that_is_read(environment, variables, url, expected):
    for name, value in variables.items():
        environment.setenv(name, value)
    assert network.proxy(url) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("socks5://127.0.0.1:1080", "ALL_PROXY asks for a SOCKS proxy, which needs a package: pip install socksio"),
        ("socks://127.0.0.1:1080", "ALL_PROXY is no address of a proxy"),
        ("http://[x", "ALL_PROXY is no address of a proxy"),
        ("http://proxy:port", "ALL_PROXY is no address of a proxy"),
        ("http://me:pass word@proxy", "ALL_PROXY is no address of a proxy"),
        ("http:proxy", "ALL_PROXY is no address of a proxy"),
    ],
)
def test_a_proxy_that_cannot_work_is_named_with_the_way_out(environment, value, message):
    environment.setattr(network.importlib.util, "find_spec", lambda name: None)
    environment.setenv("ALL_PROXY", value)
    with pytest.raises(UserError) as raised:
        network.proxy("https://host/v1")
    assert message in str(raised.value) and "name host in NO_PROXY" in str(raised.value)
    assert "pass word" not in str(raised.value)


def test_certificates_are_those_that_the_environment_names(environment, tmp_path: Path):
    assert network.certificates("https://host/v1") is True
    (tmp_path / "authority.pem").write_text(AUTHORITY)
    environment.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = network.certificates("https://host/v1")
    (trusted,) = context.get_ca_certs()
    assert trusted["subject"] == ((("commonName", "test authority"),),) and context.verify_mode == ssl.CERT_REQUIRED
    (tmp_path / "empty.pem").write_text("no certificate")
    for variable, path in (
        ("SSL_CERT_FILE", tmp_path / "none.pem"),
        ("SSL_CERT_FILE", tmp_path / "empty.pem"),
        ("SSL_CERT_DIR", tmp_path / "none"),
    ):
        environment.delenv("SSL_CERT_FILE", raising=False)
        environment.setenv(variable, str(path))
        with pytest.raises(UserError, match=f"{variable} names no certificates: .*{path.name}: .*; unset it"):
            network.certificates("https://host/v1")
        unsafe = network.certificates("http://host/v1")  # not needed there, and nothing is trusted in their place
        assert unsafe.verify_mode == ssl.CERT_REQUIRED and not unsafe.get_ca_certs()
