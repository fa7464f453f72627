"""Packages that only some commands need, which the extras of pyproject.toml install."""

from importlib.util import find_spec

from .errors import HyperfitError


def require_extra(extra: str, purpose: str, *modules: str) -> None:
    """Refuse what cannot be done for want of packages.

    Args:
        extra: of pyproject.toml that installs them.
        purpose: what needs them, such as "the playground", which begins the message.
        modules: as they are imported.
    Raises:
        HyperfitError: one is not installed; with the pip command.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise HyperfitError(f"{purpose} needs {', '.join(missing)}: pip install 'hyperfit-eval[{extra}]'")
