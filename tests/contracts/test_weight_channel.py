"""One contract for every registered weight channel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rlforge.errors import WeightSyncError
from rlforge.interfaces import WeightChannel
from rlforge.registry import WEIGHT_CHANNELS
from rlforge.weights.proof import prove
from rlforge.weights.segment import read_segment


@pytest.fixture(params=WEIGHT_CHANNELS.names())
def channel(request: pytest.FixtureRequest) -> Iterator[Any]:
    channel = WEIGHT_CHANNELS.load(request.param)(run_id="test-channel")
    yield channel
    channel.close()


def weights() -> dict[str, object]:
    torch.manual_seed(0)
    return {
        "odd": torch.randn(3, 5, dtype=torch.bfloat16),
        "wide": torch.randn(7, 4).t(),
        "empty": torch.empty(0, 4),
        "scalar": torch.tensor(2.5),
        "counts": torch.arange(3),
    }


def test_a_channel_plays_the_role(channel: WeightChannel) -> None:
    assert isinstance(channel, WeightChannel)


def test_what_is_read_is_what_was_published(channel: WeightChannel) -> None:
    sent = weights()
    manifest = channel.publish(sent, 4)
    segment = read_segment(Path(manifest.location))
    assert (segment.version, segment.checksum) == (4, manifest.checksum)
    assert set(segment.tensors) == set(sent)
    for name, tensor in sent.items():
        assert torch.equal(segment.tensors[name], tensor)  # type: ignore[arg-type]
        assert segment.tensors[name].dtype == tensor.dtype  # type: ignore[attr-defined]


def test_the_version_before_stays_whole_while_the_next_is_written(channel: WeightChannel) -> None:
    first = channel.publish(weights(), 1)
    channel.publish({"odd": torch.zeros(100)}, 2)
    assert prove(Path(first.location)).checksum == first.checksum


def test_the_same_weights_under_another_version_have_another_checksum(channel: WeightChannel) -> None:
    assert channel.publish(weights(), 1).checksum != channel.publish(weights(), 2).checksum


def test_one_changed_byte_changes_the_checksum(channel: WeightChannel) -> None:
    manifest = channel.publish(weights(), 1)
    data = bytearray(Path(manifest.location).read_bytes())
    data[-1] ^= 1
    Path(manifest.location).write_bytes(bytes(data))
    assert prove(Path(manifest.location)).checksum != manifest.checksum


def test_tied_weights_travel_once(channel: WeightChannel) -> None:
    table = torch.randn(64, 16)
    manifest = channel.publish({"embed": table, "head": table}, 1)
    assert set(read_segment(Path(manifest.location)).tensors) == {"embed"}


def test_closing_twice_leaves_nothing_and_reading_then_is_a_sync_error(channel: WeightChannel) -> None:
    manifest = channel.publish(weights(), 1)
    channel.close()
    channel.close()
    with pytest.raises(WeightSyncError, match="publish again"):
        prove(Path(manifest.location))
