"""Every setting: its name, its type, its default, its range.

Tables only. Reading them from somewhere is `load.py`, rules between two settings are `checks.py`, and the annotated
copy for operators is `default.toml`, which a test keeps equal to the defaults here. Field names are the keys that users
write. Units are in the names: `_s` is seconds, bytes are bytes.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from config.rates import Rate

# A control character in an address or a path is a mistake, and would let a log line look like two.
_PLAIN = r"\A[^\x00-\x1f\x7f]*\Z"
_HOST_PORT = r"\A(|(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+):[0-9]{1,5})\Z"

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
CountOrOff = Annotated[int, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0.1, le=86_400)]
Name = Annotated[str, Meta(min_length=1, max_length=1024, pattern=_PLAIN, description="a text that is not empty")]
Path = Annotated[str, Meta(max_length=4096, pattern=_PLAIN, description='the path of a file, or ""')]


class _Table(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the configuration file."""


class Identity(_Table, frozen=True, kw_only=True):
    """Who the relay is."""

    key_file: Path = ""
    """Its private key, created on the first start. "": `config.paths.default_key_file`."""


class Listener(_Table, frozen=True, kw_only=True):
    """One address to listen on."""

    address: Annotated[Name, Meta(description='a multiaddr such as "/ip4/0.0.0.0/tcp/9091/ws"')]
    workers: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Processes that share the address; 0 is one a core."""
    cert_file: Path = ""
    key_file: Path = ""
    require_token: bool = True
    """Only with access.tokens_file; nobody can send a token over TCP."""
    proxy_protocol: bool = False
    """Every connection comes from a trusted proxy and begins with a PROXY header."""


class Announce(_Table, frozen=True, kw_only=True):
    """The addresses that peers are told. Empty: what the listeners bind, wildcards resolved."""

    addresses: tuple[Name, ...] = ()


class Limits(_Table, frozen=True, kw_only=True):
    """What the relay gives, in total and to one. A rate of None is switched off."""

    max_reservations: Count = 1024
    max_circuits: Count = 16
    max_circuits_per_peer: Count = 4
    """As source, and again as target."""
    reservation_ttl_s: Annotated[int, Meta(ge=1, le=31_536_000)] = 3600
    circuit_duration_s: Annotated[int, Meta(ge=0, le=31_536_000)] = 120
    """0 is unlimited. Whole seconds, as the limit that peers are told."""
    circuit_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 131_072
    """A direction; 0 is unlimited."""
    circuit_idle_timeout_s: Seconds = 60.0
    max_reservations_per_ip: CountOrOff = 0
    """0 is off."""
    reservation_rate_per_peer: Rate | None = Rate(30, 3600.0)
    reservation_rate_per_ip: Rate | None = Rate(60, 3600.0)
    circuit_rate_per_peer: Rate | None = Rate(30, 3600.0)
    circuit_rate_per_ip: Rate | None = Rate(60, 3600.0)
    ipv6_prefix: Annotated[int, Meta(ge=32, le=128)] = 64
    """What counts as one IP address in IPv6: a customer has a whole subnet."""
    max_connections: Count = 20_000
    max_connections_per_ip: Count = 256
    connection_rate_per_ip: Rate | None = Rate(600, 60.0)
    max_pending_handshakes: Count = 256
    handshake_timeout_s: Seconds = 10.0
    max_memory_mb: CountOrOff = 0
    """Of all processes together, in MiB; above it nobody new is taken. 0: `supervisor.memory_limit`."""
    max_streams_per_connection: Annotated[int, Meta(ge=1, le=10_000)] = 64


class Access(_Table, frozen=True, kw_only=True):
    """Who may come in. An empty allow list allows everyone; a deny list wins over its allow list."""

    allow_peers: tuple[Name, ...] = ()
    deny_peers: tuple[Name, ...] = ()
    allow_subnets: tuple[Name, ...] = ()
    deny_subnets: tuple[Name, ...] = ()
    allow_origins: tuple[Name, ...] = ()
    tokens_file: Path = ""
    """Of those who may come in because they know a secret. "": nobody needs one."""
    trusted_proxies: tuple[Name, ...] = ("127.0.0.1/32", "::1/128")


class Admin(_Table, frozen=True, kw_only=True):
    """The operator's HTTP interface, and the socket that the commands speak to."""

    listen: Annotated[
        str, Meta(pattern=_HOST_PORT, description='HOST:PORT such as "127.0.0.1:9095" or "[::1]:9095", or "" for none')
    ] = "127.0.0.1:9095"
    token_file: Path = ""
    """The bearer token for all but health and readiness. "": none, and `listen` has to be on loopback."""
    control_socket: Path = ""
    """Where commands such as `frost-relay status` find the relay. "": `config.paths.default_control_socket`."""

    @property
    def host(self) -> str:
        """The host in `listen`, an IPv6 address without its brackets."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def address(self) -> tuple[str, int] | None:
        """`listen` as host and port; None when the interface is off."""
        return (self.host, int(self.listen.rpartition(":")[2])) if self.listen else None


class Canary(_Table, frozen=True, kw_only=True):
    """The relay's look at itself from outside."""

    interval_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """From the start of one check to the start of the next. 0: off, and no process for it."""
    address: Annotated[str, Meta(max_length=2048, pattern=_PLAIN, description='an address of the relay, or ""')] = ""
    """What is checked. "": the first announced address."""
    ca_file: Path = ""
    """Believe the certificates of these authorities only. "": the system's."""


class Log(_Table, frozen=True, kw_only=True):
    """What is said on standard error, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    privacy: Literal["off", "strict"] = "off"
    """strict: no address of a peer is in any line."""


class Supervision(_Table, frozen=True, kw_only=True):
    """How long the supervisor waits, and how often the registry looks."""

    hang_timeout_s: Annotated[float, Meta(ge=2.0, le=3600)] = 10.0
    """A process whose heart (one beat a second) is silent for this long is killed and replaced."""
    backoff_max_s: Annotated[float, Meta(ge=0.1, le=3600)] = 30.0
    """The longest pause before a process that keeps dying is started again."""
    stop_timeout_s: Annotated[float, Meta(ge=0.1, le=60)] = 3.0
    """How long a process may take to end in order before it is killed."""
    audit_interval_s: Annotated[float, Meta(ge=0.5, le=3600)] = 10.0
    """How often the registry asks each worker how much it holds."""
    drain_timeout_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """How long circuits may go on after SIGTERM before the relay ends. 0: it ends at once."""


class Settings(_Table, frozen=True, kw_only=True):
    """The whole configuration. `Settings()` is the default configuration."""

    identity: Identity = Identity()
    listeners: Annotated[tuple[Listener, ...], Meta(min_length=1, max_length=64)] = (
        Listener(address="/ip4/0.0.0.0/tcp/9091/ws"),
        Listener(address="/ip4/0.0.0.0/tcp/9090", workers=1),
    )
    announce: Announce = Announce()
    limits: Limits = Limits()
    access: Access = Access()
    admin: Admin = Admin()
    canary: Canary = Canary()
    log: Log = Log()
    supervision: Supervision = Supervision()
