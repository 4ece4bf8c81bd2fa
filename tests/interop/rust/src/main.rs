//! A rust-libp2p peer as a program: calls come as lines of JSON on standard input, answers go out the same way.
//!
//! It is what an application would write: the published crates with their defaults. As applications do, it waits until a
//! relay has sent its identify AND has been sent ours before it goes on, so a relay that never asks is found here.
//! It must never repair what goes wrong: a test decides what a failure means.

mod swarm;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    error::Error,
    future::Future,
    time::Duration,
};

use anyhow::{anyhow, bail, Context, Result};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    core::transport::ListenerId,
    identify,
    multiaddr::Protocol,
    relay,
    swarm::{dial_opts::DialOpts, ConnectionId, SwarmEvent},
    Multiaddr, PeerId, Stream, Swarm,
};
use serde_json::{json, Value};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::swarm::{answer_echoes, build, Behaviour, BehaviourEvent, ECHO_PROTOCOL};

const WAIT: Duration = Duration::from_secs(15);
/// The argument that switches DCUtR on.
const HOLE_PUNCHING: &str = "-hole-punching";
/// The environment's name for a file with the certificate (DER) of an authority that is to be trusted.
const TRUSTED: &str = "TRUSTED_CERTIFICATE";

/// The JSON form of a limit; a macro because rust-libp2p does not export the type's name.
macro_rules! in_seconds_and_bytes {
    ($limit:expr) => {
        $limit.map(|limit| {
            let seconds = limit.duration().map(|duration| duration.as_secs());
            json!({"seconds": seconds, "bytes": limit.data_in_bytes()})
        })
    };
}

/// One connection as its establishment told.
struct Link {
    peer: PeerId,
    address: Multiaddr,
    /// What the relay said of the circuit; `None` for a connection without a limit.
    limit: Option<Value>,
}

/// What became of an address that was listened on.
#[derive(Default)]
struct Reservation {
    listening: bool,
    ended: Option<String>,
}

/// The calls; each returns what goes into the JSON answer.
struct Program {
    swarm: Swarm<Behaviour>,
    links: BTreeMap<ConnectionId, Link>,
    told: HashSet<ConnectionId>,
    heard: HashSet<ConnectionId>,
    failed: HashMap<ConnectionId, String>,
    /// Where others see this peer, as they tell it.
    observed: Vec<Multiaddr>,
    listeners: HashMap<ListenerId, Reservation>,
    /// One entry for each reservation that the relay granted, renewals included.
    granted: Vec<Value>,
    /// The limit of the circuit that is just being set up; the connection over it is told of afterwards.
    outbound_limit: Option<Value>,
    inbound_limits: HashMap<PeerId, Option<Value>>,
    echo: Option<Stream>,
}

impl Program {
    fn new(hole_punching: bool, trusted: Option<Vec<u8>>) -> Result<Self> {
        let swarm = build(hole_punching, trusted)?;
        let incoming = swarm.behaviour().stream.new_control().accept(ECHO_PROTOCOL)?;
        tokio::spawn(answer_echoes(incoming));
        Ok(Self {
            swarm,
            links: BTreeMap::new(),
            told: HashSet::new(),
            heard: HashSet::new(),
            failed: HashMap::new(),
            observed: Vec::new(),
            listeners: HashMap::new(),
            granted: Vec::new(),
            outbound_limit: None,
            inbound_limits: HashMap::new(),
            echo: None,
        })
    }

    async fn call(&mut self, name: &str, argument: &Value) -> Result<Value> {
        match name {
            "start" => self.start(argument).await,
            "reserve" => self.reserve(text(argument, "relay")?.parse()?).await,
            "reservations" => Ok(json!(self.granted)),
            "awaitHolePunching" => self.await_hole_punching().await,
            "dial" => self.dial(text(argument, "address")?.parse()?).await,
            "hangUp" => self.hang_up(text(argument, "peer")?.parse()?).await,
            "connections" => Ok(self.links.iter().map(described).collect()),
            "openEcho" => self.open_echo(text(argument, "connection")?).await,
            "say" => self.say(text(argument, "text")?).await,
            _ => bail!("there is no call {name}"),
        }
    }

    /// Reserves at each RELAY/p2p-circuit of `listen`, and listens on the other addresses.
    async fn start(&mut self, argument: &Value) -> Result<Value> {
        let peer = *self.swarm.local_peer_id();
        let mut addresses = Vec::new();
        for listen in argument["listen"].as_array().context("listen")? {
            let address = listen.as_str().context("listen")?;
            match address.strip_suffix("/p2p-circuit") {
                Some(relay) => {
                    self.reserve(relay.parse()?).await?;
                    addresses.push(format!("{address}/p2p/{peer}"));
                }
                None => self.listen(address.parse()?).await?,
            }
        }
        Ok(json!({"peer": peer.to_string(), "addresses": addresses}))
    }

    /// Returns once the address is bound: what is dialled afterwards leaves from its port.
    async fn listen(&mut self, address: Multiaddr) -> Result<()> {
        let listener = self.swarm.listen_on(address)?;
        self.listeners.insert(listener, Reservation::default());
        while !self.listeners[&listener].listening {
            if let Some(reason) = &self.listeners[&listener].ended {
                bail!("not listening: {reason}");
            }
            self.step().await;
        }
        Ok(())
    }

    /// Returns once this peer knows an address to tell in DCUtR.
    async fn await_hole_punching(&mut self) -> Result<Value> {
        while self.observed.is_empty() {
            self.step().await;
        }
        Ok(Value::Null)
    }

    async fn reserve(&mut self, relay: Multiaddr) -> Result<Value> {
        self.meet(&relay).await?;
        let granted = self.granted.len();
        let listener = self.swarm.listen_on(relay.with(Protocol::P2pCircuit))?;
        self.listeners.insert(listener, Reservation::default());
        loop {
            let reservation = &self.listeners[&listener];
            if let Some(reason) = &reservation.ended {
                bail!("no reservation: {reason}");
            }
            if reservation.listening && self.granted.len() > granted {
                return Ok(self.granted[self.granted.len() - 1].clone());
            }
            self.step().await;
        }
    }

    /// Connects to a relay and waits until both sides have identified themselves.
    async fn meet(&mut self, relay: &Multiaddr) -> Result<ConnectionId> {
        let peer = last_peer(relay)?;
        let known = self
            .links
            .iter()
            .find(|(_, link)| link.peer == peer && link.limit.is_none());
        let connection = match known {
            Some((connection, _)) => *connection,
            None => self.connect(relay.clone()).await?,
        };
        while !(self.told.contains(&connection) && self.heard.contains(&connection)) {
            if !self.links.contains_key(&connection) {
                bail!("the relay closed the connection");
            }
            self.step().await;
        }
        Ok(connection)
    }

    async fn connect(&mut self, address: Multiaddr) -> Result<ConnectionId> {
        let options = DialOpts::from(address);
        let connection = options.connection_id();
        self.swarm.dial(options)?;
        loop {
            if self.links.contains_key(&connection) {
                return Ok(connection);
            }
            if let Some(reason) = self.failed.remove(&connection) {
                bail!("{reason}");
            }
            self.step().await;
        }
    }

    async fn dial(&mut self, address: Multiaddr) -> Result<Value> {
        let circuit = address.iter().position(|part| part == Protocol::P2pCircuit);
        let connection = match circuit {
            None => self.meet(&address).await?,
            Some(at) => {
                self.meet(&address.iter().take(at).collect()).await?;
                self.connect(address).await?
            }
        };
        let link = self.links.get(&connection).context("the connection ended at once")?;
        Ok(described((&connection, link)))
    }

    async fn hang_up(&mut self, peer: PeerId) -> Result<Value> {
        let _ = self.swarm.disconnect_peer_id(peer); // fails when there is no connection: then nothing is left to do
        while self.links.values().any(|link| link.peer == peer) {
            self.step().await;
        }
        Ok(Value::Null)
    }

    /// rust-libp2p opens a stream on any connection to the peer, so the asked one must be the only one.
    async fn open_echo(&mut self, connection: &str) -> Result<Value> {
        let wanted = self.links.iter().find(|(id, _)| id.to_string() == connection);
        let peer = wanted.ok_or_else(|| anyhow!("connection {connection} is gone"))?.1.peer;
        if self.links.values().filter(|link| link.peer == peer).count() > 1 {
            bail!("another connection to {peer} might carry the stream");
        }
        let mut control = self.swarm.behaviour().stream.new_control();
        let opened = self
            .driving(async move { control.open_stream(peer, ECHO_PROTOCOL).await })
            .await;
        self.echo = Some(opened.map_err(|error| anyhow!("{error:?}"))?);
        Ok(Value::Null)
    }

    async fn say(&mut self, text: &str) -> Result<Value> {
        let mut stream = self.echo.take().context("no echo stream is open")?;
        let sent = text.as_bytes().to_vec();
        let (stream, answer) = self
            .driving(async move {
                let mut received = vec![0; sent.len()];
                stream.write_all(&sent).await?;
                stream.flush().await?;
                stream.read_exact(&mut received).await?;
                std::io::Result::Ok((stream, received))
            })
            .await?;
        self.echo = Some(stream);
        Ok(json!(String::from_utf8(answer)?))
    }

    /// Waits for something that only happens while the swarm runs.
    async fn driving<T>(&mut self, wanted: impl Future<Output = T>) -> T {
        tokio::pin!(wanted);
        loop {
            tokio::select! {
                done = &mut wanted => return done,
                () = self.step() => {}
            }
        }
    }

    /// Lets the swarm run up to its next event and notes what it says.
    async fn step(&mut self) {
        match self.swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                let address = endpoint.get_remote_address().clone();
                let limit = match (endpoint.is_relayed(), endpoint.is_dialer()) {
                    (false, _) => None,
                    (true, true) => self.outbound_limit.take(),
                    (true, false) => self.inbound_limits.remove(&peer_id).flatten(),
                };
                self.links.insert(
                    connection_id,
                    Link {
                        peer: peer_id,
                        address,
                        limit,
                    },
                );
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                self.links.remove(&connection_id);
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id, error, ..
            } => {
                self.failed.insert(connection_id, chain(&error));
            }
            SwarmEvent::NewExternalAddrCandidate { address } => self.observed.push(address),
            SwarmEvent::NewListenAddr { listener_id, .. } => {
                self.listeners.entry(listener_id).or_default().listening = true;
            }
            SwarmEvent::ListenerClosed {
                listener_id, reason, ..
            } => {
                let reason = reason.map_or_else(|error| chain(&error), |()| "closed".into());
                self.listeners.entry(listener_id).or_default().ended = Some(reason);
            }
            SwarmEvent::Behaviour(event) => self.note(event),
            _ => {}
        }
    }

    fn note(&mut self, event: BehaviourEvent) {
        use relay::client::Event::*;
        match event {
            BehaviourEvent::Identify(identify::Event::Sent { connection_id, .. }) => {
                self.told.insert(connection_id);
            }
            BehaviourEvent::Identify(identify::Event::Received { connection_id, .. }) => {
                self.heard.insert(connection_id);
            }
            BehaviourEvent::Relay(ReservationReqAccepted { renewal, limit, .. }) => {
                self.granted
                    .push(json!({"renewal": renewal, "limit": in_seconds_and_bytes!(limit)}));
            }
            BehaviourEvent::Relay(OutboundCircuitEstablished { limit, .. }) => {
                self.outbound_limit = in_seconds_and_bytes!(limit);
            }
            BehaviourEvent::Relay(InboundCircuitEstablished { src_peer_id, limit }) => {
                self.inbound_limits.insert(src_peer_id, in_seconds_and_bytes!(limit));
            }
            BehaviourEvent::Dcutr(event) => eprintln!("{event:?}"),
            _ => {}
        }
    }
}

fn text<'a>(argument: &'a Value, name: &str) -> Result<&'a str> {
    argument[name]
        .as_str()
        .with_context(|| format!("{name} must be a text"))
}

fn last_peer(address: &Multiaddr) -> Result<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Ok(peer),
        _ => bail!("{address} does not end in /p2p/<id>"),
    }
}

fn described((connection, link): (&ConnectionId, &Link)) -> Value {
    json!({
        "id": connection.to_string(),
        "peer": link.peer.to_string(),
        "address": link.address.to_string(),
        "limited": link.limit.is_some(),
        "limit": link.limit,
    })
}

/// An error and all that lies under it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut under = error.source();
    while let Some(cause) = under {
        told = format!("{told}: {cause}");
        under = cause.source();
    }
    told
}

/// Answers calls until standard input ends: with its test, however that ends, the program is gone.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let hole_punching = std::env::args().any(|argument| argument == HOLE_PUNCHING);
    let trusted = std::env::var_os(TRUSTED).map(std::fs::read).transpose()?;
    let mut program = Program::new(hole_punching, trusted)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = program.driving(lines.next_line()).await? {
        let request: Value = serde_json::from_str(&line)?;
        let called = program.call(text(&request, "call")?, &request["argument"]);
        let answer = match tokio::time::timeout(WAIT, called).await {
            Ok(Ok(value)) => json!({"value": value}),
            Ok(Err(error)) => json!({"failure": format!("{error:#}")}),
            Err(_) => json!({"failure": "nothing happened in time"}),
        };
        println!("{answer}");
    }
    Ok(())
}
