"""Tests of ``headwater.demo_page``."""

from __future__ import annotations

import socket

import pytest

from headwater.demo_page import free_port, why_no_page

HOST = "127.0.0.1"


def test_preferred_port_is_free_it_is_taken() -> None:
    """People look for the page where it usually is."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]

    assert free_port(HOST, port) == port


def test_preferred_port_is_in_use_another_one_is_taken() -> None:
    """As by another demo on this machine."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]

        assert free_port(HOST, port) not in (0, port)


def test_extra_is_missing_the_demo_says_why_it_has_no_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And runs without."""
    assert why_no_page() == ""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert "pip install 'headwater[webserver]'" in why_no_page()
