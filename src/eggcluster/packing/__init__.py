"""MessagePack, and the typed values in it: the one place that knows who packs. In the master and in every worker.

msgspec does it where it can be loaded. A subinterpreter cannot load it, nor any other extension module for MessagePack
so far; there the modules beside this one do the same in Python: the same bytes, the same values, the same refusals.
They know the types that cross a channel, and no others.
"""

try:
    from msgspec import DecodeError, Meta, Struct, ValidationError, convert
    from msgspec import MsgspecError as PackingError
    from msgspec.json import encode as encode_json
    from msgspec.msgpack import Decoder, Encoder, Ext, decode, encode
except ImportError:
    from eggcluster.packing.conversion import Decoder, convert, decode  # type: ignore[assignment, no-redef]
    from eggcluster.packing.encoding import Encoder, encode, encode_json  # type: ignore[assignment]
    from eggcluster.packing.extension import Ext  # type: ignore[assignment]
    from eggcluster.packing.refusal import DecodeError, PackingError, ValidationError  # type: ignore[assignment]
    from eggcluster.packing.struct import Meta, Struct  # type: ignore[assignment]

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
