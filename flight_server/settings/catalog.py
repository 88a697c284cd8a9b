"""Where the catalog is kept, and for how long versions stay."""

from pydantic import Field, field_validator

from flight_server.settings.section import Section


class CatalogSettings(Section):
    """Where the catalog is kept; without a `url` in `catalog.db` of the data directory.

    `retention` is how many seconds a version stays readable after the next one; tickets, which may
    name it, expire after a day. Small objects of one dataset are merged in the background when they are
    more than `compact_beyond`, 0 means never.
    """

    url: str | None = None
    retention: float = Field(default=7 * 24 * 3600, ge=24 * 3600, allow_inf_nan=False)
    compact_beyond: int = Field(default=200, ge=0)

    @field_validator("url")
    @classmethod
    def _is_sqlite(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("sqlite:///"):
            raise ValueError("must begin with 'sqlite:///', followed by the file's path")
        return url
