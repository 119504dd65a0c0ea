"""`perfmodel doctor`."""

from perfmodel.interface.cli.options import Json
from perfmodel.interface.terminal import show_json, show_table


def doctor(json_: Json = False) -> None:
    """Say what this installation has and lacks: versions, devices, extras, data, caches.

    Example: perfmodel doctor
    """
    from perfmodel.interface.doctor import examine, findings_table

    found = examine()
    if json_:
        show_json([one._asdict() for one in found])
        return
    show_table(findings_table(found))
