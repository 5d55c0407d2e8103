from google.protobuf import struct_pb2 as _struct_pb2
from rlforge.wire.pb import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EnvironmentSpec(_message.Message):
    __slots__ = ("name", "version", "protocol_version", "splits", "tools", "max_worlds", "deterministic", "step_timeout_s", "max_action_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    MAX_WORLDS_FIELD_NUMBER: _ClassVar[int]
    DETERMINISTIC_FIELD_NUMBER: _ClassVar[int]
    STEP_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    MAX_ACTION_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    protocol_version: int
    splits: _containers.RepeatedCompositeFieldContainer[Split]
    tools: _containers.RepeatedCompositeFieldContainer[_types_pb2.ToolSpec]
    max_worlds: int
    deterministic: bool
    step_timeout_s: float
    max_action_bytes: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., protocol_version: _Optional[int] = ..., splits: _Optional[_Iterable[_Union[Split, _Mapping]]] = ..., tools: _Optional[_Iterable[_Union[_types_pb2.ToolSpec, _Mapping]]] = ..., max_worlds: _Optional[int] = ..., deterministic: bool = ..., step_timeout_s: _Optional[float] = ..., max_action_bytes: _Optional[int] = ...) -> None: ...

class Split(_message.Message):
    __slots__ = ("name", "tasks")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    name: str
    tasks: int
    def __init__(self, name: _Optional[str] = ..., tasks: _Optional[int] = ...) -> None: ...

class ListTasksRequest(_message.Message):
    __slots__ = ("split", "offset", "limit")
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    split: str
    offset: int
    limit: int
    def __init__(self, split: _Optional[str] = ..., offset: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class Action(_message.Message):
    __slots__ = ("step", "start", "message")
    STEP_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    step: int
    start: WorldStart
    message: _types_pb2.Message
    def __init__(self, step: _Optional[int] = ..., start: _Optional[_Union[WorldStart, _Mapping]] = ..., message: _Optional[_Union[_types_pb2.Message, _Mapping]] = ...) -> None: ...

class WorldStart(_message.Message):
    __slots__ = ("task", "seed", "rollout_id", "group", "member", "attempt", "step_timeout_s", "lifetime_s")
    TASK_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STEP_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    LIFETIME_S_FIELD_NUMBER: _ClassVar[int]
    task: _types_pb2.Task
    seed: int
    rollout_id: str
    group: str
    member: int
    attempt: int
    step_timeout_s: float
    lifetime_s: float
    def __init__(self, task: _Optional[_Union[_types_pb2.Task, _Mapping]] = ..., seed: _Optional[int] = ..., rollout_id: _Optional[str] = ..., group: _Optional[str] = ..., member: _Optional[int] = ..., attempt: _Optional[int] = ..., step_timeout_s: _Optional[float] = ..., lifetime_s: _Optional[float] = ...) -> None: ...

class Observation(_message.Message):
    __slots__ = ("step", "messages", "reward", "components", "terminated", "truncated", "info", "tools")
    class ComponentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    STEP_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    TERMINATED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    step: int
    messages: _containers.RepeatedCompositeFieldContainer[_types_pb2.Message]
    reward: float
    components: _containers.ScalarMap[str, float]
    terminated: bool
    truncated: bool
    info: _struct_pb2.Struct
    tools: _containers.RepeatedCompositeFieldContainer[_types_pb2.ToolSpec]
    def __init__(self, step: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[_types_pb2.Message, _Mapping]]] = ..., reward: _Optional[float] = ..., components: _Optional[_Mapping[str, float]] = ..., terminated: bool = ..., truncated: bool = ..., info: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., tools: _Optional[_Iterable[_Union[_types_pb2.ToolSpec, _Mapping]]] = ...) -> None: ...
