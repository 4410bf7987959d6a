"""MessagePack, and the typed values in it, by msgspec or by its replacement. Runs in the master and in every worker.

msgspec is used if it can be loaded. A subinterpreter can load neither msgspec nor, so far, any other extension module
for MessagePack. There, the modules beside this one do the same in Python: the same bytes, the same values, the same
errors. They support only the types that are sent over a channel.
"""

try:
    from msgspec import DecodeError, Meta, Struct, ValidationError, convert
    from msgspec import MsgspecError as PackingError
    from msgspec.json import encode as encode_json
    from msgspec.msgpack import Decoder, Encoder, Ext, decode, encode
except ImportError:
    from eggcluster.packing.conversion import Decoder, convert, decode  # type: ignore[assignment, no-redef]
    from eggcluster.packing.encoding import Encoder, encode, encode_json  # type: ignore[assignment]
    from eggcluster.packing.values import (  # type: ignore[assignment]
        DecodeError,
        Ext,
        Meta,
        PackingError,
        Struct,
        ValidationError,
    )

__all__ = [
    "DecodeError",
    "Decoder",
    "Encoder",
    "Ext",
    "Meta",
    "PackingError",
    "Struct",
    "ValidationError",
    "convert",
    "decode",
    "encode",
    "encode_json",
]
