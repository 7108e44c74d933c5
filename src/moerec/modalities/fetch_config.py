"""Limits of a fetch, as they stand in a recipe."""

from __future__ import annotations

from ipaddress import ip_network

from pydantic import Field, field_validator

from moerec.config import Config


class FetchConfig(Config):
    """Limits of a fetch."""

    workers: int = Field(default=32, ge=1)
    """Addresses fetched at the same time."""
    host_connections: int = Field(default=8, ge=1)
    """Of these, from one host."""
    host_pause_seconds: float = Field(default=0.0, ge=0)
    """Shortest time between the beginnings of two requests to one host."""
    timeout_seconds: float = Field(default=20.0, gt=0)
    """For one attempt from the connection to the last byte, redirects included."""
    attempts: int = Field(default=3, ge=1)
    """How often an address is tried when the failure may pass: no connection, time-out, cut short, 429, 5xx."""
    backoff_seconds: float = Field(default=0.5, ge=0)
    """Pause before the second attempt; it doubles, with jitter."""
    longest_pause_seconds: float = Field(default=30.0, ge=0)
    """Longest pause; where a host asks for a longer one by Retry-After, its addresses wait for the next run."""
    run_seconds: float | None = Field(default=None, gt=0)
    """No request is sent after so many seconds; addresses that are left wait for the next run."""
    maximum_bytes: int = Field(default=20 * 1024 * 1024, ge=1)
    """Larger files are refused."""
    http2: bool = False
    """Speak HTTP/2 with hosts that offer it (https alone), HTTP/1.1 with the others; needs the extra `http2`."""
    maximum_redirects: int = Field(default=5, ge=0)
    """Redirects followed for one address."""
    host_failures: int = Field(default=20, ge=1)
    """A host is given up for this run after so many failures in a row; a 404 is none, for the host answers."""
    allow_private: bool = False
    """Fetch from addresses of this machine and of private networks too."""
    allow_networks: tuple[str, ...] = ()
    """Networks that are fetched from though they are private, for instance [127.0.0.0/8]."""
    retry_failed: bool = False
    """Ask again for addresses that were refused for good in an earlier run (404, not an image)."""
    seed: int = Field(default=0, ge=0)
    """Decides the jitter of the pauses."""

    @field_validator("allow_networks")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ip_network(network)
            except ValueError:
                raise ValueError(f"'{network}' is no network; write it as 10.1.0.0/16") from None
        return networks
