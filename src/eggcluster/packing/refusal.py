"""What packing refuses to read, as msgspec has it: a sender's fault. Used where msgspec cannot be loaded."""


class PackingError(ValueError):
    """Root of the others."""


class DecodeError(PackingError):
    """These bytes are no MessagePack."""


class ValidationError(DecodeError):
    """It is MessagePack, but not of the type that was asked for."""
