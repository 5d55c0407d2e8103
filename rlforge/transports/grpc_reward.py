"""A reward endpoint over gRPC."""

from __future__ import annotations

from collections.abc import Mapping

from rlforge.transports.grpc_call import unary
from rlforge.transports.grpc_channel import Channels
from rlforge.transports.secrets import scores_redacted
from rlforge.types import Rollout, Score, ScorerSpec
from rlforge.wire.pb import reward_pb2 as pb
from rlforge.wire.scores import decode_scorer_spec, decode_scores, encode_score_request

SERVICE = "/rlforge.v1.Reward"


class GrpcReward:
    """A reward endpoint over gRPC."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels

    async def describe(self) -> ScorerSpec:
        """What it is. Raises EndpointError or DeadlineExceeded."""
        request = pb.DescribeScorerRequest()
        return decode_scorer_spec(await unary(self._channels, f"{SERVICE}/Describe", request, pb.ScorerSpec))

    async def score(self, items: Mapping[str, Rollout], *, request_id: str, timeout_s: float) -> Mapping[str, Score]:
        """Scores by item id: the first that came for each. Raises EndpointError or DeadlineExceeded."""
        request = encode_score_request(items, request_id)
        doing = f"scoring {len(items)} rollouts"
        answer = await unary(self._channels, f"{SERVICE}/Score", request, pb.ScoreResponse, doing, timeout_s)
        return scores_redacted(decode_scores(answer, self._channels.config.address), self._channels.secrets)

    async def close(self) -> None:
        """Disconnect. May be called twice."""
        await self._channels.close()
