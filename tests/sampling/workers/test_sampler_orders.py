"""What a sampler process is given: the same after JSON, and unknown names are refused."""

import json

import pytest

from ase_srdft.sampling.workers.sampler_orders import SamplerOrders


def test_orders_are_the_same_after_json():
    orders = SamplerOrders(start="a.message", device="cpu", queue_size=2)
    plain = json.loads(json.dumps(orders.to_plain()))
    assert plain == {"start": "a.message", "device": "cpu", "queue_size": 2}
    assert SamplerOrders.from_plain(plain) == orders


def test_what_is_missing_or_unknown_is_refused():
    with pytest.raises(TypeError, match="queue_size"):
        SamplerOrders.from_plain({"start": "a.message", "device": "cpu"})
    with pytest.raises(TypeError, match="speed"):
        SamplerOrders.from_plain({"start": "a", "device": "cpu", "queue_size": 2, "speed": 1})
