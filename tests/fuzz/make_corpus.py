"""Writes the seeds of the fuzz target into corpus/: `python -m tests.fuzz.make_corpus`. They are committed."""

import msgspec

from eggcluster.ipc.frame import HEADER, encode_frame
from eggcluster.model.messages.message import FrameKind, Target
from eggcluster.model.messages.role import AGENT, app
from tests.fuzz.fuzz_frames import CORPUS

ME = app(1).pack()


def frame(kind: FrameKind, target: Target, content: object, target_id: int = 0, request_id: int = 0) -> bytes:
    return encode_frame(kind, target, content, target_id, ME, request_id)


def raw(length: int, kind: int, target: int, body: bytes = b"") -> bytes:
    return HEADER.pack(length, kind, target, 0, 0, ME, 0) + body


NOTE = frame(FrameKind.MESSAGE, Target.AGENT, ["note", {"a": [1, 2.5, None, "é"]}])
SEEDS = {
    "message": NOTE,
    "run": NOTE * 3 + frame(FrameKind.MESSAGE, Target.APPS, ["note", b"\0" * 50]) * 2,
    "request": frame(FrameKind.REQUEST, Target.SLOT, ["note", 1], 2, 7)
    + frame(FrameKind.CANCEL, Target.SLOT, None, 2, 7),
    "answers": frame(FrameKind.REPLY, Target.ADDRESS, 1, AGENT.pack(), 7)
    + frame(FrameKind.FAILURE, Target.ADDRESS, ["E", "m", "t"], AGENT.pack(), 8),
    "report": frame(FrameKind.REPORT, Target.MASTER, ["app-start", {}]),
    "order": frame(FrameKind.REQUEST, Target.MASTER, ["status", None], request_id=9),
    "worker": frame(FrameKind.MESSAGE, Target.WORKER, ["note", 1], 101)
    + frame(FrameKind.MESSAGE, Target.RANDOM, ["note", 1]),
    "reserved": frame(FrameKind.MESSAGE, Target.ALL, ["egg-pids", [1]]),
    "masters-own": frame(FrameKind.EVENT, Target.AGENT, ["egg-ready", None]),
    "forged": encode_frame(FrameKind.MESSAGE, Target.APPS, ["note", 1], source=AGENT.pack()),
    "huge-length": raw(2**32 - 1, FrameKind.MESSAGE, Target.AGENT),
    "unknown-kind": raw(0, 99, Target.AGENT),
    "no-messagepack": raw(1, FrameKind.MESSAGE, Target.AGENT, b"\xc1"),
    "invalid-utf8": raw(4, FrameKind.MESSAGE, Target.AGENT, b"\x92\xa1\xff\x01"),
    "deep": raw(20_000, FrameKind.MESSAGE, Target.AGENT, b"\x91" * 20_000),
    "lying-array": raw(5, FrameKind.MESSAGE, Target.AGENT, b"\xdd\xff\xff\xff\xff"),
    "timestamp": raw(16, FrameKind.MESSAGE, Target.AGENT, b"\x92\xc7\x0c\xff" + b"\xff" * 12),
    "truncated": NOTE + NOTE[:-3],
    "empty-body": raw(0, FrameKind.MESSAGE, Target.AGENT),
    "bare-body": msgspec.msgpack.encode(["note", {"x": [True, -1, 2**63]}]),
}


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    for name, data in SEEDS.items():
        (CORPUS / f"{name}.bin").write_bytes(data)


if __name__ == "__main__":
    main()
