"""Groups of measurements that no fit, choice or tuning looks at: drawn by a hash of their names.

Of serving runs a group is chip, model and framework; of kernel tables operation, chip, framework, version and
formats; of AMD's tuned kernels operation and widths. They are scored once, when a set of fits is complete.
"""

import hashlib

from perfmodel.kernels.kernel_table import Key

SHARE = 0.3
"""Of the groups, that are locked."""


def locked(*names: object) -> bool:
    """Whether a group of measurements is locked.

    **Arguments:**

    - `names`: that tell the group from others, as the library has them.
    """
    words = "/".join(str(name).strip().lower() for name in names)
    return int(hashlib.sha256(words.encode()).hexdigest(), 16) / 2**256 < SHARE


def is_locked(key: Key) -> bool:
    """Whether a table of another release of a framework is locked."""
    return locked(key.op, key.chip, key.framework, key.release, key.dtype, key.cache)
