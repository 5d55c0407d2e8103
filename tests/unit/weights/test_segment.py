from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlforge.errors import WeightSyncError
from rlforge.weights import segment
from rlforge.weights.proof import prove
from rlforge.weights.segment import read_segment, write_segment


def test_a_segment_is_a_safetensors_file(tmp_path: Path) -> None:
    sent = {"half": torch.randn(3, dtype=torch.bfloat16), "full": torch.randn(2, 3)}
    write_segment(tmp_path / "s", sent, 1)
    read = load_file(tmp_path / "s")
    assert all(torch.equal(read[name], sent[name]) for name in sent)


def test_a_smaller_version_written_over_a_larger_leaves_nothing_of_it(tmp_path: Path) -> None:
    write_segment(tmp_path / "s", {"w": torch.randn(1000)}, 1)
    _, size = write_segment(tmp_path / "s", {"w": torch.ones(3)}, 2)
    assert (tmp_path / "s").stat().st_size == size
    assert torch.equal(read_segment(tmp_path / "s").tensors["w"], torch.ones(3))


def test_changing_what_was_read_does_not_change_the_segment(tmp_path: Path) -> None:
    checksum, _ = write_segment(tmp_path / "s", {"w": torch.ones(3)}, 1)
    read_segment(tmp_path / "s").tensors["w"].zero_()
    assert prove(tmp_path / "s").checksum == checksum


def test_a_file_that_is_no_segment_is_a_sync_error(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"\x08" + b"\0" * 7 + b"not json and more")
    with pytest.raises(WeightSyncError, match="no weight segment"):
        prove(tmp_path / "s")
    (tmp_path / "s").write_bytes(b"")
    with pytest.raises(WeightSyncError, match="publish again"):
        prove(tmp_path / "s")


def test_no_room_is_said_with_the_size_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segment.os, "posix_fallocate", full)
    with pytest.raises(WeightSyncError, match="shm-size"):
        write_segment(tmp_path / "s", {"w": torch.ones(3)}, 1)
