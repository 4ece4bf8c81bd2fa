//! A rust-libp2p relay for comparison: what its library does by default, with every limit out of the way.
//!
//! It prints its addresses, one a line, once it serves, and ends on SIGTERM. It must never do more than an operator
//! would write: what is measured is the library.

use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use libp2p::{
    core::upgrade::Version,
    identify, identity, noise, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux, Swarm, Transport,
};
use tokio::signal::unix::{signal, SignalKind};

/// Longer than any run: a connection lives until its peer hangs up.
const IDLE: Duration = Duration::from_secs(3600);

#[derive(NetworkBehaviour)]
struct Behaviour {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
}

/// Grants whatever is asked for. Zero bytes would mean 'unlimited' to the clients only, so the highest number stands here.
fn resources() -> relay::Config {
    relay::Config {
        max_reservations: usize::MAX,
        max_reservations_per_peer: usize::MAX,
        reservation_duration: Duration::from_secs(3600),
        reservation_rate_limiters: Vec::new(),
        max_circuits: usize::MAX,
        max_circuits_per_peer: usize::MAX,
        max_circuit_duration: Duration::from_secs(3600),
        max_circuit_bytes: u64::MAX,
        circuit_src_rate_limiters: Vec::new(),
    }
}

/// TCP and WebSocket. Addresses are IP addresses: no resolver is built in.
fn build() -> Result<Swarm<Behaviour>> {
    let over_websocket = |key: &identity::Keypair| -> Result<_, noise::Error> {
        Ok(
            libp2p_websocket::Config::new(tcp::tokio::Transport::new(tcp::Config::default()))
                .upgrade(Version::V1Lazy)
                .authenticate(noise::Config::new(key)?)
                .multiplex(yamux::Config::default()),
        )
    };
    Ok(libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_other_transport(|key| over_websocket(key).map_err(Into::into))?
        .with_behaviour(|key| Behaviour {
            relay: relay::Behaviour::new(key.public().to_peer_id(), resources()),
            identify: identify::Behaviour::new(identify::Config::new("/bench/1.0.0".into(), key.public())),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build())
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut swarm = build()?;
    swarm.listen_on("/ip4/127.0.0.1/tcp/0/ws".parse()?)?;
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    let mut asked = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            _ = asked.recv() => return Ok(()),
            event = swarm.select_next_some() => {
                if let SwarmEvent::NewListenAddr { address, .. } = event {
                    println!("{address}/p2p/{}", swarm.local_peer_id());
                    swarm.add_external_address(address); // a reservation lists the relay's external addresses
                }
            }
        }
    }
}
