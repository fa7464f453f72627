"""Access rules: the owner's token, invitations derived from it, and annotators' personal links."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from hyperfit_eval.web.local import is_loopback, require_token


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
    require_token(host, token, "HYPERFIT_ANNOTATE_TOKEN")
    # With a token the server may stand behind a proxy on this machine, so that a loopback address proves nothing.
    return Access(token or secrets.token_urlsafe(24), is_loopback(host) and token is None)
