"""Access rules: the owner's token, invitations derived from it, and annotators' personal links."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.web.local import is_loopback

MIN_TOKEN_CHARACTERS = 16
"""Length of a token that the owner chooses."""


@dataclass(frozen=True)
class Access:
    """Tokens that the server demands.

    Tokens travel in the Authorization header and behind the # of links, never in URLs, which servers log.
    """

    token: str = field(repr=False)
    """Secret of the admin page."""
    loopback: bool
    """Reached from this machine alone: then anyone there may annotate without an invitation."""

    @property
    def invitation(self) -> str:
        """Lets people make an account; it does not open the admin page."""
        return hmac.new(self.token.encode(), b"invitation", hashlib.sha256).hexdigest()[:32]

    def is_admin(self, token: str) -> bool:
        """Whether this is the owner's token."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def may_join(self, token: str) -> bool:
        """Whether an account may be made with this token."""
        return self.loopback or self.is_admin(token) or hmac.compare_digest(token.encode(), self.invitation.encode())


def access_for(host: str, token: str | None) -> Access:
    """The access rules for a host to listen on.

    Raises:
        HyperfitError: no token for a host that others can reach, or one that is too short.
    """
    loopback = is_loopback(host)
    if token is None and not loopback:
        raise HyperfitError(
            f"--host {host}: others can reach it, so a secret is needed: add --token, or set HYPERFIT_ANNOTATE_TOKEN"
        )
    if token is not None and len(token) < MIN_TOKEN_CHARACTERS:
        raise HyperfitError(f"--token: {len(token)} characters, expected {MIN_TOKEN_CHARACTERS} or more, hard to guess")
    # With a token the server may stand behind a proxy on this machine, so that a loopback address proves nothing.
    return Access(token or secrets.token_urlsafe(24), loopback and token is None)
