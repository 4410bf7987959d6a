"""The four roles of a cluster, and the addresses that frames carry for them. Pure; runs in all processes."""

from enum import Enum
from typing import NamedTuple


class Role(Enum):
    """The role of a process (or thread). The value is the word used in messages, logs and the status."""

    MASTER = "master"
    AGENT = "agent"
    APP = "app"
    PARENT = "parent"

    # By identity: Enum hashes by name, which is slower, and addresses are looked up for each message.
    __hash__ = object.__hash__


_CODES = {Role.MASTER: 0, Role.AGENT: 1, Role.APP: 2, Role.PARENT: 3}
_ROLES = {code: role for role, code in _CODES.items()}
_SLOT_BITS = 24


class Address(NamedTuple):
    """A recipient: a role and a slot, whichever worker is in it. `slot` is 0 except for app workers."""

    role: Role
    slot: int = 0

    def pack(self) -> int:
        """Return the address as the unsigned 32-bit number in a frame's header."""
        return _CODES[self.role] << _SLOT_BITS | self.slot

    @classmethod
    def unpack(cls, number: int) -> "Address":
        """Return the address that a number stands for; ValueError if no role has it."""
        role = _ROLES.get(number >> _SLOT_BITS)
        if role is None:
            raise ValueError(f"no role has the address {number:#x}")
        return cls(role, number & ((1 << _SLOT_BITS) - 1))

    def __str__(self) -> str:
        return f"{self.role.value}#{self.slot}" if self.role is Role.APP else self.role.value


MASTER = Address(Role.MASTER)
AGENT = Address(Role.AGENT)
PARENT = Address(Role.PARENT)


def app(slot: int) -> Address:
    """Return the address of an app worker's slot, counted from 1."""
    return Address(Role.APP, slot)
