"""What a user got wrong."""


class InputError(ValueError):
    """Input that cannot be used; one sentence says what was given, what is allowed, and where."""
