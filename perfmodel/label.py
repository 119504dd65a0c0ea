"""Names that do not split compiled functions."""


class Label(str):
    """Says who, never what: equal to every other label.

    A static field is part of a compiled function's key. With plain strings each
    chip and each model would be compiled anew; with labels all of one structure
    share one compiled function.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Label)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(Label)
