# jaxlib is a binary without types; the signatures of jax name these classes of it.
class Device: ...

class pytree:  # noqa: N801
    class PyTreeDef:
        num_leaves: int
