"""Who may log in, and how."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from flight_server.domain.identity import parse_grant
from flight_server.errors import InvalidArgumentError
from flight_server.settings.section import Section, absolute

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures of JSON Web Tokens whose key is no secret (RFC 7518, RFC 8037)."""


def _grant(text: str) -> str:
    try:
        return str(parse_grant(text))
    except InvalidArgumentError as error:
        raise ValueError(error.message) from error


class JwtSettings(Section):
    """JSON Web Tokens of an issuer; `jwks_url` or `public_key_file` (PEM) has the keys they are signed with.

    `name_claim` names the caller. `grants_claim` is a claim that holds grants, none when it is not set.
    """

    issuer: Annotated[str, StringConstraints(min_length=1)]
    audience: Annotated[str, StringConstraints(min_length=1)]
    jwks_url: Annotated[str, StringConstraints(pattern=r"^https://[^\s/@]+(/\S*)?$")] | None = None
    public_key_file: Annotated[Path, AfterValidator(absolute)] | None = None
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256", "EdDSA")
    name_claim: Annotated[str, StringConstraints(min_length=1)] = "sub"
    grants_claim: Annotated[str, StringConstraints(min_length=1)] | None = None

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if (self.jwks_url is None) == (self.public_key_file is None):
            raise ValueError("needs either a 'jwks_url' or a 'public_key_file'")
        return self


class AuthSettings(Section):
    """Authentication; without a `users_file` and `jwt` there is none, and everybody may do everything.

    `token_ttl` is how many seconds the token of a handshake is good for. `self_grants` are grants that
    everybody has. `failed_logins` is how many a name or an address may have before it has to wait.
    """

    users_file: Annotated[Path, AfterValidator(absolute)] | None = None
    jwt: JwtSettings | None = None
    token_ttl: float = Field(default=12 * 3600, ge=1, le=7 * 24 * 3600, allow_inf_nan=False)
    self_grants: tuple[Annotated[str, AfterValidator(_grant)], ...] = ("profile:{user}=read,write",)
    failed_logins: int = Field(default=10, ge=1)

    @property
    def is_on(self) -> bool:
        """Whether callers have to say who they are."""
        return self.users_file is not None or self.jwt is not None
