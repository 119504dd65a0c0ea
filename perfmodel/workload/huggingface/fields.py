"""Fields of a Hugging Face config, read with one clear sentence where they are wrong."""

import dataclasses
import math
from typing import Any, TypeVar

MAX_SIZE = 100_000_000
"""No size of a model is larger; a larger one is a mistake."""

MAX_LAYERS = 10_000
"""No model has more layers."""

T = TypeVar("T")


def shown(value: Any) -> str:
    """A value in a message: short, whatever it is."""
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    return "null" if value is None else repr(value)[:60]


@dataclasses.dataclass(frozen=True)
class Fields:
    """A table of a config, and what messages call it.

    Null counts as missing, as it does in transformers. Where a method takes several
    `keys`, they are spellings of one field, and the first that is there is read.

    - `seen`: fields that were asked for; what is never asked for changes no count.
    """

    table: dict[str, Any]
    name: str
    seen: set[str] = dataclasses.field(default_factory=set, compare=False)

    def fault(self, problem: str) -> ValueError:
        """The error that says what is wrong with this table."""
        return ValueError(f"{self.name}: {problem}.")

    def has(self, key: str) -> bool:
        """Whether a field is there and not null."""
        self.seen.add(key)
        return self.table.get(key) is not None

    def note(self, *keys: str) -> None:
        """Fields that are known, and that change nothing here."""
        self.seen.update(keys)

    def switch(self, word: bool | str) -> bool:
        """Yes or no, or what the flag of this name says: `key`, `key=true` if yes where missing, `!key`
        for not."""
        if isinstance(word, bool):
            return word
        key, _, default = word.removeprefix("!").partition("=")
        return self.flag(key, default == "true") is not word.startswith("!")

    def _find(self, keys: tuple[str, ...], default: Any) -> tuple[str, Any]:
        found = [key for key in keys if self.has(key)]
        if found:
            return found[0], self.table[found[0]]
        if default is None:
            names = " or ".join(keys)
            raise self.fault(
                f"{names} is missing, but this architecture needs it; add it to the file"
            )
        return keys[0], default

    def _wrong(self, key: str, value: Any, wanted: str) -> ValueError:
        return self.fault(f"{key} is {shown(value)}, but must be {wanted}; correct it in the file")

    def count(
        self, *keys: str, default: int | None = None, least: int = 0, most: int = MAX_SIZE
    ) -> int:
        """A whole number, zero allowed."""
        key, value = self._find(keys, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(key, value, f"a whole number from {least} to {most:,}")
        return value

    def size(self, *keys: str, default: int | None = None, most: int = MAX_SIZE) -> int:
        """A whole number greater than zero."""
        return self.count(*keys, default=default, least=1, most=most)

    def layers(self) -> int:
        """Layers of the model."""
        return self.size("num_hidden_layers", most=MAX_LAYERS)

    def real(self, key: str) -> float:
        """A finite number greater than zero."""
        _, value = self._find((key,), None)
        fine = isinstance(value, int | float) and not isinstance(value, bool)
        if not fine or not 0 < value <= MAX_SIZE or not math.isfinite(value):
            raise self._wrong(key, value, f"a number greater than 0 and up to {MAX_SIZE:,}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        _, value = self._find((key,), default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def require(self, value: bool, *keys: str) -> None:
        """Flags that are read in one way only; a missing one is so."""
        for key in keys:
            if self.flag(key, default=value) is not value:
                raise self.fault(
                    f"{key} must be {str(value).lower()}; this family is read in no other way"
                )

    def text(self, *keys: str, default: str | None = None) -> str:
        """A word."""
        key, value = self._find(keys, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a word in quotes")
        return value

    def part(self, key: str) -> "Fields":
        """A table inside this one; empty where it is missing."""
        _, value = self._find((key,), {})
        if not isinstance(value, dict):
            raise self._wrong(key, value, "a table in braces")
        return Fields(value, f"{self.name}: {key}")

    def items(self, key: str, length: int | None = None, most: int = MAX_LAYERS) -> list:
        """A list, of `length` items at least where it is given, and of `most`."""
        _, value = self._find((key,), None)
        if not isinstance(value, list):
            raise self._wrong(key, value, "a list")
        if len(value) > most or len(value) < (length or 0):
            raise self.fault(
                f"{key} has {len(value)} items, but the model has {length or 'fewer'} layers; "
                "correct the one or the other"
            )
        return value if length is None else value[:length]

    def words(self, key: str, allowed: tuple[str, ...], length: int | None = None) -> list[str]:
        """A list of words, each one of `allowed`."""
        return self._checked(
            key, length, lambda item: isinstance(item, str) and item in allowed, allowed
        )

    def numbers(self, key: str, length: int | None = None, least: int = 0) -> list[int]:
        """A list of whole numbers; true and false count as 1 and 0."""
        items = self._checked(
            key,
            length,
            lambda item: isinstance(item, int) and least <= item <= MAX_SIZE,
            (f"whole numbers from {least} to {MAX_SIZE:,}",),
        )
        return [int(item) for item in items]

    def _checked(self, key: str, length: int | None, fine: Any, wanted: tuple[str, ...]) -> list:
        items = self.items(key, length)
        wrong = [item for item in items if not fine(item)]
        if wrong:
            raise self._wrong(key, wrong[0], f"a list of {' or '.join(wanted)}")
        return items

    def tables(self, key: str, length: int) -> list["Fields"]:
        """A list of tables, one for each layer."""
        items = self._checked(key, length, lambda item: isinstance(item, dict), ("tables",))
        return [Fields(item, f"{self.name}: {key}[{i}]") for i, item in enumerate(items)]

    def share(self, total: int, parts: int, what: str) -> int:
        """`total` over `parts`, which must divide it."""
        if total % parts:
            raise self.fault(
                f"{what} is {total} over {parts}, which does not divide; correct one of them"
            )
        return total // parts

    def known(self, what: str, word: Any, table: dict[Any, T]) -> T:
        """What `table` says of a word, which must be in it."""
        if word not in table:
            allowed = " or ".join(str(key) for key in table)
            raise self.fault(f"{what} {shown(word)} is not known; it may be {allowed}")
        return table[word]

    def _inside(self, path: str) -> Any:
        """A field of a table in this one, named by both; none where either is missing."""
        outer, _, key = path.partition(".")
        part = self.part(outer)
        return part.table[key] if part.has(key) else None

    def fix(self, path: str, value: bool | int | str) -> None:
        """A field that is read with one value only; a missing one has it."""
        outer, _, key = path.rpartition(".")
        part = self.part(outer) if outer else self
        if part.has(key) and part.table[key] != value:
            allowed = str(value).lower() if isinstance(value, bool) else repr(value)
            raise part.fault(f"{key} must be {allowed}; this family is read in no other way")

    def renamed(self, names: dict[str, str]) -> "Fields":
        """The table with the family's own names of fields as the usual ones."""
        usual: dict[str, Any] = {}
        inner = {name: self._inside(name) for name in names if "." in name}
        given = self.table | {name: value for name, value in inner.items() if value is not None}
        for key, value in given.items():
            name = names.get(key, key)
            before = usual.get(name)
            if before is not None and value is not None and before != value:
                raise self.fault(
                    f"{key} and {name} are two names of one field, but differ; keep the one that is right"
                )
            usual[name] = usual.get(name) if value is None else value
        return Fields(usual, self.name, self.seen)
