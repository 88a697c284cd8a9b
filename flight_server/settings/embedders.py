"""The settings of one embedder: what makes vectors of texts."""

from typing import Annotated, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator

from flight_server.settings.section import Section

EmbedderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]


class EmbedderSettings(Section):
    """An embedder: a `factory` ("module:callable") or an endpoint as OpenAI's at a `url`.

    An endpoint gets `model` and `api_key`, `batch` texts at once, and has `timeout` seconds to answer.
    """

    factory: Annotated[str, StringConstraints(pattern=r"^[\w.]+:[\w.]+$")] | None = None
    url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] | None = None
    model: str | None = None
    api_key: SecretStr | None = None
    batch: int = Field(default=64, ge=1, le=2048)
    timeout: float = Field(default=60, gt=0, le=3600, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.factory is None) == (self.url is None):
            raise ValueError("needs either a 'factory' or a 'url'")
        if self.url is not None and not self.model:
            raise ValueError("an embedder with a 'url' needs the name of a 'model'")
        return self

    def plain(self) -> dict[str, object]:
        """Return the settings as engine processes get them, with the key."""
        key = self.api_key.get_secret_value() if self.api_key is not None else None
        return self.model_dump() | {"api_key": key}
