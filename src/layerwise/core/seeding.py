"""Seeds derived from a seed and names: a hash, never a stream."""

import hashlib


def derive_seed(seed: int, *names: int | str) -> int:
    """A 63-bit seed that depends on `seed` and every name, in order.

    Example:
        >>> derive_seed(0, "shuffle", 1) != derive_seed(0, "shuffle", 2)
        True
    """
    text = "\0".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
