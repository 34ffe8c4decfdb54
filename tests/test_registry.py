"""What the table of methods says without torch is true of the methods themselves."""

from __future__ import annotations

import pytest

from oshp_bench.baselines.contract import LearnedMethod
from oshp_bench.baselines.registry import METHODS, REFERENCE, KnownMethod, named, network_class
from oshp_bench.baselines.use import Use, open_network
from oshp_bench.errors import OshpError


@pytest.mark.parametrize("known", named("frozen", "trained").values(), ids=lambda known: known.name)
def test_a_network_has_the_kind_and_ways_of_its_entry(known: KnownMethod) -> None:
    method = network_class(known.name)
    assert issubclass(method, LearnedMethod)
    assert (method.stages == 0) == (known.kind == "frozen")
    assert set(known.ways) <= set(method.ways)


def test_the_reference_is_trained() -> None:
    assert METHODS[REFERENCE].kind == "trained"


def test_a_method_without_a_network_is_refused_where_one_is_needed() -> None:
    with pytest.raises(OshpError) as raised:
        network_class("background")
    assert raised.value.problems == (
        f"background: no such method with a network; known: {', '.join(named('frozen', 'trained'))}",
    )
    with pytest.raises(OshpError, match="background has no network; give a checkpoint, or prototype-matching"):
        open_network("background", Use())
