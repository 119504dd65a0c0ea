"""What the explorer says of itself."""

WELCOME = (
    "At the side choose a model, its traffic and up to four machines, and drag what a machine has. "
    "The table says what a user gets and what it costs, the pictures where time and price come from. "
    "Every number is that of `perfmodel predict serving`; the link in the address bar shows this page again."
)
"""What is said to who comes without a link."""
