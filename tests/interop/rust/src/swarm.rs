//! What this peer speaks: TCP and WebSocket (secure too), Noise and yamux, circuits, identify, ping, the echo protocol, and DCUtR when
//! it is asked for.

use std::time::Duration;

use anyhow::Result;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    core::upgrade::Version,
    dcutr, identify, identity, noise, ping, relay,
    swarm::{behaviour::toggle::Toggle, NetworkBehaviour},
    tcp, yamux, StreamProtocol, Swarm, Transport,
};
use libp2p_websocket::tls;

pub const ECHO_PROTOCOL: StreamProtocol = StreamProtocol::new("/interop/echo/1.0.0");
/// Longer than any test: a connection lives until somebody hangs up.
const IDLE: Duration = Duration::from_secs(600);

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    pub relay: relay::client::Behaviour,
    pub dcutr: Toggle<dcutr::Behaviour>,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
    pub stream: libp2p_stream::Behaviour,
}

/// TCP and WebSocket, and circuits through them. Addresses are IP addresses: no resolver is built in. `trusted` is the
/// certificate (DER) of an authority that is trusted besides those that the web trusts.
pub fn build(hole_punching: bool, trusted: Option<Vec<u8>>) -> Result<Swarm<Behaviour>> {
    let mut tls = tls::Config::builder();
    if let Some(certificate) = trusted {
        tls.add_trust(&tls::Certificate::new(certificate))?;
    }
    let mut websocket = libp2p_websocket::Config::new(tcp::tokio::Transport::new(tcp::Config::default()));
    websocket.set_tls_config(tls.finish());
    let over_websocket = |key: &identity::Keypair| -> Result<_, noise::Error> {
        Ok(websocket
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(key)?)
            .multiplex(yamux::Config::default()))
    };
    Ok(libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_other_transport(|key| over_websocket(key).map_err(Into::into))?
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, relay| Behaviour {
            relay,
            dcutr: hole_punching
                .then(|| dcutr::Behaviour::new(key.public().to_peer_id()))
                .into(),
            identify: identify::Behaviour::new(identify::Config::new("/interop/1.0.0".into(), key.public())),
            ping: ping::Behaviour::default(),
            stream: libp2p_stream::Behaviour::new(),
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build())
}

/// Sends back what comes until the other side has ended its direction.
pub async fn answer_echoes(mut incoming: libp2p_stream::IncomingStreams) {
    while let Some((_, stream)) = incoming.next().await {
        tokio::spawn(async move {
            let (read, mut write) = stream.split();
            if futures::io::copy(read, &mut write).await.is_ok() {
                let _ = write.close().await; // the asking side may have gone: it knows what it got
            }
        });
    }
}
