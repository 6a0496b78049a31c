"""Webhooks lead to the public internet only, unless a setting allows a network; every way around that is refused."""

import asyncio
import time
from ipaddress import ip_network
from typing import Any

import pytest

from configs.settings import Settings
from deployments.webhooks.addresses import AddressRefused, Guard, Resolve, SystemResolver
from storage.errors import InvalidInput

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
    "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:db8::1",
    "fec0::1", "feff::1", "3fff::1", "3fff:fff:ffff::1", "5f00::1", "64:ff9b:1::a00:1",
]  # fmt: skip
PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e", "::ffff:93.184.215.14"]


def knows(*addresses: str) -> Resolve:
    async def resolve(_host: str, _port: int) -> list[str]:
        return list(addresses)

    return resolve


def guard(resolve: Resolve | None = None, **settings: Any) -> Guard:
    return Guard(Settings().model_copy(update=settings), resolve or SystemResolver())


@pytest.mark.parametrize("address", PRIVATE)
async def test_private_addresses_are_refused(address: str) -> None:
    assert guard().refusal(address, plain=False)
    with pytest.raises(AddressRefused, match="not on the public internet"):
        await guard(knows(address)).addresses("hook.example", 443, plain=False)
    with pytest.raises(AddressRefused, match="not on the public internet"):
        await guard(knows(*PUBLIC, address)).addresses("hook.example", 443, plain=False)


@pytest.mark.parametrize("address", PUBLIC)
async def test_public_addresses_are_taken_with_tls(address: str) -> None:
    assert await guard(knows(address)).addresses("hook.example", 443, plain=False) == [address]
    assert "http://" in (guard().refusal(address, plain=True) or "")
    assert guard(webhook_allow_http=True).refusal(address, plain=True) is None


def test_an_allowed_network_is_allowed_and_no_other() -> None:
    allowing = guard(webhook_allow_private=[ip_network("10.1.0.0/16"), ip_network("fd12::/32")])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::1"):
        assert allowing.refusal(address, plain=True) is None
    for address in ("10.2.0.1", "127.0.0.1", "fd13::1", "::ffff:10.2.0.1"):
        assert allowing.refusal(address, plain=True)
    assert guard().refusal("nonsense", plain=False)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("receiver.example", "https://host/path"),
        ("ftp://receiver.example/", "https://host/path"),
        ("file:///etc/passwd", "https://host/path"),
        ("https://", "https://host/path"),
        ("https:///path", "https://host/path"),
        ("https://user:secret@receiver.example/", "password"),
        ("https://receiver.example/#part", "#"),
        ("https://receiver.example:0/", "port 0"),
        ("https://receiver.example:99999/", "no port 99999"),
        ("https://receiver.example:x/", "not an address"),
        ("https://receiver.example/" + "a" * 2000, "longer"),
        ("https://[::1", "not an address"),
        ("https://127.0.0.1/", "not on the public internet"),
        ("https://[::ffff:127.0.0.1]/", "not on the public internet"),
        ("http://93.184.215.14/", "ALLOW_HTTP"),
        ("https://2130706433/", "not on the public internet"),
        ("https://0x7f.1/", "not on the public internet"),
        ("https://localhost/", "not on the public internet"),
        ("https://no-such-host.invalid/", "no-such-host.invalid does not resolve"),
        ("https://" + "a" * 64 + ".example/", "does not resolve"),
        ("https://\u0430\u0440\u0440\u04cf\u0435.invalid/", "does not resolve"),
    ],
)
async def test_a_bad_address_is_told_at_once(url: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await guard().check(url)
    assert said in str(caught.value) and caught.value.field == "url"
    assert "secret" not in str(caught.value)


async def test_a_good_address_is_taken_as_it_is() -> None:
    url = "https://hook.example:8443/a/b?c=d&e=%20"
    assert await guard(knows("93.184.215.14")).check(url) == url


async def test_a_name_server_that_hangs_is_given_up() -> None:
    async def hang(_host: str, _port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    begun = time.monotonic()
    with pytest.raises(InvalidInput, match=r"did not resolve within 0\.2 s"):
        await guard(hang, webhook_connect_timeout_s=0.2).check("https://hook.example/")
    assert time.monotonic() - begun < 5
